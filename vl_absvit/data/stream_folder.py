"""Read a folder of stream shards: the manifest, and Parquet files of images with their questions.

``datasets`` streams a shard one row group at a time, in any order. Nothing is copied, and nothing else is in memory.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from vl_absvit.data.json_files import read_json
from vl_absvit.data.records import ImageRecord
from vl_absvit.errors import InputError, one_line

if TYPE_CHECKING:
    from datasets import IterableDataset

KIND = "vqa_stream"
"""``kind`` in the manifest of such a folder."""
SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("file", pa.string()),
        ("bytes", pa.binary()),
        ("question_ids", pa.list_(pa.int64())),
        ("questions", pa.list_(pa.string())),
        ("labels", pa.list_(pa.list_(pa.int32()))),
        ("scores", pa.list_(pa.list_(pa.float32()))),
    ]
)
"""A row holds an image and at least one question about it. A question has labels and their soft scores."""
_QUESTION_IDS = SCHEMA.get_field_index("question_ids")  # columns before this one hold one value per row
_UNREADABLE = (pa.ArrowException, OSError, ValueError)
_AT_ONCE = 1024  # rows that are converted together


class Question(NamedTuple):
    """A question and everything that its sample needs."""

    image: ImageRecord  # with its content; questions on one image share it
    question_id: int
    text: str
    labels: list[int]
    scores: list[float]


class Shard:
    """One file of the folder.

    Attributes:
        path: path of the file.
        questions: number of questions in each row group.
    """

    def __init__(self, path: Path, questions: list[int]) -> None:
        """
        Raises:
            InputError: the file cannot be read.
        """
        self.path, self.questions = path, questions
        self._groups = _open_groups(path)

    def read(self, group: int) -> list[Question]:
        """The questions of one row group, in file order.

        Raises:
            InputError: the row group cannot be read.
        """
        stream = self._groups.shard(num_shards=len(self.questions), index=group).with_format("arrow")
        try:
            rows = [row for table in stream.iter(batch_size=_AT_ONCE) for row in table.to_pylist()]
            questions = [question for row in rows for question in _questions_of(row)]
        except _UNREADABLE as error:
            raise InputError(f"{self.path}: row group {group} {_as_written(error)}") from error
        assert len(questions) == self.questions[group], (self.path, group)
        return questions

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all rows. Other columns, such as images, are not read.

        Raises:
            InputError: the column cannot be read.
        """
        try:
            return pq.read_table(self.path, columns=[name], page_checksum_verification=True).column(name)
        except _UNREADABLE as error:
            raise InputError(f"{self.path}: the column {name!r} {_as_written(error)}") from error


class StreamFolder(NamedTuple):
    """Shards and their origin."""

    shards: list[Shard]
    splits: list[str]
    vocabulary_sha256: str
    dropped: int  # questions left out because none of their answers is in the vocabulary
    without_image: int  # questions left out because their image was missing


def open_stream(folder: str | Path) -> StreamFolder:
    """The shards of a folder. Their sizes and footers are checked, not their content.

    Raises:
        InputError: the folder holds something else, or a shard is missing, unlisted, cut short or replaced.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    if not path.is_file():
        raise InputError(
            f"{folder}: no stream shards here (manifest.json is missing); vl-absvit write-stream-shards makes them"
        )
    manifest = read_json(path, dict)
    if (manifest.get("kind"), manifest.get("format")) != (KIND, 1):
        raise InputError(
            f"{path}: expected the kind {KIND!r} of format 1, got {manifest.get('kind')!r} of format "
            f"{manifest.get('format')!r}; vl-absvit write-stream-shards makes stream shards of prepared data"
        )
    try:
        listed = {folder / shard["file"]: shard for shard in manifest["shards"]}
        if not listed:
            raise InputError(f"{path}: lists no shards")
        _check_files(folder, {file: shard["bytes"] for file, shard in listed.items()})
        for file, shard in listed.items():
            if questions_per_group(file) != shard["questions"]:
                raise InputError(f"{file}: not the shard that manifest.json lists, but one with other questions")
        return StreamFolder(
            [Shard(file, shard["questions"]) for file, shard in listed.items()],
            [str(split) for split in manifest["options"]["splits"]],
            str(manifest["vocabulary"]["sha256"]),
            **manifest["left_out"],
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not the manifest of stream shards: {error!r:.80}") from error


def questions_per_group(file: Path) -> list[int]:
    """Number of questions in each row group of a shard, from its footer.

    Raises:
        InputError: the file is no shard, or not whole.
    """
    try:
        with pq.ParquetFile(file) as opened:
            schema, footer = opened.schema_arrow, opened.metadata
    except _UNREADABLE as error:
        raise InputError(f"{file}: cannot be read as a shard: {one_line(error)}") from error
    if not schema.equals(SCHEMA):
        raise InputError(f"{file}: expected a shard with the columns {SCHEMA.names}, got {schema.names}")
    # Every image has a question, so that no value stands for an empty list.
    return [footer.row_group(group).column(_QUESTION_IDS).num_values for group in range(footer.num_row_groups)]


def _check_files(folder: Path, sizes: dict[Path, int]) -> None:
    """Refuse a folder unless it has exactly the listed shards in their sizes."""
    for file, size in sizes.items():
        if file.parent != folder or not file.is_file():
            raise InputError(f"{file}: this shard is missing; manifest.json lists it")
        if (found := file.stat().st_size) != size:
            raise InputError(f"{file}: expected {size:,} bytes as manifest.json says, got {found:,}: copy it again")
    strangers = sorted(set(folder.glob("*.parquet")) - set(sizes))
    if strangers:
        raise InputError(f"{strangers[0]}: manifest.json does not list this file; move it away")


def _questions_of(row: dict[str, Any]) -> list[Question]:
    image = ImageRecord(row["image_id"], row["file"], row["bytes"])
    columns = (row[name] for name in ("question_ids", "questions", "labels", "scores"))
    return [Question(image, *values) for values in zip(*columns, strict=True)]


def _open_groups(path: Path) -> "IterableDataset":
    """A shard as a streaming data set with one part per row group."""
    from datasets import disable_progress_bars, load_dataset, logging
    from pyarrow.dataset import ParquetFragmentScanOptions

    disable_progress_bars()
    logging.set_verbosity(logging.CRITICAL)  # otherwise it prints a traceback before our one line
    return load_dataset(
        "parquet",
        data_files=[str(path)],
        split="train",
        streaming=True,
        fragment_scan_options=ParquetFragmentScanOptions(page_checksum_verification=True),
    ).reshard()


def _as_written(error: Exception) -> str:
    return f"cannot be read as it was written: {one_line(error)}"
