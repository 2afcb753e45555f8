"""VQA accuracy as a module for ``evaluate.load(folder)``; the definition is ``vl_absvit.evaluation.vqa_accuracy``."""

from collections.abc import Iterable, Mapping, Sequence

import datasets
import evaluate

from vl_absvit.evaluation.vqa_accuracy import vqa_scores

_DESCRIPTION = "Accuracy of visual question answering, as the official VQA evaluator computes it, in percent."

_INPUTS = """
Args:
    predictions: one {"question_id": int, "answer": str} per question.
    references: one {"question_id": int, "question_type": str, "answer_type": str, "answers": list} per question;
        "answers" holds the raw human answers, as strings or as official records with answer, answer_confidence and
        answer_id.
Returns:
    overall, per_answer_type, per_question_type, per_question: percent, rounded to two digits.
"""

_PREDICTION = {"question_id": datasets.Value("int64"), "answer": datasets.Value("string")}
_QUESTION = {
    "question_id": datasets.Value("int64"),
    "question_type": datasets.Value("string"),
    "answer_type": datasets.Value("string"),
}
_RECORD = {
    "answer": datasets.Value("string"),
    "answer_confidence": datasets.Value("string"),
    "answer_id": datasets.Value("int64"),
}


def _only(keys: Iterable[str], record: Mapping) -> dict:
    return {key: record.get(key) for key in keys}


def _reference(annotation: Mapping) -> dict:
    """The stored fields of an annotation. Strings become numbered records."""
    numbered = enumerate(annotation["answers"], start=1)
    records = [{"answer": answer, "answer_id": i} if isinstance(answer, str) else answer for i, answer in numbered]
    return _only(_QUESTION, annotation) | {"answers": [_only(_RECORD, record) for record in records]}


class VQAAccuracy(evaluate.Metric):
    """Collects predictions, also on several processes (``num_process``, ``process_id``, ``experiment_id``).

    With several processes, process 0 gets the scores of all and the others get None. References may be official
    annotations.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="Antol et al., VQA: Visual Question Answering, ICCV 2015; Goyal et al., CVPR 2017.",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": _PREDICTION, "references": _QUESTION | {"answers": datasets.List(_RECORD)}}
            ),
            reference_urls=["https://github.com/GT-Vision-Lab/VQA"],
        )

    def add_batch(self, *, predictions: Sequence[Mapping], references: Sequence[Mapping]) -> None:
        """Collect a batch. ``compute(predictions=..., references=...)`` calls this, too."""
        super().add_batch(
            predictions=[_only(_PREDICTION, prediction) for prediction in predictions],
            references=[_reference(annotation) for annotation in references],
        )

    def add(self, *, prediction: Mapping, reference: Mapping) -> None:
        """Collect one question."""
        self.add_batch(predictions=[prediction], references=[reference])

    def _compute(self, predictions: list[dict], references: list[dict]) -> dict:
        return vqa_scores(references, predictions)._asdict()
