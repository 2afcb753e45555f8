"""Check predictions in EvalAI's form, ``[{"question_id": int, "answer": str}, ...]``, before they are used or sent.

Errors state the number of wrong questions and the first few. Nothing is repaired.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vl_absvit.data.answers import normalise_answer
from vl_absvit.data.json_files import form_name, read_json, write_json
from vl_absvit.data.official import OFFICIAL
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError

QUESTIONS = {split: (subset, number) for split, (subset, _, number) in OFFICIAL.items()}
"""Split of VQAv2 -> its official name and number of questions."""
SENT_AS = {"train": "train", "val": "val", "test": "test", "test-dev": "test", "test-std": "test"}
"""EvalAI's phase or a split -> the split that predictions must answer. Both test phases take all of test2015."""
_WHY_ALL = (
    "EvalAI's phases test-dev and test-std both take answers to all "
    f"{QUESTIONS['test'][1]:,} questions of test2015, and refuse those to test-dev's {QUESTIONS['test-dev'][1]:,} alone"
)
MAX_BYTES = 100 * 10**6
"""Largest file to send. Answers to all of test2015 take a fifth of it."""
MAX_CHARACTERS = 200
"""Longest answer. The longest ones of people have fewer than a hundred characters."""
_SHOWN = 3


def check_submission(predictions: object, question_ids: Iterable[int], source: str = "predictions") -> None:
    """Refuse predictions unless each question has exactly one, which is a string.

    Args:
        question_ids: ids of all questions of the split.
        source: the file's name, for the message.
    """
    if not isinstance(predictions, Sequence) or isinstance(predictions, str):
        raise InputError(f"{source}: expected a list of predictions, got {form_name(predictions)}")
    for place, prediction in enumerate(predictions):
        _check_prediction(prediction, f"{source}: prediction {place}")
    times = Counter(prediction["question_id"] for prediction in predictions)
    expected = dict.fromkeys(question_ids)
    refuse(
        source,
        {
            "predicted more than once": [question for question, count in times.items() if count > 1],
            "predicted but not in the split": [question for question in times if question not in expected],
            "without a prediction": [question for question in expected if question not in times],
        },
    )


def check_questions(content: object, phase: str, source: str) -> list[int]:
    """Ids of the official questions that predictions must answer.

    Args:
        content: content of the official question file.
        phase: a key of ``SENT_AS``.
        source: the file's name, for the message.

    Raises:
        InputError: the file does not hold all questions of the split once.
    """
    subset, number = QUESTIONS[SENT_AS[phase]]
    if not isinstance(content, dict) or not isinstance(content.get("questions"), list):
        raise InputError(f'{source}: expected the official questions, {{"questions": [...]}}')
    few, few_number = QUESTIONS["test-dev"]
    if (named := content.get("data_subtype", subset)) != subset:
        why = f"; {_WHY_ALL}" if named == few else ""
        raise InputError(f"{source}: expected the questions of {subset}, these are of {shown(named)}{why}")
    ids = question_ids(content["questions"], source)
    if len(ids) != number:
        why = f"; {_WHY_ALL}" if len(ids) == few_number else ""
        raise InputError(f"{source}: expected the {number:,} questions of {subset}, got {len(ids):,}{why}")
    return ids


def question_ids(questions: Sequence, source: str) -> list[int]:
    """Ids of the questions in their order. Refuse a question without an id and an id that comes twice."""
    for place, question in enumerate(questions):
        if not isinstance(question, dict) or type(question.get("question_id")) is not int:
            raise InputError(f"{source}: question {place}: expected an integer question_id, got {shown(question)}")
    times = Counter(question["question_id"] for question in questions)
    refuse(source, {"asked more than once": [question for question, count in times.items() if count > 1]})
    return list(times)


