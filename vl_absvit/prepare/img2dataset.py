"""Output of img2dataset: shards as tars, as Parquet files, or as folders of files.

Members other than pictures and texts are never opened. A shard without its ``_stats.json``, which is written last, is
unfinished.
"""

import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from vl_absvit.data.bounded import MAX_PICTURE_BYTES, read_picture
from vl_absvit.data.json_files import read_json
from vl_absvit.errors import InputError, one_line
from vl_absvit.prepare.json_records import integer
from vl_absvit.prepare.pair_source import Candidate, PairSourceFiles, Part, flickr_id

_PICTURES, _TEXT = (".jpg", ".jpeg", ".png", ".webp"), ".txt"
_COLUMNS = ("caption", "url", "key", "status", "error_message")
_SIZES = ("width", "height", "original_width", "original_height")
_MORE = ("sha256", "jpg")
MADE_SQUARE = "pictures that img2dataset made square"


class _Member(NamedTuple):
    """What a shard has under one key: the picture, as bytes or as a file, and a text."""

    content: bytes | None = None
    file: str | None = None
    text: bytes = b""


class Img2dataset(PairSourceFiles):
    """Shards of img2dataset. Pictures of tars and tables come as bytes, those of its form ``files`` stay.

    Attributes:
        unfinished: names of the shards that are left out for it.
    """

    def __init__(self, root: Path, dataset: str, allow_unfinished: bool) -> None:
        """
        Raises:
            InputError: there are no shards, or unfinished ones.
        """
        self.dataset, self._root = dataset, root
        folders = {entry.name for entry in root.iterdir() if entry.is_dir() and entry.name.isdigit()}
        tars, tables = ({file.stem for file in root.glob(f"*.{form}")} for form in ("tar", "parquet"))
        names = sorted(folders | tars | tables)
        if not names:
            raise InputError(f"{root}: expected img2dataset's shards there, such as 00000.tar; there are none")
        if folders and tars:
            raise InputError(
                f"{root}: has shards as tars and as folders, {min(tars)}.tar and {min(folders)}; move some"
            )
        self.embedded = not folders
        self._finished = [name for name in names if (root / f"{name}_stats.json").is_file()]
        self.unfinished = [name for name in names if name not in self._finished]
        if self.unfinished and not allow_unfinished:
            raise InputError(
                f"{root}: {len(self.unfinished):,} shards are unfinished, for img2dataset has not written their "
                f"_stats.json: {', '.join(self.unfinished[:5])}; run it again (--incremental_mode incremental), or "
                "leave them out with --allow-unfinished"
            )

    def sources(self) -> list[Path]:
        return [self._root / f"{name}_stats.json" for name in self._finished]

    def parts(self) -> Iterable[tuple[str, Any]]:
        return [(name, self._root / f"{name}_stats.json") for name in self._finished]

    def read(self, name: str, part: Path) -> Part:
        table, archive = self._root / f"{name}.parquet", self._root / f"{name}.tar"
        rows = _rows(table) if table.is_file() else []
        of_key = {row["key"]: row for row in rows}
        if archive.is_file():
            members = _of_tar(archive)
        elif self.embedded:
            members = {
                row["key"]: _Member(row.get("jpg"), text=(row["caption"] or "").encode())
                for row in rows
                if row["status"] == "success"
            }
        else:
            members = _of_folder(self._root, name)
        candidates = [
            Candidate(
                key,
                [_text(member.text, f"{self._root / name}: {key}.txt")],
                member.file,
                member.content,
                _ids(of_key.get(key, {})),
                _original(of_key.get(key, {})),
            )
            for key, member in sorted(members.items())
            if member.content is not None or member.file is not None
        ]
        promised = integer(read_json(part, dict), "successes", str(part))
        if len(candidates) != promised:
            raise InputError(f"{part}: says {promised:,} pictures, its shard has {len(candidates):,}; get it again")
        return Part(name, candidates, _counts(rows))

    def warnings(self) -> list[str]:
        if not self.unfinished:
            return []
        names = ", ".join(self.unfinished[:5])
        return [f"{len(self.unfinished):,} unfinished shards are left out: {names}"]


