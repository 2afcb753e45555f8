"""Decode every image once before training does, in several processes, and say which are missing or bad and why."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from vl_absvit.cli import progress
from vl_absvit.data.bounded import read_picture
from vl_absvit.data.rgb import decode_rgb
from vl_absvit.errors import InputError
from vl_absvit.prepare.image_store import CheckedImage, ImageStore

_IMAGES_PER_COMMIT = 512
_IMAGES_PER_TASK = 16


class CheckedImages(NamedTuple):
    """What came of checking the images."""

    number: int  # decoded by this run
    seconds: float
    skipped: dict[str, dict[str, int]]  # split -> reason -> questions or captions that are left out with bad images
    warnings: list[str]


def check_image(raw: Path, image: tuple[int, str]) -> CheckedImage:
    """Read and decode one image.

    Args:
        image: id, and file relative to ``raw``.

    Raises:
        OSError: the file cannot be read: permissions, a folder, a failing disk.
    """
    image_id, file = image
    try:
        picture = decode_rgb(read_picture(raw / file))
    except InputError as error:
        return CheckedImage(image_id, file, "bad", str(error), (None, None))
    return CheckedImage(image_id, file, "good", None, picture.size)


class Lookup(Protocol):
    """What looked for the files of images below a folder."""

    has_pictures: bool  # of any name

    def looked_for(self, file: str) -> str:
        """Words for where a file that is missing was looked for, and what would have fitted."""


def find_images(
    images: ImageStore, query: str | None = None, lookup: Lookup | None = None, *, allow_missing: bool
) -> list[str]:
    """Record which images have no file; quick, so that nobody waits for the decoding to learn of it.

    Args:
        query, lookup: as for ``check_layout``, where splits without any image are to be told from others.

    Returns:
        Warnings if some are missing.

    Raises:
        InputError: some are missing, and that is not allowed; see ``check_layout``.
    """
    mark_missing(images)
    warnings = check_layout(images, query, lookup, allow_missing=allow_missing) if query and lookup else []
    return warnings + judge_missing(images, allow_missing=allow_missing)


def check_layout(images: ImageStore, query: str, lookup: Lookup, *, allow_missing: bool) -> list[str]:
    """Tell splits without any image from those that lack a few: folders are elsewhere, or named otherwise.

    Call it after ``mark_missing``.

    Args:
        query: of ``split`` and ``image_id``, as ``ImageStore.found_of`` takes it.

    Returns:
        A warning for every split of which no image is there.

    Raises:
        InputError: there are such splits, and that is not allowed; or pictures are there and none belongs to any split.
    """
    of_split = images.found_of(query)
    empty = [
        f"none of the {found.missing:,} images of {split} is there: {lookup.looked_for(found.first_missing)}"
        for split, found in of_split.items()
        if not found.found
    ]
    if empty and not allow_missing:
        raise InputError(f"{empty[0]}; --allow-missing-images prepares the {images.noun} without them")
    if len(empty) == len(of_split) and lookup.has_pictures:
        raise InputError(f"{empty[0]}; all {images.noun} would be without their image")
    return [f"{words}; nothing of it can be trained on or evaluated" for words in empty]


def mark_missing(images: ImageStore) -> None:
    """Record which images have no file."""
    for chunk in _unchecked(images):
        absent = [image for image in chunk if not (images.raw / image[1]).exists()]
        images.record(CheckedImage(*image, "missing", None, (None, None)) for image in absent)


def judge_missing(images: ImageStore, *, allow_missing: bool) -> list[str]:
    """Refuse or warn of images that are missing."""
    missing = images.count("missing")
    if not missing:
        return []
    first = next(images.in_state("missing"))
    found = f"{missing} images are missing, the first is {images.raw / first.file} (image {first.image_id})"
    if not allow_missing:
        raise InputError(f"{found}; --allow-missing-images prepares the rest, and never loads their {images.noun}")
    return [f"{found}; their {images.noun} are in the tables, but are not loaded"]


def check_images(
    images: ImageStore, workers: int, count_skipped: Callable[[], dict[str, dict[str, int]]]
) -> CheckedImages:
    """Decode all images that are neither missing nor were found good before, and record what became of each.

    Args:
        count_skipped: tells for each split and reason how many questions or captions are about bad images.

    Raises:
        InputError: images are there, and none can be used.
    """
    start, total = time.monotonic(), images.count(None)
    check = partial(check_image, images.raw)
    with _mapper(min(workers, -(-total // _IMAGES_PER_TASK))) as mapper, progress() as bar:
        task = bar.add_task("checking images", total=total)
        for chunk in _unchecked(images):
            images.record(_checked(mapper, check, chunk))
            bar.update(task, advance=len(chunk))
    skipped = count_skipped()
    return CheckedImages(total, time.monotonic() - start, skipped, _judge_bad(images, skipped))


def _judge_bad(images: ImageStore, skipped: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Bad images are warned about, unless there is no good one."""
    bad = images.count("bad")
    if not bad:
        return []
    if not images.count("good"):
        first = next(images.in_state("bad"))
        raise InputError(f"none of the images can be used; {first.file}: {first.reason}")
    left_out = ", ".join(f"{sum(by_reason.values())} of {split}" for split, by_reason in skipped.items())
    return [
        f"{bad} images cannot be used, see skipped_images in manifest.json; left out with their {images.noun}: "
        f"{left_out}"
    ]


def skipped_images(images: ImageStore) -> list[dict[str, Any]]:
    """The bad images and their reasons, as the manifest lists them."""
    return [
        {"image_id": image.image_id, "file": image.file, "reason": image.reason} for image in images.in_state("bad")
    ]


def _unchecked(images: ImageStore) -> Iterator[list[tuple[int, str]]]:
    last_id = -1
    while chunk := images.unchecked(above=last_id, limit=_IMAGES_PER_COMMIT):
        yield chunk
        last_id = chunk[-1][0]


def _checked(mapper, check, chunk: Sequence[tuple[int, str]]) -> list[CheckedImage]:
    try:
        return list(mapper(check, chunk))
    except BrokenProcessPool as error:
        raise InputError(
            f"a checking process died between {chunk[0][1]} and {chunk[-1][1]}, perhaps of too little memory; "
            "run again to go on from here, with fewer --workers"
        ) from error


@contextmanager
def _mapper(workers: int) -> Iterator:
    """``map`` in this process, or over a pool of ``workers``."""
    if workers <= 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_live_and_die_with_the_parent) as pool:
        yield partial(pool.map, chunksize=_IMAGES_PER_TASK)


def _live_and_die_with_the_parent() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
