"""The best constant answer per question type: chosen on one split, scored on another."""

import pytest

from vl_absvit.errors import InputError
from vl_absvit.evaluation.answer_prior import ConstantAnswers, best_constant_answers, constant_answer_scores

VOCABULARY = ["yes", "no", "two", "red"]


def record(question, question_type, answer, agreeing=10):
    answers = [answer] * agreeing + ["something else"] * (10 - agreeing)
    return {"question_id": question, "question_type": question_type, "answer_type": "other", "answers": answers}


def test_the_highest_total_soft_score_wins_by_hand():
    questions = [
        ("is", [0, 1], [0.3, 1.0]),
        ("is", [0], [0.9]),
        ("is", [1], [0.3]),  # no: 1.3, yes: 1.2, although yes and no are each said twice
        ("how many", [2], [1.0]),
        ("how many", [], []),
    ]
    assert best_constant_answers(questions, VOCABULARY) == ConstantAnswers({"is": "no", "how many": "two"}, "no")


def test_of_equals_the_first_in_the_vocabulary_wins():
    questions = [("is", [1], [1.0]), ("is", [0], [1.0])]
    assert best_constant_answers(questions, VOCABULARY).per_question_type == {"is": "yes"}


def test_no_known_answer_at_all_is_an_error():
    with pytest.raises(InputError, match="no training question has an answer"):
        best_constant_answers([("is", [], [])], VOCABULARY)


def test_constants_are_scored_with_the_official_accuracy():
    constants = ConstantAnswers({"is": "yes", "how many": "two"}, otherwise="red")
    annotations = [
        record(1, "is", "yes"),
        record(2, "is", "no"),
        record(3, "how many", "two", agreeing=2),
        record(4, "what", "red"),  # a type that training did not have
    ]
    scores = constant_answer_scores(annotations, constants)
    assert scores.per_question == {1: 100.0, 2: 0.0, 3: 60.0, 4: 100.0}
    assert scores.overall == 65.0
