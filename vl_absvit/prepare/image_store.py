"""The list of images to check, and what became of each: kept on disk, so that no image is decoded twice."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from vl_absvit.data.files import check_name
from vl_absvit.prepare.database import Database

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS image (
        image_id INTEGER PRIMARY KEY, file TEXT, state TEXT, reason TEXT, width INTEGER, height INTEGER)
"""


class CheckedImage(NamedTuple):
    """What became of one image."""

    image_id: int
    file: str  # relative to the folder of raw images
    state: Literal["good", "missing", "bad"]
    reason: str | None  # of being bad
    size: tuple[int | None, int | None]  # width and height in pixels; None unless good


class Found(NamedTuple):
    """How many of a split's images have a file."""

    found: int
    missing: int
    first_missing: str | None  # its file, had it been there


class ImageStore:
    """The table ``image`` of a scratch database, which other tables may be joined with.

    Args:
        raw: folder that the images' files are relative to.
        noun: what is about images: "questions" or "captions".
    """

    def __init__(self, database: Database, raw: Path, noun: str) -> None:
        self.raw, self.noun = raw, noun
        self._database = database
        database.create(_SCHEMA)

    def forget_all_but_good(self) -> None:
        """What was not found good before an interruption is to be checked again."""
        self._database.run("UPDATE image SET state = NULL, reason = NULL WHERE state != 'good'")

    def add(self, images: Iterable[tuple[int, str]]) -> None:
        """List images by id and file, each id once; one that was in another file before is to be checked again.

        Raises:
            InputError: the name of a file is not in UTF-8.
        """
        with self._database.transaction():
            self._database.run_for_each(
                "INSERT INTO image (image_id, file) VALUES (?, ?) ON CONFLICT (image_id) DO UPDATE "
                "SET file = excluded.file, state = NULL WHERE file != excluded.file",
                map(self._checked, images),
            )

    def _checked(self, image: tuple[int, str]) -> tuple[int, str]:
        if not image[1].isascii():
            check_name(self.raw / image[1])
        return image

    def unchecked(self, above: int, limit: int) -> list[tuple[int, str]]:
        """Id and file of the next images that were not yet found good, by id, starting above the id ``above``."""
        query = "SELECT image_id, file FROM image WHERE state IS NULL AND image_id > ? ORDER BY image_id LIMIT ?"
        return list(self._database.all(query, above, limit))

    def record(self, images: Iterable[CheckedImage]) -> None:
        """Keep what became of some images; survives an interruption."""
        with self._database.transaction():
            self._database.run_for_each(
                "UPDATE image SET state = ?, reason = ?, width = ?, height = ? WHERE image_id = ?",
                ((image.state, image.reason, *image.size, image.image_id) for image in images),
            )

    def in_state(self, *states: str) -> Iterator[CheckedImage]:
        """The images in one of these states, by id."""
        query = (
            "SELECT image_id, file, state, reason, width, height FROM image "
            f"WHERE state IN ({', '.join('?' * len(states))}) ORDER BY image_id"
        )
        for image_id, file, state, reason, *size in self._database.all(query, *states):
            yield CheckedImage(image_id, file, state, reason, tuple(size))

    def count(self, state: str | None) -> int:
        """Images in this state; None counts those still to be checked."""
        return self._database.one("SELECT COUNT(*) FROM image WHERE state IS ?", state)[0]

    def found_of(self, query: str) -> dict[str, Found]:
        """Split -> how many of the images are there that a query for ``split`` and ``image_id`` names."""
        counts = self._database.all(
            "SELECT split, COUNT(DISTINCT image_id) FILTER (WHERE state IS NOT 'missing'), "
            "COUNT(DISTINCT image_id) FILTER (WHERE state = 'missing'), "
            "MIN(file) FILTER (WHERE state = 'missing') "
            f"FROM ({query}) JOIN image USING (image_id) GROUP BY split ORDER BY split"
        )
        return {split: Found(*of_split) for split, *of_split in counts}

    def on_bad_images(self, query: str) -> dict[str, dict[str, int]]:
        """Split -> reason -> how many rows of a query for ``split`` and ``image_id`` are about bad images."""
        counts: dict[str, dict[str, int]] = {}
        for split, reason, count in self._database.all(
            f"SELECT split, reason, COUNT(*) FROM ({query}) JOIN image USING (image_id) WHERE state = 'bad' "
            "GROUP BY split, reason ORDER BY split, reason"
        ):
            counts.setdefault(split, {})[reason] = count
        return counts
