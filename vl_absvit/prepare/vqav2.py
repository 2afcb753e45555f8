"""The official downloads of VQAv2, or of a relative, to the folder that training reads."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vl_absvit.data.records import VQA, VQAV2
from vl_absvit.data.whole_folder import make_request
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.check_images import Images
from vl_absvit.prepare.coco_images import official_file
from vl_absvit.prepare.prepare import Content, ImageFolder, Records, Source, prepare
from vl_absvit.prepare.tables import write_table
from vl_absvit.prepare.vqa_sets import Files, SplitFiles, find_files
from vl_absvit.prepare.vqa_tables import annotated, count_questions, questions_table, with_labels
from vl_absvit.prepare.vqa_vocabulary import RULES, check_any_occurs, never_targets

_SPLITS = ("train", "minival", "val", "test", "test-dev")
_MOST_MINIVAL_IMAGES = 2_000


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """The options that the prepared folder depends on, besides the downloads."""

    root: Path
    images: Path | None = None
    """Folder of the images, or of their folders, if it is not the root."""
    dataset: str | None = None
    """A key of ``vqa_sets.DATA_SETS``; None recognises it by the files."""
    vocabulary: Path | None = None
    """Vocabulary to take instead of counting answers."""
    min_count: int = 9
    embed_images: bool = False
    meter_compatible: bool = False
    """METER's vocabulary rule and label order; a question's answers are looked up as they are."""
    allow_missing_images: bool = False
    minival_images: int | None = None
    """None means a tenth of val's images, at most 2,000."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.min_count < 1:
            raise ConfigError(f"--min-count must be at least 1, got {self.min_count}")
        if self.minival_images is not None and self.minival_images < 0:
            raise ConfigError(f"--minival-images must be at least 0, got {self.minival_images}")


