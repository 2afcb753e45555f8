"""Find the images that are missing or cannot be decoded, before training, in several processes, with reasons."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from vl_absvit.cli import progress
from vl_absvit.data.bounded import read_picture
from vl_absvit.data.files import check_name
from vl_absvit.data.rgb import rgb_size
from vl_absvit.errors import InputError
from vl_absvit.prepare.journal import Journal

_IMAGES_PER_COMMIT = 512
_IMAGES_PER_TASK = 16
_TOPIC = "image"  # of the journal


class Finder(Protocol):
    """Finds the files of images below a folder."""

    @property
    def has_pictures(self) -> bool:
        """Whether there is any picture, whatever its name."""

    def find(self, file: str) -> str | None:
        """Path of the image with an official name, relative to the folder; None if there is none."""

    def looked_for(self, file: str) -> str:
        """Words about a missing file: the places that were searched, and a folder that would fit."""


class CheckedImage(NamedTuple):
    """The result for one image: a size, or the reason why the image is bad."""

    image_id: int
    size: tuple[int, int] | None  # width and height in pixels
    reason: str | None


class Images:
    """The images of a data set by id, and the results of checking them.

    Attributes:
        files: image id -> file relative to ``raw``; ids ascend.
        sizes: image id of a good image -> width and height in pixels.
        missing: ids of the images without a file.
        bad: image id of a bad image -> reason.
        excluded: number of those that are bad because a test set has them.
    """

    def __init__(self, raw: Path, official: Mapping[int, str], finder: Finder, row_type: str) -> None:
        """
        Args:
            raw: folder of the images.
            official: image id -> official file.
            row_type: "questions" or "captions", for messages.

        Raises:
            InputError: the name of a file is not in UTF-8.
        """
        self.raw, self.finder, self.row_type = raw, finder, row_type
        self.files = {image_id: finder.find(file) or file for image_id, file in sorted(official.items())}
        for file in self.files.values():
            if not file.isascii():
                check_name(raw / file)
        # Missing files are reported before the slow checking begins.
        self.missing = [image_id for image_id, file in self.files.items() if not (raw / file).exists()]
        self.sizes: dict[int, tuple[int, int]] = {}
        self.bad: dict[int, str] = {}
        self.excluded = 0

    def are_usable(self, image_ids: np.ndarray) -> np.ndarray:
        """Whether each image is not bad: bool, in the shape of the ids."""
        return ~np.isin(image_ids, list(self.bad))

    def are_missing(self, image_ids: np.ndarray) -> np.ndarray:
        """Whether each image has no file: bool, in the shape of the ids."""
        return np.isin(image_ids, self.missing)

    def skipped(self, splits: Mapping[str, np.ndarray]) -> dict[str, dict[str, int]]:
        """Split -> reason -> number of rows about bad images.

        Args:
            splits: split -> image id of each row, (rows,) or (rows, k). The first bad one of k counts.
        """
        counts: dict[str, dict[str, int]] = {}
        for split, image_ids in sorted(splits.items()):
            image_ids = image_ids.reshape(len(image_ids), -1)
            bad = ~self.are_usable(image_ids)
            first = image_ids[np.arange(len(bad)), bad.argmax(axis=1)]
            ids, rows = np.unique(first[bad.any(axis=1)], return_counts=True)
            for reason, number in sorted(zip((self.bad[i] for i in ids.tolist()), rows.tolist(), strict=True)):
                by_reason = counts.setdefault(split, {})
                by_reason[reason] = by_reason.get(reason, 0) + number
        return counts

    def skipped_images(self) -> list[dict[str, Any]]:
        """The bad images and their reasons, as the manifest lists them."""
        return [
            {"image_id": image_id, "file": self.files[image_id], "reason": reason}
            for image_id, reason in sorted(self.bad.items())
        ]


def judge_missing(images: Images, splits: Mapping[str, np.ndarray], *, allow_missing: bool) -> list[str]:
    """Refuse missing images, or return warnings about them. Splits without any image are reported on their own.

    Args:
        splits: split -> image id of each row.

    Raises:
        InputError: images are missing, and that is not allowed; or the folder has pictures, but none of any split.
    """
    warnings = _judge_layout(images, splits, allow_missing=allow_missing)
    if not images.missing:
        return warnings
    first = images.missing[0]
    found = f"{len(images.missing)} images are missing, the first is {images.raw / images.files[first]} (image {first})"
    if not allow_missing:
        raise InputError(f"{found}; --allow-missing-images prepares the rest, and never loads their {images.row_type}")
    return [*warnings, f"{found}; their {images.row_type} are in the tables, but are not loaded"]


def _judge_layout(images: Images, splits: Mapping[str, np.ndarray], *, allow_missing: bool) -> list[str]:
    """Report splits without any image: their folder is elsewhere or has another name."""
    empty = []
    for split, image_ids in sorted(splits.items()):
        missing = images.are_missing(image_ids)
        if missing.all():
            ids = np.unique(image_ids).tolist()
            looked_for = images.finder.looked_for(min(images.files[image_id] for image_id in ids))
            empty.append(f"none of the {len(ids):,} images of {split} is there: {looked_for}")
    if empty and not allow_missing:
        raise InputError(f"{empty[0]}; --allow-missing-images prepares the {images.row_type} without them")
    if len(empty) == len(splits) and images.finder.has_pictures:
        raise InputError(f"{empty[0]}; all {images.row_type} would be without their image")
    return [f"{words}; nothing of it can be trained on or evaluated" for words in empty]


def refuse_without_any(images: Images) -> None:
    """Refuse a folder without any of the images.

    Raises:
        InputError: all images are missing.
    """
    if len(images.missing) == len(images.files):
        looked_for = images.finder.looked_for(images.files[images.missing[0]])
        raise InputError(f"none of the images is there: {looked_for}; nothing would be left")


def check_images(images: Images, journal: Journal, workers: int) -> int:
    """Check all images that are neither missing nor known to be good. Returns their number.

    Raises:
        InputError: there are images, and none can be used.
    """
    known = {(image_id, file): (width, height) for image_id, file, width, height in journal.read(_TOPIC)}
    missing = set(images.missing)
    present = [image for image in images.files.items() if image[0] not in missing and image[0] not in images.bad]
    images.sizes.update((image[0], known[image]) for image in present if image in known)
    unchecked = [image for image in present if image not in known]
    check = partial(check_image, images.raw)
    with pool_of(min(workers, -(-len(unchecked) // _IMAGES_PER_TASK))) as mapper, progress() as bar:
        task = bar.add_task("checking images", total=len(unchecked))
        for start in range(0, len(unchecked), _IMAGES_PER_COMMIT):
            chunk = unchecked[start : start + _IMAGES_PER_COMMIT]
            checked = _checked(mapper, check, chunk)
            good = {image.image_id: image.size for image in checked if image.size is not None}
            images.sizes |= good
            images.bad |= {image.image_id: image.reason for image in checked if image.reason is not None}
            journal.write(_TOPIC, ((image_id, images.files[image_id], *size) for image_id, size in good.items()))
            bar.update(task, advance=len(chunk))
    if images.bad and not images.sizes:
        first = min(images.bad)
        raise InputError(f"none of the images can be used; {images.files[first]}: {images.bad[first]}")
    return len(unchecked)


def words_for_bad(images: Images, skipped: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Words for bad images.

    Args:
        skipped: as ``Images.skipped`` returns it.
    """
    if not images.bad:
        return []
    left_out = ", ".join(f"{sum(by_reason.values())} of {split}" for split, by_reason in skipped.items())
    ways = "cannot" if images.excluded == 0 else "cannot or must not"
    return [
        f"{len(images.bad)} images {ways} be used, see skipped_images in manifest.json; left out with their "
        f"{images.row_type}: {left_out}"
    ]


