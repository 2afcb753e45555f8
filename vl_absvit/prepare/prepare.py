"""From any data set's raw files to the folder that training reads.

A source reads its files. ``prepare`` finds and checks the images, and writes tables, skip list and manifest. The folder
is whole or absent. An interrupted run goes on with the images that it has not checked.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vl_absvit.data.json_files import write_json
from vl_absvit.data.raw_folder import place_of
from vl_absvit.data.records import ImageTable
from vl_absvit.data.whole_folder import (
    CHECKED,
    finish,
    finished,
    partial_folder,
    start_or_continue,
    versions,
)
from vl_absvit.errors import InputError
from vl_absvit.prepare.check_images import Finder, Images, check_images, judge_missing, words_for_bad
from vl_absvit.prepare.journal import Journal
from vl_absvit.prepare.tables import write_images

log = logging.getLogger(__name__)


class Records(NamedTuple):
    """The content of a data set's files."""

    splits: dict[str, pa.Table]  # rows in the order of writing; one column is ``image_id``
    files: dict[int, str]  # image id -> the image's official file
    warnings: list[str]
    image_columns: tuple[str, ...] = ("image_id",)

    def image_ids(self) -> dict[str, np.ndarray]:
        """Split -> image id of each row, (rows,), or (rows, k) where rows are about k images."""
        return {split: ids_in(table, self.image_columns) for split, table in self.splits.items()}


class Content(NamedTuple):
    """The manifest's entries about the tables that were written."""

    splits: dict[str, dict[str, Any]]  # split -> counts, among them that of questions or captions
    warnings: list[str]
    more: dict[str, Any]  # further entries


class ImageFolder(NamedTuple):
    """The images of a data set, and how to treat them."""

    root: Path
    finder: Callable[[Path, Iterable[str]], Finder]  # takes the folder and the official files of all images
    embed: bool = False
    allow_missing: bool = False


class Source(ABC):
    """The raw files of a data set.

    Attributes:
        row_type: "questions" or "captions", for names and messages.
    """

    row_type: str

    @abstractmethod
    def request(self) -> dict[str, Any]:
        """Everything that decides the result, see ``whole_folder.make_request``."""

    @abstractmethod
    def read(self) -> Records:
        """Read the files.

        Raises:
            InputError: a file has a fault.
        """

    def check(self, journal: Journal, images: Images) -> None:  # noqa: B027 (most sources have nothing else)
        """Check other things than images. Missing images are known by then; the others are not decoded yet.

        Raises:
            InputError: something has a fault.
        """

    @abstractmethod
    def write(self, folder: Path, records: Records, images: Images) -> Content:
        """Write a table for each split that has rows. Rows about bad images are left out."""


def ids_in(table: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """The ids in one column, (rows,), or in k, (rows, k)."""
    ids = np.stack([table.column(name).to_numpy() for name in columns], axis=-1)
    return ids[:, 0] if len(columns) == 1 else ids


def count_rows(row_type: str, image_ids: np.ndarray, images: Images) -> dict[str, int]:
    """Counts of a table: rows, images, and rows with a missing image. ``image_ids`` are (rows,) or (rows, k)."""
    missing = images.are_missing(image_ids)
    return {
        row_type: len(image_ids),
        "images": len(np.unique(image_ids)),
        "without_image": int((missing if missing.ndim == 1 else missing.any(axis=1)).sum()),
    }


def prepare(source: Source, image_folder: ImageFolder, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest. A finished ``output`` is only compared with the request.

    Args:
        workers: processes that check images.

    Raises:
        InputError: ``output`` was made from another request, or the files or the images have a fault.
    """
    root, row_type = image_folder.root, source.row_type
    request = source.request() | place_of(root, output)
    manifest = finished(output, request)
    if manifest is not None:
        return _with_pictures(manifest, output, root)
    start = time.monotonic()
    folder = partial_folder(output)
    start_or_continue(folder, request)
    with Journal(folder / CHECKED) as journal:
        records = source.read()
        images = Images(root, records.files, image_folder.finder(root, records.files.values()), row_type)
        image_ids = records.image_ids()
        warnings = records.warnings + judge_missing(images, image_ids, allow_missing=image_folder.allow_missing)
        source.check(journal, images)
        checking = time.monotonic()
        number = check_images(images, journal, workers)
        checking = time.monotonic() - checking
        skipped = images.skipped(image_ids)
        write_images(folder, images, embed=image_folder.embed)
        content = source.write(folder, records, images)
    warnings += words_for_bad(images, skipped) + content.warnings
    manifest = {
        "format": 1,
        **request,
        "splits": content.splits,
        **content.more,
        "missing_images": len(images.missing),
        "skipped_images": images.skipped_images(),
        f"skipped_{row_type}": skipped,
        "versions": versions(),
        # Warnings may name other files, in any encoding.
        "warnings": [words.encode("utf-8", "backslashreplace").decode("utf-8") for words in warnings],
    }
    finish(folder, output, manifest)
    rows = sum(counts[row_type] for counts in content.splits.values())
    seconds = time.monotonic() - start
    checked = _pace(number, "images checked", checking)
    log.info("took %.1f s: %s, %s", seconds, checked, _pace(rows, f"{row_type} prepared", seconds - checking))
    return manifest


def _with_pictures(manifest: dict[str, Any], output: Path, root: Path) -> dict[str, Any]:
    """The manifest of a finished folder. If its pictures were moved to ``root``, the manifest gets the new place.

    Raises:
        InputError: the pictures are neither in the manifest's place nor in ``root``.
    """
    place = place_of(root, output)
    if all(manifest.get(key) in (value, None) for key, value in place.items()):
        return manifest
    try:
        found = ImageTable(output).raw_root
    except InputError:
        ImageTable(output, root)  # raises if they are not there either
        manifest = manifest | place
        write_json(output / "manifest.json", manifest, indent=1)
        log.info("%s: its pictures are looked for in %s from now on", output, root)
        return manifest
    if found.resolve() != root.resolve():
        log.info("%s: was prepared with the pictures in %s, which are still there", output, found)
    return manifest


def _pace(number: int, what: str, seconds: float) -> str:
    return f"{number:,} {what}" + (f" ({number / seconds:,.0f}/s)" if number else "")
