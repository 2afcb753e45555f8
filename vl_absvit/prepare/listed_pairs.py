"""Lists of files and captions: METER's and ViLT's ``[[path, caption], ...]``, and tables of one's own.

Rows in a row that are about one file are one candidate, so that its picture is decoded once. Memory holds one part.
"""

import csv
import itertools
import logging
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, NamedTuple

from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError
from vl_absvit.prepare.caption_source import is_inside
from vl_absvit.prepare.exclusions import ids_of_file
from vl_absvit.prepare.json_stream import stream_items, stream_records
from vl_absvit.prepare.own.columns import IMAGE, Columns
from vl_absvit.prepare.own.delimited import header_of, mark_of
from vl_absvit.prepare.own.refusals import Fault
from vl_absvit.prepare.own.table_rows import DELIMITED, LINES, ending_of, object_in, parquet_cells
from vl_absvit.prepare.own.values import text_of, texts_of
from vl_absvit.prepare.pair_source import Candidate, PairSourceFiles, Part, flickr_id, numbered_parts
from vl_absvit.prepare.text_lines import read_lines

log = logging.getLogger(__name__)

_FILES_OF_A_PART = 10_000
_ROLES = {"image": IMAGE, "caption": ("captions", "caption", "title", "text", "sentences", "sentence", "comment"),
          "url": ("url", "image_url")}  # fmt: skip


class _Listed(NamedTuple):
    """A row: its place, and a file with captions, or why there are none."""

    location: str
    file: str
    captions: list[str]
    url: str | None = None
    fault: Fault | None = None


class ListedPictures(PairSourceFiles):
    """Rows that name files below the folder of pictures."""

    embedded = False

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        self._told: set[str] = set()

    @abstractmethod
    def rows(self) -> Iterator[_Listed]:
        """The rows, in their order."""

    def parts(self) -> Iterator[tuple[str, Any]]:
        of_files = itertools.groupby(self.rows(), key=lambda row: row.file if row.fault is None else row.location)
        return numbered_parts((list(rows) for _, rows in of_files), _FILES_OF_A_PART)

    def read(self, name: str, part: Sequence[list[_Listed]]) -> Part:
        counts: Counter[str] = Counter()
        candidates = []
        for rows in part:
            first = rows[0]
            if first.fault is None:
                captions = [caption for row in rows for caption in row.captions]
                ids = ids_of_file(first.file) | flickr_id(first.url)
                candidates.append(Candidate(first.file, captions, first.file, None, ids))
            else:
                counts[f"rows refused: {first.fault.reason}"] += len(rows)
                self._tell(first.location, first.fault)
        return Part(name, candidates, counts)

    def _tell(self, location: str, fault: Fault) -> None:
        """Say where the first row with a fault of this kind is."""
        if fault.reason not in self._told:
            self._told.add(fault.reason)
            log.warning("%s is refused: %s%s", location, fault.reason, f", {fault.found}" if fault.found else "")


class AnnotatedPictures(ListedPictures):
    """ViLT's and METER's layout of Conceptual Captions and SBU: ``[[path, caption], ...]`` and the pictures."""

    def __init__(self, path: Path, dataset: str) -> None:
        super().__init__(dataset)
        self._list = path

    def sources(self) -> list[Path]:
        return [self._list]

    def rows(self) -> Iterator[_Listed]:
        for location, row in stream_items(self._list):
            if not (isinstance(row, list) and len(row) == 2 and all(isinstance(each, str) for each in row)):
                raise InputError(f"{location}: expected [path, caption], got {shown(row)}")
            if not is_inside(PurePosixPath(row[0])):
                raise InputError(f"{location}: expected a path inside the folder, got {shown(row[0])}")
            yield _Listed(location, row[0], [row[1]])