def prepare_vqav2(options: PrepareOptions, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest. A finished ``output`` is only compared with the request.

    Raises:
        InputError: the downloads have a fault, or ``output`` was made with other options or from other files.
    """
    files = find_files(options.root, options.dataset)
    root = options.images or options.root
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected the images there")
    images = ImageFolder(root, files.described.finder, options.embed_images, options.allow_missing_images)
    return prepare(VQASource(options, files), images, output, workers)


class VQASource(Source):
    """Questions, with answers in splits that have them."""

    row_type = "questions"

    def __init__(self, options: PrepareOptions, files: Files) -> None:
        """
        Raises:
            InputError: the given vocabulary cannot be used.
        """
        self._options, self._files = options, files
        self._rule = RULES[options.meter_compatible]
        self._vocabulary = self._rule.read(options.vocabulary) if options.vocabulary else None

    def request(self) -> dict[str, Any]:
        """The folder of images, the options and the content of the source files."""
        options = self._options
        sources = [file for split in self._files.splits for file in (split.questions, split.annotations) if file]
        sources += [options.vocabulary] if options.vocabulary else []
        not_settings = ("root", "images", "dataset", "vocabulary")
        settings = {name: value for name, value in asdict(options).items() if name not in not_settings}
        settings["vocabulary"] = options.vocabulary and options.vocabulary.name
        kind = VQAV2 if self._files.dataset == VQAV2 else VQA
        return make_request(kind, options.images or options.root, settings, dict.fromkeys(sources))

    def read(self) -> Records:
        """The checked questions of every split, by id. ``minival`` is still part of ``val``."""
        splits: dict[str, pa.Table] = {}
        named: dict[int, str] = {}
        counts: Counter[str] = Counter()
        for files in self._files.splits:
            table = questions_table(self._files.described.read_questions(files.questions), files.questions, named)
            if files.annotations:
                annotations = self._files.described.read_annotations(files.annotations)
                table, common_answers = annotated(table, annotations, files)
                if files.split in ("train", "val"):
                    counts += common_answers
            splits[files.split] = table
        _check_ids_between(splits)
        self._choose_vocabulary(counts)
        if self._vocabulary:
            for split, table in splits.items():
                if "answers" in table.column_names:
                    splits[split] = with_labels(table, self._vocabulary.index, self._rule.lookup)
        images = _official_files(self._files.splits, splits, named)
        self._count_to_hold_out(len(np.unique(_image_ids(_annotated_val(splits)))))
        return Records(splits, images, self._files.left_alone)

    def _choose_vocabulary(self, common_answers: Mapping[str, int]) -> None:
        """Take the given vocabulary, or that of the frequent answers of train and val.

        Args:
            common_answers: counts of each raw ``multiple_choice_answer``, by first occurrence, train first.
        """
        options, counts = self._options, self._rule.counts(common_answers.items())
        if self._vocabulary and options.vocabulary and counts:
            check_any_occurs(self._vocabulary, counts, options.vocabulary)
        self._vocabulary = self._vocabulary or self._rule.frequent(counts, options.min_count, options.root)
        if not self._vocabulary and any(files.annotations for files in self._files.splits):
            raise InputError(
                f"{options.root}: answers are counted in train and val, and neither is there: give --vocabulary"
            )

    def _count_to_hold_out(self, val_images: int) -> int:
        """Number of val's images that become ``minival``.

        Raises:
            InputError: the requested number leaves no image in val.
        """
        number = self._options.minival_images
        if number is None:
            return min(max(val_images // 10, 1 if val_images > 1 else 0), _MOST_MINIVAL_IMAGES)
        if number and number >= val_images:
            raise InputError(
                f"--minival-images {number}: val has only {val_images} usable images, and some must stay in val"
            )
        return number

    def write(self, folder: Path, records: Records, images: Images) -> Content:
        """One table per split that has questions, and the vocabulary."""
        splits = {
            split: table.filter(pa.array(images.are_usable(_image_ids(table))))
            for split, table in records.splits.items()
        }
        warnings = []
        held_out = self._hold_out(_annotated_val(splits))
        if not len(held_out):
            warnings.append(
                "minival is empty: val is absent, not annotated or has too few images, or none were to be held out; "
                "without it, training wants another data.select_split, or null"
            )
        if not self._vocabulary:
            warnings.append("there is no answers.json: no split is annotated, and no --vocabulary was given")
        else:
            self._vocabulary.save(folder / "answers.json")
        if "val" in splits:
            is_held_out = np.isin(_image_ids(splits["val"]), held_out)
            splits["minival"] = splits["val"].filter(pa.array(is_held_out))
            splits["val"] = splits["val"].filter(pa.array(~is_held_out))
        splits = {split: splits[split] for split in _SPLITS if split in splits and len(splits[split])}
        for split, table in splits.items():
            write_table(folder / f"{split}.parquet", table)
        counts = {split: count_questions(table, images) for split, table in splits.items()}
        warnings += _deviations(self._files, counts)
        answered = {split: table for split, table in splits.items() if "labels" in table.column_names}
        if self._vocabulary and answered:
            warnings += never_targets(self._vocabulary, answered, self._rule)
        more = {
            "dataset": self._files.dataset,
            "vocabulary": self._vocabulary and {"size": len(self._vocabulary), "sha256": self._vocabulary.sha256},
            "minival": {"seed": self._options.seed, "images": len(held_out)},
        }
        return Content(counts, warnings, more)

    def _hold_out(self, val: pa.Table | None) -> np.ndarray:
        """The val images whose questions become ``minival``.

        They are taken in the order of a hash of seed and id, which does not depend on libraries or on other images.
        """
        image_ids = np.unique(_image_ids(val))
        number = self._count_to_hold_out(len(image_ids))
        draws = [hashlib.sha256(f"{self._options.seed}:{image_id}".encode()).digest() for image_id in image_ids]
        return image_ids[np.argsort(np.array(draws, dtype=object), kind="stable")[:number]]


def _annotated_val(splits: Mapping[str, pa.Table]) -> pa.Table | None:
    val = splits.get("val")
    return val if val is not None and "answers" in val.column_names else None


def _image_ids(table: pa.Table | None) -> np.ndarray:
    return np.array([], dtype=np.int64) if table is None else table.column("image_id").to_numpy()


def _check_ids_between(splits: Mapping[str, pa.Table]) -> None:
    """Refuse a question in two splits, except for test-dev, which is a part of test.

    Raises:
        InputError: there is one; the message names the first.
    """
    ids = {split: table.column("question_id").to_numpy() for split, table in splits.items() if split != "test-dev"}
    for first, second in itertools.combinations(sorted(ids), 2):
        shared = np.intersect1d(ids[first], ids[second])
        if len(shared):
            raise InputError(f"question {shared[0]} is both in {first} and in {second}; ids must be unique")


def _official_files(
    files: list[SplitFiles], splits: Mapping[str, pa.Table], named: Mapping[int, str]
) -> dict[int, str]:
    """Image id -> official file, named by the questions or determined by their split.

    Raises:
        InputError: one image id belongs to two folders; their splits would share it.
    """
    for earlier, later in itertools.combinations(files, 2):
        if earlier.folder and later.folder and earlier.folder != later.folder:
            table = splits[later.split]
            shared = np.flatnonzero(np.isin(_image_ids(table), _image_ids(splits[earlier.split])))
            if len(shared):
                location = f"{later.questions}: question {table.column('question_id')[int(shared[0])]}"
                image_id = _image_ids(table)[shared[0]]
                raise InputError(f"{location} is about image {image_id}, which is also in {earlier.folder}")
    official = dict(named)
    for split in files:
        if split.folder:
            ids = np.unique(_image_ids(splits[split.split])).tolist()
            official |= {image_id: official_file(split.folder, image_id) for image_id in ids}
    return official


def _deviations(found: Files, counts: dict[str, dict[str, Any]]) -> list[str]:
    """Warnings about splits whose size is not the official one, and about a val split without annotations."""
    warnings = []
    for files in found.splits:
        parts = ("minival", "val") if files.split == "val" else (files.split,)
        questions = sum(counts[part]["questions"] for part in parts if part in counts)
        if files.official not in (None, questions):
            warnings.append(
                f"{files.split}: {questions:,} questions are usable, the official split has {files.official:,}"
            )
        if files.split == "val" and not files.annotations:
            warnings.append("val: there are no annotations, so it is treated like test")
    return warnings