def check_image(raw: Path, image: tuple[int, str]) -> CheckedImage:
    """Read one image, and find its size and whether it can be decoded.

    Args:
        image: id, and file relative to ``raw``.

    Raises:
        OSError: the file cannot be read: permissions, a folder, a failing disk.
    """
    image_id, file = image
    try:
        return CheckedImage(image_id, rgb_size(read_picture(raw / file)), None)
    except InputError as error:
        return CheckedImage(image_id, None, str(error))


def _checked(
    mapper: Callable[..., Iterable[CheckedImage]],
    check: Callable[[tuple[int, str]], CheckedImage],
    chunk: Sequence[tuple[int, str]],
) -> list[CheckedImage]:
    try:
        return list(mapper(check, chunk))
    except BrokenProcessPool as error:
        raise InputError(
            f"a checking process died between {chunk[0][1]} and {chunk[-1][1]}, perhaps of too little memory; "
            "run again to go on from here, with fewer --workers"
        ) from error


@contextmanager
def pool_of(workers: int) -> Iterator[Callable[..., Any]]:
    """``map`` in this process, or over a pool of ``workers``."""
    if workers <= 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_leave_signals_to_the_parent) as pool:
        yield partial(pool.map, chunksize=_IMAGES_PER_TASK)


def _leave_signals_to_the_parent() -> None:
    """Leave Ctrl-C to the parent, and end when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a pool started this process"
    parent.join()
    os._exit(1)
