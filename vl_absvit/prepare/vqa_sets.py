"""VQAv2 and its relatives: what their files are called, where they lie, and which data set a folder holds."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from vl_absvit.data.official import OFFICIAL
from vl_absvit.errors import InputError
from vl_absvit.prepare import vizwiz_source as vizwiz
from vl_absvit.prepare import vqav2_source as coco
from vl_absvit.prepare.check_images import Lookup
from vl_absvit.prepare.coco_images import CocoImages
from vl_absvit.prepare.json_stream import plain_or_gzip, read_records
from vl_absvit.prepare.named_images import NamedImages
from vl_absvit.prepare.vqav2_source import Annotation, Question

_JSON_DEPTH = 3
_JSON_FOLDER = re.compile(r".*(annotation|question).*|(ms)?coco|vqa.*|ok-?vqa.*|vizwiz.*|train|val|test", re.IGNORECASE)
"""Folders that JSON files may lie in, and levels of them: ``coco/annotations/``, ``VQAv2/Questions/``."""
_IMAGE_FOLDER = re.compile(r"(train|val|test)20[0-9]{2}|\..*")


class Pictures(Lookup, Protocol):
    """Finds the pictures of a data set below a folder."""

    def find(self, file: str) -> str | None:
        """Where the picture of an official name is, relative to the folder; None if it is nowhere."""


class Subset(NamedTuple):
    """One official part of a data set."""

    questions: str  # file name
    annotations: str | None  # file name; that of the questions where one file has both
    folder: str | None  # of its images; None where each question names its own
    official: int | None  # number of questions, as published


class VQASet(NamedTuple):
    """A data set: its parts, and how they are read."""

    title: str
    subsets: dict[str, Subset]  # by our name of the split
    read_questions: Callable[[Path], Iterator[Question]]
    read_annotations: Callable[[Path], Iterator[Annotation]]
    pictures: Callable[[Path, Iterable[str]], Pictures]
    """Of the folder of images, and the official files that questions name themselves."""


class SplitFiles(NamedTuple):
    """The files of one split that are there."""

    split: str
    folder: str | None  # of its images; None where each question names its own
    questions: Path
    annotations: Path | None
    official: int | None  # number of questions, as published


class Files(NamedTuple):
    """What a folder holds."""

    dataset: str  # of DATA_SETS
    splits: list[SplitFiles]  # train first
    left_alone: list[str]  # words about other files that are there

    @property
    def described(self) -> VQASet:
        """The data set's description."""
        return DATA_SETS[self.dataset]


def _on_coco(version: str, counts: dict[str, int]) -> dict[str, Subset]:
    """The official parts on COCO, with names that begin with ``version``."""
    return {
        split: Subset(
            f"{version}OpenEnded_mscoco_{OFFICIAL[split][0]}_questions.json",
            f"{version}mscoco_{OFFICIAL[split][0]}_annotations.json",
            OFFICIAL[split][1],
            count,
        )
        for split, count in counts.items()
    }


def _changing_priors(version: str, counts: dict[str, int | None]) -> dict[str, Subset]:
    names = "vqacp_{}_{}_{}.json".format
    return {
        split: Subset(names(version, split, "questions"), names(version, split, "annotations"), None, count)
        for split, count in counts.items()
    }


def _by_id(root: Path, _: Iterable[str]) -> Pictures:
    return CocoImages(root)


_COCO = (coco.read_questions, coco.read_annotations, _by_id)
_COCO_CP = (coco.read_questions_with_split, coco.read_annotations, _by_id)
_V1 = {"train": 248_349, "val": 121_512, "test": 244_302, "test-dev": 60_864}

