"""A scratch database on disk that joins questions, annotations and images of any number in little memory.

It also remembers which images were found good, so that an interrupted preparation goes on where it stopped.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vl_absvit.data.vqav2_source import Annotation, Question, SplitFiles, image_file
from vl_absvit.errors import InputError

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS finished (file TEXT PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS question (
        split TEXT, question_id INTEGER, image_id INTEGER, question TEXT,
        PRIMARY KEY (split, question_id)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS annotation (
        split TEXT, question_id INTEGER, image_id INTEGER, question_type TEXT, answer_type TEXT,
        multiple_choice_answer TEXT, answers TEXT, place INTEGER,
        PRIMARY KEY (split, question_id)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS image (
        image_id INTEGER PRIMARY KEY, folder TEXT, state TEXT, reason TEXT, width INTEGER, height INTEGER);
    CREATE TABLE IF NOT EXISTS minival (image_id INTEGER PRIMARY KEY);
"""
_CACHE_KIB = 32 * 1024
_JOINED = """
    (SELECT question.*, question_type, answer_type, multiple_choice_answer, answers
     FROM question LEFT JOIN annotation USING (split, question_id))
    JOIN image USING (image_id)
"""


class CheckedImage(NamedTuple):
    """What became of one image."""

    image_id: int
    file: str  # relative to the raw data
    state: Literal["good", "missing", "bad"]
    reason: str | None  # of being bad
    size: tuple[int | None, int | None]  # width and height in pixels; None unless good


class Row(NamedTuple):
    """One question with its annotation, if there is one."""

    question_id: int
    image_id: int
    question: str
    question_type: str | None
    answer_type: str | None
    multiple_choice_answer: str | None
    answers: list[str] | None
    has_image: bool


