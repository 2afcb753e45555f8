"""VQAv2 and its relatives: find their files, and recognise the data set in a folder."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vl_absvit.data.official import OFFICIAL
from vl_absvit.errors import InputError
from vl_absvit.prepare import sets
from vl_absvit.prepare.vqa_source import VQASet

_JSON_DEPTH = 3
_JSON_FOLDER = re.compile(r".*(annotation|question).*|(ms)?coco|vqa.*|ok-?vqa.*|vizwiz.*|train|val|test", re.IGNORECASE)
"""Folders that may hold JSON files beside those with a data set's name, such as ``coco/annotations/`` and
``VQAv2/Questions/``; and their largest depth."""
_IMAGE_FOLDER = re.compile(r"(train|val|test)20[0-9]{2}|\..*")


class SplitFiles(NamedTuple):
    """The existing files of one split."""

    split: str
    folder: str | None  # of its images; None if each question names its image
    questions: Path
    annotations: Path | None
    official: int | None  # published number of questions


class Files(NamedTuple):
    """The files of a data set in a folder."""

    dataset: str  # a key of DATA_SETS
    splits: list[SplitFiles]  # train first
    left_alone: list[str]  # warnings about files that are not used

    @property
    def described(self) -> VQASet:
        """The data set's description."""
        return DATA_SETS[self.dataset]


DATA_SETS: dict[str, VQASet] = sets.known(VQASet)


def find_files(raw: Path, dataset: str | None = None) -> Files:
    """The files of a data set in a folder, or below it in folders of the usual names. Higher folders come first.

    Args:
        dataset: a key of ``DATA_SETS``; None recognises it by file names and, if these are shared, by content. VQAv2
            comes before others.

    Raises:
        InputError: the folder is missing, holds no data set or several, or an annotation file has no question file.
    """
    if not raw.is_dir():
        raise InputError(f"{raw}: no such folder; expected the official VQAv2 downloads there")
    folders = list(_folders(raw, lambda name: _JSON_FOLDER.fullmatch(name) or name.lower() in DATA_SETS))
    own_names = [name for name, described in DATA_SETS.items() if described.has_own_names]
    named = _there([dataset] if dataset else own_names, folders)
    if not named and not dataset:
        named = _there([name for name in DATA_SETS if name not in own_names], folders)
    if not named:
        _check_complete(DATA_SETS[dataset or "vqav2"], [], folders)
    held = ["vqav2"] if "vqav2" in named else [name for name, splits in named.items() if _is_of(name, splits)]
    if len(held) > 1:
        names = " and of ".join(DATA_SETS[name].title for name in held)
        raise InputError(f"{raw}: holds files of {names}; say by --dataset {' or '.join(held)} which to prepare")
    if not held:
        if dataset:
            _check_once(DATA_SETS[dataset], folders)
        raise InputError(f"{raw}: {_nothing_found(dataset)}{_fitting(raw, dataset, folders)}")
    (chosen,) = held
    _check_once(DATA_SETS[chosen], folders)
    _check_complete(DATA_SETS[chosen], named[chosen], folders)
    left = [DATA_SETS[name].title for name in named if name != chosen] if chosen == "vqav2" else []
    words = [f"files named as those of {' and '.join(left)} are there, too; see --dataset"] if left else []
    return Files(chosen, named[chosen], words + _multiple_choice(folders, chosen))


def _folders(folder: Path, is_looked_into: Callable[[str], Any]) -> Iterator[Path]:
    """The folder, and the folders below it whose names fit, level by level."""
    level = [folder]
    for _ in range(_JSON_DEPTH + 1):
        yield from level
        level = sorted(Path(path) for above in level for name, path in _folders_in(above) if is_looked_into(name))


def _folders_in(folder: Path) -> list[tuple[str, str]]:
    try:
        with os.scandir(folder) as entries:
            return [(entry.name, entry.path) for entry in entries if entry.is_dir()]
    except PermissionError:  # such as lost+found
        return []