def check_upload(path: str | Path, question_ids: Iterable[int]) -> int:
    """Refuse a file that the evaluation server refuses, or accepts but scores too low.

    Beyond ``check_submission``, the file must be plain JSON in UTF-8 of bounded size and hold nothing but ids and
    answers. Every answer must have the form of the vocabulary's answers: the official evaluator brings other answers
    into that form only for questions on which people differ.

    Args:
        question_ids: ids of all questions of the split.

    Returns:
        The number of answers.

    Raises:
        InputError: the file has one of these faults.
    """
    path = Path(path)
    if path.suffix != ".json":
        raise InputError(f"{path}: expected a plain file *.json, which is what can be sent")
    if path.is_file() and (size := path.stat().st_size) > MAX_BYTES:
        raise InputError(f"{path}: {size:,} bytes, expected at most {MAX_BYTES:,}")
    predictions = read_json(path, list)
    with path.open("rb") as stream:
        if stream.read(3) == b"\xef\xbb\xbf":
            raise InputError(f"{path}: begins with a byte-order mark, which other readers of JSON refuse")
    asked = list(question_ids)
    if len(predictions) == QUESTIONS["test-dev"][1] and len(asked) == QUESTIONS["test"][1]:
        raise InputError(f"{path}: {len(predictions):,} answers; {_WHY_ALL}")
    check_submission(predictions, asked, source=str(path))
    known = {"question_id", "answer"}
    answers = {prediction["question_id"]: prediction["answer"] for prediction in predictions}
    refuse(
        str(path),
        {
            "with more than question_id and answer": [
                prediction["question_id"] for prediction in predictions if prediction.keys() - known
            ],
            f"with an answer of more than {MAX_CHARACTERS} characters": [
                question for question, answer in answers.items() if len(answer) > MAX_CHARACTERS
            ],
            "with an answer that is not in the vocabulary's form": [
                f"{question} ({shown(answer)}, in that form {shown(normalise_answer(answer))})"
                for question, answer in answers.items()
                if len(answer) <= MAX_CHARACTERS and (not answer.isprintable() or normalise_answer(answer) != answer)
            ],
        },
    )
    return len(answers)


def remarks(manifest: Mapping, splits: Sequence[str], number: int) -> list[str]:
    """Remarks on predictions for whoever scores or sends them.

    Args:
        manifest: manifest of the prepared folder.
        splits: the answered splits.
        number: number of predictions.
    """
    found, is_own = [], manifest.get("own", False)
    left_out = sum(
        sum(by_reason.values())
        for split, by_reason in manifest.get("skipped_questions", {}).items()
        if split in ("val" if name == "minival" else name for name in splits)
    )
    if left_out and is_own:
        found.append(
            f"{left_out:,} questions of the tables are not among them: their images cannot be used, see "
            "skipped_images in manifest.json"
        )
    elif left_out:
        found.append(
            f"{left_out:,} official questions are not among them: their images cannot be used, see skipped_images in "
            "manifest.json; the official files ask them, too"
        )
    dataset = manifest.get("dataset", "vqav2")
    if not is_own and "minival" in manifest["splits"] and len({"val", "minival"} & set(splits)) == 1:
        scorer = "VizWiz's evaluation" if dataset == "vizwiz" else "vl-absvit score-vqa"
        found.append(f"the official val is val and minival together: {scorer} wants those of --split val,minival")
    if dataset == "vizwiz":
        found.append(
            'VizWiz\'s server wants {"image": ..., "answer": ...}: question 3000000000007 is VizWiz_test_00000007'
        )
    if dataset != "vqav2":
        return found
    if splits == ["test-dev"]:
        found.append(f"these are for looking: {_WHY_ALL}; --split test answers them")
    elif splits == ["test"] and number != QUESTIONS["test"][1]:
        found.append(f"the official test2015 has {QUESTIONS['test'][1]:,} questions; EvalAI wants all")
    elif splits == ["test"]:
        found.append(
            "EvalAI's phases test-dev and test-std both take this file; vl-absvit score-vqa --validate checks it"
        )
    return found


def refuse(source: str, faults: Mapping[str, Sequence[object]], row: str = "question") -> None:
    """Raise ``InputError`` with every fault: how many questions, or other rows, have it, and the first few."""
    found = [
        f"{len(cases):,} {row}(s) {fault}, e.g. {', '.join(map(str, cases[:_SHOWN]))}"
        for fault, cases in faults.items()
        if cases
    ]
    if found:
        raise InputError(f"{source}: {'; '.join(found)}")


def _check_prediction(prediction: object, source: str) -> None:
    if not isinstance(prediction, Mapping):
        raise InputError(f"{source} is {form_name(prediction)}, not an object with question_id and answer")
    question = prediction.get("question_id")
    if type(question) is not int:
        raise InputError(f"{source}: expected an integer question_id, got {shown(question)}")
    answer = prediction.get("answer")
    if not isinstance(answer, str):
        raise InputError(f"{source}: question {question}: expected a string as answer, got {shown(answer)}")


def write_submission(path: str | Path, predictions: Sequence[Mapping]) -> None:
    """Write checked predictions for EvalAI, whole or not at all. Only ``question_id`` and ``answer`` are kept."""
    kept = [{key: prediction[key] for key in ("question_id", "answer")} for prediction in predictions]
    write_json(path, kept)
