"""Questions and annotations of VQA in the scratch database: checked against each other, joined with the images."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vl_absvit.errors import InputError
from vl_absvit.prepare.coco_images import official_file
from vl_absvit.prepare.database import Database
from vl_absvit.prepare.image_store import ImageStore
from vl_absvit.prepare.vqa_sets import Pictures, SplitFiles
from vl_absvit.prepare.vqav2_source import Annotation, Question

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS question (
        split TEXT, question_id INTEGER, image_id INTEGER, question TEXT,
        PRIMARY KEY (split, question_id)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS named_image (image_id INTEGER PRIMARY KEY, file TEXT);
    CREATE TABLE IF NOT EXISTS annotation (
        split TEXT, question_id INTEGER, image_id INTEGER, question_type TEXT, answer_type TEXT,
        multiple_choice_answer TEXT, answers TEXT, place INTEGER,
        PRIMARY KEY (split, question_id)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS minival (image_id INTEGER PRIMARY KEY);
"""
_JOINED = """
    (SELECT question.*, question_type, answer_type, multiple_choice_answer, answers
     FROM question LEFT JOIN annotation USING (split, question_id))
    JOIN image USING (image_id)
"""
_USABLE_IN_VAL = (
    "SELECT DISTINCT image_id FROM annotation JOIN image USING (image_id) WHERE split = 'val' AND state IS NOT 'bad'"
)
OF_SPLIT = "SELECT split, image_id FROM question"
"""Which images each split is about."""


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
    """The tables of questions and annotations, beside that of their images."""

    def __init__(self, database: Database, images: ImageStore) -> None:
        self._database = database
        self._images = images
        database.create(_SCHEMA)

    def add_questions(self, files: SplitFiles, questions: Iterable[Question]) -> None:
        """Take in a question file, unless that was done before the interruption.

        Raises:
            InputError: a question id occurs twice.
        """
        statement = f"INSERT INTO question VALUES ('{files.split}', ?, ?, ?)"
        rows = (self._with_image_named(question, files.questions)[:3] for question in questions)
        self._database.take_in(files.questions, statement, rows, "question")

    def _with_image_named(self, question: Question, path: Path) -> Question:
        """Keep the name of the question's image, if it has one; the question itself."""
        if question.image is not None:
            values = (question.image_id, question.image)
            if not self._database.insert("INSERT INTO named_image VALUES (?, ?)", values):
                (earlier,) = self._database.one("SELECT file FROM named_image WHERE image_id = ?", question.image_id)
                if earlier != question.image:
                    where = f"{path}: question {question.question_id}: image {question.image_id}"
                    raise InputError(f"{where} is {question.image}, and elsewhere {earlier}")
        return question

    def add_annotations(self, files: SplitFiles, annotations: Iterable[Annotation]) -> None:
        """Take in an annotation file, as ``add_questions``."""
        statement = f"INSERT INTO annotation VALUES ('{files.split}', ?, ?, ?, ?, ?, ?, ?)"
        rows = (
            (*annotation[:-1], json.dumps(annotation.answers), place) for place, annotation in enumerate(annotations)
        )
        part = " (annotations)" if files.annotations == files.questions else ""
        self._database.take_in(files.annotations, statement, rows, "annotation of question", part)

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
            count, first = self._database.one(
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
        found = self._database.one(
            "SELECT question_id, MIN(split), MAX(split) FROM question WHERE split != 'test-dev' "
            "GROUP BY question_id HAVING COUNT(*) > 1 LIMIT 1"
        )
        if found:
            raise InputError(f"question {found[0]} is both in {found[1]} and in {found[2]}; ids must be unique")

    def named_files(self) -> list[str]:
        """Official files of the images that questions name themselves."""
        return [file for (file,) in self._database.all("SELECT file FROM named_image ORDER BY image_id")]

    def list_images(self, files: Sequence[SplitFiles], pictures: Pictures) -> None:
        """Fill the table of images from the questions. What was not found good before is to be checked again.

        Raises:
            InputError: one image id belongs to two folders, so that splits would share it.
        """
        for earlier, later in itertools.combinations(files, 2):
            if earlier.folder and later.folder and earlier.folder != later.folder:
                self._check_no_shared_image(earlier, later)
        self._images.forget_all_but_good()
        for split in files:
            names = self._official_names(split)
            self._images.add((image_id, pictures.find(name) or name) for image_id, name in names)

    def _official_names(self, files: SplitFiles) -> Iterator[tuple[int, str]]:
        """Id and official file of every image of a split."""
        ids = "SELECT DISTINCT image_id FROM question WHERE split = ?"
        if files.folder is None:
            yield from self._database.all(f"SELECT * FROM named_image WHERE image_id IN ({ids})", files.split)
            return
        for (image_id,) in self._database.all(ids, files.split):
            yield image_id, official_file(files.folder, image_id)

    def _check_no_shared_image(self, earlier: SplitFiles, later: SplitFiles) -> None:
        found = self._database.one(
            "SELECT question_id, image_id FROM question WHERE split = ? AND image_id IN "
            "(SELECT image_id FROM question WHERE split = ?) LIMIT 1",
            later.split,
            earlier.split,
        )
        if found:
            where = f"{later.questions}: question {found[0]}"
            raise InputError(f"{where} is about image {found[1]}, which is also in {earlier.folder}")

    def count_to_hold_out(self, number: int | None) -> int:
        """How many of val's images become ``minival``; asked before images are checked, bad ones count as usable.

        Args:
            number: how many are to; None means a tenth of val's images, at most 2,000.

        Raises:
            InputError: val has no more than that.
        """
        images = self._database.one(f"SELECT COUNT(*) FROM ({_USABLE_IN_VAL})")[0]
        if number is None:
            return min(max(images // 10, 1 if images > 1 else 0), 2000)
        if number and number >= images:
            raise InputError(
                f"--minival-images {number}: val has only {images} usable images, and some must stay in val"
            )
        return number

    def hold_out(self, number: int | None, seed: int) -> int:
        """Choose the val images whose questions become ``minival``; how many they are, see ``count_to_hold_out``.

        The images are taken in the order of a hash of seed and id: a choice outlives new libraries and other images.
        """
        number = self.count_to_hold_out(number)
        self._database.add_function("draw", 1, lambda image: hashlib.sha256(f"{seed}:{image}".encode()).digest())
        self._database.run("DELETE FROM minival")
        self._database.run(
            f"INSERT INTO minival SELECT image_id FROM ({_USABLE_IN_VAL}) ORDER BY draw(image_id) LIMIT ?", number
        )
        return number

    def common_answers(self) -> Iterator[tuple[str, int]]:
        """Every raw ``multiple_choice_answer`` of train and val and its count, by first occurrence, train first."""
        yield from self._database.all(
            "SELECT multiple_choice_answer, COUNT(*) FROM annotation WHERE split IN ('train', 'val') "
            "GROUP BY multiple_choice_answer "
            "ORDER BY MIN(CASE split WHEN 'train' THEN 0 ELSE 1 END * 1000000000000 + place)"
        )

    def rows(self, split: str) -> Iterator[Row]:
        """The questions of a split by id, ``minival`` apart from ``val``, without those on bad images."""
        query = (
            "SELECT question_id, image_id, question, question_type, answer_type, multiple_choice_answer, answers, "
            f"state FROM {_JOINED} WHERE {_members(split)} AND state != 'bad' ORDER BY question_id"
        )
        for *values, answers, state in self._database.all(query):
            yield Row(*values, answers and json.loads(answers), state == "good")

    def count_images_of(self, split: str) -> int:
        """Distinct images of the questions in ``rows``."""
        return self._database.one(
            f"SELECT COUNT(DISTINCT image_id) FROM {_JOINED} WHERE {_members(split)} AND state != 'bad'"
        )[0]

    def skipped_questions(self) -> dict[str, dict[str, int]]:
        """Split -> reason -> number of the questions on bad images."""
        return self._images.on_bad_images(OF_SPLIT)


def _members(split: str) -> str:
    """The condition that a joined question belongs to a split."""
    if split == "minival":
        return "split = 'val' AND image_id IN minival"
    if split == "val":
        return "split = 'val' AND image_id NOT IN minival"
    return f"split = '{split}'"
