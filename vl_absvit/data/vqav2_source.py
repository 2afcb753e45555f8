"""The official VQAv2 downloads: their file names, and their records one at a time, each checked.

Files are parsed as streams, so memory does not grow with them.
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ijson

from vl_absvit.data.json_files import form_name
from vl_absvit.errors import InputError

# Our name of a split -> (the official subset's name, the folder of its images, its official number of questions).
OFFICIAL = {
    "train": ("train2014", "train2014", 443_757),
    "val": ("val2014", "val2014", 214_354),
    "test": ("test2015", "test2015", 447_793),
    "test-dev": ("test-dev2015", "test2015", 107_394),
}
ANSWERS_PER_QUESTION = 10
_LARGEST_ID = 2**63 - 1


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
        questions = _plain_or_gzip(raw / f"v2_OpenEnded_mscoco_{subset}_questions.json")
        annotations = _plain_or_gzip(raw / f"v2_mscoco_{subset}_annotations.json")
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


def image_file(folder: str, image_id: int) -> str:
    """Official name of an image, relative to the downloads: ``val2014/COCO_val2014_000000000042.jpg``."""
    return f"{folder}/COCO_{folder}_{image_id:012d}.jpg"


def read_questions(path: Path) -> Iterator[Question]:
    """The records of a question file, in its order.

    Raises:
        InputError: names the file and the record.
    """
    for where, record in _records(path, "questions"):
        question = Question(
            _integer(record, "question_id", where),
            _integer(record, "image_id", where),
            _string(record, "question", where),
        )
        if not question.question.strip():
            raise InputError(f"{path}: question {question.question_id} is empty")
        yield question


def read_annotations(path: Path) -> Iterator[Annotation]:
    """The records of an annotation file, in its order.

    Raises:
        InputError: names the file and the record.
    """
    for where, record in _records(path, "annotations"):
        question_id = _integer(record, "question_id", where)
        where = f"{path}: annotation of question {question_id}"
        yield Annotation(
            question_id,
            _integer(record, "image_id", where),
            _string(record, "question_type", where),
            _string(record, "answer_type", where),
            _string(record, "multiple_choice_answer", where),
            _ten_answers(record, where),
        )


def fingerprint(path: Path) -> dict[str, Any]:
    """SHA-256 and size of a file."""
    with path.open("rb") as stream:
        return {"sha256": hashlib.file_digest(stream, "sha256").hexdigest(), "bytes": path.stat().st_size}


def _plain_or_gzip(path: Path) -> Path | None:
    both = [file for file in (path, path.with_name(f"{path.name}.gz")) if file.exists()]
    if len(both) > 1:
        raise InputError(f"{both[0]}: is there a second time as {both[1].name}; keep one of them")
    return both[0] if both else None


def _open(path: Path) -> BinaryIO:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _records(path: Path, key: str) -> Iterator[tuple[str, dict]]:
    """The objects of the list under ``key`` at the top level, each with words that say where it is."""
    number = 0
    try:
        with _open(path) as stream:
            for number, record in enumerate(ijson.items(stream, f"{key}.item"), start=1):  # noqa: B007
                where = f"{path}: record {number} of {key!r}"
                if not isinstance(record, dict):
                    raise InputError(f"{where}: expected an object, got {form_name(record)}")
                yield where, record
    except (ijson.JSONError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: expected JSON in UTF-8, after record {number} of {key!r}: {reason}") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: expected a gzip file, after record {number} of {key!r}: {error}") from error
    if not number:
        raise InputError(f'{path}: expected an object {{"{key}": [...]}} with at least one record, found none')


def _integer(record: dict, key: str, where: str) -> int:
    value = _value(record, key, where)
    if type(value) is not int or not 0 <= value <= _LARGEST_ID:
        raise InputError(f"{where}: expected {key} to be an integer of at least 0, got {value!r:.60}")
    return value


def _string(record: dict, key: str, where: str) -> str:
    value = _value(record, key, where)
    if not isinstance(value, str):
        raise InputError(f"{where}: expected {key} to be a string, got {form_name(value)}")
    return value


def _value(record: dict, key: str, where: str) -> Any:
    if key not in record:
        raise InputError(f"{where}: there is no {key!r}")
    return record[key]


def _ten_answers(record: dict, where: str) -> list[str]:
    answers = _value(record, "answers", where)
    if not isinstance(answers, list):
        raise InputError(f"{where}: expected answers to be a list, got {form_name(answers)}")
    if len(answers) != ANSWERS_PER_QUESTION:
        raise InputError(f"{where}: expected {ANSWERS_PER_QUESTION} answers, got {len(answers)}")
    for answer in answers:
        if not isinstance(answer, dict):
            raise InputError(f'{where}: expected answers of the form {{"answer": "..."}}, got {form_name(answer)}')
    return [_string(answer, "answer", where) for answer in answers]
