"""VQA-HAT's maps and questions in the scratch database: checked against each other, joined with the images."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from vl_absvit.errors import InputError
from vl_absvit.prepare.coco_images import CocoImages, official_file
from vl_absvit.prepare.database import Database
from vl_absvit.prepare.image_store import ImageStore
from vl_absvit.prepare.vqa_hat_source import MapName, Question, Subset

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS question (question_id INTEGER PRIMARY KEY, image_id INTEGER, question TEXT);
    CREATE TABLE IF NOT EXISTS map (
        question_id INTEGER, n INTEGER, state TEXT, reason TEXT, height INTEGER, width INTEGER,
        PRIMARY KEY (question_id, n)) WITHOUT ROWID;
"""
_ASKED = "question_id IN (SELECT question_id FROM map)"
_SHOWN = "question_id IN (SELECT question_id FROM map WHERE state = 'good')"
_WITH_IMAGE = "question JOIN image USING (image_id)"


def of_split(split: str) -> str:
    """The query for the images that the questions with maps are about."""
    return f"SELECT '{split}' AS split, image_id FROM question WHERE {_ASKED}"


class HATStore:
    """The tables of maps and questions, beside that of their images.

    A map is ``good``, ``constant`` or ``bad``. A question is usable if it has a good map and no bad image.
    """

    def __init__(self, database: Database, images: ImageStore) -> None:
        self._database = database
        self._images = images
        database.create(_SCHEMA)

    def add_questions(self, file: Path, questions: Iterable[Question]) -> None:
        """Take in the question file, unless that was done before the interruption.

        Raises:
            InputError: a question id occurs twice.
        """
        self._database.take_in(file, "INSERT INTO question VALUES (?, ?, ?)", questions, "question")

    def add_maps(self, folder: Path, names: Iterable[MapName]) -> None:
        """Take in the names of the maps, unless that was done before the interruption."""
        statement = "INSERT INTO map (question_id, n) VALUES (?, ?)"
        self._database.take_in(folder, statement, names, "map of question")

    def check_join(self, folder: Path, questions: Path) -> None:
        """Every map is about a question.

        Raises:
            InputError: names the first that is not, and how many there are.
        """
        unknown = "FROM map LEFT JOIN question USING (question_id) WHERE question IS NULL"
        (number,) = self._database.one(f"SELECT COUNT(*) {unknown}")
        if number:
            first = MapName(*self._database.one(f"SELECT question_id, n {unknown} ORDER BY question_id, n"))
            more = f" (nor do {number - 1} more maps)" if number > 1 else ""
            raise InputError(f"{folder / first.file}: its question does not occur in {questions}{more}")

    def list_images(self, subset: Subset, pictures: CocoImages) -> None:
        """Fill the table of images from the questions that have maps. What was not good is to be checked again."""
        self._images.forget_all_but_good()
        ids = self._database.all(f"SELECT DISTINCT image_id FROM question WHERE {_ASKED}")
        names = ((image_id, official_file(subset.name, image_id)) for (image_id,) in ids)
        self._images.add((image_id, pictures.find(name) or name) for image_id, name in names)

    def count_unchecked_maps(self) -> int:
        """Maps that were not decoded yet."""
        return self._database.one("SELECT COUNT(*) FROM map WHERE state IS NULL")[0]

    def unchecked_maps(self, limit: int) -> list[MapName]:
        """Some of them."""
        query = "SELECT question_id, n FROM map WHERE state IS NULL ORDER BY question_id, n LIMIT ?"
        return [MapName(*row) for row in self._database.all(query, limit)]

    def record_maps(self, maps: Iterable[tuple]) -> None:
        """Keep what became of some maps, as question id, n, state, reason, height, width; survives an interruption."""
        with self._database.transaction():
            self._database.run_for_each(
                "UPDATE map SET state = ?3, reason = ?4, height = ?5, width = ?6 WHERE question_id = ?1 AND n = ?2",
                maps,
            )

    def bad_maps(self) -> tuple[int, MapName | None, str | None]:
        """How many maps are bad; the first and its reason."""
        (number,) = self._database.one("SELECT COUNT(*) FROM map WHERE state = 'bad'")
        if not number:
            return 0, None, None
        query = "SELECT question_id, n, reason FROM map WHERE state = 'bad' ORDER BY question_id, n"
        question_id, n, reason = self._database.one(query)
        return number, MapName(question_id, n), reason

    def other_shapes(self) -> tuple[int, MapName | None, str | None, str | None]:
        """How many good maps differ from their image in proportions; the first, its size and that of its image.

        A map that is the image scaled down, and rounded to whole pixels, is off by less than one pixel.
        """
        others = (
            "FROM map JOIN question USING (question_id) JOIN image USING (image_id) WHERE map.state = 'good' AND "
            "image.state = 'good' AND abs(map.width * image.height - map.height * image.width) > "
            "max(image.width, image.height)"
        )
        (number,) = self._database.one(f"SELECT COUNT(*) {others}")
        if not number:
            return 0, None, None, None
        sizes = "map.width || ' x ' || map.height, image.width || ' x ' || image.height"
        query = f"SELECT map.question_id, n, {sizes} {others} ORDER BY map.question_id, n"
        question_id, n, *both = self._database.one(query)
        return number, MapName(question_id, n), *both

    def questions(self) -> Iterator[Question]:
        """The usable questions, by id; those whose image is missing are among them."""
        query = (
            f"SELECT question_id, image_id, question FROM {_WITH_IMAGE} WHERE {_SHOWN} AND image.state != 'bad' "
            "ORDER BY question_id"
        )
        yield from (Question(*row) for row in self._database.all(query))

    def maps(self) -> Iterator[MapName]:
        """The good maps of the usable questions, by question and person."""
        query = (
            "SELECT question_id, n FROM map JOIN question USING (question_id) JOIN image USING (image_id) "
            "WHERE map.state = 'good' AND image.state != 'bad' ORDER BY question_id, n"
        )
        yield from (MapName(*row) for row in self._database.all(query))

    def skipped_questions(self, split: str) -> dict[str, dict[str, int]]:
        """The split -> reason -> number of the questions with maps that are on bad images."""
        return self._images.on_bad_images(of_split(split))

    def counts(self) -> dict[str, int]:
        """What the tables hold, and what was left out of them."""
        usable = f"FROM {_WITH_IMAGE} WHERE {_SHOWN} AND image.state != 'bad'"
        joined = "FROM map JOIN question USING (question_id) JOIN image USING (image_id)"
        queries = {
            "questions": f"SELECT COUNT(*) {usable}",
            "images": f"SELECT COUNT(DISTINCT image_id) {usable}",
            "without_image": f"SELECT COUNT(*) {usable} AND image.state = 'missing'",
            "human_maps": f"SELECT COUNT(*) {joined} WHERE map.state = 'good' AND image.state != 'bad'",
            "constant_maps": "SELECT COUNT(*) FROM map WHERE state = 'constant'",
            "maps_on_bad_images": f"SELECT COUNT(*) {joined} WHERE map.state = 'good' AND image.state = 'bad'",
            "questions_without_map": f"SELECT COUNT(*) FROM question WHERE {_ASKED} AND NOT {_SHOWN}",
        }
        return {name: self._database.one(query)[0] for name, query in queries.items()}
