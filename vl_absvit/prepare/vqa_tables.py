"""Questions and annotations of VQA as tables, checked against each other, with labels and soft scores."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vl_absvit.data.answers import soft_targets
from vl_absvit.errors import InputError
from vl_absvit.prepare.check_images import Images
from vl_absvit.prepare.prepare import count_rows
from vl_absvit.prepare.tables import QUESTION_SCHEMA, sorted_by_id, table_of
from vl_absvit.prepare.vqa_sets import SplitFiles
from vl_absvit.prepare.vqa_source import Annotation, Question

ANNOTATION_SCHEMA = pa.schema(
    [
        ("question_id", pa.int64()),
        ("image_id", pa.int64()),
        ("question_type", pa.string()),
        ("answer_type", pa.string()),
        ("multiple_choice_answer", pa.string()),
        ("answers", pa.list_(pa.string())),
    ]
)
_TARGET_SCHEMA = pa.schema([("labels", pa.list_(pa.int32())), ("scores", pa.list_(pa.float32()))])
_ANSWERS_AT_ONCE = 8_192


def questions_table(questions: Iterable[Question], path: Path, named: dict[int, str]) -> pa.Table:
    """The questions of a file, by id.

    Args:
        named: image id -> official file; images that questions name are added.

    Raises:
        InputError: an id occurs twice, or an image has two names.
    """

    def rows() -> Iterator[tuple]:
        for question in questions:
            if question.image is not None and named.setdefault(question.image_id, question.image) != question.image:
                location = f"{path}: question {question.question_id}: image {question.image_id}"
                raise InputError(f"{location} is {question.image}, and elsewhere {named[question.image_id]}")
            yield question[:3]

    return sorted_by_id(table_of(rows(), QUESTION_SCHEMA, path.name), path, "question")


def annotated(
    questions: pa.Table, annotations: Iterable[Annotation], files: SplitFiles
) -> tuple[pa.Table, Counter[str]]:
    """Questions with their annotations, by id; and counts of each ``multiple_choice_answer``, by first occurrence.

    Raises:
        InputError: an annotation occurs twice or has no question, a question has no annotation, or their images differ.
            The message names the file, the first such question and their number.
    """
    assert files.annotations is not None, "annotations come from a file"
    table = table_of(annotations, ANNOTATION_SCHEMA, files.annotations.name)
    common_answers = Counter(table.column("multiple_choice_answer").to_pylist())
    table = sorted_by_id(table, files.annotations, "annotation of question")
    asked, answered = questions.column("question_id").to_numpy(), table.column("question_id").to_numpy()
    _check_none(np.setdiff1d(asked, answered), files.annotations, "has no annotation")
    _check_none(np.setdiff1d(answered, asked), files.questions, "is annotated but is not there")
    is_other = questions.column("image_id").to_numpy() != table.column("image_id").to_numpy()
    _check_none(asked[is_other], files.annotations, "is about another image than in the questions")
    for name in ANNOTATION_SCHEMA.names[2:]:
        questions = questions.append_column(ANNOTATION_SCHEMA.field(name), table.column(name))
    return questions, common_answers


def _check_none(question_ids: np.ndarray, path: Path, complaint: str) -> None:
    if len(question_ids):
        more = f" (and {len(question_ids) - 1} more)" if len(question_ids) > 1 else ""
        raise InputError(f"{path}: question {question_ids[0]} {complaint}{more}")


def with_labels(table: pa.Table, index: Mapping[str, int], normalise: Callable[[str], str]) -> pa.Table:
    """A table of annotated questions with the labels and soft scores of their answers.

    Args:
        index: answer -> label.
        normalise: applied to each of a question's answers before it is looked up.
    """
    answers = table.column("answers")
    # Many answers are equal. Each distinct one is normalised and looked up once.
    labels = {answer: index.get(normalise(answer)) for answer in pc.unique(pc.list_flatten(answers)).to_pylist()}
    known = {answer: label for answer, label in labels.items() if label is not None}
    rows = (soft_targets(one, known) for part in answers.chunks for one in _pieces(part))
    targets = table_of(rows, _TARGET_SCHEMA, "labels")
    for field in _TARGET_SCHEMA:
        table = table.append_column(field, targets.column(field.name))
    return table


def count_questions(table: pa.Table, images: Images) -> dict[str, Any]:
    """Counts of a split's table. A target is an answer in the vocabulary; training needs a target and an image."""
    image_ids, is_annotated = table.column("image_id").to_numpy(), "labels" in table.column_names
    lengths = pc.list_value_length(table.column("labels")).to_numpy() if is_annotated else np.zeros(len(table))
    counts, has_target = count_rows("questions", image_ids, images), lengths > 0
    return {
        "questions": counts["questions"],
        "without_image": counts["without_image"],
        "with_target": int(has_target.sum()),
        "kept_for_training": int((has_target & ~images.are_missing(image_ids)).sum()),
        "images": counts["images"],
        "annotated": is_annotated,
    }


def _pieces(answers: pa.Array) -> Iterator[list[str]]:
    """The values of an array. A few thousand at a time become Python objects."""
    for start in range(0, len(answers), _ANSWERS_AT_ONCE):
        yield from answers.slice(start, _ANSWERS_AT_ONCE).to_pylist()
