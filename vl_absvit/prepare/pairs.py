"""From large sources of captioned pictures to the folder that pretraining reads, part by part.

Memory holds one part, and sixteen bytes for every picture. Every picture is decoded once. What test sets have is left
out, and counted. The folder is whole or absent; an interrupted run goes on with the first part that is not done.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vl_absvit.cli import progress
from vl_absvit.data.bounded import read_picture
from vl_absvit.data.raw_folder import place_of
from vl_absvit.data.records import CAPTIONS
from vl_absvit.data.rgb import rgb_size
from vl_absvit.data.strict_json import MAX_CHARACTERS
from vl_absvit.data.whole_folder import (
    CHECKED,
    finish,
    finished,
    make_request,
    partial_folder,
    start_or_continue,
    versions,
)
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.exclusions import Excluded
from vl_absvit.prepare.journal import Journal
from vl_absvit.prepare.own.names import PUBLISHED, check_name
from vl_absvit.prepare.pair_sources import (
    AnnotatedPictures,
    Candidate,
    Img2dataset,
    PairSourceFiles,
    Part,
    VisualGenome,
)
from vl_absvit.prepare.tables import batch_of, write_pictures

_CAPTION_SCHEMA = pa.schema([("caption_id", pa.int64()), ("image_id", pa.int64()), ("caption", pa.string())])
_PICTURES, _CAPTIONS_OF = 10**6, 10**3  # ids: a part has at most so many pictures, and a picture so many captions
_TOPIC = "part"  # of the journal
_NO_FILE = "no such file"
SPLITS = ("train", "val")


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """The options that the prepared folder depends on."""

    dataset: str
    """``visual_genome``, ``sbu_captions``, ``conceptual_captions``, or a name of one's own."""
    root: Path
    """Folder of the shards, or of the lists and the pictures."""
    images: Path | None = None
    """Folder of the pictures, if it is not ``root``."""
    exclude: Sequence[str] = ()
    """What must not be trained on, see ``Excluded``."""
    val_share: float = 0.0
    """Share of the pictures that become ``val``, by a hash of their bytes."""
    allow_missing_images: bool = False
    allow_unfinished: bool = False

    def __post_init__(self) -> None:
        if self.dataset not in PUBLISHED:
            check_name(self.dataset, "--dataset")
        if not 0 <= self.val_share < 1:
            raise ConfigError(f"--val-share: expected a share of the pictures in [0, 1), got {self.val_share}")

    def source(self) -> PairSourceFiles:
        """The source, by what lies in its folder."""
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such folder")
        if self.dataset == VisualGenome.dataset:
            return VisualGenome(self.root)
        if any((self.root / name).is_file() for name in ("train_annot.json", "annot.json")):
            return AnnotatedPictures(self.root, self.dataset)
        return Img2dataset(self.root, self.dataset, self.allow_unfinished)


class _Known:
    """First picture of every content, sixteen bytes each: a hash and an id, in sorted order."""

    def __init__(self) -> None:
        self._hashes, self._ids = np.empty(0, np.uint64), np.empty(0, np.int64)

    def find(self, key: int) -> int | None:
        """The id of the picture with this hash."""
        place = int(np.searchsorted(self._hashes, np.uint64(key)))
        return int(self._ids[place]) if place < len(self._hashes) and self._hashes[place] == np.uint64(key) else None

    def add(self, hashes: np.ndarray, ids: np.ndarray) -> None:
        """Remember the pictures of a part."""
        hashes, ids = np.concatenate([self._hashes, hashes]), np.concatenate([self._ids, ids])
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._ids = hashes[order], ids[order]


class _Judged(NamedTuple):
    """What was found out about a candidate's picture."""

    content: bytes | None  # None where there is no file
    digest: str
    size: tuple[int, int] | None
    reason: str | None


