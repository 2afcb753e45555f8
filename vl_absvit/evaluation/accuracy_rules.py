"""Which accuracy a data set's answers allow: the official one where each question has ten, else one named otherwise."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from vl_absvit.data.answers import NORMALISE, SOFT_SCORE, Normaliser, plain_answer, soft_score
from vl_absvit.errors import InputError
from vl_absvit.evaluation.vqa_accuracy import question_accuracy


class AccuracyRule(NamedTuple):
    """How predictions are scored, and what the score is called."""

    metric: str  # name of the number in results
    words: str
    of_question: Callable[[str, Sequence[str]], float]  # prediction, answers -> [0, 1]


def share_accuracy(prediction: str, answers: Sequence[str], normalise: Callable[[str], str] = plain_answer) -> float:
    """``SOFT_SCORE`` of a prediction, in [0, 1]; case and white space do not count.

    Args:
        normalise: of answers that are compared; a vocabulary of VQAv2's knows "2", but no "two".
    """
    wanted = normalise(prediction)
    return soft_score(sum(normalise(answer) == wanted for answer in answers), len(answers))


OFFICIAL = AccuracyRule("accuracy", "the official VQA accuracy", question_accuracy)
SHARE = AccuracyRule("share_accuracy", f"{SOFT_SCORE}; not the official VQA accuracy", share_accuracy)
_COMPARED: dict[Normaliser, str] = {"vqa-official-1": "the official evaluator normalises them", "meter-1": "METER does"}
"""How answers are compared if it is not the plain way."""


def accuracy_rule(manifest: Mapping[str, Any]) -> AccuracyRule:
    """The rule of a prepared folder; all data sets but those of one's own have the official one.

    Raises:
        InputError: the manifest names one that does not exist.
    """
    name, normaliser = manifest.get("accuracy", "official"), manifest.get("normaliser", "plain-1")
    if name not in ("official", "share"):
        raise InputError(f"manifest.json: expected the accuracy to be one of official, share, got {name!r:.60}")
    if normaliser not in list(NORMALISE):
        raise InputError(
            f"manifest.json: expected the normaliser to be one of {', '.join(NORMALISE)}, got {normaliser!r:.60}"
        )
    if name == "official":
        return OFFICIAL
    if normaliser not in _COMPARED:
        return SHARE
    words = f"{SHARE.words}; answers are compared as {_COMPARED[normaliser]}"
    return AccuracyRule(SHARE.metric, words, partial(share_accuracy, normalise=NORMALISE[normaliser]))
