"""Captions with the addresses of their pictures, and a folder of the pictures that still answered.

- Conceptual Captions' TSV: ``caption<TAB>address``; that of 12 million pairs has them the other way round, the subset
  with labels three columns more. No header, no quoting.
- SBU: ``SBU_captioned_photo_dataset_urls.txt`` and ``..._captions.txt``, line by line; or ``sbu-captions-all.json``,
  one object of columns.

Pictures are named in one of these ways, with any ending:
- by the row, from 0 on, as ViLT and METER name them: ``0000/0000000``, a thousand to a folder;
- as at Flickr, where the addresses are Flickr's, alone or in the folder of their server: ``2723/4385058960_b0f2.jpg``;
- by the CRC-32 of the address, alone or behind the row, as the usual script that fetches Conceptual Captions names
  them: ``3114746333``, ``0_3114746333``.
"""

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vl_absvit.data.json_files import read_json
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError
from vl_absvit.prepare.caption_sets import split_in
from vl_absvit.prepare.pair_source import Candidate, PairSourceFiles, Part, flickr_id, numbered_parts
from vl_absvit.prepare.text_lines import read_lines

_ROWS_OF_A_PART = 10_000
_ENDINGS = ("", ".jpg", ".jpeg", ".png", ".webp")
_ADDRESS = re.compile(r"https?://\S+", re.IGNORECASE)
_NAME_AT_FLICKR, _SERVER = re.compile(r"[0-9]{1,20}_[0-9a-f]{1,40}[\w.?=&-]{0,60}"), re.compile("[0-9]{1,20}")
_HEADER = {"caption", "url"}
_COLUMNS = (2, 5)  # of Conceptual Captions, and of its subset with labels
_SBU_LINES = ("SBU_captioned_photo_dataset_urls.txt", "SBU_captioned_photo_dataset_captions.txt")
_SBU_COLUMNS = ("sbu-captions-all.json", "sbu-captions-all.json.gz")
_FOLDERS = {"train": "training", "val": "validation"}
"""Folders of the script that names pictures by checksums."""
_SHARED = "rows whose address has the checksum of another one"


class Addressed(NamedTuple):
    """A row of a list."""

    number: int  # from 0 on
    caption: str
    address: str


class _Naming(NamedTuple):
    """A way in which pictures are named."""

    folder: str  # below that of the pictures
    name: Callable[[Addressed], str | None]


class AddressedPictures(PairSourceFiles):
    """Rows of a list of addresses, whose pictures lie in a folder as far as they were to be had."""

    embedded = False

    def __init__(self, lists: list[Path], dataset: str, pictures: Path) -> None:
        """
        Args:
            lists: as ``lists_in`` finds them.

        Raises:
            InputError: a list has a fault in its first rows, or none of these has its picture.
        """
        self.dataset, self._lists, self._pictures = dataset, lists, pictures
        self._naming = self._find_naming()
        self._shared = _shared_checksums(self._rows()) if self._naming.name is _checksum else frozenset()

    def sources(self) -> list[Path]:
        return self._lists

    def parts(self) -> Iterator[tuple[str, Any]]:
        return numbered_parts(self._rows(), _ROWS_OF_A_PART)

    def read(self, name: str, part: list[Addressed]) -> Part:
        clear = [row for row in part if not self._shared or _checksum(row) not in self._shared]
        candidates = [
            Candidate(str(row.number), [row.caption], self._file(row, self._naming), None, flickr_id(row.address))
            for row in clear
        ]
        unclear = len(part) - len(clear)
        return Part(name, candidates, Counter({_SHARED: unclear} if unclear else {}))

    def _rows(self) -> Iterator[Addressed]:
        if len(self._lists) == 2:
            return _of_two_files(*self._lists)
        (only,) = self._lists
        return _of_columns(only) if only.name in _SBU_COLUMNS else _of_tsv(only)

    def _find_naming(self) -> _Naming:
        """The first way of naming by which one of the first rows has its picture."""
        split = split_in(self._lists[0].name) or "train"
        folders = ("", f"images_{split}", _FOLDERS.get(split, split), "images", "dataset", "sbu_images")
        ways = [_Naming(folder, name) for name in _NAMES for folder in folders]
        looked_for: dict[str, None] = {}
        for row in islice(self._rows(), _ROWS_OF_A_PART):
            for way in ways:
                if way.name(row) is not None and (self._pictures / self._file(row, way)).is_file():
                    return way
            looked_for = looked_for or dict.fromkeys(file for name in _NAMES if (file := name(row)))
        raise InputError(
            f"{self._pictures}: none of the first {_ROWS_OF_A_PART:,} rows of {self._lists[0]} has its picture there; "
            f"looked for {', '.join(looked_for) or 'nothing: there are no rows'}, with and without an ending such as "
            f".jpg, there and in {', '.join(folders[1:])}; a table with a column of files (--table) tells other names"
        )

    def _file(self, row: Addressed, naming: _Naming) -> str:
        """The file of a row's picture, below the folder of pictures; it may be missing."""
        name = naming.name(row) or _by_row(row)
        file = f"{naming.folder}/{name}" if naming.folder else name
        return next((file + ending for ending in _ENDINGS if (self._pictures / (file + ending)).is_file()), file)


