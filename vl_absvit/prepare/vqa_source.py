"""The description of a data set of visual questions: its parts, their files, their readers, and what readers share."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from vl_absvit.data.json_files import form_name
from vl_absvit.errors import InputError
from vl_absvit.prepare.check_images import Finder
from vl_absvit.prepare.coco_images import CocoImages
from vl_absvit.prepare.json_records import string, value

ANSWERS_PER_QUESTION = 10
NOT_SAID = "not said"
"""The type of a question or an answer where a file does not tell."""


class Question(NamedTuple):
    """One record of a question file."""

    question_id: int
    image_id: int
    question: str
    image: str | None = None  # official name of the image's file; None if the split determines it


class Annotation(NamedTuple):
    """One record of an annotation file."""

    question_id: int
    image_id: int
    question_type: str
    answer_type: str
    multiple_choice_answer: str
    answers: list[str]  # ten, raw


class Subset(NamedTuple):
    """One official part of a data set."""

    questions: str  # file name
    annotations: str | None  # file name; equal to ``questions`` if one file has both
    folder: str | None  # of its images; None if each question names its image
    official: int | None  # published number of questions


def by_id(root: Path, _: Iterable[str]) -> Finder:
    """A finder of COCO's images by id."""
    return CocoImages(root)


class VQASet(NamedTuple):
    """A data set: its parts and its readers."""

    title: str
    subsets: dict[str, Subset]  # our name of the split -> part
    read_questions: Callable[[Path], Iterator[Question]]
    read_annotations: Callable[[Path], Iterator[Annotation]]
    finder: Callable[[Path, Iterable[str]], Finder] = by_id
    """Takes the folder of images and the official files of all images."""
    has_own_names: bool = True
    """Whether its file names are unique to it. A name such as ``train.json`` is not."""
    is_its: Callable[[Path, Path | None], bool] = lambda questions, annotations: True
    """Whether files of these names belong to it, by the beginning of their content. Annotations may be absent."""
    has_answers: Callable[[Path], bool] = lambda questions: True
    """Whether a file that may hold both questions and annotations holds annotations."""
    told_by: str = ""
    """Words for the property that ``is_its`` checks."""
    images_of: str | None = None
    """The data set whose images they are, wholly or in part: who trained on these questions has seen those images."""


def checked_question(question: Question, path: Path) -> Question:
    """The given question.

    Raises:
        InputError: its text is empty.
    """
    if not question.question.strip():
        raise InputError(f"{path}: question {question.question_id} is empty")
    return question


def most_frequent(answers: list[str]) -> str:
    """The answer that most people gave. The first one wins ties."""
    return Counter(answers).most_common(1)[0][0]


def ten_answers(record: dict, location: str) -> list[str]:
    """The texts of the ten answers of a record.

    Raises:
        InputError: there are not ten, or one has another form than ``{"answer": text}``.
    """
    answers = value(record, "answers", location)
    if not isinstance(answers, list):
        raise InputError(f"{location}: expected answers to be a list, got {form_name(answers)}")
    if len(answers) != ANSWERS_PER_QUESTION:
        raise InputError(f"{location}: expected {ANSWERS_PER_QUESTION} answers, got {len(answers)}")
    for answer in answers:
        if not isinstance(answer, dict):
            raise InputError(f'{location}: expected answers of the form {{"answer": "..."}}, got {form_name(answer)}')
    return [string(answer, "answer", location) for answer in answers]
