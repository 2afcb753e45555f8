"""From labelled pixels as they are published to a folder that training and evaluation read.

A split's table has a label for every picture: a grey PNG of final class numbers, and 255 where a pixel has no class.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vl_absvit.cli import progress
from vl_absvit.data.png import encode_grey
from vl_absvit.data.records import SEGMENTATION
from vl_absvit.data.segmentation_labels import VOID
from vl_absvit.data.whole_folder import fingerprint_all, make_request
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare import sets
from vl_absvit.prepare.check_images import Images, pool_of
from vl_absvit.prepare.named_images import NamedImages
from vl_absvit.prepare.prepare import Content, ImageFolder, Records, Source, count_rows, prepare
from vl_absvit.prepare.repeats import equal_files, repeats_in_words
from vl_absvit.prepare.segmentation_source import LabelValues, Pair, SegmentationSet, check_apart
from vl_absvit.prepare.tables import write_rows

SEGMENTATION_SETS: dict[str, SegmentationSet] = sets.known(SegmentationSet)
_SCHEMA = pa.schema(
    [("image_id", pa.int64()), ("name", pa.string()), ("label", pa.binary()), ("label_sha256", pa.string())]
)
_ROWS_PER_GROUP = 16  # a label has a few kilobytes, and reading one reads its group
_LABELS_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True)
class SegmentationOptions:
    """The options that the prepared folder depends on."""

    dataset: str
    """A key of ``SEGMENTATION_SETS``."""
    root: Path
    embed_images: bool = False
    allow_missing_images: bool = False

    def __post_init__(self) -> None:
        if self.dataset not in SEGMENTATION_SETS:
            raise ConfigError(f"--dataset: expected one of {', '.join(SEGMENTATION_SETS)}, got {self.dataset!r}")


def prepare_segmentation(options: SegmentationOptions, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest. A finished ``output`` is only compared with the request.

    Raises:
        InputError: pictures, labels or lists have a fault, or ``output`` was made from others.
    """
    source = SegmentationSource(options, workers)
    images = ImageFolder(source.layout.root, NamedImages, options.embed_images, options.allow_missing_images)
    return prepare(source, images, output, workers)


class CheckedLabel(NamedTuple):
    """A label file in the prepared form, or the reason why it cannot be used."""

    content: bytes | None
    sha256: str | None  # of the pixels, in whatever way they are packed
    pixels: np.ndarray | None  # pixels of every value, (256,)
    fault: str | None


