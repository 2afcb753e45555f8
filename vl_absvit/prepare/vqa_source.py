"""What a source of visual questions is: its parts, their files, and what reads them."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from vl_absvit.prepare.check_images import Finder
from vl_absvit.prepare.coco_images import CocoImages


class Question(NamedTuple):
    """One record of a question file."""

    question_id: int
    image_id: int
    question: str
    image: str | None = None  # its file's official name, where the split alone does not tell


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
    annotations: str | None  # file name; that of the questions where one file has both
    folder: str | None  # of its images; None where each question names its own
    official: int | None  # number of questions, as published


def by_id(root: Path, _: Iterable[str]) -> Finder:
    """What finds COCO's images."""
    return CocoImages(root)


class VQASet(NamedTuple):
    """A data set: its parts, and how they are read."""

    title: str
    subsets: dict[str, Subset]  # by our name of the split
    read_questions: Callable[[Path], Iterator[Question]]
    read_annotations: Callable[[Path], Iterator[Annotation]]
    finder: Callable[[Path, Iterable[str]], Finder] = by_id
    """Of the folder of images, and the official files of all of them."""
    has_own_names: bool = True
    """Whether its files have names of their own; a ``train.json`` may be anyone's."""
    is_its: Callable[[Path, Path | None], bool] = lambda questions, annotations: True
    """Whether files of these names are its own, by their beginning; annotations may be absent."""
    has_answers: Callable[[Path], bool] = lambda questions: True
    """Whether a file that may hold both questions and annotations holds annotations."""
    told_by: str = ""
    """Words for what ``is_its`` looks at."""
