"""What all preparations do around their own work: begin or go on, and finish with a manifest."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from vl_absvit.data.json_files import write_json
from vl_absvit.data.raw_folder import place_of
from vl_absvit.data.records import ImageTable
from vl_absvit.data.whole_folder import SCRATCH, finish, finished, partial_folder, start_or_continue, versions
from vl_absvit.errors import InputError
from vl_absvit.prepare.check_images import CheckedImages, skipped_images
from vl_absvit.prepare.database import Database
from vl_absvit.prepare.image_store import ImageStore

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
    request = request | place_of(root, output)
    manifest = finished(output, request)
    if manifest is not None:
        return _with_pictures(manifest, output, root)
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
            # They may name files that are beside the point, in any encoding.
            "warnings": [words.encode("utf-8", "backslashreplace").decode("utf-8") for words in content.warnings],
        }
    finish(folder, output, manifest)
    log.info("%s", _pace(content, noun, time.monotonic() - start))
    return manifest


def _with_pictures(manifest: dict[str, Any], output: Path, root: Path) -> dict[str, Any]:
    """The manifest of a finished folder, which tells from now on where its pictures are if they were moved to ``root``.

    Raises:
        InputError: they are neither where it says nor there.
    """
    place = place_of(root, output)
    if all(manifest.get(key) in (value, None) for key, value in place.items()):
        return manifest
    try:
        found = ImageTable(output).raw_root
    except InputError:
        ImageTable(output, root)  # complains if they are not there either
        manifest = manifest | place
        write_json(output / "manifest.json", manifest, indent=1)
        log.info("%s: its pictures are looked for in %s from now on", output, root)
        return manifest
    if found.resolve() != root.resolve():
        log.info("%s: was prepared with the pictures in %s, which are still there", output, found)
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