def _fitting(raw: Path, dataset: str | None, searched: list[Path]) -> str:
    """Words for a folder below, not searched before, that has the missing files."""
    names = [subset.questions for subset in DATA_SETS[dataset or "vqav2"].subsets.values()]
    for folder in _folders(raw, lambda name: not _IMAGE_FOLDER.fullmatch(name)):
        if folder not in searched and any(_find(name, [folder]) for name in names):
            return f"; {folder} has some: give it as --root"
    return ""


def _find_all(name: str | None, folders: list[Path]) -> list[Path]:
    found = [_plain_or_gzip(folder / name) for folder in folders] if name else []
    return [path for path in found if path]


def _plain_or_gzip(path: Path) -> Path | None:
    """``path`` or ``path.gz``, if one exists.

    Raises:
        InputError: both exist.
    """
    both = [file for file in (path, path.with_name(f"{path.name}.gz")) if file.exists()]
    if len(both) > 1:
        raise InputError(f"{both[0]}: is there a second time as {both[1].name}; keep one of them")
    return both[0] if both else None


def _find(name: str | None, folders: list[Path]) -> Path | None:
    return next(iter(_find_all(name, folders)), None)


def _check_once(described: VQASet, folders: list[Path]) -> None:
    """Refuse files of one name in two folders. The first folder is an exception: it comes before all others."""
    for name in [name for subset in described.subsets.values() for name in subset[:2]]:
        found = _find_all(name, folders)
        if len(found) > 1 and found[0].parent != folders[0]:
            raise InputError(
                f"{found[0]}: is there a second time as {found[1]}; give the folder of one of them as --root"
            )


def _there(datasets: Iterable[str], folders: list[Path]) -> dict[str, list[SplitFiles]]:
    """The data sets that have files here, with their splits."""
    splits_of = {name: _splits_of(DATA_SETS[name], folders) for name in datasets}
    return {name: splits for name, splits in splits_of.items() if splits}


def _splits_of(described: VQASet, folders: list[Path]) -> list[SplitFiles]:
    """The existing splits of a data set."""
    splits = []
    for split, subset in described.subsets.items():
        questions, annotations = _find(subset.questions, folders), _find(subset.annotations, folders)
        if questions and questions == annotations and not described.has_answers(questions):
            annotations = None
        if questions:
            splits.append(SplitFiles(split, subset.folder, questions, annotations, subset.official))
    return splits


def _is_of(dataset: str, splits: list[SplitFiles]) -> bool:
    """Whether files with a data set's names belong to it. VQA v1 and OK-VQA share names; VizWiz's are common words."""
    annotated = next((files.annotations for files in splits if files.annotations), None)
    return DATA_SETS[dataset].is_its(splits[0].questions, annotated)


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
    return (
        f"expected files of {described.title}, {names} (or .json.gz), there or in questions/ and annotations/"
        f"{described.told_by}; found none"
    )


def _check_complete(described: VQASet, splits: list[SplitFiles], folders: list[Path]) -> None:
    """Refuse annotations without questions, and a train split without annotations."""
    present = {files.split: files for files in splits}
    for split, subset in described.subsets.items():
        annotations = _find(subset.annotations, folders)
        if annotations and split not in present:
            raise InputError(f"{annotations}: there is no {subset.questions} beside it")
        if split == "train" and split in present and not present[split].annotations:
            is_one = subset.annotations == subset.questions
            lacks = "its questions have no answers" if is_one else f"there is no {subset.annotations} beside it"
            raise InputError(f"{present[split].questions}: {lacks}")


def _multiple_choice(folders: list[Path], dataset: str) -> list[str]:
    """A warning about VQA v1's multiple-choice form of the same questions."""
    if dataset != "vqa_v1":
        return []
    names = (f"MultipleChoice_mscoco_{subset}_questions.json" for subset, _, _ in OFFICIAL.values())
    found = [name for name in names if _find(name, folders)]
    return [f"{', '.join(found)}: left alone, the open-ended questions are prepared"] if found else []
