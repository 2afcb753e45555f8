"""From large sources of captioned pictures to the folder that pretraining reads, part by part.

Memory holds one part, and sixteen bytes for every picture. Every picture is decoded once. What test sets have is left
out, and counted. The folder is whole or absent; an interrupted run goes on with the first part that is not done.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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
from vl_absvit.prepare.addressed_pictures import AddressedPictures, has_addresses, lists_in
from vl_absvit.prepare.exclusions import Excluded
from vl_absvit.prepare.img2dataset import MADE_SQUARE, Img2dataset
from vl_absvit.prepare.journal import Journal
from vl_absvit.prepare.known_pictures import KnownPictures
from vl_absvit.prepare.listed_pairs import AnnotatedPictures, TabledPictures
from vl_absvit.prepare.own.names import PUBLISHED, check_name
from vl_absvit.prepare.pair_filters import PairFilters, frequent, hashes_of
from vl_absvit.prepare.pair_source import Candidate, PairSourceFiles, Part
from vl_absvit.prepare.tables import batch_of, write_pictures
from vl_absvit.prepare.visual_genome import VisualGenome

_CAPTION_SCHEMA = pa.schema([("caption_id", pa.int64()), ("image_id", pa.int64()), ("caption", pa.string())])
_PICTURES, _CAPTIONS_OF = 10**6, 10**3  # ids: a part has at most so many pictures, and a picture so many captions
_TOPIC = "part"  # of the journal
_NO_FILE = "no such file"
_REPEATED = "captions that repeat another one of the picture"
_ANNOTATED = ("train_annot.json", "annot.json")
SPLITS = ("train", "val")


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """The options that the prepared folder depends on."""

    dataset: str
    """``visual_genome``, ``sbu_captions``, ``conceptual_captions``, or a name of one's own."""
    root: Path
    """Folder of the shards, or of the lists and the pictures."""
    table: Path | None = None
    """Table of files and captions, or one of several lists of addresses; None takes what lies in ``root``."""
    columns: Sequence[str] = ()
    """``ROLE=COLUMN`` each, where a column of ``table`` has no usual name."""
    images: Path | None = None
    """Folder of the pictures, if it is not ``root``."""
    exclude: Sequence[str] = ()
    """What must not be trained on, see ``Excluded``."""
    filters: PairFilters = field(default_factory=PairFilters)
    val_share: float = 0.0
    """Share of the pictures that become ``val``, by a hash of their bytes."""
    allow_missing_images: bool = False
    allow_unfinished: bool = False

    def __post_init__(self) -> None:
        if self.dataset not in PUBLISHED:
            check_name(self.dataset, "--dataset")
        if not 0 <= self.val_share < 1:
            raise ConfigError(f"--val-share: expected a share of the pictures in [0, 1), got {self.val_share}")
        if self.filters.min_region is not None and self.dataset != VisualGenome.dataset:
            raise ConfigError(f"--min-region is for the regions of {VisualGenome.dataset} alone")
        if self.columns and self.table is None:
            raise ConfigError("--columns names columns of a --table, and there is none")

    @property
    def pictures(self) -> Path:
        """The folder of the pictures."""
        return self.images or self.root

    def source(self) -> PairSourceFiles:
        """The source, by what lies in its folder."""
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such folder")
        if self.table is not None:
            if not self.columns and self.table.is_file() and has_addresses(self.table):
                return AddressedPictures([self.table], self.dataset, self.pictures)
            return TabledPictures(self.table, self.dataset, self.pictures, self.columns)
        if self.dataset == VisualGenome.dataset:
            return VisualGenome(self.root, self.filters.min_region or 0.0)
        for name in _ANNOTATED:
            if (self.root / name).is_file():
                return AnnotatedPictures(self.root / name, self.dataset)
        if any(next(self.root.glob(f"*{ending}"), None) for ending in (".tar", ".parquet", "_stats.json")):
            return Img2dataset(self.root, self.dataset, self.allow_unfinished)
        if lists := lists_in(self.root):
            return AddressedPictures(lists, self.dataset, self.pictures)
        raise InputError(
            f"{self.root}: expected img2dataset's shards there, such as 00000.tar, {_ANNOTATED[0]}, a TSV of addresses "
            "or SBU's lists; a table of files and captions is given by --table"
        )


class _Judged(NamedTuple):
    """What was found out about a candidate's picture."""

    digest: str  # of its bytes; "" where there are none
    size: tuple[int, int] | None
    reason: str | None


