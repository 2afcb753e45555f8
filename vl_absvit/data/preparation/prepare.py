"""What all preparations do around their own work: begin or go on, and finish with a manifest."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from vl_absvit.data.preparation.database import Database
from vl_absvit.data.preparation.folder import SCRATCH, finish, finished, partial_folder, start_or_continue, versions
from vl_absvit.data.preparation.image_store import ImageStore
from vl_absvit.data.preparation.images import CheckedImages, skipped_images

log = logging.getLogger(__name__)


class Work(NamedTuple):
    """A prepared folder in the making."""

    folder: Path
    database: Database  # may hold what an interrupted run left there
    images: ImageStore  # in the same database


class Content(NamedTuple):
    """What was put into the folder, as its manifest says it."""

    splits: dict[str, dict[str, Any]]  # split -> counts, among them that of questions or captions
    checked: CheckedImages
    warnings: list[str]
    more: dict[str, Any]  # whatever else there is to say


def prepare(
    output: Path, request: dict[str, Any], fill: Callable[[Work], Content], *, root: Path, noun: str
) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest; if it is finished already, only check that it is what was asked for.

    Args:
        request: what decides the result, see ``make_request``.
        fill: writes the tables into the folder.
        root: folder that the files of images are relative to.
        noun: what is about images: "questions" or "captions".

    Raises:
        InputError: ``output`` is there from another request, or ``fill`` finds something wrong.
    """
    manifest = finished(output, request)
    if manifest is not None:
        return manifest
    start = time.monotonic()
    folder = partial_folder(output)
    start_or_continue(folder, request)
    with Database(folder / SCRATCH) as database:
        images = ImageStore(database, root, noun)
        content = fill(Work(folder, database, images))
        manifest = {
            "format": 1,
            **request,
            "splits": content.splits,
            **content.more,
            "missing_images": images.count("missing"),
            "skipped_images": skipped_images(images),
            f"skipped_{noun}": content.checked.skipped,
            "versions": versions(),
            "warnings": content.warnings,
        }
    finish(folder, output, manifest)
    log.info("%s", _pace(content, noun, time.monotonic() - start))
    return manifest


def _pace(content: Content, noun: str, seconds: float) -> str:
    """Words for how fast this run was: images while they were checked, questions or captions the rest of the time."""
    number, checking = content.checked.number, content.checked.seconds
    rows = sum(counts[noun] for counts in content.splits.values())
    return (
        f"took {seconds:.1f} s: {_per_second(number, 'images checked', checking)}, "
        f"{_per_second(rows, f'{noun} prepared', seconds - checking)}"
    )


def _per_second(number: int, what: str, seconds: float) -> str:
    return f"{number:,} {what}" + (f" ({number / seconds:,.0f}/s)" if number else "")
