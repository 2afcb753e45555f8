"""Captions of Flickr30K, Flickr8k or COCO, in the forms that go around, to the folder that training reads.

An interrupted run goes on from the captions it has taken in and the images it has checked.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vl_absvit.cli import progress
from vl_absvit.data.whole_folder import fingerprint, make_request
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.caption_lists import read_captions, read_splits, split_of_list
from vl_absvit.prepare.caption_sets import OFFICIAL, DatasetName
from vl_absvit.prepare.caption_store import OF_SPLIT, CaptionStore, SplitCounts
from vl_absvit.prepare.check_images import check_images, find_images
from vl_absvit.prepare.coco_images import CocoImages, is_named_as_cocos
from vl_absvit.prepare.database import Database
from vl_absvit.prepare.karpathy_source import Ids, find_ids, read_images
from vl_absvit.prepare.listed_captions import ListedCaptions
from vl_absvit.prepare.named_images import NamedImages
from vl_absvit.prepare.prepare import Content, Work, prepare
from vl_absvit.prepare.tables import write_images, write_rows

_SCHEMA = pa.schema([("caption_id", pa.int64()), ("image_id", pa.int64()), ("caption", pa.string())])


@dataclass(frozen=True, kw_only=True)
class CaptionOptions:
    """What the prepared folder depends on."""

    dataset: DatasetName
    root: Path
    """Folder that the images lie below."""
    karpathy: Path | None = None
    """``dataset_flickr30k.json`` or its like, plain or gzipped: captions and splits, or splits alone beside
    ``captions``."""
    captions: Sequence[Path] = ()
    """Lists of captions; the splits come from ``karpathy`` or ``splits``, else from the names of the lists."""
    splits: Sequence[Path] = ()
    """Lists of the images of one split each."""
    images: Path | None = None
    """Folder that the images lie below, where that is not ``root``."""
    embed_images: bool = False
    allow_missing_images: bool = False

    def __post_init__(self) -> None:
        if not self.karpathy and not self.captions:
            raise ConfigError("expected the captions by --karpathy or --captions, got neither")
        if self.splits and (self.karpathy or not self.captions):
            raise ConfigError("--splits divides the images of --captions where there is no --karpathy")
        if self.karpathy and self.karpathy.name.endswith((".token", ".txt")):
            raise ConfigError(f"--karpathy takes captions with splits; give {self.karpathy} as --captions")
        names = [file.name for file in self.sources]
        if len(set(names)) < len(names):
            raise ConfigError(f"two of the files have the same name: {', '.join(sorted(names))}; rename one")

    @property
    def sources(self) -> list[Path]:
        """The files of captions and splits."""
        return [*([self.karpathy] if self.karpathy else []), *self.captions, *self.splits]

    @property
    def folder(self) -> Path:
        """The folder that the images lie below."""
        return self.root if self.images is None else self.images


def prepare_captions(options: CaptionOptions, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest; if it is finished already, only check that it is what was asked for.

    Raises:
        InputError: something is wrong with the files, or ``output`` is there from other options or other files.
    """
    if not options.folder.is_dir():
        raise InputError(f"{options.folder}: no such folder; expected the images of {options.dataset} there")
    for file in options.sources:
        if not file.exists():
            raise InputError(f"{file}: no such file")
    ids = find_ids(options.karpathy, options.dataset) if options.karpathy else Ids(of_images=True, of_captions=True)

    def fill(work: Work) -> Content:
        store, allowed = CaptionStore(work.database, work.images), options.allow_missing_images
        warnings = _without_ids(ids) + _take_in(store, work.database, options, ids)
        pictures = _pictures(options, store)
        store.list_images(pictures.find)
        warnings += find_images(work.images, OF_SPLIT, pictures, allow_missing=allowed)
        if not work.images.count(None) + work.images.count("good"):
            first = next(work.images.in_state("missing")).file
            raise InputError(f"none of the images is there: {pictures.looked_for(first)}; nothing would be left")
        checked = check_images(work.images, workers, store.skipped_captions)
        write_images(work.folder, work.images, embed=options.embed_images)
        splits = _write_splits(work.folder, store, options.dataset)
        warnings += checked.warnings + _repetitions(splits) + _deviations(splits, options.dataset)
        return Content({split: counts._asdict() for split, counts in splits.items()}, checked, warnings, more={})

    return prepare(output, _request(options), fill, root=options.folder, noun="captions")


