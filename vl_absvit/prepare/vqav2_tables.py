"""VQAv2's rows to tables: questions alone, or with their answers, labels and soft scores."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vl_absvit.data.answers import soft_targets
from vl_absvit.prepare.tables import QUESTION_SCHEMA, write_rows
from vl_absvit.prepare.vqav2_store import Row

_ANNOTATED_SCHEMA = pa.unify_schemas(
    [
        QUESTION_SCHEMA,
        pa.schema(
            [
                ("question_type", pa.string()),
                ("answer_type", pa.string()),
                ("multiple_choice_answer", pa.string()),
                ("answers", pa.list_(pa.string())),
                ("labels", pa.list_(pa.int32())),
                ("scores", pa.list_(pa.float32())),
            ]
        ),
    ]
)


@dataclass
class SplitCounts:
    """What a split's table holds, in questions."""

    questions: int = 0
    without_image: int = 0  # the image was missing
    with_target: int = 0  # at least one answer is in the vocabulary
    kept_for_training: int = 0  # with a target and an image

    def add(self, row: Row, has_target: bool) -> None:
        """Count one question."""
        self.questions += 1
        self.without_image += not row.has_image
        self.with_target += has_target
        self.kept_for_training += has_target and row.has_image


def write_questions(path: Path, rows: Iterable[Row]) -> SplitCounts:
    """The table of a split without answers."""
    counts = SplitCounts()

    def values() -> Iterator[tuple]:
        for row in rows:
            counts.add(row, has_target=False)
            yield row[:3]

    write_rows(path, QUESTION_SCHEMA, values())
    return counts


def write_annotated_questions(
    path: Path, rows: Iterable[Row], index: Mapping[str, int], normalise: Callable[[str], str]
) -> SplitCounts:
    """The table of a split with answers, and their labels and soft scores.

    Args:
        index: answer -> label.
        normalise: applied to each of the ten answers before it is looked up.
    """
    counts = SplitCounts()

    def values() -> Iterator[tuple]:
        for row in rows:
            labels, scores = soft_targets([normalise(answer) for answer in row.answers], index)
            counts.add(row, has_target=bool(labels))
            yield (*row[:7], labels, scores)

    write_rows(path, _ANNOTATED_SCHEMA, values())
    return counts


def labels_in(path: Path) -> set[int]:
    """The labels that occur in the table of a split with answers."""
    labels: set[int] = set()
    for batch in pq.ParquetFile(path).iter_batches(columns=["labels"]):
        labels.update(pc.unique(pc.list_flatten(batch.column("labels"))).to_pylist())
    return labels