def prepare_pairs(options: PairOptions, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest. A finished ``output`` is only compared with the request.

    Args:
        workers: threads that decode pictures.

    Raises:
        InputError: a source has a fault, or ``output`` was made from another request.
    """
    source, excluded, pictures = options.source(), Excluded(options.exclude), options.pictures
    settings = {name: getattr(options, name) for name in ("val_share", "allow_missing_images", "allow_unfinished")}
    settings |= options.filters.given() | ({"columns": sorted(options.columns)} if options.columns else {})
    request = make_request(CAPTIONS, pictures, settings | {"excluded": excluded.request()}, source.sources())
    request = {"dataset": source.dataset, **request} | place_of(pictures, output)
    if (manifest := finished(output, request)) is not None:
        return manifest
    folder = partial_folder(output)
    start_or_continue(folder, request)
    counts: Counter[str] = Counter()
    known = KnownPictures()
    with Journal(folder / CHECKED) as journal, ThreadPoolExecutor(max(1, workers)) as pool, progress() as bar:
        done = {name: found for name, found in journal.read(_TOPIC)}
        task = bar.add_task(f"parts of {source.dataset}", total=None)
        number = -1
        for number, (name, what) in enumerate(source.parts()):
            if name in done and all(file.is_file() for file in _files_of(folder, number)):
                known.add(*_hashes_of(folder, number))
            else:
                part = source.read(name, what)
                judged = list(pool.map(partial(_judge, pictures), part.candidates))
                _check_missing(part, judged, options)
                done[name] = _write_part(folder, number, part, judged, excluded, known, options)
                journal.write(_TOPIC, [(name, done[name])])
            counts.update(done[name])
            bar.update(task, advance=1)
        _check_any(counts, options)
        splits = _join_captions(folder, number + 1, options.filters.max_repeats, counts)
        _check_any(counts, options)
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


def _check_any(counts: Counter[str], options: PairOptions) -> None:
    """Refuse a source of which no caption is left; raises ``InputError``."""
    if not counts["captions"]:
        raise InputError(f"{options.table or options.root}: no caption is left: {dict(counts)}")


def _check_missing(part: Part, judged: Sequence[_Judged], options: PairOptions) -> None:
    """Refuse a part that lacks pictures, unless that is allowed; raises ``InputError``."""
    missing = [each.file for each, found in zip(part.candidates, judged, strict=True) if found.reason == _NO_FILE]
    if missing and not options.allow_missing_images:
        first = options.pictures / (missing[0] or "")
        raise InputError(
            f"{len(missing):,} pictures of part {part.name} are missing, the first is {first}; "
            "--allow-missing-images leaves them out, counted"
        )


def _judge(pictures: Path, candidate: Candidate) -> _Judged:
    try:
        content = candidate.content
        if content is None:
            assert candidate.file is not None, "a picture is here or in a file"
            content = read_picture(pictures / candidate.file)
        return _Judged(hashlib.sha256(content).hexdigest(), rgb_size(content), None)
    except (FileNotFoundError, NotADirectoryError):
        return _Judged("", None, _NO_FILE)
    except OSError as error:
        return _Judged("", None, f"picture: {error.strerror}")
    except InputError as error:
        return _Judged("", None, f"picture: {error}")


def _write_part(
    folder: Path,
    number: int,
    part: Part,
    judged: Sequence[_Judged],
    excluded: Excluded,
    known: KnownPictures,
    options: PairOptions,
) -> dict[str, int]:
    """Write the pictures and captions of a part; returns what was counted."""
    counts, filters = Counter(part.counts), options.filters
    rows: list[tuple] = []
    captions: list[tuple[str, int, int, str]] = []
    keys = np.array([int(found.digest[:16] or "0", 16) for found in judged], dtype=np.uint64)
    here: dict[int, int] = {}  # hash of a picture's bytes -> its id
    told: dict[int, set[str]] = {}
    each = zip(part.candidates, judged, keys.tolist(), known.find(keys).tolist(), strict=True)
    for place, (candidate, found, key, known_id) in enumerate(each):
        counts["pictures"] += 1
        if found.size is None:
            counts[found.reason or _NO_FILE] += 1
            continue
        if route := excluded.route_of(candidate.ids) or excluded.route_of({"sha256": found.digest}):
            counts[f"excluded by {route}"] += 1
            continue
        if reason := filters.fault_of_picture(candidate.original or found.size):
            counts[reason] += 1
            continue
        image_id = here.get(key, known_id)
        if image_id < 0:
            image_id = here[key] = number * _PICTURES + place
            file = candidate.file or f"{part.name}/{candidate.key}"
            rows.append((image_id, file, candidate.content, *found.size))
        else:
            counts["pictures that repeat another one"] += 1
        split = SPLITS[key < options.val_share * 2**64]
        for text in map(filters.cleaned, candidate.captions):
            if not text or len(text) > MAX_CHARACTERS:
                counts["captions that are empty or endless"] += 1
            elif reason := filters.fault_of_caption(text):
                counts[reason] += 1
            elif text in told.setdefault(image_id, set()):
                counts[_REPEATED] += 1
            elif len(told[image_id]) >= _CAPTIONS_OF:
                counts[f"captions beyond the first {_CAPTIONS_OF:,} of a picture"] += 1
            else:
                told[image_id].add(text)
                caption_id = (number * _PICTURES + place) * _CAPTIONS_OF + len(told[image_id]) - 1
                captions.append((split, caption_id, image_id, text))
                counts["captions"] += 1
    write_pictures(folder / f"images-{number:05d}.parquet", rows)
    *tables, of_hashes = _files_of(folder, number)
    for split, table in zip(SPLITS, tables, strict=True):
        of_split = [row[1:] for row in captions if row[0] == split]
        with pq.ParquetWriter(table, _CAPTION_SCHEMA) as writer:
            if of_split:
                writer.write_batch(batch_of(_CAPTION_SCHEMA, of_split))
    hashes = np.array(list(here), dtype=np.uint64), np.array(list(here.values()), dtype=np.int64)
    np.savez(of_hashes, hashes=hashes[0], ids=hashes[1])
    known.add(*hashes)
    return dict(counts)


def _files_of(folder: Path, number: int) -> list[Path]:
    """What is kept of a part until all are joined: the captions of each split, and the hashes of its pictures."""
    return [folder / f"part-{number:05d}.{ending}" for ending in (*SPLITS, "npz")]


def _hashes_of(folder: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    with np.load(_files_of(folder, number)[-1], allow_pickle=False) as kept:
        return kept["hashes"], kept["ids"]


def _join_captions(
    folder: Path, parts: int, max_repeats: int | None, counts: Counter[str]
) -> dict[str, dict[str, int]]:
    """Join the captions of all parts into a table for each split that has some; returns its counts.

    Args:
        max_repeats: captions that occur more often in all parts are left out; None takes all.
        counts: is told of what is left out.
    """
    too_frequent = np.empty(0, dtype=np.uint64)
    if max_repeats is not None:
        of_tables = [_hashes(table) for split in SPLITS for table in _tables(folder, parts, split)]
        too_frequent = frequent(np.concatenate(of_tables), max_repeats)
    splits = {}
    for split in SPLITS:
        shared = np.unique(np.concatenate([_of_other_parts(table) for table in _tables(folder, parts, split)]))
        told: set[tuple[int, str]] = set()
        captions, image_ids = 0, []
        with pq.ParquetWriter(folder / f"{split}.parquet", _CAPTION_SCHEMA) as writer:
            for table in _tables(folder, parts, split):
                if len(too_frequent):
                    is_kept = ~np.isin(_hashes(table), too_frequent)
                    table = _kept(table, is_kept, f"captions that the source has more than {max_repeats} times", counts)
                is_new = _is_new(table, shared, told)
                table = _kept(table, is_new, _REPEATED, counts)
                captions += len(table)
                image_ids.append(np.unique(table.column("image_id").to_numpy()))
                writer.write_table(table)
        if captions:
            images = len(np.unique(np.concatenate(image_ids)))
            splits[split] = {"captions": captions, "images": images, "without_image": 0, "duplicates_removed": 0}
        else:
            (folder / f"{split}.parquet").unlink()
    for file in [*folder.glob("part-*")]:
        file.unlink()
    return splits


def _kept(table: pa.Table, is_kept: np.ndarray, reason: str, counts: Counter[str]) -> pa.Table:
    """The rows that are kept; the others are counted."""
    if left_out := int((~is_kept).sum()):
        counts[reason] += left_out
        counts["captions"] -= left_out
    return table.filter(pa.array(is_kept)) if left_out else table


def _of_other_parts(table: pa.Table) -> np.ndarray:
    """Ids of the pictures of a part's captions that an earlier part has."""
    image_ids, caption_ids = (table.column(name).to_numpy() for name in ("image_id", "caption_id"))
    return image_ids[image_ids // _PICTURES != caption_ids // (_PICTURES * _CAPTIONS_OF)]


def _is_new(table: pa.Table, shared: np.ndarray, told: set[tuple[int, str]]) -> np.ndarray:
    """Whether no earlier caption says the same of the same picture, (captions,).

    Args:
        shared: pictures that several parts have; within a part captions are told apart already.
        told: what was said of them, to which this is added.
    """
    image_ids = table.column("image_id").to_numpy()
    is_new = np.ones(len(table), dtype=bool)
    for row in np.flatnonzero(np.isin(image_ids, shared)).tolist():
        pair = int(image_ids[row]), table.column("caption")[row].as_py()
        is_new[row] = pair not in told
        told.add(pair)
    return is_new


def _hashes(table: pa.Table) -> np.ndarray:
    return hashes_of(table.column("caption").to_pylist())


def _tables(folder: Path, parts: int, split: str) -> Iterator[pa.Table]:
    for number in range(parts):
        with pq.ParquetFile(_files_of(folder, number)[SPLITS.index(split)]) as opened:
            yield opened.read()


def _warnings(counts: Counter[str], source: PairSourceFiles) -> list[str]:
    quiet = ("captions", "pictures", MADE_SQUARE)
    said = [f"{number:,} {what}" for what, number in counts.most_common() if what not in quiet]
    warnings = [f"left out or merged: {', '.join(said)}"] if said else []
    if counts[MADE_SQUARE]:
        warnings.append(
            f"{counts[MADE_SQUARE]:,} pictures were made square by img2dataset, with white borders or by cutting; "
            "--resize_mode keep_ratio keeps them as they are"
        )
    return warnings + source.warnings()
