"""The official downloads of VQAv2, or of a relative, to the folder that training reads.

An interrupted run goes on from the files it has taken in and the images it has checked.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vl_absvit.cli import progress
from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.data.records import VQA, VQAV2
from vl_absvit.data.whole_folder import make_request
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.check_images import check_images, find_images
from vl_absvit.prepare.prepare import Content, Work, prepare
from vl_absvit.prepare.tables import write_images
from vl_absvit.prepare.vqa_sets import Files, SplitFiles, find_files
from vl_absvit.prepare.vqa_vocabulary import RULES, Rule, check_any_occurs, never_targets
from vl_absvit.prepare.vqav2_store import OF_SPLIT, Store
from vl_absvit.prepare.vqav2_tables import write_annotated_questions, write_questions


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """What the prepared folder depends on, besides the downloads."""

    root: Path
    images: Path | None = None
    """Folder of the images, or of their folders, if it is not the root."""
    dataset: str | None = None
    """A name of ``vqa_sets.DATA_SETS``; None finds out by the files."""
    vocabulary: Path | None = None
    """Take this vocabulary instead of counting answers."""
    min_count: int = 9
    embed_images: bool = False
    meter_compatible: bool = False
    """METER's vocabulary rule and label order, and per-question answers looked up as they are."""
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
    """Prepare ``output`` and return its manifest; if it is finished already, only check that it is what was asked for.

    Raises:
        InputError: something is wrong with the downloads, or ``output`` is there from other options or other files.
    """
    files = find_files(options.root, options.dataset)
    images = options.images or options.root
    if not images.is_dir():
        raise InputError(f"{images}: no such folder; expected the images there")
    rule = RULES[options.meter_compatible]
    given = rule.read(options.vocabulary) if options.vocabulary else None

    def fill(work: Work) -> Content:
        store = Store(work.database, work.images)
        _take_in(store, files)
        counts = rule.counts(store.common_answers())
        if given and counts:
            check_any_occurs(given, counts, options.vocabulary)
        vocabulary = given or rule.frequent(counts, options.min_count, options.root)
        if not vocabulary and any(split.annotations for split in files.splits):
            raise InputError(
                f"{options.root}: answers are counted in train and val, and neither is there: give --vocabulary"
            )
        pictures = files.described.pictures(images, store.named_files())
        store.list_images(files.splits, pictures)
        store.count_to_hold_out(options.minival_images)  # complains now rather than after the images
        allowed = options.allow_missing_images
        warnings = files.left_alone + find_images(work.images, OF_SPLIT, pictures, allow_missing=allowed)
        checked = check_images(work.images, workers, store.skipped_questions)
        warnings += checked.warnings
        minival_images = store.hold_out(options.minival_images, options.seed)
        if not minival_images:
            warnings.append(
                "minival is empty: val is absent, not annotated or has too few images, or none were to be held out; "
                "without it, training wants another data.select_split, or null"
            )
        if not vocabulary:
            warnings.append("there is no answers.json: no split is annotated, and no --vocabulary was given")
        write_images(work.folder, work.images, embed=options.embed_images)
        tables = _write_splits(work.folder, store, files.splits, vocabulary, rule)
        warnings += _deviations(files, tables)
        annotated = {split: work.folder / f"{split}.parquet" for split in tables if tables[split]["annotated"]}
        if vocabulary and annotated:
            warnings += never_targets(vocabulary, annotated, rule)
        more = {
            "dataset": files.dataset,
            "vocabulary": vocabulary and {"size": len(vocabulary), "sha256": vocabulary.sha256},
            "minival": {"seed": options.seed, "images": minival_images},
        }
        return Content(tables, checked, warnings, more)

    return prepare(output, _request(options, files), fill, root=images, noun="questions")


def _request(options: PrepareOptions, files: Files) -> dict[str, Any]:
    """What decides the result: where the images are, the options, the content of the source files."""
    sources = [file for split in files.splits for file in (split.questions, split.annotations) if file]
    sources += [options.vocabulary] if options.vocabulary else []
    not_settings = ("root", "images", "dataset", "vocabulary")
    settings = {name: value for name, value in asdict(options).items() if name not in not_settings}
    settings["vocabulary"] = options.vocabulary and options.vocabulary.name
    kind = VQAV2 if files.dataset == VQAV2 else VQA
    return make_request(kind, options.images or options.root, settings, dict.fromkeys(sources))


def _take_in(store: Store, found: Files) -> None:
    """Questions and annotations, checked against each other."""
    with progress() as bar:
        for files in found.splits:
            records = found.described.read_questions(files.questions)
            store.add_questions(files, bar.track(records, description=files.questions.name))
            if files.annotations:
                records = found.described.read_annotations(files.annotations)
                store.add_annotations(files, bar.track(records, description=files.annotations.name))
            store.check_join(files)
    store.check_ids_between_splits()


def _write_splits(
    folder: Path,
    store: Store,
    splits: Sequence[SplitFiles],
    vocabulary: AnswerVocabulary | None,
    rule: Rule,
) -> dict[str, dict[str, int]]:
    """One table per split that has questions, and the vocabulary; counts per split."""
    annotated = {files.split for files in splits if files.annotations}
    if "val" in annotated:
        annotated.add("minival")
    if vocabulary:
        vocabulary.save(folder / "answers.json")
    tables = {}
    for split in ("train", "minival", "val", "test", "test-dev"):
        if not (images := store.count_images_of(split)):
            continue
        path, rows = folder / f"{split}.parquet", store.rows(split)
        if split in annotated:
            counts = write_annotated_questions(path, rows, vocabulary.index, rule.lookup)
        else:
            counts = write_questions(path, rows)
        tables[split] = {**asdict(counts), "images": images, "annotated": split in annotated}
    return tables


def _deviations(found: Files, tables: dict[str, dict[str, int]]) -> list[str]:
    """Words for every split that is not as large as the official one, or not annotated where it could be."""
    warnings = []
    for files in found.splits:
        parts = ("minival", "val") if files.split == "val" else (files.split,)
        questions = sum(tables[part]["questions"] for part in parts if part in tables)
        if files.official not in (None, questions):
            warnings.append(
                f"{files.split}: {questions:,} questions are usable, the official split has {files.official:,}"
            )
        if files.split == "val" and not files.annotations:
            warnings.append("val: there are no annotations, so it is treated like test")
    return warnings
