"""Predictions about pictures: an answer to a question, how well a caption matches, or a class.

Shapes: B texts or pictures, A answers, C classes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from vl_absvit.data.python2 import round_half_up
from vl_absvit.looking.pages import remarks_on_answer
from vl_absvit.looking.picture_texts import PictureText
from vl_absvit.looking.sheet import Remark
from vl_absvit.models.heads import MatchScores


class AnswerPrediction(NamedTuple):
    """The answer to a question."""

    prediction: str
    confidence: float  # sigmoid of the answer's logit: answers are trained with binary cross-entropy

    def fields(self, text: PictureText) -> dict[str, Any]:
        """Fields of an export's index line about the question and its answer."""
        accuracy = None
        if text.answers is not None:
            accuracy = round_half_up(100 * text.rule.of_question(self.prediction, text.answers), 2)
        return {
            "question_id": text.text_id,
            "question": text.text,
            **self._asdict(),
            "answers": text.answers,
            "answer_type": text.answer_type,
            "accuracy": accuracy,
        }

    def remarks(self, text: PictureText) -> list[Remark]:
        """Remarks below the text on a panel."""
        return remarks_on_answer(self.prediction, text.truth)


class MatchPrediction(NamedTuple):
    """How well a caption and its picture belong together."""

    match: float  # probability that they do, of the two matching logits
    score: float  # by which retrieval ranks

    def fields(self, text: PictureText) -> dict[str, Any]:
        """Fields of an export's index line about the caption and its picture."""
        return {"caption_id": text.text_id, "caption": text.text, **self._asdict()}

    def remarks(self, text: PictureText) -> list[Remark]:
        """Remarks below the text on a panel."""
        return [Remark("match", f"{100 * self.match:.1f} %"), Remark("ranking score", f"{self.score:.2f}")]


class ClassPrediction(NamedTuple):
    """The class of a picture."""

    prediction: str
    confidence: float  # its probability among all classes

    def fields(self, text: PictureText) -> dict[str, Any]:
        """Fields of an export's index line about the picture and its class."""
        return {"picture": text.text, **self._asdict()}

    def remarks(self, text: PictureText) -> list[Remark]:
        """Remarks below the picture's name on a panel."""
        return [Remark("model", self.prediction), Remark("probability", f"{100 * self.confidence:.1f} %")]


Prediction = AnswerPrediction | MatchPrediction | ClassPrediction


def class_predictions(logits: Tensor, classes: Sequence[str]) -> list[ClassPrediction]:
    """The most probable class of each of B pictures, given logits (B, C) and the names of the classes."""
    confidence, labels = logits.float().softmax(dim=1).max(dim=1)
    return list(map(ClassPrediction, [classes[label] for label in labels.tolist()], confidence.tolist()))


def predictions_of(
    logits: Tensor | MatchScores, vocabulary: Sequence[str]
) -> Sequence[AnswerPrediction | MatchPrediction]:
    """A head's outputs as words and numbers, for each of B texts.

    Args:
        logits: (B, A) of answers, or those of a matching head.
        vocabulary: the A answers; nothing where captions are matched.
    """
    if isinstance(logits, MatchScores):
        match, score = logits.itm.float().softmax(dim=1)[:, 1], logits.rank.float()
        return list(map(MatchPrediction, match.tolist(), score.tolist()))
    labels = logits.argmax(dim=1)
    confidence = logits.float().gather(1, labels[:, None])[:, 0].sigmoid()
    return list(map(AnswerPrediction, [vocabulary[label] for label in labels.tolist()], confidence.tolist()))
