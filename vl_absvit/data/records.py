"""Read a prepared folder: its manifest, its tables of questions, captions and images, and single images.

The tables are Parquet files. Requested columns are held in memory; embedded pictures are read when they are needed.
Nothing is written.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.data.bounded import read_picture
from vl_absvit.data.json_files import form_name, read_json
from vl_absvit.data.parquet import LargeValues, read_columns
from vl_absvit.data.raw_folder import Picture, find_raw
from vl_absvit.data.rgb import decode_rgb
from vl_absvit.errors import ConfigError, InputError

if TYPE_CHECKING:
    from datasets import Dataset

VQAV2, VQA, CAPTIONS, VQA_HAT, SEGMENTATION = "vqav2", "vqa", "captions", "vqa_hat", "segmentation"
FIXATIONS = "fixations"
"""Kinds of prepared folders: ``kind`` in the manifest. ``VQA`` is for relatives of VQAv2, which can stand in for it."""
NLVR2, SNLI_VE = "nlvr2", "snli_ve"
"""Kinds of prepared folders with statements about images. ``STATEMENT_LABELS`` has what they are judged to be."""
STATEMENT_LABELS = {NLVR2: ("False", "True"), SNLI_VE: ("contradiction", "neutral", "entailment")}
"""Kind -> words of its labels, in the order of METER's numbers."""
STATEMENT_COLUMNS = {
    NLVR2: ("statement_id", "image_id", "second_image_id", "statement", "label", "name", "subset"),
    SNLI_VE: ("statement_id", "image_id", "statement", "label", "name"),
}
"""Kind -> columns of every split of statements. ``name`` is the official id of a statement and its images."""
IMAGE_COLUMNS = ("image_id", "second_image_id")
ASKING = ("question_id", "image_id", "question")
"""Columns of every split of questions."""
ANSWERING = ("question_type", "answer_type", "multiple_choice_answer", "answers", "labels", "scores")
"""Further columns of a split that has answers."""
_EXAMPLES = 8  # pictures that are looked up to recognise a folder of raw images


class ImageRecord(NamedTuple):
    """The place of one image: a file below the raw data's root, or the table itself."""

    image_id: int
    file: str  # relative to the folder of raw images
    content: bytes | None  # the file's bytes if they are embedded


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
    splits = manifest.get("splits")
    if not isinstance(manifest.get("root"), str) or not isinstance(splits, dict):
        raise InputError(f"{path}: expected the raw data's folder under 'root' and an object under 'splits'")
    if wrong := [split for split, counts in splits.items() if not isinstance(counts, dict)]:
        raise InputError(f"{path}: expected counts of the split {wrong[0]!r:.60}, got {form_name(splits[wrong[0]])}")
    return manifest


def check_kind(root: str | Path, *expected: str) -> None:
    """Check that a folder was prepared for the intended use.

    Raises:
        InputError: it was prepared for another use, such as captions instead of questions.
    """
    kind = read_manifest(root).get("kind")
    if (VQAV2 if kind == VQA else kind) not in expected:
        raise InputError(f"{root}: expected prepared data of the kind {' or '.join(expected)}, got {kind!r}")


def read_vocabulary(root: str | Path) -> AnswerVocabulary:
    """The answer of each label in a prepared folder.

    Raises:
        InputError: there is no vocabulary, or the labels were made with another one.
    """
    check_kind(root, VQAV2)
    path, manifest = Path(root) / "answers.json", read_manifest(root)
    vocabulary = AnswerVocabulary.load(path)
    made_with = (manifest.get("vocabulary") or {}).get("sha256")
    if vocabulary.sha256 != made_with:
        raise InputError(
            f"{path}: not the vocabulary that the labels beside it were made with: "
            f"its sha256 is {vocabulary.sha256:.12}, theirs {made_with!s:.12}"
        )
    return vocabulary


def split_names(text: str) -> list[str]:
    """The names of splits in an option's value, such as "val" or "val,minival".

    Raises:
        ConfigError: a name is empty or comes twice.
    """
    names = [name.strip() for name in text.split(",")]
    if "" in names or len(set(names)) < len(names):
        raise ConfigError(f"--split: expected the names of splits, each once, with commas between them, got {text!r}")
    return names


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


