"""The score without looking at images: the best constant answer to each type of question."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from vl_absvit.errors import InputError
from vl_absvit.evaluation.vqa_accuracy import VQAScores, vqa_scores


class ConstantAnswers(NamedTuple):
    """One answer per question type."""

    per_question_type: dict[str, str]
    otherwise: str  # for types that did not occur in training


def best_constant_answers(
    questions: Iterable[tuple[str, Sequence[int], Sequence[float]]], vocabulary: Sequence[str]
) -> ConstantAnswers:
    """The answer with the highest total soft score, for each question type. The vocabulary's order breaks ties.

    Args:
        questions: question type, labels and soft scores of every training question.
        vocabulary: answer of each label.

    Raises:
        InputError: no question has an answer in the vocabulary.
    """
    totals: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for question_type, labels, scores in questions:
        for label, score in zip(labels, scores, strict=True):
            totals[question_type][label] += score
    if not totals:
        raise InputError("no training question has an answer in the vocabulary: there is no constant answer to choose")
    overall: dict[int, float] = defaultdict(float)
    for total in totals.values():
        for label, score in total.items():
            overall[label] += score
    return ConstantAnswers(
        {name: vocabulary[_best(total)] for name, total in totals.items()}, vocabulary[_best(overall)]
    )


def _best(total: Mapping[int, float]) -> int:
    return max(total, key=lambda label: (total[label], -label))


def constant_answer_scores(annotations: Sequence[Mapping], constants: ConstantAnswers) -> VQAScores:
    """VQA accuracy of the constant answers.

    Args:
        annotations: official records of the split to score on, as for ``vqa_scores``.
        constants: fitted on the training split.
    """
    answers = constants.per_question_type
    predictions = [
        {
            "question_id": annotation["question_id"],
            "answer": answers.get(annotation["question_type"], constants.otherwise),
        }
        for annotation in annotations
    ]
    return vqa_scores(annotations, predictions)
