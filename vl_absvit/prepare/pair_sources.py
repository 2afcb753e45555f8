"""Large sources of captioned pictures, part by part: output of img2dataset, Visual Genome's regions, lists of METER's.

A part is small enough for memory, and always the same, so that an interrupted preparation knows which are done.
"""

import json
import re
import tarfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from vl_absvit.data.bounded import MAX_PICTURE_BYTES, unpack
from vl_absvit.data.json_files import read_json
from vl_absvit.data.strict_json import parse, shown
from vl_absvit.errors import InputError, one_line
from vl_absvit.prepare.caption_source import is_inside
from vl_absvit.prepare.json_records import integer, records_in, string

PICTURES_OF_A_PART = 1_000
"""Of lists; a part of img2dataset's output is a shard."""
_FLICKR = re.compile(r"https?://[^/]*(?:flickr\.com|staticflickr\.com)/(?:[^/]+/)*([0-9]+)_[0-9a-f]+")
_LARGEST_RECORD = 64 << 20  # characters


class Candidate(NamedTuple):
    """A picture with its captions."""

    key: str  # in its source
    captions: list[str]
    file: str | None  # below the folder of pictures; None if the bytes are here
    content: bytes | None
    ids: dict[str, str]  # "coco", "flickr": its id there


class Part(NamedTuple):
    """A part of a source."""

    name: str
    candidates: Sequence[Candidate]
    failed: Counter[str]  # what the source itself says of pictures that it lacks -> number


class PairSourceFiles(ABC):
    """A source of captioned pictures."""

    dataset: str
    embedded: bool
    """Whether the pictures come as bytes."""

    @abstractmethod
    def sources(self) -> list[Path]:
        """Files whose content decides the result."""

    @abstractmethod
    def parts(self) -> Iterable[tuple[str, Any]]:
        """Name of every part, in order, and what ``read`` takes."""

    @abstractmethod
    def read(self, name: str, part: Any) -> Part:
        """A part; raises ``InputError`` for a fault."""


def flickr_id(url: str | None) -> dict[str, str]:
    """Flickr's number of a photograph, if an address has it."""
    found = _FLICKR.match(url or "")
    return {"flickr": found[1]} if found else {}


class Img2dataset(PairSourceFiles):
    """Shards of img2dataset, tars or Parquet files. Members other than pictures, texts and JSON are never opened."""

    embedded = True
    _WANTED = (".jpg", ".jpeg", ".png", ".webp", ".txt")

    def __init__(self, root: Path, dataset: str, allow_unfinished: bool) -> None:
        """
        Raises:
            InputError: there are no shards, or unfinished ones.
        """
        self.dataset = dataset
        names = sorted({file.name.split(".")[0] for form in ("tar", "parquet") for file in root.glob(f"*.{form}")})
        if not names:
            raise InputError(f"{root}: expected img2dataset's shards there, such as 00000.tar; there are none")
        self._root, self._finished = root, [name for name in names if (root / f"{name}_stats.json").is_file()]
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
        failed = Counter(row["error_message"] or row["status"] for row in rows if row["status"] != "success")
        found: list[tuple[str, str, bytes | None, str | None]]
        if archive.is_file():
            members = _members(archive)
            of_key = {row["key"]: row for row in rows}
            found = [
                (key, _text(parts.get(".txt", b""), f"{archive}: {key}.txt"), content, of_key.get(key, {}).get("url"))
                for key, parts in sorted(members.items())
                if (content := next((parts[end] for end in self._WANTED[:4] if end in parts), None)) is not None
            ]
        else:
            kept = sorted((row for row in rows if row["status"] == "success"), key=lambda row: row["key"])
            found = [(row["key"], row["caption"] or "", row.get("jpg"), row["url"]) for row in kept]
        promised = integer(read_json(part, dict), "successes", str(part))
        there = [each for each in found if each[2] is not None]
        if len(there) != promised:
            raise InputError(f"{part}: says {promised:,} pictures, its shard has {len(there):,}; get it again")
        return Part(
            name, [Candidate(key, [text], None, content, flickr_id(url)) for key, text, content, url in there], failed
        )


