"""VizWiz's files: one list per split. A record holds a picture, its question and ten answers; test has no answers.

``{"image": "VizWiz_train_00000000.jpg", "question": ..., "answers": [{"answer": ..., "answer_confidence": ...}, ...],
"answer_type": ..., "answerable": 0 or 1}`` (Gurari et al., "VizWiz Grand Challenge", CVPR 2018). There are no ids. A
picture has one question, and the number in the picture's name gives the ids of both.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from vl_absvit.data.json_files import read_start
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError
from vl_absvit.prepare.json_records import integer, read_records, string
from vl_absvit.prepare.named_images import NamedImages
from vl_absvit.prepare.vqa_source import (
    NOT_SAID,
    Annotation,
    Question,
    Subset,
    VQASet,
    checked_question,
    most_frequent,
    ten_answers,
)

_NAME = re.compile(r"VizWiz_(train|val|test)_([0-9]{1,12})\.jpg")
_FIRST_ID = {"train": 10**12, "val": 2 * 10**12, "test": 3 * 10**12}
"""Added to the numbers of pictures, which begin at 0 in each part, so that ids of all parts differ."""

_KEYS = ("image", "question", "answers", "answer", "answer_type", "answerable")
"""Keys that are read."""


def read_questions(path: Path) -> Iterator[Question]:
    """The questions of a file, in its order.

    Raises:
        InputError: a record has a fault; the message names it.
    """
    for location, record in read_records(path, "annotations", _KEYS):
        image, number = _image(record, location)
        yield checked_question(Question(number, number, string(record, "question", location), image), path)


def read_annotations(path: Path) -> Iterator[Annotation]:
    """The answers of a file, in its order. A question's type says whether it is answerable, if the file tells.

    Raises:
        InputError: a record has a fault; the message names it.
    """
    for location, record in read_records(path, "annotations", _KEYS):
        number, answers = _image(record, location)[1], ten_answers(record, location)
        answer_type = string(record, "answer_type", location) if "answer_type" in record else NOT_SAID
        yield Annotation(number, number, _question_type(record, location), answer_type, most_frequent(answers), answers)


def _question_type(record: dict, location: str) -> str:
    if "answerable" not in record:
        return NOT_SAID
    return "answerable" if integer(record, "answerable", location) else "unanswerable"


def _image(record: dict, location: str) -> tuple[str, int]:
    """The file of a record's picture in the official folder, and its id."""
    name = string(record, "image", location)
    found = _NAME.fullmatch(name)
    if not found:
        expected = "expected image to be a name such as VizWiz_train_00000000.jpg"
        raise InputError(f"{location}: {expected}, got {shown(name)}")
    return f"{found[1]}/{name}", _FIRST_ID[found[1]] + int(found[2])


SETS = {
    "vizwiz": VQASet(
        "VizWiz",
        {
            split: Subset(f"{split}.json", f"{split}.json", None, count)
            for split, count in (("train", 20_523), ("val", 4_319), ("test", 8_000))
        },
        read_questions,
        read_annotations,
        NamedImages,
        has_own_names=False,
        is_its=lambda questions, _: re.search(r'"image"\s*:\s*"VizWiz_', read_start(questions)) is not None,
        has_answers=lambda questions: '"answers"' in read_start(questions),
        told_by=', whose records begin with {"image": "VizWiz_..."}',
    ),
}
