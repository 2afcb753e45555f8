"""VQA accuracy to the last digit of the official evaluator (github.com/GT-Vision-Lab/VQA, under Python 2.7).

An answer's accuracy is min(1, matches / 3), averaged over the subsets that leave out one annotator.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vl_absvit.data.answers import normalise_answer, strip_answer
from vl_absvit.data.json_files import form_name
from vl_absvit.data.python2 import round_half_up, sum_in_order
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError
from vl_absvit.evaluation.submission import check_submission


class VQAScores(NamedTuple):
    """Accuracies in percent, rounded to two digits as the official evaluator rounds."""

    overall: float
    per_answer_type: dict[str, float]
    per_question_type: dict[str, float]
    per_question: dict[int, float]


def question_accuracy(prediction: str, answers: Sequence[str | Mapping]) -> float:
    """Accuracy of one prediction, in [0, 1], unrounded.

    Prediction and answers are normalised only if the stripped answers are not all the same. An annotator is left out by
    comparing whole records. Records that are equal in every field are therefore left out together: ten equal ones
    score 0.

    Args:
        answers: the raw human answers: official records with an ``answer``, or strings, which are numbered.
    """
    records: list[dict[str, Any]] = [
        {"answer": answer, "answer_id": number} if isinstance(answer, str) else dict(answer)
        for number, answer in enumerate(answers, start=1)
    ]
    for record in records:
        record["answer"] = strip_answer(record["answer"])
    prediction = strip_answer(prediction)
    if len({record["answer"] for record in records}) > 1:
        for record in records:
            record["answer"] = normalise_answer(record["answer"])
        prediction = normalise_answer(prediction)
    matching = [record for record in records if record["answer"] == prediction]
    accuracies = [min(1.0, sum(match != left_out for match in matching) / 3) for left_out in records]
    return sum_in_order(accuracies) / len(accuracies)


def vqa_scores(
    annotations: Sequence[Mapping],
    predictions: Sequence[Mapping],
    accuracy_of: Callable[[str, Sequence[Any]], float] = question_accuracy,
) -> VQAScores:
    """Accuracy overall, by answer type, by question type and by question. The arguments are not changed.

    Args:
        annotations: official records with ``question_id``, ``question_type``, ``answer_type`` and raw ``answers``.
            Sums follow their order.
        predictions: EvalAI records, ``{"question_id": int, "answer": str}``, in any order.
        accuracy_of: accuracy of a prediction, given the answers; another one where the official one is not defined.

    Raises:
        InputError: a record is not of this form, or a question is not predicted exactly once.
    """
    check_annotations(annotations)
    check_submission(predictions, [annotation["question_id"] for annotation in annotations])
    answer_to = {prediction["question_id"]: prediction["answer"] for prediction in predictions}
    per_question = {}
    of_answer_type, of_question_type = defaultdict(list), defaultdict(list)
    for annotation in annotations:
        question = annotation["question_id"]
        accuracy = accuracy_of(answer_to[question], annotation["answers"])
        per_question[question] = accuracy
        of_answer_type[annotation["answer_type"]].append(accuracy)
        of_question_type[annotation["question_type"]].append(accuracy)
    return VQAScores(
        overall=_percent(list(per_question.values())),
        per_answer_type={name: _percent(accuracies) for name, accuracies in sorted(of_answer_type.items())},
        per_question_type={name: _percent(accuracies) for name, accuracies in sorted(of_question_type.items())},
        per_question={question: _percent([accuracy]) for question, accuracy in per_question.items()},
    )


def _percent(accuracies: Sequence[float]) -> float:
    return round_half_up(100 * sum_in_order(accuracies) / len(accuracies), 2)


def check_annotations(annotations: object, source: str = "annotations") -> None:
    """Refuse anything but a non-empty list of official annotation records, each question once.

    Args:
        source: the file's name, for the message.
    """
    if not isinstance(annotations, Sequence) or isinstance(annotations, str):
        raise InputError(f"{source}: expected a list of annotations, got {form_name(annotations)}")
    if not annotations:
        raise InputError(f"{source}: there are no annotations")
    seen = set()
    for place, annotation in enumerate(annotations):
        if not isinstance(annotation, Mapping):
            raise InputError(f"{source}: annotation {place} is {form_name(annotation)}, not an object")
        question = annotation.get("question_id")
        if type(question) is not int:
            raise InputError(f"{source}: annotation {place}: expected an integer question_id, got {shown(question)}")
        if question in seen:
            raise InputError(f"{source}: question {question} is annotated more than once")
        seen.add(question)
        for key in ("question_type", "answer_type"):
            name = annotation.get(key)
            if not isinstance(name, str):
                raise InputError(f"{source}: question {question}: expected {key} to be a string, got {shown(name)}")
        _check_answers(annotation.get("answers"), f"{source}: question {question}")


def _check_answers(answers: object, source: str) -> None:
    if not isinstance(answers, Sequence) or isinstance(answers, str) or not answers:
        raise InputError(f"{source}: expected a list of human answers, got {shown(answers)}")
    for answer in answers:
        text = answer.get("answer") if isinstance(answer, Mapping) else answer
        if not isinstance(text, str):
            raise InputError(f"{source}: expected every human answer to be a string, got {shown(answer)}")
