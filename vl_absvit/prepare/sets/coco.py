"""Data sets on COCO's images: its captions, VQAv2 and its relatives (VQA v1, OK-VQA, VQA-CP), each record checked."""

from collections.abc import Iterator
from pathlib import Path

from vl_absvit.data.json_files import read_start
from vl_absvit.data.official import OFFICIAL
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError
from vl_absvit.prepare.caption_source import CaptionSet
from vl_absvit.prepare.coco_images import official_file
from vl_absvit.prepare.json_records import integer, read_records, string
from vl_absvit.prepare.vqa_source import (
    Annotation,
    Question,
    Subset,
    VQASet,
    checked_question,
    most_frequent,
    ten_answers,
)

_COCO_SPLITS = ("train2014", "val2014")
_IMAGES = "coco"

_ASKED = ("question_id", "image_id", "question", "coco_split")
_ANSWERED = (
    "question_id", "image_id", "question_type", "answer_type", "multiple_choice_answer", "answers", "answer",
)  # fmt: skip
"""Keys that are read."""


def read_questions(path: Path) -> Iterator[Question]:
    """The records of a question file, in its order.

    Raises:
        InputError: a record has a fault; the message names it.
    """
    for location, record in read_records(path, "questions", _ASKED):
        yield _question(record, location, path)


def read_questions_with_split(path: Path) -> Iterator[Question]:
    """``read_questions`` for VQA-CP, whose records name the folder of their image in ``coco_split``.

    Raises:
        InputError: a record has a fault; the message names it.
    """
    for location, record in read_records(path, "questions", _ASKED):
        folder = string(record, "coco_split", location)
        if folder not in _COCO_SPLITS:
            raise InputError(
                f"{location}: expected coco_split to be one of {', '.join(_COCO_SPLITS)}, got {shown(folder)}"
            )
        question = _question(record, location, path)
        yield question._replace(image=official_file(folder, question.image_id))


def _question(record: dict, location: str, path: Path) -> Question:
    ids = integer(record, "question_id", location), integer(record, "image_id", location)
    return checked_question(Question(*ids, string(record, "question", location)), path)


def read_annotations(path: Path) -> Iterator[Annotation]:
    """The records of an annotation file, in its order.

    Raises:
        InputError: a record has a fault; the message names it.
    """
    for location, record, question_id in _annotations(path):
        yield Annotation(
            question_id,
            integer(record, "image_id", location),
            string(record, "question_type", location),
            string(record, "answer_type", location),
            string(record, "multiple_choice_answer", location),
            ten_answers(record, location),
        )


def read_annotations_without_choice(path: Path) -> Iterator[Annotation]:
    """``read_annotations`` for OK-VQA. The most frequent answer replaces the missing ``multiple_choice_answer``.

    Raises:
        InputError: a record has a fault; the message names it.
    """
    for location, record, question_id in _annotations(path):
        answers = ten_answers(record, location)
        yield Annotation(
            question_id,
            integer(record, "image_id", location),
            string(record, "question_type", location),
            string(record, "answer_type", location),
            most_frequent(answers),
            answers,
        )


def _annotations(path: Path) -> Iterator[tuple[str, dict, int]]:
    for location, record in read_records(path, "annotations", _ANSWERED):
        question_id = integer(record, "question_id", location)
        yield f"{path}: annotation of question {question_id}", record, question_id


def _parts(version: str, counts: dict[str, int]) -> dict[str, Subset]:
    """The official parts on COCO, whose file names begin with ``version``."""
    return {
        split: Subset(
            f"{version}OpenEnded_mscoco_{OFFICIAL[split][0]}_questions.json",
            f"{version}mscoco_{OFFICIAL[split][0]}_annotations.json",
            OFFICIAL[split][1],
            count,
        )
        for split, count in counts.items()
    }


def _changing_priors(version: str, counts: dict[str, int | None]) -> VQASet:
    names = f"vqacp_{version}_{{}}_{{}}.json".format
    parts = {
        split: Subset(names(split, "questions"), names(split, "annotations"), None, count)
        for split, count in counts.items()
    }
    return VQASet(f"VQA-CP {version}", parts, read_questions_with_split, read_annotations, images_of=_IMAGES)


def _has_choice(annotations: Path) -> bool:
    return '"multiple_choice_answer"' in read_start(annotations)


SETS = {
    "vqav2": VQASet(
        "VQAv2",
        _parts("v2_", {split: count for split, (_, _, count) in OFFICIAL.items()}),
        read_questions,
        read_annotations,
        images_of=_IMAGES,
    ),
    "vqa_v1": VQASet(
        "VQA v1",
        _parts("", {"train": 248_349, "val": 121_512, "test": 244_302, "test-dev": 60_864}),
        read_questions,
        read_annotations,
        is_its=lambda _, annotations: annotations is None or _has_choice(annotations),
        told_by=", with a multiple_choice_answer in each annotation, which OK-VQA's lack",
        images_of=_IMAGES,
    ),
    "okvqa": VQASet(
        "OK-VQA",
        _parts("", {"train": 9_009, "val": 5_046}),
        read_questions,
        read_annotations_without_choice,
        is_its=lambda _, annotations: annotations is not None and not _has_choice(annotations),
        told_by=", without multiple_choice_answer in the annotations, which VQA v1's have",
        images_of=_IMAGES,
    ),
    "vqacp_v2": _changing_priors("v2", {"train": 438_183, "test": 219_928}),
    "vqacp_v1": _changing_priors("v1", {"train": None, "test": None}),
    "coco": CaptionSet({"train": 82_783, "restval": 30_504, "val": 5_000, "test": 5_000}, None, "cocoid"),
}
