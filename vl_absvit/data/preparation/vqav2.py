"""The official VQAv2 downloads to the folder that training reads.

An interrupted run goes on from the files it has taken in and the images it has checked.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vl_absvit.cli import progress
from vl_absvit.data.answers import AnswerVocabulary, build_vocabulary, meter_normalise, normalise_answer
from vl_absvit.data.preparation import vqav2_source as source
from vl_absvit.data.preparation.coco_images import CocoImages
from vl_absvit.data.preparation.folder import make_request
from vl_absvit.data.preparation.images import check_images, check_layout, judge_missing, mark_missing
from vl_absvit.data.preparation.prepare import Content, Work, prepare
from vl_absvit.data.preparation.tables import write_images
from vl_absvit.data.preparation.vqav2_store import OF_SPLIT, Store
from vl_absvit.data.preparation.vqav2_tables import write_annotated_questions, write_questions
from vl_absvit.errors import ConfigError, InputError


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """What the prepared folder depends on, besides the downloads."""

    root: Path
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
    splits = source.find_files(options.root)

    def fill(work: Work) -> Content:
        store, pictures = Store(work.database, work.images), CocoImages(options.root)
        _take_in(store, splits)
        store.list_images(splits, pictures)
        mark_missing(work.images)
        allowed = options.allow_missing_images
        warnings = check_layout(work.images, OF_SPLIT, pictures, allow_missing=allowed)
        warnings += judge_missing(work.images, allow_missing=allowed)
        checked = check_images(work.images, workers, store.skipped_questions)
        warnings += checked.warnings
        vocabulary = _vocabulary(store, options)
        minival_images = store.hold_out(options.minival_images, options.seed)
        if not minival_images:
            warnings.append("minival is empty: val is absent, not annotated or has too few images")
        if not vocabulary:
            warnings.append("there is no answers.json: no split is annotated, and no --vocabulary was given")
        write_images(work.folder, work.images, embed=options.embed_images)
        tables = _write_splits(work.folder, store, splits, vocabulary, options)
        warnings += _deviations(splits, tables)
        more = {
            "vocabulary": vocabulary and {"size": len(vocabulary), "sha256": vocabulary.sha256},
            "minival": {"seed": options.seed, "images": minival_images},
        }
        return Content(tables, checked, warnings, more)

    return prepare(output, _request(options, splits), fill, root=options.root, noun="questions")


def _request(options: PrepareOptions, splits: Sequence[source.SplitFiles]) -> dict[str, Any]:
    """What decides the result: where the images are, the options, the content of the source files."""
    files = [file for split in splits for file in (split.questions, split.annotations) if file]
    files += [options.vocabulary] if options.vocabulary else []
    settings = {name: value for name, value in asdict(options).items() if name not in ("root", "vocabulary")}
    settings["vocabulary"] = options.vocabulary and options.vocabulary.name
    return make_request("vqav2", options.root, settings, files)


def _take_in(store: Store, splits: Sequence[source.SplitFiles]) -> None:
    """Questions and annotations, checked against each other."""
    with progress() as bar:
        for files in splits:
            records = bar.track(source.read_questions(files.questions), description=files.questions.name)
            store.add_questions(files, records)
            if files.annotations:
                records = bar.track(source.read_annotations(files.annotations), description=files.annotations.name)
                store.add_annotations(files, records)
            store.check_join(files)
    store.check_ids_between_splits()


def _vocabulary(store: Store, options: PrepareOptions) -> AnswerVocabulary | None:
    """The vocabulary asked for, or that of the annotations; None if there are neither.

    Raises:
        InputError: no answer is frequent enough, or the vocabulary given was normalised otherwise.
    """
    normaliser = "meter-1" if options.meter_compatible else "vqa-official-1"
    if options.vocabulary:
        vocabulary = AnswerVocabulary.from_published(options.vocabulary, normaliser)
        if vocabulary.normaliser != normaliser:
            raise InputError(
                f"{options.vocabulary}: was normalised by {vocabulary.normaliser}, this run goes by {normaliser}; "
                "give --meter-compatible if and only if it was given then"
            )
        return vocabulary
    normalise = meter_normalise if options.meter_compatible else normalise_answer
    counts: Counter[str] = Counter()
    for answer, count in store.common_answers():
        counts[normalise(answer)] += count
    if not counts:
        return None
    answers = build_vocabulary(counts, options.min_count, "first_seen" if options.meter_compatible else "frequency")
    if not answers:
        raise InputError(
            f"{options.root}: no answer occurs {options.min_count} times, the most frequent one "
            f"{max(counts.values())} times; lower --min-count"
        )
    return AnswerVocabulary(tuple(answers), options.min_count, normaliser)


def _write_splits(
    folder: Path,
    store: Store,
    splits: Sequence[source.SplitFiles],
    vocabulary: AnswerVocabulary | None,
    options: PrepareOptions,
) -> dict[str, dict[str, int]]:
    """One table per split that has questions, and the vocabulary; counts per split."""
    annotated = {files.split for files in splits if files.annotations}
    if "val" in annotated:
        annotated.add("minival")
    if vocabulary:
        vocabulary.save(folder / "answers.json")
    lookup: Callable[[str], str] = str if options.meter_compatible else normalise_answer
    tables = {}
    for split in ("train", "minival", "val", "test", "test-dev"):
        if not (images := store.count_images_of(split)):
            continue
        path, rows = folder / f"{split}.parquet", store.rows(split)
        if split in annotated:
            counts = write_annotated_questions(path, rows, vocabulary.index, lookup)
        else:
            counts = write_questions(path, rows)
        tables[split] = {**asdict(counts), "images": images, "annotated": split in annotated}
    return tables


def _deviations(splits: Sequence[source.SplitFiles], tables: dict[str, dict[str, int]]) -> list[str]:
    """Words for every split that is not as large as the official one, or not annotated where it could be."""
    warnings = []
    for files in splits:
        parts = ("minival", "val") if files.split == "val" else (files.split,)
        questions = sum(tables[part]["questions"] for part in parts if part in tables)
        expected = source.OFFICIAL[files.split][2]
        if questions != expected:
            warnings.append(f"{files.split}: {questions:,} questions are usable, the official split has {expected:,}")
        if files.split == "val" and not files.annotations:
            warnings.append("val: there are no annotations, so it is treated like test")
    return warnings