def lists_in(root: Path) -> list[Path]:
    """The list of addresses in a folder: SBU's two files or one, or the only TSV; nothing if there is none.

    Raises:
        InputError: there are several TSVs.
    """
    if all((root / name).is_file() for name in _SBU_LINES):
        return [root / name for name in _SBU_LINES]
    found = [root / name for name in _SBU_COLUMNS if (root / name).is_file()]
    tables = found or sorted([*root.glob("*.tsv"), *root.glob("*.tsv.gz")])
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise InputError(f"{root}: has several lists, {names}; say which one with --table")
    return tables


def has_addresses(table: Path) -> bool:
    """Whether a table is a TSV whose first row has an address and no column for files."""
    if not table.name.removesuffix(".gz").endswith(".tsv"):
        return False
    _, line = next(read_lines(table, most=None), ("", ""))
    cells = line.split("\t")
    return any(map(_is_address, cells[:2])) or {cell.strip().lower() for cell in cells} == _HEADER


def _by_row(row: Addressed) -> str:
    return f"{row.number // 1000:04d}/{row.number:07d}"


def _as_at_flickr(row: Addressed) -> str | None:
    name = row.address.rpartition("/")[2]
    return name if flickr_id(row.address) and _NAME_AT_FLICKR.fullmatch(name) else None


def _below_server(row: Addressed) -> str | None:
    name, server = _as_at_flickr(row), row.address.split("/")[-2]
    return f"{server}/{name}" if name and _SERVER.fullmatch(server) else None


def _checksum(row: Addressed) -> str:
    return str(zlib.crc32(row.address.encode()))


def _row_and_checksum(row: Addressed) -> str:
    return f"{row.number}_{_checksum(row)}"


_NAMES: tuple[Callable[[Addressed], str | None], ...] = (
    _by_row, _as_at_flickr, _below_server, _row_and_checksum, _checksum,
)  # fmt: skip


def _shared_checksums(rows: Iterator[Addressed]) -> frozenset[str]:
    """Checksums that several addresses have: which of them a picture of that name is from, nobody knows.

    An address takes eight bytes of memory: its checksum, and another one that tells equal addresses from others.
    """
    both = ((int(_checksum(row)) << 32) | zlib.crc32(row.address[::-1].encode()) for row in rows)
    checksums, addresses = np.unique(np.unique(np.fromiter(both, dtype=np.uint64)) >> np.uint64(32), return_counts=True)
    return frozenset(map(str, checksums[addresses > 1].tolist()))


def _is_address(text: str) -> bool:
    return _ADDRESS.fullmatch(text.strip()) is not None


def _of_tsv(path: Path) -> Iterator[Addressed]:
    """Rows of a TSV. Each row shows which of its first two cells is the address; where both are, the first row does."""
    usual, number = 1, 0
    for location, line in read_lines(path, most=None):
        cells = line.split("\t")
        if number == 0 and {cell.strip().lower() for cell in cells} == _HEADER:
            continue
        are = [_is_address(cell) for cell in cells[:2]]
        if len(cells) not in _COLUMNS or not any(are):
            raise InputError(f"{location}: expected caption<TAB>address or address<TAB>caption, got {shown(line)}")
        place = usual if all(are) else are.index(True)
        usual = place if number == 0 else usual
        yield Addressed(number, cells[1 - place], cells[place].strip())
        number += 1


def _of_two_files(addresses: Path, captions: Path) -> Iterator[Addressed]:
    lines = (read_lines(path, keep_blank=True, most=None) for path in (addresses, captions))
    for number, (of_address, of_caption) in enumerate(zip_longest(*lines)):
        if of_address is None or of_caption is None:
            longer, shorter = (captions, addresses) if of_address is None else (addresses, captions)
            raise InputError(f"{longer}: has more lines than {shorter}, which ends after line {number:,}")
        yield _row(number, of_caption[1], of_address[1], of_address[0])


def _of_columns(path: Path) -> Iterator[Addressed]:
    columns = read_json(path, dict, keep={"image_urls", "captions"})
    addresses, captions = columns.get("image_urls"), columns.get("captions")
    if not (isinstance(addresses, list) and isinstance(captions, list) and len(addresses) == len(captions)):
        raise InputError(f"{path}: expected the columns image_urls and captions, two lists of the same length")
    for number, (address, caption) in enumerate(zip(addresses, captions, strict=True)):
        yield _row(number, caption, address, f"{path}: item {number + 1}")


def _row(number: int, caption: Any, address: Any, location: str) -> Addressed:
    if not (isinstance(caption, str) and isinstance(address, str) and _is_address(address)):
        raise InputError(f"{location}: expected an address and a caption, got {shown(address)} and {shown(caption)}")
    return Addressed(number, caption, address.strip())