def prepare_pairs(options: PairOptions, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest. A finished ``output`` is only compared with the request.

    Args:
        workers: threads that decode pictures.

    Raises:
        InputError: a source has a fault, or ``output`` was made from another request.
    """
    source, excluded = options.source(), Excluded(options.exclude)
    pictures = options.images or options.root
    settings = {name: getattr(options, name) for name in ("val_share", "allow_missing_images", "allow_unfinished")}
    request = make_request(CAPTIONS, pictures, settings | {"excluded": excluded.request()}, source.sources())
    request = {"dataset": source.dataset, **request} | place_of(pictures, output)
    if (manifest := finished(output, request)) is not None:
        return manifest
    folder = partial_folder(output)
    start_or_continue(folder, request)
    counts: Counter[str] = Counter()
    known = _Known()
    with Journal(folder / CHECKED) as journal, ThreadPoolExecutor(max(1, workers)) as pool, progress() as bar:
        done = {name: found for name, found in journal.read(_TOPIC)}
        task = bar.add_task(f"parts of {source.dataset}", total=None)
        number = -1
        for number, (name, what) in enumerate(source.parts()):
            if name in done:
                known.add(*_hashes_of(folder, number))
            else:
                part = source.read(name, what)
                judged = list(pool.map(partial(_judge, pictures), part.candidates))
                _check_missing(part, judged, options, pictures)
                done[name] = _write_part(folder, number, part, judged, excluded, known, options, source.embedded)
                journal.write(_TOPIC, [(name, done[name])])
            counts.update(done[name])
            bar.update(task, advance=1)
        if not counts["captions"]:
            raise InputError(f"{options.root}: no caption is left: {dict(counts)}")
        splits = _join_captions(folder, number + 1)
    manifest = {
        "format": 1,
        **request,
        "splits": splits,
        "counts": dict(sorted(counts.items())),
        "excluded_for": list(options.exclude),
        "missing_images": counts[_NO_FILE],
        "skipped_images": [],
        "versions": versions(),
        "warnings": _warnings(counts, source),
    }
    finish(folder, output, manifest)
    return manifest


def _check_missing(part: Part, judged: Sequence[_Judged], options: PairOptions, pictures: Path) -> None:
    """Refuse a part that lacks pictures, unless that is allowed; raises ``InputError``."""
    missing = [each.file for each, found in zip(part.candidates, judged, strict=True) if found.reason == _NO_FILE]
    if missing and not options.allow_missing_images:
        raise InputError(
            f"{len(missing):,} pictures of part {part.name} are missing, the first is {pictures / (missing[0] or '')}; "
            "--allow-missing-images leaves them out, counted"
        )


def _judge(pictures: Path, candidate: Candidate) -> _Judged:
    try:
        content = candidate.content
        if content is None:
            assert candidate.file is not None, "a picture is here or in a file"
            content = read_picture(pictures / candidate.file)
        return _Judged(content, hashlib.sha256(content).hexdigest(), rgb_size(content), None)
    except (FileNotFoundError, NotADirectoryError):
        return _Judged(None, "", None, _NO_FILE)
    except InputError as error:
        return _Judged(None, "", None, f"picture: {error}")


def _write_part(
    folder: Path,
    number: int,
    part: Part,
    judged: Sequence[_Judged],
    excluded: Excluded,
    known: _Known,
    options: PairOptions,
    embedded: bool,
) -> dict[str, int]:
    """Write the pictures and captions of a part; returns what was counted."""
    counts: Counter[str] = Counter({f"source: {reason}": n for reason, n in part.failed.items()})
    rows: list[tuple] = []
    captions: list[tuple[str, int, int, str]] = []
    here: dict[int, int] = {}  # hash of a picture's bytes -> its id
    told: dict[int, set[str]] = {}
    for place, (candidate, found) in enumerate(zip(part.candidates, judged, strict=True)):
        counts["pictures"] += 1
        if found.size is None or found.content is None:
            counts[found.reason or _NO_FILE] += 1
            continue
        if route := excluded.route_of(candidate.ids | {"sha256": found.digest}):
            counts[f"excluded by {route}"] += 1
            continue
        key = int(found.digest[:16], 16)
        image_id = here.get(key, known.find(key))
        if image_id is None:
            image_id = here[key] = number * _PICTURES + place
            file = candidate.file or f"{part.name}/{candidate.key}"
            rows.append((image_id, file, found.content if embedded else None, *found.size))
        else:
            counts["pictures that repeat another one"] += 1
        split = SPLITS[key < options.val_share * 2**64]
        for text in candidate.captions:
            text = text.strip()
            if not text or len(text) > MAX_CHARACTERS:
                counts["captions that are empty or endless"] += 1
            elif text in told.setdefault(image_id, set()):
                counts["captions that repeat another one of the picture"] += 1
            elif len(told[image_id]) < _CAPTIONS_OF:
                told[image_id].add(text)
                caption_id = (number * _PICTURES + place) * _CAPTIONS_OF + len(told[image_id]) - 1
                captions.append((split, caption_id, image_id, text))
                counts["captions"] += 1
    write_pictures(folder / f"images-{number:05d}.parquet", rows)
    for split in SPLITS:
        of_split = [row[1:] for row in captions if row[0] == split]
        with pq.ParquetWriter(folder / f"part-{number:05d}.{split}", _CAPTION_SCHEMA) as writer:
            if of_split:
                writer.write_batch(batch_of(_CAPTION_SCHEMA, of_split))
    hashes = np.array(list(here), dtype=np.uint64), np.array(list(here.values()), dtype=np.int64)
    np.savez(folder / f"part-{number:05d}.npz", hashes=hashes[0], ids=hashes[1])
    known.add(*hashes)
    return dict(counts)


def _hashes_of(folder: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / f"part-{number:05d}.npz", allow_pickle=False) as kept:
        return kept["hashes"], kept["ids"]


def _join_captions(folder: Path, parts: int) -> dict[str, dict[str, int]]:
    """Join the captions of all parts into a table for each split that has some; returns its counts."""
    splits = {}
    for split in SPLITS:
        captions, images = 0, np.empty(0, np.int64)
        with pq.ParquetWriter(folder / f"{split}.parquet", _CAPTION_SCHEMA) as writer:
            for table in _tables(folder, parts, split):
                captions += len(table)
                images = np.union1d(images, table.column("image_id").to_numpy())
                writer.write_table(table)
        if captions:
            splits[split] = {"captions": captions, "images": len(images), "without_image": 0, "duplicates_removed": 0}
        else:
            (folder / f"{split}.parquet").unlink()
    for file in [*folder.glob("part-*")]:
        file.unlink()
    return splits


def _tables(folder: Path, parts: int, split: str) -> Iterator[pa.Table]:
    for number in range(parts):
        with pq.ParquetFile(folder / f"part-{number:05d}.{split}") as opened:
            yield opened.read()


def _warnings(counts: Counter[str], source: PairSourceFiles) -> list[str]:
    quiet = ("captions", "pictures")
    said = [f"{number:,} {what}" for what, number in counts.most_common() if what not in quiet]
    warnings = [f"left out or merged: {', '.join(said)}"] if said else []
    if isinstance(source, Img2dataset) and source.unfinished:
        warnings.append(
            f"{len(source.unfinished):,} unfinished shards are left out: {', '.join(source.unfinished[:5])}"
        )
    return warnings
