"""Captions and their images in the scratch database: checked against each other, read split by split."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from vl_absvit.errors import InputError
from vl_absvit.prepare.database import Database
from vl_absvit.prepare.image_store import ImageStore
from vl_absvit.prepare.karpathy_source import CaptionedImage

# A caption's place is its number in the file. ``is_repeated``: an earlier caption of the image says the same.
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS captioned (image_id INTEGER PRIMARY KEY, file TEXT UNIQUE, split TEXT);
    CREATE TABLE IF NOT EXISTS caption (
        place INTEGER PRIMARY KEY, caption_id INTEGER UNIQUE, image_id INTEGER, caption TEXT, is_repeated INTEGER);
"""
_JOINED = "caption JOIN captioned USING (image_id) JOIN image USING (image_id)"
OF_SPLIT = "SELECT split, image_id FROM captioned"
"""Which images each split is about."""


class SplitCounts(NamedTuple):
    """What a split's table holds."""

    captions: int
    images: int
    without_image: int  # captions whose image was missing
    duplicates_removed: int  # captions that repeat another one of the same image


class CaptionStore:
    """The tables of captions, beside that of their images."""

    def __init__(self, database: Database, images: ImageStore) -> None:
        self._database = database
        self._images = images
        database.create(_SCHEMA)

    def add(self, path: Path, captioned: Iterable[CaptionedImage]) -> None:
        """Take in a caption file, unless that was done before an interruption.

        Raises:
            InputError: an image, its file or a caption id occurs twice.
        """
        if self._database.has_taken_in(path):
            return
        with self._database.taking_in(path):
            for image in captioned:
                if not self._database.insert("INSERT INTO captioned VALUES (?, ?, ?)", image[:3]):
                    raise InputError(f"{path}: {self._conflict(image)}")
                texts = set()
                for caption_id, text in image.captions:
                    row = (caption_id, image.image_id, text, text in texts)
                    if not self._database.insert("INSERT INTO caption VALUES (NULL, ?, ?, ?, ?)", row):
                        raise InputError(f"{path}: image {image.image_id}: the caption id {caption_id} occurs twice")
                    texts.add(text)

    def _conflict(self, image: CaptionedImage) -> str:
        """What a new image has in common with an earlier one."""
        query = "SELECT image_id, file, split FROM captioned WHERE image_id = ? OR file = ? ORDER BY image_id != ?"
        image_id, file, split = self._database.one(query, image.image_id, image.file, image.image_id)
        if image_id != image.image_id:
            return f"the images {image_id} and {image.image_id} are the same file, {file}"
        if split != image.split:
            return f"image {image_id} ({file}) is both in {split} and in {image.split}"
        return f"image {image_id} ({file}) occurs twice"

    def files(self) -> Iterator[str]:
        """The official files of all images."""
        yield from (file for (file,) in self._database.all("SELECT file FROM captioned"))

    def list_images(self, find: Callable[[str], str | None]) -> None:
        """Fill the table of images. What was not found good before is to be checked again.

        Args:
            find: where the image of an official file is; None if nowhere.
        """
        self._images.forget_all_but_good()
        listed = self._database.all("SELECT image_id, file FROM captioned")
        self._images.add((image_id, find(file) or file) for image_id, file in listed)

    def rows(self, split: str) -> Iterator[tuple[int, int, str]]:
        """Caption id, image id and text in file order, without repeated captions and those of bad images."""
        yield from self._database.all(
            f"SELECT caption_id, image_id, caption FROM {_JOINED} "
            "WHERE split = ? AND state != 'bad' AND NOT is_repeated ORDER BY place",
            split,
        )

    def count(self, split: str) -> SplitCounts:
        """How many of what ``rows`` has."""
        return SplitCounts(
            *self._database.one(
                "SELECT COUNT(*) FILTER (WHERE NOT is_repeated), COUNT(DISTINCT image_id), "
                "COUNT(*) FILTER (WHERE NOT is_repeated AND state = 'missing'), COUNT(*) FILTER (WHERE is_repeated) "
                f"FROM {_JOINED} WHERE split = ? AND state != 'bad'",
                split,
            )
        )

    def skipped_captions(self) -> dict[str, dict[str, int]]:
        """Split -> reason -> number of the captions of bad images."""
        return self._images.on_bad_images("SELECT split, image_id FROM caption JOIN captioned USING (image_id)")