class SegmentationSource(Source):
    """Pictures and labels. Every label is read, mapped to classes and compared with its picture's size."""

    row_type = "labels"

    def __init__(self, options: SegmentationOptions, workers: int) -> None:
        """
        Raises:
            InputError: the folder does not hold the data set, or a picture is in two splits.
        """
        self._options, self._workers = options, workers
        self._set = SEGMENTATION_SETS[options.dataset]
        self.layout = self._set.read(options.root)
        check_apart(self.layout.splits)
        pairs = [pair for split in self.layout.splits.values() for pair in split]
        self._pairs: dict[int, Pair] = dict(enumerate(pairs))

    def request(self) -> dict[str, Any]:
        """The folder, the options, and the content of lists and labels."""
        options, layout = self._options, self.layout
        settings = {name: asdict(options)[name] for name in ("embed_images", "allow_missing_images")}
        request = make_request(SEGMENTATION, layout.root, settings, layout.lists)
        labels = [pair.label for pair in self._pairs.values() if pair.label is not None]
        with progress() as bar:
            request["sources"]["labels"] = fingerprint_all(
                layout.root, bar.track(labels, description="reading labels"), "the label of a picture"
            )
        return {"dataset": options.dataset, **request}

    def read(self) -> Records:
        """Numbers the pictures, split after split."""
        splits, first = {}, 0
        for split, pairs in self.layout.splits.items():
            ids = range(first, first + len(pairs))
            splits[split] = pa.table({"image_id": pa.array(ids, pa.int64())})
            first = ids.stop
        return Records(splits, {number: pair.image for number, pair in self._pairs.items()}, [])

    def write(self, folder: Path, records: Records, images: Images) -> Content:
        """Write a table for each split, with a label for each picture; one that cannot be used stops everything.

        Raises:
            InputError: labels cannot be used. The message names the first and their number.
        """
        counts: dict[str, dict[str, Any]] = {}
        warnings: list[str] = []
        for split, table in records.splits.items():
            image_ids = table.column("image_id").to_numpy()
            usable = [number for number in image_ids.tolist() if number in images.sizes]
            if not usable:
                warnings.append(f"{split}: no picture is left, none can be used")
                continue
            has_labels = any(self._pairs[number].label is not None for number in usable)
            pixels = np.zeros(256, np.int64)
            write_rows(
                folder / f"{split}.parquet",
                _SCHEMA,
                self._rows(split, usable, images, pixels),
                rows_per_group=_ROWS_PER_GROUP,
                compression="none",
            )
            counts[split] = {
                **count_rows("labels", np.array(usable, np.int64), images),
                "without_image": int(images.are_missing(image_ids).sum()),
                "has_labels": has_labels,
            }
            if has_labels:
                counts[split]["void_percent"] = round(100 * int(pixels[VOID]) / max(int(pixels.sum()), 1), 2)
                warnings += self._about_classes(split, pixels)
            elif split != "test":
                warnings.append(f"{split}: has no labels: it can be predicted, neither trained nor judged on")
        warnings += self._repeats(records, images)
        more = {"classes": self.layout.classes, "colours": [list(colour) for colour in self.layout.colours]}
        return Content(counts, self._deviations(counts) + warnings, more)

    def _rows(
        self, split: str, usable: list[int], images: Images, pixels: np.ndarray
    ) -> Iterator[tuple[int, str, bytes | None, str | None]]:
        """Rows of a split's table; adds the pixels of every value to ``pixels``, (256,)."""
        check = partial(_check_label, self.layout.root, self.layout.values)
        faults: list[str] = []
        with pool_of(self._workers if len(usable) >= _LABELS_AT_ONCE else 1) as spread, progress() as bar:
            task = bar.add_task(f"labels of {split}", total=len(usable))
            for start in range(0, len(usable), _LABELS_AT_ONCE):
                chunk = usable[start : start + _LABELS_AT_ONCE]
                labels = [(self._pairs[number].label, images.sizes[number]) for number in chunk]
                for number, checked in zip(chunk, spread(check, labels), strict=True):
                    if checked.fault is not None:
                        faults.append(checked.fault)
                        continue
                    if checked.pixels is not None:
                        pixels += checked.pixels
                    yield number, self._pairs[number].name, checked.content, checked.sha256
                bar.update(task, advance=len(chunk))
        if faults:
            more = f" (and {len(faults) - 1} more labels of {split} cannot be used)" if len(faults) > 1 else ""
            raise InputError(f"{faults[0]}{more}")

    def _about_classes(self, split: str, pixels: np.ndarray) -> list[str]:
        """A warning about classes of which a split has no pixel."""
        absent = [name for name, number in zip(self.layout.classes, pixels, strict=False) if not number]
        if not absent:
            return []
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        return [f"{split}: has no pixel of {', '.join(absent[:5])}{more}"]

    def _repeats(self, records: Records, images: Images) -> list[str]:
        """A warning about pictures that are there under several names, in another split perhaps."""
        split_of = {
            images.files[number]: split
            for split, table in records.splits.items()
            for number in table.column("image_id").to_pylist()
            if number in images.sizes
        }
        return repeats_in_words(equal_files(images.raw, split_of), split_of, "in another split")

    def _deviations(self, counts: dict[str, dict[str, Any]]) -> list[str]:
        """Warnings about splits whose size is not the published one."""
        return [
            f"{split}: has {found:,} pictures, the published split {expected:,}"
            for split, expected in self._set.published.items()
            if (found := counts.get(split, {}).get("images", 0)) != expected
        ]


def _check_label(root: Path, values: LabelValues, label: tuple[str | None, tuple[int, int]]) -> CheckedLabel:
    """A label in the prepared form.

    Args:
        label: its file relative to ``root``, and width and height of its picture.
    """
    file, (width, height) = label
    if file is None:
        return CheckedLabel(None, None, None, None)
    try:
        classes = values.read(root / file)
    except InputError as error:
        return CheckedLabel(None, None, None, str(error))
    if classes.shape != (height, width):
        found = f"expected its picture's {width} x {height} pixels, got {classes.shape[1]} x {classes.shape[0]}"
        return CheckedLabel(None, None, None, f"{root / file}: {found}")
    pixels, sha256 = np.bincount(classes.ravel(), minlength=256), hashlib.sha256(classes.tobytes()).hexdigest()
    return CheckedLabel(encode_grey(classes), sha256, pixels, None)
