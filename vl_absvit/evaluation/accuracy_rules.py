"""Which accuracy a data set's answers allow: the official one where each question has ten, else one named otherwise."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vl_absvit.data.answers import SOFT_SCORE, plain_answer, soft_score
from vl_absvit.errors import InputError
from vl_absvit.evaluation.vqa_accuracy import question_accuracy


class AccuracyRule(NamedTuple):
    """How predictions are scored, and what the score is called."""

    metric: str  # name of the number in results
    words: str
    of_question: Callable[[str, Sequence[str]], float]  # prediction, answers -> [0, 1]


def share_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """``SOFT_SCORE`` of a prediction, in [0, 1]; case and white space do not count."""
    wanted = plain_answer(prediction)
    return soft_score(sum(plain_answer(answer) == wanted for answer in answers), len(answers))


OFFICIAL = AccuracyRule("accuracy", "the official VQA accuracy", question_accuracy)
SHARE = AccuracyRule("share_accuracy", f"{SOFT_SCORE}; not the official VQA accuracy", share_accuracy)
_RULES = {"official": OFFICIAL, "share": SHARE}


def accuracy_rule(manifest: Mapping[str, Any]) -> AccuracyRule:
    """The rule of a prepared folder; all data sets but those of one's own have the official one.

    Raises:
        InputError: the manifest names one that does not exist.
    """
    name = manifest.get("accuracy", "official")
    if name not in _RULES:
        raise InputError(f"manifest.json: expected the accuracy to be one of {', '.join(_RULES)}, got {name!r:.60}")
    return _RULES[name]
