"""The ``evaluate.Metric``, loaded from its folder. Threads play the processes: their files and locks are the same."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import evaluate
import pytest

from vl_absvit.evaluation.vqa_accuracy import vqa_scores

FOLDER = str(Path(__file__).parents[2] / "vl_absvit/evaluation/vqa_accuracy_metric")
ANNOTATIONS = [
    {
        "question_id": question,
        "image_id": 9,
        "question_type": "what",
        "answer_type": kind,
        "multiple_choice_answer": "red",
        "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(answers)],
    }
    for question, kind, answers in [
        (5, "other", ["red"] * 3 + ["Blue"] * 7),
        (6, "other", ["red"] * 2 + ["blue"] * 8),
        (7, "number", ["2"] * 9 + ["two"]),
    ]
]
PREDICTIONS = [{"question_id": q, "answer": a} for q, a in [(5, "red"), (6, "red"), (7, "The two")]]


@pytest.fixture
def metric(tmp_path):
    return evaluate.load(FOLDER, cache_dir=str(tmp_path))


def expected():
    scores = vqa_scores(ANNOTATIONS, PREDICTIONS)
    assert scores.per_question == {5: 90.0, 6: 60.0, 7: 100.0}
    return scores._asdict()


def test_the_metric_gives_the_pure_functions_scores(metric):
    assert metric.compute(predictions=PREDICTIONS, references=ANNOTATIONS) == expected()


def test_human_answers_may_be_bare_strings_added_one_question_at_a_time(metric):
    for prediction, annotation in zip(PREDICTIONS, ANNOTATIONS, strict=True):
        strings = [record["answer"] for record in annotation["answers"]]
        metric.add(prediction=prediction, reference=annotation | {"answers": strings})
    assert metric.compute() == expected()


def test_records_alike_in_every_field_still_vanish_together(metric):
    alike = json.loads(json.dumps(ANNOTATIONS[2]).replace('"two"', '"2"'))
    for record in alike["answers"]:
        record["answer_id"] = 1
    scores = metric.compute(predictions=[{"question_id": 7, "answer": "2"}], references=[alike])
    assert scores["per_question"] == {7: 0.0}


def test_two_processes_give_the_scores_of_all_questions_on_the_first(tmp_path):
    def run(rank):
        shared = evaluate.load(
            FOLDER, num_process=2, process_id=rank, experiment_id="two", cache_dir=str(tmp_path), timeout=30
        )
        mine = slice(0, 2) if rank == 0 else slice(2, 3)
        shared.add_batch(predictions=PREDICTIONS[mine], references=ANNOTATIONS[mine])
        return shared.compute()

    with ThreadPoolExecutor(max_workers=2) as pool:
        first, second = pool.map(run, range(2))
    assert first == expected()
    assert second is None
