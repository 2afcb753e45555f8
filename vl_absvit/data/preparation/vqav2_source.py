"""The official VQAv2 downloads: their file names, and their records one at a time, each checked."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vl_absvit.data.json_files import form_name
from vl_absvit.data.preparation.json_stream import integer, plain_or_gzip, read_records, string, value
from vl_absvit.errors import InputError

# Our name of a split -> (the official subset's name, the folder of its images, its official number of questions).
OFFICIAL = {
    "train": ("train2014", "train2014", 443_757),
    "val": ("val2014", "val2014", 214_354),
    "test": ("test2015", "test2015", 447_793),
    "test-dev": ("test-dev2015", "test2015", 107_394),
}
ANSWERS_PER_QUESTION = 10


class SplitFiles(NamedTuple):
    """The official files of one split."""

    split: str
    folder: str  # of its images
    questions: Path
    annotations: Path | None


class Question(NamedTuple):
    question_id: int
    image_id: int
    question: str


class Annotation(NamedTuple):
    question_id: int
    image_id: int
    question_type: str
    answer_type: str
    multiple_choice_answer: str
    answers: list[str]  # ten, raw


def find_files(raw: Path) -> list[SplitFiles]:
    """The splits that are there, train first.

    Raises:
        InputError: the folder or all question files are missing, or an annotation file has no question file.
    """
    if not raw.is_dir():
        raise InputError(f"{raw}: no such folder; expected the official VQAv2 downloads there")
    found = []
    for split, (subset, folder, _) in OFFICIAL.items():
        questions = plain_or_gzip(raw / f"v2_OpenEnded_mscoco_{subset}_questions.json")
        annotations = plain_or_gzip(raw / f"v2_mscoco_{subset}_annotations.json")
        if annotations and not questions:
            raise InputError(f"{annotations}: there is no v2_OpenEnded_mscoco_{subset}_questions.json beside it")
        if split == "train" and questions and not annotations:
            raise InputError(f"{questions}: there is no v2_mscoco_train2014_annotations.json beside it")
        if questions:
            found.append(SplitFiles(split, folder, questions, annotations))
    if not found:
        raise InputError(
            f"{raw}: expected at least one v2_OpenEnded_mscoco_<subset>_questions.json (or .json.gz), found none; "
            f"subsets are {', '.join(subset for subset, _, _ in OFFICIAL.values())}"
        )
    return found


def read_questions(path: Path) -> Iterator[Question]:
    """The records of a question file, in its order.

    Raises:
        InputError: names the file and the record.
    """
    for where, record in read_records(path, "questions"):
        question = Question(
            integer(record, "question_id", where),
            integer(record, "image_id", where),
            string(record, "question", where),
        )
        if not question.question.strip():
            raise InputError(f"{path}: question {question.question_id} is empty")
        yield question


def read_annotations(path: Path) -> Iterator[Annotation]:
    """The records of an annotation file, in its order.

    Raises:
        InputError: names the file and the record.
    """
    for where, record in read_records(path, "annotations"):
        question_id = integer(record, "question_id", where)
        where = f"{path}: annotation of question {question_id}"
        yield Annotation(
            question_id,
            integer(record, "image_id", where),
            string(record, "question_type", where),
            string(record, "answer_type", where),
            string(record, "multiple_choice_answer", where),
            _ten_answers(record, where),
        )


def _ten_answers(record: dict, where: str) -> list[str]:
    answers = value(record, "answers", where)
    if not isinstance(answers, list):
        raise InputError(f"{where}: expected answers to be a list, got {form_name(answers)}")
    if len(answers) != ANSWERS_PER_QUESTION:
        raise InputError(f"{where}: expected {ANSWERS_PER_QUESTION} answers, got {len(answers)}")
    for answer in answers:
        if not isinstance(answer, dict):
            raise InputError(f'{where}: expected answers of the form {{"answer": "..."}}, got {form_name(answer)}')
    return [string(answer, "answer", where) for answer in answers]
