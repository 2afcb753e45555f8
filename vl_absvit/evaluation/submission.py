"""Predictions in EvalAI's form, ``[{"question_id": int, "answer": str}, ...]``: checked before they are used."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vl_absvit.data.json_files import form_name, write_json
from vl_absvit.errors import InputError


def check_submission(predictions: Sequence[Mapping], question_ids: Iterable[int], where: str = "predictions") -> None:
    """Refuse predictions unless each question has exactly one, and that a string.

    Args:
        question_ids: every question of the split.
        where: the file's name, for the message.
    """
    if not isinstance(predictions, Sequence) or isinstance(predictions, str):
        raise InputError(f"{where}: expected a list of predictions, got {form_name(predictions)}")
    for place, prediction in enumerate(predictions):
        _check_prediction(prediction, f"{where}: prediction {place}")
    times = Counter(prediction["question_id"] for prediction in predictions)
    expected = dict.fromkeys(question_ids)
    faults = {
        "predicted more than once": [question for question, count in times.items() if count > 1],
        "predicted but not in the split": [question for question in times if question not in expected],
        "without a prediction": [question for question in expected if question not in times],
    }
    found = [f"{len(ids)} question(s) {fault}, e.g. {ids[0]}" for fault, ids in faults.items() if ids]
    if found:
        raise InputError(f"{where}: {'; '.join(found)}")


def _check_prediction(prediction: object, where: str) -> None:
    if not isinstance(prediction, Mapping):
        raise InputError(f"{where} is {form_name(prediction)}, not an object with question_id and answer")
    question = prediction.get("question_id")
    if type(question) is not int:
        raise InputError(f"{where}: expected an integer question_id, got {question!r:.80}")
    answer = prediction.get("answer")
    if not isinstance(answer, str):
        raise InputError(f"{where}: question {question}: expected a string as answer, got {answer!r:.80}")


def write_submission(path: str | Path, predictions: Sequence[Mapping]) -> None:
    """Write checked predictions for EvalAI, atomically; only ``question_id`` and ``answer`` of each are kept."""
    write_json(path, [{"question_id": each["question_id"], "answer": each["answer"]} for each in predictions])
