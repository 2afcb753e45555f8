"""Questions and annotations as VQAv2 and its relatives on COCO have them: one record at a time, each checked."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vl_absvit.data.json_files import form_name
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError
from vl_absvit.prepare.coco_images import official_file
from vl_absvit.prepare.json_stream import integer, read_records, string, value

ANSWERS_PER_QUESTION = 10
_COCO_SPLITS = ("train2014", "val2014")


class Question(NamedTuple):
    question_id: int
    image_id: int
    question: str
    image: str | None = None  # its file's official name, where the split alone does not tell


class Annotation(NamedTuple):
    question_id: int
    image_id: int
    question_type: str
    answer_type: str
    multiple_choice_answer: str
    answers: list[str]  # ten, raw


def read_questions(path: Path) -> Iterator[Question]:
    """The records of a question file, in its order.

    Raises:
        InputError: names the file and the record.
    """
    for where, record in read_records(path, "questions"):
        yield checked_question(
            Question(
                integer(record, "question_id", where),
                integer(record, "image_id", where),
                string(record, "question", where),
            ),
            path,
        )


def read_questions_with_split(path: Path) -> Iterator[Question]:
    """As ``read_questions``, of VQA-CP: each record says in ``coco_split`` where its image is.

    Raises:
        InputError: names the file and the record.
    """
    for where, record in read_records(path, "questions"):
        folder, image_id = string(record, "coco_split", where), integer(record, "image_id", where)
        if folder not in _COCO_SPLITS:
            raise InputError(
                f"{where}: expected coco_split to be one of {', '.join(_COCO_SPLITS)}, got {shown(folder)}"
            )
        yield checked_question(
            Question(
                integer(record, "question_id", where),
                image_id,
                string(record, "question", where),
                official_file(folder, image_id),
            ),
            path,
        )


def checked_question(question: Question, path: Path) -> Question:
    """The question itself.

    Raises:
        InputError: it is empty.
    """
    if not question.question.strip():
        raise InputError(f"{path}: question {question.question_id} is empty")
    return question


def read_annotations(path: Path) -> Iterator[Annotation]:
    """The records of an annotation file, in its order.

    Raises:
        InputError: names the file and the record.
    """
    for where, record, question_id in _annotations(path):
        yield Annotation(
            question_id,
            integer(record, "image_id", where),
            string(record, "question_type", where),
            string(record, "answer_type", where),
            string(record, "multiple_choice_answer", where),
            ten_answers(record, where),
        )


def read_annotations_without_choice(path: Path) -> Iterator[Annotation]:
    """As ``read_annotations``, of OK-VQA: the most frequent answer stands for the ``multiple_choice_answer`` it lacks.

    Raises:
        InputError: names the file and the record.
    """
    for where, record, question_id in _annotations(path):
        answers = ten_answers(record, where)
        yield Annotation(
            question_id,
            integer(record, "image_id", where),
            string(record, "question_type", where),
            string(record, "answer_type", where),
            most_frequent(answers),
            answers,
        )


def most_frequent(answers: list[str]) -> str:
    """The answer that most people gave; of several, the one that comes first."""
    return Counter(answers).most_common(1)[0][0]


def ten_answers(record: dict, where: str) -> list[str]:
    """The texts of the ten answers of a record.

    Raises:
        InputError: they are not ten, or not of the form ``{"answer": text}``.
    """
    answers = value(record, "answers", where)
    if not isinstance(answers, list):
        raise InputError(f"{where}: expected answers to be a list, got {form_name(answers)}")
    if len(answers) != ANSWERS_PER_QUESTION:
        raise InputError(f"{where}: expected {ANSWERS_PER_QUESTION} answers, got {len(answers)}")
    for answer in answers:
        if not isinstance(answer, dict):
            raise InputError(f'{where}: expected answers of the form {{"answer": "..."}}, got {form_name(answer)}')
    return [string(answer, "answer", where) for answer in answers]


def _annotations(path: Path) -> Iterator[tuple[str, dict, int]]:
    for where, record in read_records(path, "annotations"):
        question_id = integer(record, "question_id", where)
        yield f"{path}: annotation of question {question_id}", record, question_id
