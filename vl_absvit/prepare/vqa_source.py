"""The description of a data set of visual questions: its parts, their files and their readers."""

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