def _request(options: CaptionOptions) -> dict[str, Any]:
    """What decides the result: where the images are, the options, the content of the files."""
    settings: dict[str, Any] = {name: asdict(options)[name] for name in ("embed_images", "allow_missing_images")}
    if not options.karpathy:
        settings["lists"] = {split: [] for split in OFFICIAL[options.dataset]}
        for path in options.splits or options.captions:
            settings["lists"][split_of_list(path, options.dataset)].append(fingerprint(path)["sha256"])
    return {"dataset": options.dataset, **make_request("captions", options.folder, settings, options.sources)}


def _take_in(store: CaptionStore, database: Database, options: CaptionOptions, ids: Ids) -> list[str]:
    """The captions; words for what is odd about lists of them."""
    dataset, karpathy = options.dataset, options.karpathy
    with progress() as bar:
        if not options.captions:
            records = bar.track(read_images(karpathy, dataset, ids), description=karpathy.name)
            store.add(karpathy, records)
            return []
        listed, names_tell = ListedCaptions(database), not (karpathy or options.splits)
        for path in options.captions:
            split = split_of_list(path, dataset) if names_tell else None
            listed.add(path, split, bar.track(read_captions(path, dataset), description=path.name))
        if karpathy:
            store.add(karpathy, listed.as_in(karpathy, read_images(karpathy, dataset, ids)))
        else:
            split_of = None if names_tell else read_splits(options.splits, dataset)
            store.add(options.captions[0], listed.numbered(dataset, split_of))
    return _oddities(listed, store, options)


def _oddities(listed: ListedCaptions, store: CaptionStore, options: CaptionOptions) -> list[str]:
    """Words for what was mended and what was left out.

    Raises:
        InputError: nothing is left.
    """
    divided, images = sum(1 for _ in store.files()), listed.count_images()
    lists = ", ".join(path.name for path in options.captions)
    if not divided:
        dividing = ", ".join(path.name for path in options.sources if path not in options.captions)
        raise InputError(f"none of the {images:,} images of {lists} is in {dividing}")
    warnings = [f"the caption of {file} lacked the mark before it and was mended" for file in listed.repaired()]
    if divided < images:
        warnings.append(f"{images - divided:,} of the {images:,} images of {lists} are in no split and left out")
    return warnings


def _pictures(options: CaptionOptions, store: CaptionStore) -> CocoImages | NamedImages:
    """What finds the images: COCO's by their ids, others by their names."""
    if options.dataset == "coco" and all(map(is_named_as_cocos, store.files())):
        return CocoImages(options.folder)
    return NamedImages(options.folder, store.files())


def _write_splits(folder: Path, store: CaptionStore, dataset: DatasetName) -> dict[str, SplitCounts]:
    """One table per split that has captions; its counts."""
    splits = {}
    for split in OFFICIAL[dataset]:
        counts = store.count(split)
        if counts.captions:
            write_rows(folder / f"{split}.parquet", _SCHEMA, store.rows(split))
            splits[split] = counts
    return splits


def _without_ids(ids: Ids) -> list[str]:
    nouns = [noun for noun, are_given in (("images", ids.of_images), ("captions", ids.of_captions)) if not are_given]
    return [f"there are no ids of {' and '.join(nouns)}; they are numbered in file order"] if nouns else []


def _repetitions(splits: dict[str, SplitCounts]) -> list[str]:
    removed = {split: counts.duplicates_removed for split, counts in splits.items() if counts.duplicates_removed}
    if not removed:
        return []
    by_split = ", ".join(f"{count:,} of {split}" for split, count in removed.items())
    return [f"captions that repeat another one of the same image are left out: {by_split}"]


def _deviations(splits: dict[str, SplitCounts], dataset: DatasetName) -> list[str]:
    """Words for every split that is not as large as the official one."""
    warnings = []
    for split, expected in OFFICIAL[dataset].items():
        images = splits[split].images if split in splits else 0
        if images != expected:
            some = "; some papers use 1,000" if (dataset, split) == ("flickr30k", "val") else ""
            warnings.append(f"{split}: has captions of {images:,} images, the official split of {expected:,}{some}")
    return warnings