def _rows(table: Path) -> list[dict[str, Any]]:
    columns = ["caption", "url", "key", "status", "error_message"]
    try:
        with pq.ParquetFile(table) as opened:
            names = opened.schema_arrow.names
            missing = [name for name in columns if name not in names]
            if missing:
                raise InputError(f"{table}: expected img2dataset's table with the column {missing[0]!r}, got {names}")
            return opened.read([*columns, *(["jpg"] if "jpg" in names else [])]).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{table}: cannot be read as a table: {one_line(error)}") from error


def _members(archive: Path) -> dict[str, dict[str, bytes]]:
    """Key -> ending -> bytes of the ordinary members of a tar whose endings are wanted, in any case of letters."""
    members: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(archive, "r|") as stream:
            for member in stream:
                key, dot, ending = member.name.rpartition(".")
                if not member.isfile() or f".{ending.lower()}" not in Img2dataset._WANTED or not dot:
                    continue
                if member.size > MAX_PICTURE_BYTES:
                    raise InputError(
                        f"{archive}: {member.name} has {member.size:,} bytes, the limit is {MAX_PICTURE_BYTES:,}"
                    )
                opened = stream.extractfile(member)
                assert opened is not None, "an ordinary member can be read"
                members.setdefault(key, {})[f".{ending.lower()}"] = opened.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{archive}: is not a whole tar: {one_line(error)}") from error
    return members


