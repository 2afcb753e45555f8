"""The published VQA-HAT maps and their VQA v1 questions: checked names and records.

Das et al., "Human Attention in Visual Question Answering", EMNLP 2016. A map is a PNG file ``{question_id}_{n}.png``;
n numbers the people. Question ids are those of VQA *v1*, ``image_id * 10 + k``. Those of VQA v2 are
``image_id * 1000 + k``, so that one number may be an id in both, for questions about different images.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vl_absvit.errors import InputError
from vl_absvit.prepare.json_records import integer, read_records, string

_QUESTION_FILE = re.compile(r"OpenEnded_mscoco_(train2014|val2014)_questions\.json(\.gz)?")
_MAP_FILE = re.compile(r"(0|[1-9][0-9]{0,17})_([1-9][0-9]?)\.png")
_LITTER = ("thumbs.db", "desktop.ini", "icon\r")
_RULE = "VQA-HAT goes with VQA v1, whose question ids are image_id * 10 + k"


class Subset(NamedTuple):
    """One published half of VQA-HAT."""

    split: str
    name: str  # COCO's name, which is part of its image names
    people: int  # maps per question
    maps: int  # in all


SUBSETS = {
    "train2014": Subset("train", "train2014", people=1, maps=58_475),
    "val2014": Subset("val", "val2014", people=3, maps=4_122),
}


class Question(NamedTuple):
    question_id: int
    image_id: int
    question: str


class MapName(NamedTuple):
    """The content of a map's file name."""

    question_id: int
    n: int

    @property
    def file(self) -> str:
        """The file name."""
        return f"{self.question_id}_{self.n}.png"


def subset_of(questions: Path) -> Subset:
    """The half of VQA-HAT to which a question file belongs, by its official name.

    Raises:
        InputError: the file has another name, such as VQA v2's.
    """
    if not questions.is_file():
        raise InputError(f"{questions}: no such file")
    if questions.name.startswith("v2_"):
        raise InputError(f"{questions}: is a file of VQA v2; {_RULE}")
    found = _QUESTION_FILE.fullmatch(questions.name)
    if not found:
        raise InputError(
            f"{questions}: expected VQA v1's OpenEnded_mscoco_{{train2014,val2014}}_questions.json (or .json.gz); "
            "its name tells the subset"
        )
    return SUBSETS[found[1]]


def read_questions(path: Path) -> Iterator[Question]:
    """The records of a VQA v1 question file, in its order.

    Raises:
        InputError: a record has a fault, or ids are those of VQA v2; the message names the record.
    """
    for location, record in read_records(path, "questions", ("question_id", "image_id", "question")):
        question = Question(
            integer(record, "question_id", location),
            integer(record, "image_id", location),
            string(record, "question", location),
        )
        if question.question_id // 10 != question.image_id:
            found = f"question {question.question_id} about image {question.image_id}"
            version = ": these are ids of VQA v2" if question.question_id // 1000 == question.image_id else ""
            raise InputError(f"{location}: {_RULE}, got {found}{version}")
        if not question.question.strip():
            raise InputError(f"{location}: question {question.question_id} is empty")
        yield question


class MapFolder(NamedTuple):
    """The content of a folder of maps."""

    maps: list[MapName]  # by question and person
    passed_over: list[str]  # names of files and folders that cannot be maps


def list_maps(folder: Path, subset: Subset) -> MapFolder:
    """The maps of a folder. Hidden files, system files and folders are passed over.

    Raises:
        InputError: the folder is missing, has no map, or holds other files or maps of too many people. The message
            names the first and their number.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected the maps {{question_id}}_{{n}}.png there")
    maps, passed_over, strange = [], [], []
    for name in sorted(entry.name for entry in folder.iterdir()):
        found = _MAP_FILE.fullmatch(name)
        if found and (folder / name).is_file():
            maps.append(MapName(int(found[1]), int(found[2])))
        elif not found and _is_beside_the_point(folder / name):
            passed_over.append(name)
        else:
            strange.append(name)
    if strange:
        raise InputError(f"{folder}: expected only files {{question_id}}_{{n}}.png, got {first_of(strange)}")
    if not maps:
        raise InputError(f"{folder}: expected maps {{question_id}}_{{n}}.png, found none{_below(folder, passed_over)}")
    beyond = [name.file for name in sorted(maps) if name.n > subset.people]
    if beyond:
        raise InputError(
            f"{folder}: {subset.split} has n = {'1' if subset.people == 1 else f'1 to {subset.people}'} in "
            f"{{question_id}}_{{n}}.png, got {first_of(beyond)}"
        )
    return MapFolder(sorted(maps), passed_over)


def _is_beside_the_point(path: Path) -> bool:
    """Whether this cannot be meant as a map: a folder, or a file that a file manager or an archive leaves behind."""
    name = path.name.lower()
    return name.startswith(".") or name in _LITTER or path.is_dir()


def _below(folder: Path, names: Iterable[str]) -> str:
    """Words for the first folder below that holds maps."""
    for name in names:
        if (folder / name).is_dir() and any(_MAP_FILE.fullmatch(entry.name) for entry in (folder / name).iterdir()):
            return f"; there are some in {folder / name}"
    return ""


def first_of(names: list[str]) -> str:
    """The first name, and the number of others."""
    return names[0] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def fingerprint_of(folder: Path, maps: Iterable[MapName]) -> dict[str, Any]:
    """Number of maps, and one SHA-256 over the names and the SHA-256 of all."""
    total, files = hashlib.sha256(), 0
    for name in maps:
        content = hashlib.sha256((folder / name.file).read_bytes()).hexdigest()
        total.update(f"{content}  {name.file}\n".encode())
        files += 1
    return {"files": files, "sha256": total.hexdigest()}
