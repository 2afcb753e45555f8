"""Captions from lists, brought together by image in the scratch database and numbered as Karpathy's files are."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from vl_absvit.errors import InputError
from vl_absvit.prepare.caption_lists import ListedCaption, coco_id
from vl_absvit.prepare.caption_sets import DatasetName
from vl_absvit.prepare.database import Database
from vl_absvit.prepare.karpathy_source import CaptionedImage

# A caption's place is its number over all lists.
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS listed (
        place INTEGER PRIMARY KEY, file TEXT, split TEXT, number INTEGER, caption TEXT, is_repaired INTEGER);
    CREATE INDEX IF NOT EXISTS listed_by_file ON listed (file, number, place);
"""


class ListedCaptions:
    """The table of captions as lists have them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create(_SCHEMA)

    def add(self, path: Path, split: str | None, captions: Iterable[ListedCaption]) -> None:
        """Take in a list, unless that was done before an interruption.

        Args:
            split: of all its images, where the list is of one split.
        """
        taken_in = path.with_name(f"list {path.name}")
        if self._database.has_taken_in(taken_in):
            return
        with self._database.taking_in(taken_in):
            for file, *row in captions:
                statement = "INSERT INTO listed (file, split, number, caption, is_repaired) VALUES (?, ?, ?, ?, ?)"
                self._database.insert(statement, (file, split, *row))

    def numbered(self, dataset: DatasetName, split_of: Mapping[str, str] | None) -> Iterator[CaptionedImage]:
        """The images that are in a split, by name, numbered from 0 like their captions; COCO's have their own ids.

        Of the whole of Flickr30K these are the ids of Karpathy's file.

        Args:
            split_of: image file -> split; None where the lists tell.

        Raises:
            InputError: the lists have an image in two splits, or a caption twice.
        """
        images = captions = 0
        for file, rows in itertools.groupby(self._rows(""), key=lambda row: row[0]):
            listed = self._checked(file, list(rows))
            split = listed[0][1] if split_of is None else split_of.get(file)
            if split is None:
                continue
            if dataset == "coco" and split == "train" and split_of is None and file.startswith("val2014/"):
                split = "restval"  # the lists of others have it in train
            image_id = coco_id(file) if dataset == "coco" else images
            texts = [(captions + place, row[3]) for place, row in enumerate(listed)]
            yield CaptionedImage(image_id, file, split, texts)
            images, captions = images + 1, captions + len(texts)

    def as_in(self, path: Path, karpathy: Iterable[CaptionedImage]) -> Iterator[CaptionedImage]:
        """The images of Karpathy's file that have captions here: its ids, splits and order, the captions of the lists.

        Raises:
            InputError: a caption occurs twice, or has no counterpart there.
        """
        for image in karpathy:
            listed = self._checked(image.file, list(self._rows("WHERE file = ?", image.file)))
            texts = []
            for place, (_, _, number, text) in enumerate(listed):
                place = place if number is None else number
                if place >= len(image.captions):
                    raise InputError(
                        f"{path}: image {image.image_id} ({image.file}) has {len(image.captions)} captions, which the "
                        f"list's caption {place} is none of"
                    )
                texts.append((image.captions[place][0], text))
            if texts:
                yield image._replace(captions=texts)

    def count_images(self) -> int:
        """Images that have captions, whether in a split or not."""
        return self._database.one("SELECT COUNT(DISTINCT file) FROM listed")[0]

    def repaired(self) -> list[str]:
        """The images of captions whose line lacked a mark."""
        return [file for (file,) in self._database.all("SELECT file FROM listed WHERE is_repaired ORDER BY place")]

    def _rows(self, condition: str, *values: str) -> Iterator[tuple[str, str | None, int | None, str]]:
        query = f"SELECT file, split, number, caption FROM listed {condition} ORDER BY file, number, place"
        return self._database.all(query, *values)

    @staticmethod
    def _checked(file: str, rows: list[tuple[str, str | None, int | None, str]]) -> list:
        """All captions of one image, if they fit together."""
        splits = list(dict.fromkeys(split for _, split, _, _ in rows))
        if len(splits) > 1:
            raise InputError(f"{file} is both in the list of {splits[0]} and in that of {splits[1]}")
        numbers = [number for _, _, number, _ in rows if number is not None]
        twice = next((number for number, after in itertools.pairwise(numbers) if number == after), None)
        if twice is not None:
            raise InputError(f"{file}: the caption {twice} is listed twice")
        return rows
