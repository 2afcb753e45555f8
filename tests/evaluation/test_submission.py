"""Predictions are refused unless every question of the split has exactly one."""

import json

import pytest

from vl_absvit.errors import InputError
from vl_absvit.evaluation.submission import check_submission, write_submission


def predicted(*questions):
    return [{"question_id": question, "answer": "yes"} for question in questions]


def test_one_prediction_per_question_passes_in_any_order():
    check_submission(predicted(3, 1, 2), [1, 2, 3])


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (
            predicted(1, 2, 2),
            r"mine.json: 1 question\(s\) predicted more than once, e.g. 2; 1 .* without a prediction, e.g. 3",
        ),
        (predicted(1, 3), r"1 question\(s\) without a prediction, e.g. 2"),
        (predicted(1, 2, 3, 9, 8), r"2 question\(s\) predicted but not in the split, e.g. 9"),
        ([], r"3 question\(s\) without a prediction, e.g. 1"),
        ({"1": "yes"}, "expected a list of predictions, got an object"),
        ([*predicted(1), "yes"], "prediction 1 is a string, not an object"),
        ([{"answer": "yes"}], "prediction 0: expected an integer question_id, got None"),
        ([{"question_id": "1", "answer": "yes"}], "prediction 0: expected an integer question_id, got '1'"),
        ([{"question_id": True, "answer": "yes"}], "expected an integer question_id, got True"),
        ([{"question_id": 1.0, "answer": "yes"}], "expected an integer question_id, got 1.0"),
        ([{"question_id": 1, "answer": None}], "question 1: expected a string as answer, got None"),
        ([{"question_id": 1}], "question 1: expected a string as answer, got None"),
        ([{"question_id": 1, "answer": ["yes"]}], "question 1: expected a string as answer, got"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(predictions, message):
    with pytest.raises(InputError, match=message) as caught:
        check_submission(predictions, [1, 2, 3], where="mine.json")
    assert "\n" not in str(caught.value)


def test_a_submission_holds_ids_and_answers_only(tmp_path):
    write_submission(tmp_path / "p.json", [{"question_id": 7, "answer": "İ", "logit": 0.5}])
    assert json.loads((tmp_path / "p.json").read_text()) == [{"question_id": 7, "answer": "İ"}]