def _text(content: bytes, location: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{location}: expected text in UTF-8: {error}") from error


class VisualGenome(PairSourceFiles):
    """Regions of Visual Genome as captions of their whole images, in either form of the keys."""

    dataset, embedded = "visual_genome", False

    def __init__(self, root: Path) -> None:
        """
        Raises:
            InputError: one of the two files is missing or has a fault.
        """
        places = [root / folder for folder in ("", "annotations")]
        self._regions, self._data = (
            next((place / name for place in places for name in names if (place / name).is_file()), None)
            for names in (("region_descriptions.json", "region_descriptions_v1.json"), ("image_data.json",))
        )
        if self._regions is None or self._data is None:
            raise InputError(f"{root}: expected region_descriptions.json and image_data.json there or in annotations/")
        self._images = {
            integer(record, "image_id" if "image_id" in record else "id", location): record
            for location, record in records_in(read_json(self._data), self._data, "images")
        }

    def sources(self) -> list[Path]:
        return [path for path in (self._regions, self._data) if path is not None]

    def parts(self) -> Iterator[tuple[str, Any]]:
        assert self._regions is not None, "it is there"
        group: list[tuple[str, dict]] = []
        number = 0
        for location, record in stream_records(self._regions):
            group.append((location, record))
            if len(group) == PICTURES_OF_A_PART:
                yield f"{number:05d}", group
                group, number = [], number + 1
        if group:
            yield f"{number:05d}", group

    def read(self, name: str, part: list[tuple[str, dict]]) -> Part:
        return Part(name, [each for each in (self._candidate(*record) for record in part) if each.captions], Counter())

    def _candidate(self, location: str, record: dict) -> Candidate:
        regions = record.get("regions")
        if not isinstance(regions, list):
            raise InputError(f"{location}: expected a list of regions, got {shown(regions)}")
        phrases = [string(region, "phrase", location) for region in regions if isinstance(region, dict)]
        of_region = regions[0] if regions and isinstance(regions[0], dict) else {}
        # The first release calls the image "image" in its regions; a record without an id has it there alone.
        keyed = record | {
            "id": record.get("id", record.get("image_id", of_region.get("image_id", of_region.get("image"))))
        }
        image_id = integer(keyed, "id", location) if phrases else -1
        if phrases and image_id not in self._images:
            raise InputError(f"{location}: image {image_id} is not in {self._data}")
        known = self._images.get(image_id, {})
        folder, _, file = str(known.get("url", "")).rpartition("/")
        ids = {name: str(known[f"{name}_id"]) for name in ("coco", "flickr") if known.get(f"{name}_id") is not None}
        return Candidate(str(image_id), phrases, f"{folder.rpartition('/')[2]}/{file}", None, ids)


def stream_records(path: Path) -> Iterator[tuple[str, dict]]:
    """The objects of a JSON list, one at a time, whatever the length of the file.

    Raises:
        InputError: it is no list of objects.
    """
    decoder, text, number = json.JSONDecoder(), "", 0
    pieces = unpack(path)
    begun = ended = False
    waiting = b""
    while not ended:
        piece = next(pieces, None)
        waiting += piece or b""
        cut = len(waiting)
        while piece is not None and cut > len(waiting) - 4 and cut and waiting[cut - 1] >= 0x80:
            cut -= 1  # not within a character
        try:
            text, waiting = (
                text + waiting[:cut].decode("utf-8-sig" if not begun and not text else "utf-8"),
                waiting[cut:],
            )
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: expected JSON in UTF-8: {error}") from error
        place = 0
        while True:
            while place < len(text) and text[place] in " \t\r\n,":
                place += 1
            if place == len(text):
                break
            if not begun:
                if text[place] != "[":
                    raise InputError(f"{path}: expected a list at the top level, got {shown(text[place : place + 40])}")
                begun, place = True, place + 1
                continue
            if text[place] == "]":
                ended = True
                break
            try:
                _, end = decoder.raw_decode(text, place)
            except ValueError as error:
                if piece is None or len(text) - place > _LARGEST_RECORD:
                    raise InputError(f"{path}: record {number + 1}: expected JSON: {error}") from error
                break
            number += 1
            try:
                record = parse(text[place:end])
            except ValueError as error:
                raise InputError(f"{path}: record {number}: {error}") from error
            if not isinstance(record, dict):
                raise InputError(f"{path}: record {number}: expected an object, got {shown(record)}")
            yield f"{path}: record {number}", record
            place = end
        text = text[place:]
        if piece is None and not ended:
            raise InputError(f"{path}: ends in the middle, after record {number:,}")


class AnnotatedPictures(PairSourceFiles):
    """ViLT's and METER's layout of Conceptual Captions and SBU: ``[[path, caption], ...]`` and the pictures."""

    embedded = False

    def __init__(self, root: Path, dataset: str) -> None:
        """
        Raises:
            InputError: there is no list, or it has a fault.
        """
        self.dataset = dataset
        found = [root / name for name in ("train_annot.json", "annot.json") if (root / name).is_file()]
        if not found:
            raise InputError(f"{root}: expected train_annot.json or annot.json there, a list of [path, caption]")
        self._list, self._rows = found[0], read_json(found[0], list)

    def sources(self) -> list[Path]:
        return [self._list]

    def parts(self) -> Iterator[tuple[str, Any]]:
        for number, start in enumerate(range(0, len(self._rows), PICTURES_OF_A_PART)):
            yield f"{number:05d}", start

    def read(self, name: str, part: int) -> Part:
        return Part(
            name, [self._candidate(n) for n in range(part, min(part + PICTURES_OF_A_PART, len(self._rows)))], Counter()
        )

    def _candidate(self, number: int) -> Candidate:
        row, location = self._rows[number], f"{self._list}: record {number + 1}"
        if not (isinstance(row, list) and len(row) == 2 and all(isinstance(each, str) for each in row)):
            raise InputError(f"{location}: expected [path, caption], got {shown(row)}")
        if not is_inside(PurePosixPath(row[0])):
            raise InputError(f"{location}: expected a path inside the folder, got {shown(row[0])}")
        return Candidate(row[0], [row[1]], row[0], None, {})
