"""A prepared folder as its readers see it: the manifest, the tables of questions, captions and images, one image.

The tables are Parquet files, memory-mapped through ``datasets``; only ids are held in memory.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets, disable_progress_bars, logging
from datasets.exceptions import DatasetGenerationError
from PIL import Image

from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.data.bounded import read_picture
from vl_absvit.data.images import decode_rgb
from vl_absvit.data.json_files import read_json
from vl_absvit.errors import InputError

VQA, CAPTIONS, VQA_HAT = "vqav2", "captions", "vqa_hat"
"""What a folder was prepared for: ``kind`` in its manifest."""


class ImageRecord(NamedTuple):
    """Where one image is: in a file below the raw data's root, or in the table itself."""

    image_id: int
    file: str  # relative to the manifest's root
    content: bytes | None  # the file's bytes, if they were embedded


def read_manifest(root: str | Path) -> dict[str, Any]:
    """``manifest.json`` of a prepared folder.

    Raises:
        InputError: the folder was not written by a script of ``data_prep``, or by another version of it.
    """
    path = Path(root) / "manifest.json"
    if not path.is_file():
        raise InputError(f"{root}: no prepared data here (manifest.json is missing); the scripts in data_prep make it")
    manifest = read_json(path, dict)
    if manifest.get("format") != 1:
        raise InputError(f"{path}: expected a manifest of format 1, got format {manifest.get('format')!r}")
    if not isinstance(manifest.get("root"), str) or not isinstance(manifest.get("splits"), dict):
        raise InputError(f"{path}: expected the raw data's folder under 'root' and an object under 'splits'")
    return manifest


def check_kind(root: str | Path, *expected: str) -> None:
    """Make sure that a folder was prepared for what it is to be used for.

    Raises:
        InputError: it was not: captions, say, where questions are expected.
    """
    kind = read_manifest(root).get("kind")
    if kind not in expected:
        raise InputError(f"{root}: expected prepared data of the kind {' or '.join(expected)}, got {kind!r}")


def read_vocabulary(root: str | Path) -> AnswerVocabulary:
    """The answers that the labels of a prepared folder stand for.

    Raises:
        InputError: there is none, or it is not the one that the labels were made with.
    """
    check_kind(root, VQA)
    path, manifest = Path(root) / "answers.json", read_manifest(root)
    vocabulary = AnswerVocabulary.load(path)
    made_with = (manifest.get("vocabulary") or {}).get("sha256")
    if vocabulary.sha256 != made_with:
        raise InputError(
            f"{path}: not the vocabulary that the labels beside it were made with: "
            f"its sha256 is {vocabulary.sha256:.12}, theirs {made_with!s:.12}"
        )
    return vocabulary


def split_files(root: str | Path, splits: Sequence[str]) -> list[Path]:
    """The tables of the named splits.

    Raises:
        InputError: one of them does not exist; the message lists those that do.
    """
    known = list(read_manifest(root)["splits"])
    for split in splits:
        if split not in known:
            raise InputError(f"{root}: there is no split {split!r}; it has {', '.join(known)}")
    return [Path(root) / f"{split}.parquet" for split in splits]


def read_questions(root: str | Path, splits: Sequence[str]) -> Dataset:
    """The questions of one or more splits, in the order named, by question id within each.

    Raises:
        InputError: the data is not VQA's, a split does not exist, or some have answers and some have not.
    """
    check_kind(root, VQA, VQA_HAT)
    columns = ("question_id", "image_id", "question")
    tables = [_open_tables(root, [file], columns) for file in split_files(root, splits)]
    if len({"answers" in table.column_names for table in tables}) > 1:
        raise InputError(
            f"{root}: the splits {', '.join(splits)} cannot be read together: only some of them have answers"
        )
    return concatenate_datasets(tables)


def read_annotations(root: str | Path, splits: Sequence[str]) -> list[dict[str, Any]]:
    """Question id, question type, answer type and the ten raw answers of every question, for scoring.

    Raises:
        InputError: a split does not exist or has no answers.
    """
    questions = read_questions(root, splits)
    if "answers" not in questions.column_names:
        raise InputError(f"{root}: the split {', '.join(splits)} has no answers")
    return questions.select_columns(["question_id", "question_type", "answer_type", "answers"]).to_list()


def read_captions(root: str | Path, splits: Sequence[str]) -> Dataset:
    """``caption_id``, ``image_id`` and ``caption`` of one or more splits, in the order named, then in file order.

    Raises:
        InputError: the data is not captions, or a split does not exist.
    """
    check_kind(root, CAPTIONS)
    columns = ["caption_id", "image_id", "caption"]
    tables = [_open_tables(root, [file], columns) for file in split_files(root, splits)]
    return concatenate_datasets([table.select_columns(columns) for table in tables])