DATA_SETS: dict[str, VQASet] = {
    "vqav2": VQASet("VQAv2", _on_coco("v2_", {split: count for split, (_, _, count) in OFFICIAL.items()}), *_COCO),
    "vqa_v1": VQASet("VQA v1", _on_coco("", _V1), *_COCO),
    "okvqa": VQASet(
        "OK-VQA",
        _on_coco("", {"train": 9_009, "val": 5_046}),
        coco.read_questions,
        coco.read_annotations_without_choice,
        _by_id,
    ),
    "vqacp_v2": VQASet("VQA-CP v2", _changing_priors("v2", {"train": 438_183, "test": 219_928}), *_COCO_CP),
    "vqacp_v1": VQASet("VQA-CP v1", _changing_priors("v1", {"train": None, "test": None}), *_COCO_CP),
    "vizwiz": VQASet(
        "VizWiz",
        {
            split: Subset(f"{split}.json", f"{split}.json", None, count)
            for split, count in (("train", 20_523), ("val", 4_319), ("test", 8_000))
        },
        vizwiz.read_questions,
        vizwiz.read_annotations,
        NamedImages,
    ),
}
_TOLD_BY_NAMES = [name for name in DATA_SETS if name != "vizwiz"]
"""Data sets whose files have names of their own; a ``train.json`` may be anyone's."""


def find_files(raw: Path, dataset: str | None = None) -> Files:
    """The files of a data set in a folder, or below it in folders of the usual names; of two, the one above.

    Args:
        dataset: which one; None finds out by names and, where data sets share names, by content. VQAv2's come first.

    Raises:
        InputError: the folder is missing, holds no data set or several, or an annotation file has no question file.
    """
    if not raw.is_dir():
        raise InputError(f"{raw}: no such folder; expected the official VQAv2 downloads there")
    folders = list(_folders(raw, lambda name: _JSON_FOLDER.fullmatch(name)))
    named = {name: _splits_of(DATA_SETS[name], folders) for name in ([dataset] if dataset else _TOLD_BY_NAMES)}
    named = {name: splits for name, splits in named.items() if splits}
    if not named and not dataset:
        named = {"vizwiz": splits} if (splits := _splits_of(DATA_SETS["vizwiz"], folders)) else {}
    if not named:
        _check_complete(DATA_SETS[dataset or "vqav2"], [], folders)
    held = ["vqav2"] if "vqav2" in named else [name for name, splits in named.items() if _is_of(name, splits)]
    if len(held) > 1:
        names = " and of ".join(DATA_SETS[name].title for name in held)
        raise InputError(f"{raw}: holds files of {names}; say by --dataset {' or '.join(held)} which to prepare")
    chosen = held[0] if held else dataset
    if chosen:
        _check_once(DATA_SETS[chosen], folders)
    if not held:
        raise InputError(f"{raw}: {_nothing_found(dataset)}{_fitting(raw, dataset, folders)}")
    _check_complete(DATA_SETS[chosen], named[chosen], folders)
    left = [DATA_SETS[name].title for name in named if name != chosen] if chosen == "vqav2" else []
    words = [f"files named as those of {' and '.join(left)} are there, too; see --dataset"] if left else []
    return Files(chosen, named[chosen], words + _multiple_choice(folders, chosen))


def _folders(folder: Path, is_looked_into: Callable[[str], Any]) -> Iterator[Path]:
    """The folder and those below it whose names are fitting, level by level."""
    level = [folder]
    for _ in range(_JSON_DEPTH + 1):
        yield from level
        level = sorted(Path(path) for above in level for name, path in _folders_in(above) if is_looked_into(name))


def _folders_in(folder: Path) -> list[tuple[str, str]]:
    try:
        with os.scandir(folder) as entries:
            return [(each.name, each.path) for each in entries if each.is_dir()]
    except PermissionError:  # such as lost+found
        return []


def _fitting(raw: Path, dataset: str | None, searched: list[Path]) -> str:
    """Words for the folder below that has what was not found; none of those that were searched."""
    names = [subset.questions for subset in DATA_SETS[dataset or "vqav2"].subsets.values()]
    for folder in _folders(raw, lambda name: not _IMAGE_FOLDER.fullmatch(name)):
        if folder not in searched and any(_find(name, [folder]) for name in names):
            return f"; {folder} has some: give it as --root"
    return ""