def read_questions(root: str | Path, splits: Sequence[str], columns: Sequence[str] = ANSWERING) -> "Dataset":
    """The questions of one or more splits, in the given order of splits, by question id within each.

    Args:
        columns: columns to read beside ``question_id``, ``image_id`` and ``question``; only splits with answers have
            them.

    Raises:
        InputError: the data is not VQA's, a split does not exist, two splits share a question (test and test-dev do),
            or only some of the splits have answers.
    """
    check_kind(root, VQAV2, VQA_HAT)
    tables = [read_columns(file, ASKING, columns) for file in split_files(root, splits)]
    if len({tuple(table.column_names) for table in tables}) > 1:
        raise InputError(
            f"{root}: the splits {', '.join(splits)} cannot be read together: only some of them have answers"
        )
    questions = _in_memory(tables)
    if len(tables) > 1 and pc.count_distinct(questions.data.column("question_id")).as_py() < len(questions):
        raise InputError(f"{root}: the splits {', '.join(splits)} cannot be read together: they share questions")
    return questions


def read_annotations(root: str | Path, splits: Sequence[str]) -> list[dict[str, Any]]:
    """Question id, question type, answer type and the ten raw answers of every question, for scoring.

    Raises:
        InputError: a split does not exist or has no answers.
    """
    scored = ["question_type", "answer_type", "answers"]
    questions = read_questions(root, splits, scored)
    if "answers" not in questions.column_names:
        raise InputError(f"{root}: the split {', '.join(splits)} has no answers")
    return questions.select_columns(["question_id", *scored]).to_list()


def read_captions(root: str | Path, splits: Sequence[str]) -> "Dataset":
    """``caption_id``, ``image_id`` and ``caption`` of one or more splits, in the given order, then in file order.

    Raises:
        InputError: the data is not captions, or a split does not exist.
    """
    check_kind(root, CAPTIONS)
    columns = ["caption_id", "image_id", "caption"]
    return _in_memory([read_columns(file, columns) for file in split_files(root, splits)])


def read_statements(root: str | Path, splits: Sequence[str], kind: str) -> "Dataset":
    """The statements of one or more splits, in the given order of splits, then in file order.

    Args:
        kind: ``NLVR2`` or ``SNLI_VE``; its ``STATEMENT_COLUMNS`` are read.

    Raises:
        InputError: the data is of another kind, a split does not exist, or two splits share a statement.
    """
    check_kind(root, kind)
    statements = _in_memory([read_columns(file, STATEMENT_COLUMNS[kind]) for file in split_files(root, splits)])
    names = statements.data.column("name")
    if len(splits) > 1 and pc.count_distinct(names).as_py() < len(names):
        raise InputError(f"{root}: the splits {', '.join(splits)} cannot be read together: they share statements")
    return statements


def read_labels(root: str | Path, splits: Sequence[str]) -> "Dataset":
    """``image_id``, ``name`` and ``label_sha256`` of labelled pictures, in the given order of splits, as prepared.

    Raises:
        InputError: the data is not labelled pixels, or a split does not exist.
    """
    check_kind(root, SEGMENTATION)
    columns = ["image_id", "name", "label_sha256"]
    return _in_memory([read_columns(file, columns) for file in split_files(root, splits)])


def _in_memory(tables: Sequence[pa.Table]) -> "Dataset":
    """Tables one after the other. A given fingerprint spares ``datasets`` reading all of them to compute one."""
    from datasets import Dataset

    return Dataset(pa.concat_tables(tables), fingerprint="prepared")


def image_files(root: str | Path) -> list[Path]:
    """The files of the table of images.

    Raises:
        InputError: there are none.
    """
    files = sorted(Path(root).glob("images*.parquet"))
    if not files:
        raise InputError(f"{root}: images.parquet is missing")
    return files