class ImageTable:
    """The images of a prepared folder, by id.

    Attributes:
        available: ids of the images that can be opened, ascending; those missing at preparation are not among them.
    """

    def __init__(self, root: str | Path) -> None:
        """
        Raises:
            InputError: the folder is not prepared data, or the raw images it refers to are no longer where they were.
        """
        self._raw_root = Path(read_manifest(root)["root"])
        files = sorted(Path(root).glob("images*.parquet"))
        if not files:
            raise InputError(f"{root}: images.parquet is missing")
        table = _open_tables(root, files, ("image_id", "file", "bytes", "width", "height"))
        self._table = table.select_columns(["image_id", "file", "bytes"])
        _check_inside(self._table.data.column("file"), files[0])
        has_file = self._table.data.column("file").is_valid().to_numpy()
        self._rows = np.flatnonzero(has_file)
        self.available: np.ndarray = self._table.data.column("image_id").to_numpy()[self._rows]
        sides = [table.data.column(side).to_numpy()[self._rows] for side in ("width", "height")]
        self._sizes = np.stack(sides, axis=-1).astype(int)
        embedded = self._table.data.column("bytes").null_count < len(self._table)
        if len(self._rows) and not embedded and not self._raw_root.is_dir():
            raise InputError(
                f"{root}: its images were in {self._raw_root}, which does not exist; "
                'bring them back or change "root" in manifest.json'
            )

    def records(self, image_ids: Sequence[int]) -> list[ImageRecord]:
        """Where the named images are; each must be ``available``."""
        rows = self._table[self._rows[np.searchsorted(self.available, image_ids)]]
        return [ImageRecord(*row) for row in zip(rows["image_id"], rows["file"], rows["bytes"], strict=True)]

    def sizes(self, image_ids: Sequence[int]) -> np.ndarray:
        """Width and height of the named images, upright, as found at preparation; each must be ``available``.

        Returns:
            (images, 2), in pixels.
        """
        return self._sizes[np.searchsorted(self.available, image_ids)]

    def open(self, image_ids: Sequence[int]) -> list[Image.Image]:
        """The named images as 8-bit RGB, upright."""
        return [open_image(record, self._raw_root) for record in self.records(image_ids)]


def open_image(record: ImageRecord, raw_root: Path) -> Image.Image:
    """One image as 8-bit RGB, upright.

    Raises:
        InputError: the file is gone or is not what it was at preparation; names the file and the image's id.
    """
    content = read_content(record, raw_root)
    try:
        return decode_rgb(content)
    except InputError as error:
        raise InputError(f"{raw_root / record.file} (image {record.image_id}): {error}") from error


def read_content(record: ImageRecord, raw_root: Path) -> bytes:
    """The bytes of an image's file, embedded or not.

    Raises:
        InputError: the file is gone, or is none to be read; names the file and the image's id.
    """
    if record.content is not None:
        return record.content
    path = raw_root / record.file
    try:
        return read_picture(path)
    except OSError as error:
        raise InputError(f"{path} (image {record.image_id}): {error.strerror}") from error
    except InputError as error:
        raise InputError(f"{path} (image {record.image_id}): {error}") from error


def _check_inside(names: pa.ChunkedArray, where: Path) -> None:
    """Refuse a table whose files lead out of the raw data's folder."""
    climbing = names.filter(pc.match_substring_regex(names, r"^/|(^|/)\.\.(/|$)|\x00"))
    if len(climbing):
        raise InputError(f"{where}: expected files inside the raw data's folder, got {climbing[0].as_py()!r:.80}")


def _open_tables(root: str | Path, files: Sequence[Path], columns: Sequence[str]) -> Dataset:
    """Parquet files as one memory-mapped table.

    Its Arrow copy lies in ``root/.cache``, or in the user's cache if ``root`` cannot be written.

    Raises:
        InputError: a file is missing or damaged, or lacks one of ``columns``.
    """
    disable_progress_bars()
    logging.set_verbosity(logging.CRITICAL)  # it would print a traceback where our one line follows
    cache = str(Path(root) / ".cache") if os.access(root, os.W_OK) else None
    try:
        table = Dataset.from_parquet([str(file) for file in files], cache_dir=cache)
    except FileNotFoundError as error:
        raise InputError(f"{root}: {error}") from error
    except (pa.ArrowException, DatasetGenerationError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise InputError(f"{files[0]}: cannot be read as the table that was prepared: {reason}") from error
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise InputError(f"{files[0]}: expected a table with the column {missing[0]!r}, got {table.column_names}")
    return table