def _find_all(name: str | None, folders: list[Path]) -> list[Path]:
    found = [plain_or_gzip(folder / name) for folder in folders] if name else []
    return [path for path in found if path]


def _find(name: str | None, folders: list[Path]) -> Path | None:
    return next(iter(_find_all(name, folders)), None)


def _check_once(described: VQASet, folders: list[Path]) -> None:
    """Refuse files of one name in two folders: what is in the first folder itself comes before those, but no other."""
    for name in [name for subset in described.subsets.values() for name in subset[:2]]:
        first, *others = _find_all(name, folders) or [None]
        if others and first.parent != folders[0]:
            raise InputError(
                f"{first}: is there a second time as {others[0]}; give the folder of one of them as --root"
            )


def _splits_of(described: VQASet, folders: list[Path]) -> list[SplitFiles]:
    """The splits of a data set that are there."""
    splits = []
    for split, subset in described.subsets.items():
        questions, annotations = _find(subset.questions, folders), _find(subset.annotations, folders)
        if questions and questions == annotations and not vizwiz.has_answers(questions):
            annotations = None
        if questions:
            splits.append(SplitFiles(split, subset.folder, questions, annotations, subset.official))
    return splits


def _is_of(dataset: str, splits: list[SplitFiles]) -> bool:
    """Whether files named as a data set's are its own: VQA v1 and OK-VQA share names, VizWiz's are anyone's."""
    if dataset == "vizwiz":
        return vizwiz.is_vizwiz(splits[0].questions)
    if dataset not in ("vqa_v1", "okvqa"):
        return True
    annotated = next((files.annotations for files in splits if files.annotations), None)
    if annotated is None:
        return dataset == "vqa_v1"  # OK-VQA has no part without answers
    has_choice = "multiple_choice_answer" in next(read_records(annotated, "annotations"))[1]
    return has_choice == (dataset == "vqa_v1")


def _nothing_found(dataset: str | None) -> str:
    if dataset is None:
        subsets = ", ".join(subset for subset, _, _ in OFFICIAL.values())
        others = ", ".join(described.title for name, described in DATA_SETS.items() if name != "vqav2")
        return (
            "expected at least one v2_OpenEnded_mscoco_<subset>_questions.json (or .json.gz), or the files of "
            f"{others}, there or in questions/ and annotations/, found none; subsets are {subsets}"
        )
    described = DATA_SETS[dataset]
    names = ", ".join(subset.questions for subset in described.subsets.values())
    told = {
        "vqa_v1": ", with a multiple_choice_answer in each annotation, which OK-VQA's lack",
        "okvqa": ", without multiple_choice_answer in the annotations, which VQA v1's have",
        "vizwiz": ', whose records begin with {"image": "VizWiz_..."}',
    }
    return (
        f"expected files of {described.title}, {names} (or .json.gz), there or in questions/ and annotations/"
        f"{told.get(dataset, '')}; found none"
    )


def _check_complete(described: VQASet, splits: list[SplitFiles], folders: list[Path]) -> None:
    """Refuse annotations without questions, and a train split without annotations."""
    there = {files.split: files for files in splits}
    for split, subset in described.subsets.items():
        annotations = _find(subset.annotations, folders)
        if annotations and split not in there:
            raise InputError(f"{annotations}: there is no {subset.questions} beside it")
        if split == "train" and split in there and not there[split].annotations:
            is_one = subset.annotations == subset.questions
            lacks = "its questions have no answers" if is_one else f"there is no {subset.annotations} beside it"
            raise InputError(f"{there[split].questions}: {lacks}")


def _multiple_choice(folders: list[Path], dataset: str) -> list[str]:
    """Words about VQA v1's second form of the same questions."""
    if dataset != "vqa_v1":
        return []
    names = (f"MultipleChoice_mscoco_{subset}_questions.json" for subset, _, _ in OFFICIAL.values())
    there = [name for name in names if _find(name, folders)]
    return [f"{', '.join(there)}: left alone, the open-ended questions are prepared"] if there else []