class ImageTable:
    """The images of a prepared folder, by id.

    Attributes:
        available: ids of the images that can be opened, ascending. Images that were missing at preparation are left
            out.
        raw_root: folder of their files; unused if the table holds the pictures.
    """

    def __init__(self, root: str | Path, images: str | Path | None = None) -> None:
        """
        Args:
            images: folder that the files of images are relative to; None looks where the manifest says.

        Raises:
            InputError: the folder is not prepared data, or its raw images are not found.
        """
        manifest = read_manifest(root)
        files = image_files(root)
        table = pa.concat_tables([read_columns(file, ("image_id", "file", "width", "height")) for file in files])
        _check_inside(table.column("file"), files[0])
        self._rows = np.flatnonzero(table.column("file").is_valid().to_numpy())
        table = table.take(self._rows)
        self.available: np.ndarray = table.column("image_id").to_numpy()
        self._files = table.column("file").combine_chunks()
        self._sizes = np.stack([table.column(side).to_numpy() for side in ("width", "height")], axis=-1).astype(int)
        contents = LargeValues(files, "bytes")
        # A table holds all pictures or none of them.
        embedded = bool(len(self._rows)) and contents.take(self._rows[:1])[0] is not None
        self._contents, self._tables = contents if embedded else None, files
        self.raw_root = Path(manifest["root"])
        if len(self._rows) and not embedded:
            self.raw_root = find_raw(Path(root), manifest, self._examples(), images)

    def _examples(self) -> list[Picture]:
        """A few pictures, spread evenly over the table."""
        places = np.unique(np.linspace(0, len(self._rows) - 1, _EXAMPLES).round().astype(int)).tolist()
        return [Picture(self._files[place].as_py(), tuple(self._sizes[place].tolist())) for place in places]

    def records(self, image_ids: Sequence[int]) -> list[ImageRecord]:
        """The places of the named images, each of which must be ``available``."""
        places = np.searchsorted(self.available, image_ids)
        contents = self._contents.take(self._rows[places]) if self._contents else [None] * len(places)
        files = [self._files[place].as_py() for place in places.tolist()]
        return [ImageRecord(*row) for row in zip(self.available[places].tolist(), files, contents, strict=True)]

    def groups(self, image_ids: np.ndarray) -> np.ndarray | None:
        """Number of the row group that holds each of the named images; None if each is a file of its own."""
        if self._contents is None:
            return None
        return self._contents.groups(self._rows[np.searchsorted(self.available, image_ids)])

    def sizes(self, image_ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Width and height of the named images, upright, as found at preparation. Each must be ``available``.

        Returns:
            (images, 2), in pixels.
        """
        return self._sizes[np.searchsorted(self.available, image_ids)]

    def bytes_of(self, image_ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Sizes of the files that hold the named images: one for each, or those of the tables that hold them all.

        Raises:
            InputError: a file is gone.
        """
        files = self._tables
        if self._contents is None:
            places = np.searchsorted(self.available, image_ids)
            files = [self.raw_root / self._files[place].as_py() for place in places.tolist()]
        try:
            return np.array([file.stat().st_size for file in files])
        except OSError as error:
            raise InputError(f"{error.filename}: {error.strerror}") from error

    def open(self, image_ids: Sequence[int], decode: Callable[[bytes], Any] = decode_rgb) -> list[Any]:
        """The named images: what ``decode`` makes of their files; unless told, 8-bit RGB pictures, upright."""
        return [open_image(record, self.raw_root, decode) for record in self.records(image_ids)]


def open_image(record: ImageRecord, raw_root: Path, decode: Callable[[bytes], Any] = decode_rgb) -> Any:
    """One image: what ``decode`` makes of its file; unless told, an 8-bit RGB picture, upright.

    Raises:
        InputError: the file is gone or has changed since preparation; the message names the file and the image's id.
    """
    content = read_content(record, raw_root)
    try:
        return decode(content)
    except InputError as error:
        raise InputError(f"{raw_root / record.file} (image {record.image_id}): {error}") from error


def read_content(record: ImageRecord, raw_root: Path) -> bytes:
    """The bytes of an image's file, embedded or not.

    Raises:
        InputError: the file is gone or cannot be read; the message names the file and the image's id.
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


def _check_inside(names: pa.ChunkedArray, location: Path) -> None:
    """Refuse a table with files outside the raw data's folder."""
    climbing = names.filter(pc.match_substring_regex(names, r"^/|(^|/)\.\.(/|$)|\x00"))
    if len(climbing):
        raise InputError(f"{location}: expected files inside the raw data's folder, got {climbing[0].as_py()!r:.80}")