def _ids(row: dict[str, Any]) -> dict[str, str]:
    """What is known of a picture: Flickr's number, and the SHA-256 of the file that img2dataset made it from."""
    return flickr_id(row.get("url")) | ({"sha256": row["sha256"].lower()} if row.get("sha256") else {})


def _original(row: dict[str, Any]) -> tuple[int, int] | None:
    """Width and height before img2dataset resized the picture: it makes a large one of a single pixel."""
    width, height = row.get("original_width"), row.get("original_height")
    return (width, height) if type(width) is type(height) is int and min(width, height) > 0 else None


def _counts(rows: Iterable[dict[str, Any]]) -> Counter[str]:
    """Pictures that img2dataset could not get, by its own words, and those that it made square."""
    counts: Counter[str] = Counter()
    for row in rows:
        if row["status"] != "success":
            counts[f"source: {' '.join((row['error_message'] or row['status'] or 'unknown').split())}"] += 1
            continue
        width, height, *original = (row.get(name) for name in _SIZES)
        if None not in original and width == height and original[0] != original[1]:
            counts[MADE_SQUARE] += 1
    return counts


def _rows(table: Path) -> list[dict[str, Any]]:
    try:
        with pq.ParquetFile(table) as opened:
            _check_columns(table, opened.schema_arrow)
            more = [name for name in (*_SIZES, *_MORE) if name in opened.schema_arrow.names]
            rows = opened.read([*_COLUMNS, *more]).to_pylist()
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{table}: cannot be read as a table: {one_line(error)}") from error
    without = next((number for number, row in enumerate(rows, start=1) if row["key"] is None), None)
    if without is not None:
        raise InputError(f"{table}: expected a key in every row, row {without} has none")
    return rows


def _check_columns(table: Path, schema: pa.Schema) -> None:
    """Refuse a table that lacks a column of img2dataset's, or has one of something else; raises ``InputError``."""
    for name in _COLUMNS:
        if name not in schema.names:
            raise InputError(f"{table}: expected img2dataset's table with the column {name!r}, got {schema.names}")
    for name in (*_COLUMNS, *(name for name in _MORE if name in schema.names)):
        kind, types = schema.field(name).type, pa.types
        if name == "jpg":
            expected, is_right = "bytes", types.is_binary(kind) or types.is_large_binary(kind)
        else:
            expected, is_right = "texts", types.is_string(kind) or types.is_large_string(kind)
        if not is_right and not types.is_null(kind):
            raise InputError(f"{table}: expected {expected} in the column {name!r}, got {kind}")


def _of_tar(archive: Path) -> dict[str, _Member]:
    """The pictures and texts among the ordinary members of a tar, by key; endings in any case of letters."""
    members: dict[str, _Member] = {}
    try:
        with tarfile.open(archive, "r|") as stream:
            for member in stream:
                key, ending = _key_and_ending(member.name)
                if not member.isfile() or ending not in (*_PICTURES, _TEXT):
                    continue
                if member.size > MAX_PICTURE_BYTES:
                    raise InputError(
                        f"{archive}: {member.name} has {member.size:,} bytes, the limit is {MAX_PICTURE_BYTES:,}"
                    )
                opened = stream.extractfile(member)
                assert opened is not None, "an ordinary member can be read"
                known, data = members.get(key, _Member()), opened.read()
                members[key] = known._replace(text=data) if ending == _TEXT else known._replace(content=data)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{archive}: is not a whole tar: {one_line(error)}") from error
    return members


def _of_folder(root: Path, name: str) -> dict[str, _Member]:
    """The pictures and texts in the folder of a shard, by key."""
    members: dict[str, _Member] = {}
    try:
        for file in sorted((root / name).iterdir()):
            key, ending = _key_and_ending(file.name)
            if ending == _TEXT:
                members[key] = members.get(key, _Member())._replace(text=read_picture(file))
            elif ending in _PICTURES:
                members[key] = members.get(key, _Member())._replace(file=f"{name}/{file.name}")
    except OSError as error:
        raise InputError(f"{root / name}: cannot be read: {error.strerror}") from error
    return members


def _key_and_ending(name: str) -> tuple[str, str]:
    key, dot, ending = name.rpartition(".")
    return (key, f".{ending.lower()}") if dot else (name, "")


def _text(content: bytes, location: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{location}: expected text in UTF-8: {error}") from error
