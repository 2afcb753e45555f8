"""Captions with Karpathy's splits, Flickr30K's or COCO's, to the folder that training reads.

An interrupted run goes on from the captions it has taken in and the images it has checked.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vl_absvit.cli import progress
from vl_absvit.data.preparation.caption_store import CaptionStore, SplitCounts
from vl_absvit.data.preparation.folder import make_request
from vl_absvit.data.preparation.images import check_images, find_images
from vl_absvit.data.preparation.karpathy_source import OFFICIAL, DatasetName, Ids, find_ids, read_images
from vl_absvit.data.preparation.prepare import Content, Work, prepare
from vl_absvit.data.preparation.tables import write_images, write_rows
from vl_absvit.errors import InputError

_SCHEMA = pa.schema([("caption_id", pa.int64()), ("image_id", pa.int64()), ("caption", pa.string())])


@dataclass(frozen=True, kw_only=True)
class CaptionOptions:
    """What the prepared folder depends on."""

    dataset: DatasetName
    root: Path
    """Folder of the image folders: ``flickr30k-images``, or COCO's ``train2014`` and ``val2014``."""
    karpathy: Path
    """``dataset_flickr30k.json`` or ``dataset_coco.json``, plain or gzipped."""
    embed_images: bool = False
    allow_missing_images: bool = False


def prepare_captions(options: CaptionOptions, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest; if it is finished already, only check that it is what was asked for.

    Raises:
        InputError: something is wrong with the files, or ``output`` is there from other options or other files.
    """
    if not options.root.is_dir():
        raise InputError(f"{options.root}: no such folder; expected the images of {options.dataset} there")
    ids = find_ids(options.karpathy, options.dataset)

    def fill(work: Work) -> Content:
        store = CaptionStore(work.database, work.images)
        _take_in(store, options, ids)
        warnings = _without_ids(ids) + find_images(work.images, allow_missing=options.allow_missing_images)
        checked = check_images(work.images, workers, store.skipped_captions)
        write_images(work.folder, work.images, embed=options.embed_images)
        splits = _write_splits(work.folder, store, options.dataset)
        warnings += checked.warnings + _repetitions(splits) + _deviations(splits, options.dataset)
        return Content({split: counts._asdict() for split, counts in splits.items()}, checked, warnings, more={})

    return prepare(output, _request(options), fill, root=options.root, noun="captions")


def _request(options: CaptionOptions) -> dict[str, Any]:
    """What decides the result: where the images are, the options, the content of the caption file."""
    settings = {name: value for name, value in asdict(options).items() if name not in ("dataset", "root", "karpathy")}
    return {"dataset": options.dataset, **make_request("captions", options.root, settings, [options.karpathy])}


def _take_in(store: CaptionStore, options: CaptionOptions, ids: Ids) -> None:
    """Captions and the list of images."""
    with progress() as bar:
        records = bar.track(read_images(options.karpathy, options.dataset, ids), description=options.karpathy.name)
        store.add(options.karpathy, records)
    store.list_images()


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
