"""Predictions are refused unless every question of the split has exactly one, and sent only in the server's form."""

import json

import pytest

from vl_absvit.errors import InputError
from vl_absvit.evaluation import submission
from vl_absvit.evaluation.submission import (
    QUESTIONS,
    check_questions,
    check_submission,
    check_upload,
    write_submission,
)


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
        (predicted(1, 2, 3, 9, 8), r"2 question\(s\) predicted but not in the split, e.g. 9, 8$"),
        ([], r"3 question\(s\) without a prediction, e.g. 1, 2, 3$"),
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


def test_the_first_three_cases_of_many_are_named():
    with pytest.raises(InputError, match=r"predictions: 1,000 question\(s\) without a prediction, e.g. 0, 1, 2$"):
        check_submission([], range(1000))


# Files for the evaluation server.


@pytest.fixture
def upload(tmp_path):
    """Check a file of this content, by default answers to the questions 1 and 2; with what is wrong, if so."""

    def check(content, ids=(1, 2), name="p.json"):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return check_upload(file, ids)

    return check


def answered(*answers):
    return [{"question_id": question, "answer": answer} for question, answer in enumerate(answers, start=1)]


def test_a_file_that_can_be_sent_is_counted(upload):
    assert upload(answered("yes", "don't know")) == 2
    assert upload(answered("", "caf\u00e9 \u4e2d 3.5")) == 2  # the vocabulary has an empty answer
    assert upload(json.dumps(answered("caf\u00e9", "2"), ensure_ascii=False).encode()) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (answered("yes"), r"1 question\(s\) without a prediction, e.g. 2$"),
        (answered("Two.", "2"), r"not in the vocabulary's form, e.g. 1 \('Two.', in that form '2'\)$"),
        (
            answered("the cat", "dont know"),
            r"2 question\(s\) with an answer that is not .* 2 \('dont know', in that form",
        ),
        (answered(" yes", "yes\n"), r"2 question\(s\) with an answer that is not in the vocabulary's form"),
        (answered("yes\u202e", "no\u0000"), r"1 \('yes.u202e', .* 2 \('no.x00', "),
        (answered("x" * 201, "no"), r"1 question\(s\) with an answer of more than 200 characters, e.g. 1$"),
        (
            [{"question_id": 1, "answer": "yes", "logit": 0.5}, *answered("", "no")[1:]],
            "with more than question_id and",
        ),
        (b'[{"question_id": 1, "answer": NaN}]', "NaN is not JSON"),
        (b'[{"question_id": 1, "question_id": 2, "answer": "yes"}]', "the key 'question_id' is given twice"),
        (b'[{"question_id": 1, "answer": "\\ud83d"}]', "half a surrogate pair"),
        ("[]".encode("utf-16"), "expected JSON in UTF-8"),
        (b"\xef\xbb\xbf" + json.dumps(answered("yes", "no")).encode(), "begins with a byte-order mark"),
        ({"predictions": answered("yes", "no")}, "expected a list at the top level, got an object"),
    ],
)
def test_a_file_that_cannot_be_sent_is_refused_in_one_line(upload, content, message):
    with pytest.raises(InputError, match=message) as caught:
        upload(content)
    assert "p.json: " in str(caught.value) and "\n" not in str(caught.value) and str(caught.value).isprintable()


def test_every_fault_of_a_file_is_named_at_once(upload):
    with pytest.raises(InputError, match=r"more than 200 .*; 1 question\(s\) with an answer that is not"):
        upload(answered("x" * 300, "The."))


def test_packed_and_endless_files_are_refused_before_they_are_read(upload, monkeypatch):
    with pytest.raises(InputError, match="expected a plain file"):
        upload(answered("yes", "no"), name="p.json.gz")
    monkeypatch.setattr(submission, "MAX_BYTES", 50)
    with pytest.raises(InputError, match="bytes, expected at most 50"):
        upload(b"x" * 51)


def test_a_refused_file_is_left_as_it_was(upload, tmp_path):
    with pytest.raises(InputError):
        upload(answered("Two.", "no"))
    assert json.loads((tmp_path / "p.json").read_text()) == answered("Two.", "no")


def test_the_official_splits_are_known():
    assert QUESTIONS["test"] == ("test2015", 447_793) and QUESTIONS["test-dev"] == ("test-dev2015", 107_394)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"questions": predicted(1, 2)}, "expected the 107,394 questions of test-dev2015, got 2"),
        ({"questions": predicted(1), "data_subtype": "test2015"}, "of test-dev2015, these are of 'test2015'"),
        ({"questions": predicted(1, 1)}, r"1 question\(s\) asked more than once, e.g. 1"),
        (
            {"questions": [{"question_id": "1"}]},
            "question 0: expected an integer question_id, got {'question_id': '1'}",
        ),
        ([], "expected the official questions"),
    ],
)
def test_other_questions_than_the_official_ones_are_refused(content, message):
    with pytest.raises(InputError, match=message):
        check_questions(content, "test-dev", "q.json")


@pytest.mark.parametrize("split", ["test", "test-dev"])
def test_as_many_questions_as_the_split_has_pass(split):
    subset, number = QUESTIONS[split]
    questions = predicted(*range(number))
    assert check_questions({"questions": questions, "data_subtype": subset}, split, "q.json") == list(range(number))