class Store:
    """The scratch database; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = sqlite3.connect(path, isolation_level=None, timeout=1)
        with self._failing_clearly():
            self._db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.executescript(_SCHEMA)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()

    def add_questions(self, files: SplitFiles, questions: Iterable[Question]) -> None:
        """Take in a question file, unless that was done before the interruption.

        Raises:
            InputError: a question id occurs twice.
        """
        statement = f"INSERT INTO question VALUES ('{files.split}', ?, ?, ?)"
        self._take_in(files.questions, statement, "question", questions)

    def add_annotations(self, files: SplitFiles, annotations: Iterable[Annotation]) -> None:
        """Take in an annotation file, as ``add_questions``."""
        statement = f"INSERT INTO annotation VALUES ('{files.split}', ?, ?, ?, ?, ?, ?, ?)"
        rows = (
            (*annotation[:-1], json.dumps(annotation.answers), place) for place, annotation in enumerate(annotations)
        )
        self._take_in(files.annotations, statement, "annotation of question", rows)

    def _take_in(self, path: Path, statement: str, noun: str, rows: Iterable[tuple]) -> None:
        with self._failing_clearly():
            if self._db.execute("SELECT 1 FROM finished WHERE file = ?", (path.name,)).fetchone():
                return
            self._db.execute("BEGIN")
            for row in rows:
                try:
                    self._db.execute(statement, row)
                except sqlite3.IntegrityError as error:
                    raise InputError(f"{path}: the {noun} {row[0]} occurs twice") from error
            self._db.execute("INSERT INTO finished VALUES (?)", (path.name,))
            self._db.execute("COMMIT")

    def check_join(self, files: SplitFiles) -> None:
        """Every question of an annotated split has its annotation, and the other way round, about the same image.

        Raises:
            InputError: names the file and the first question that does not fit, and how many there are.
        """
        if files.annotations is None:
            return
        pair = "{} LEFT JOIN {} USING (split, question_id)".format
        both = "question JOIN annotation USING (split, question_id)"
        checks = (
            (pair("question", "annotation"), "annotation.image_id IS NULL", files.annotations, "has no annotation"),
            (
                pair("annotation", "question"),
                "question.image_id IS NULL",
                files.questions,
                "is annotated but is not there",
            ),
            (
                both,
                "question.image_id != annotation.image_id",
                files.annotations,
                "is about another image than in the questions",
            ),
        )
        for tables, condition, path, complaint in checks:
            count, first = self._one(
                f"SELECT COUNT(*), MIN(question_id) FROM {tables} WHERE split = ? AND {condition}", files.split
            )
            if count:
                more = f" (and {count - 1} more)" if count > 1 else ""
                raise InputError(f"{path}: question {first} {complaint}{more}")

    def check_ids_between_splits(self) -> None:
        """No question is in two splits, test-dev excepted, which is a part of test.

        Raises:
            InputError: names the first one.
        """
        found = self._one(
            "SELECT question_id, MIN(split), MAX(split) FROM question WHERE split != 'test-dev' "
            "GROUP BY question_id HAVING COUNT(*) > 1 LIMIT 1"
        )
        if found:
            raise InputError(f"question {found[0]} is both in {found[1]} and in {found[2]}; ids must be unique")

    def list_images(self, files: Sequence[SplitFiles]) -> None:
        """Fill the table of images from the questions. What was not found good before is to be checked again.

        Raises:
            InputError: one image id belongs to two folders, so that splits would share it.
        """
        with self._failing_clearly():
            self._db.execute("UPDATE image SET state = NULL, reason = NULL WHERE state != 'good'")
            for split, folder, _, _ in files:
                self._db.execute(
                    "INSERT OR IGNORE INTO image (image_id, folder) "
                    "SELECT DISTINCT image_id, ? FROM question WHERE split = ?",
                    (folder, split),
                )
        for split, folder, path, _ in files:
            found = self._one(
                "SELECT question_id, image_id, folder FROM question JOIN image USING (image_id) "
                "WHERE split = ? AND folder != ? LIMIT 1",
                split,
                folder,
            )
            if found:
                raise InputError(f"{path}: question {found[0]} is about image {found[1]}, which is also in {found[2]}")

    def unchecked_images(self, above: int, limit: int) -> list[tuple[int, str]]:
        """Id and file of the next images that were not yet found good, by id, starting above the id ``above``."""
        query = "SELECT image_id, folder FROM image WHERE state IS NULL AND image_id > ? ORDER BY image_id LIMIT ?"
        return [(image_id, image_file(folder, image_id)) for image_id, folder in self._all(query, above, limit)]

    def record_images(self, images: Iterable[CheckedImage]) -> None:
        """Keep what became of some images; survives an interruption."""
        with self._failing_clearly():
            self._db.execute("BEGIN")
            self._db.executemany(
                "UPDATE image SET state = ?, reason = ?, width = ?, height = ? WHERE image_id = ?",
                ((image.state, image.reason, *image.size, image.image_id) for image in images),
            )
            self._db.execute("COMMIT")

    def images(self, *states: str) -> Iterator[CheckedImage]:
        """The images in one of these states, by id."""
        query = (
            "SELECT image_id, folder, state, reason, width, height FROM image "
            f"WHERE state IN ({', '.join('?' * len(states))}) ORDER BY image_id"
        )
        for image_id, folder, state, reason, *size in self._all(query, *states):
            yield CheckedImage(image_id, image_file(folder, image_id), state, reason, tuple(size))

    def count_images(self, state: str | None) -> int:
        """Images in this state; None counts those still to be checked."""
        return self._one("SELECT COUNT(*) FROM image WHERE state IS ?", state)[0]

    def hold_out(self, number: int | None, seed: int) -> int:
        """Choose the val images whose questions become ``minival``; how many they are.

        The images are taken in the order of a hash of seed and id: a choice outlives new libraries and other images.

        Args:
            number: how many; None means a tenth of val's images, at most 2,000.
        """
        usable = (
            "SELECT DISTINCT image_id FROM annotation JOIN image USING (image_id) "
            "WHERE split = 'val' AND state != 'bad'"
        )
        images = self._one(f"SELECT COUNT(*) FROM ({usable})")[0]
        if number is None:
            number = min(max(images // 10, 1 if images > 1 else 0), 2000)
        if number and number >= images:
            raise InputError(
                f"--minival-images {number}: val has only {images} usable images, and some must stay in val"
            )
        with self._failing_clearly():
            self._db.create_function("draw", 1, lambda image_id: hashlib.sha256(f"{seed}:{image_id}".encode()).digest())
            self._db.execute("DELETE FROM minival")
            self._db.execute(
                f"INSERT INTO minival SELECT image_id FROM ({usable}) ORDER BY draw(image_id) LIMIT ?", (number,)
            )
        return number

    def common_answers(self) -> Iterator[tuple[str, int]]:
        """Every raw ``multiple_choice_answer`` and its count, in order of first occurrence, train before val."""
        yield from self._all(
            "SELECT multiple_choice_answer, COUNT(*) FROM annotation GROUP BY multiple_choice_answer "
            "ORDER BY MIN(CASE split WHEN 'train' THEN 0 ELSE 1 END * 1000000000000 + place)"
        )

    def rows(self, split: str) -> Iterator[Row]:
        """The questions of a split by id, ``minival`` apart from ``val``, without those on bad images."""
        query = (
            "SELECT question_id, image_id, question, question_type, answer_type, multiple_choice_answer, answers, "
            f"state FROM {_JOINED} WHERE {_members(split)} AND state != 'bad' ORDER BY question_id"
        )
        for *values, answers, state in self._all(query):
            yield Row(*values, answers and json.loads(answers), state == "good")

    def count_images_of(self, split: str) -> int:
        """Distinct images of the questions in ``rows``."""
        return self._one(f"SELECT COUNT(DISTINCT image_id) FROM {_JOINED} WHERE {_members(split)} AND state != 'bad'")[
            0
        ]

    def skipped_questions(self) -> Iterator[tuple[str, str, int]]:
        """Split, reason and number of the questions on bad images."""
        yield from self._all(
            "SELECT split, reason, COUNT(*) FROM question JOIN image USING (image_id) WHERE state = 'bad' "
            "GROUP BY split, reason ORDER BY split, reason"
        )

    def _one(self, query: str, *values: Any) -> Any:
        with self._failing_clearly():
            return self._db.execute(query, values).fetchone()

    def _all(self, query: str, *values: Any) -> Iterator[Any]:
        with self._failing_clearly():
            yield from self._db.execute(query, values)

    @contextmanager
    def _failing_clearly(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            hint = "; is another preparation at work here?" if "locked" in str(error) else ""
            raise InputError(f"{self._path}: {error}{hint}") from error


def _members(split: str) -> str:
    """The condition that a joined question belongs to a split."""
    if split == "minival":
        return "split = 'val' AND image_id IN minival"
    if split == "val":
        return "split = 'val' AND image_id NOT IN minival"
    return f"split = '{split}'"