class TabledPictures(ListedPictures):
    """A table of one's own, with a file and a caption, or a list of them, in each row, and perhaps an address."""

    def __init__(self, table: Path, dataset: str, pictures: Path, columns: Sequence[str] = ()) -> None:
        """
        Args:
            columns: ``ROLE=COLUMN`` each, where a column has no usual name.

        Raises:
            InputError: there is no such table.
        """
        if not table.is_file():
            raise InputError(f"{table}: no such file; expected a table")
        super().__init__(dataset)
        self._table, self._given = table, columns
        self._roots = [pictures.absolute(), pictures.resolve()]

    def sources(self) -> list[Path]:
        return [self._table]

    def rows(self) -> Iterator[_Listed]:
        columns, name = Columns(_ROLES, self._given), str(self._table)
        for number, (location, cells) in enumerate(_rows_of(self._table)):
            try:
                if isinstance(cells, Fault):
                    raise cells
                yield self._row(location, columns.cells(cells, name))
            except Fault as fault:
                yield _Listed(location, "", [], fault=fault)
            if number == 0:
                columns.check("image", "caption")

    def _row(self, location: str, cells: dict[str, Any]) -> _Listed:
        for role in ("image", "caption"):
            if role not in cells:
                raise Fault(f"no {role}")
        file = self._inside(text_of(cells["image"]))
        url = text_of(cells["url"]) if "url" in cells else None
        return _Listed(location, file, texts_of(cells["caption"], "caption"), url)

    def _inside(self, name: str) -> str:
        """A file relative to the folder of pictures; links are not followed."""
        path = PurePath(name)
        for root in self._roots if path.is_absolute() else ():
            if path.is_relative_to(root):
                path = path.relative_to(root)
                break
        if not is_inside(PurePosixPath(path)):
            raise Fault("a picture outside the folder of pictures", shown(name))
        return str(path)


def _rows_of(table: Path) -> Iterator[tuple[str, dict[str, Any] | Fault]]:
    """The rows of a table with the words that locate them, a few at a time.

    Raises:
        InputError: the table cannot be read, or has another form.
    """
    ending = ending_of(table)
    if ending in DELIMITED:
        return _delimited(table)
    if ending in LINES:
        return ((location, object_in(line)) for location, line in read_lines(table, most=None))
    if ending == ".json":
        return stream_records(table)
    if ending == ".parquet":
        return ((f"{table}: row {number}", cells) for number, cells in enumerate(parquet_cells(table), start=1))
    raise InputError(f"{table}: expected a table *.csv, *.tsv, *.txt, *.jsonl, *.ndjson, *.json or *.parquet")


def _delimited(table: Path) -> Iterator[tuple[str, dict[str, str] | Fault]]:
    """Rows of cells, which may be quoted. Every line of a row that cannot be read is refused for itself."""
    _, first = next(read_lines(table, most=None), ("", ""))
    columns: list[str] | None = None
    mark, before = mark_of(table, first), 0
    texts = (f"{line}\n" for _, line in read_lines(table, keep_blank=True, most=None))
    reader = csv.reader(texts, delimiter=mark, strict=True, skipinitialspace=mark != "\t")
    while True:
        try:
            read: list[str] | Fault = [cell.strip() for cell in next(reader)]
        except StopIteration:
            break
        except csv.Error as error:
            read = Fault("not CSV", str(error))
        location, lines, before = f"{table}: line {before + 1}", reader.line_num - before, reader.line_num
        if isinstance(read, list) and not any(read):
            continue
        if columns is None:
            if isinstance(read, Fault):
                raise InputError(f"{location}: {read.found}")
            columns = header_of(read, location)
            continue
        if isinstance(read, list) and len(read) != len(columns):
            read = Fault("another number of cells than the first row", f"{len(read)} cells, expected {len(columns)}")
        if isinstance(read, Fault):
            yield from [(location, read)] * lines
        else:
            yield location, dict(zip(columns, read, strict=True))
    if columns is None:
        raise InputError(f"{table}: is empty; expected a table")
