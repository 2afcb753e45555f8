"""Predictions are refused unless every question of the split has exactly one, and sent only in the server's form."""

import json
import re

import pytest

from vl_absvit.errors import InputError
from vl_absvit.evaluation import submission
from vl_absvit.evaluation.submission import (
    QUESTIONS,
    check_questions,
    check_submission,
    check_upload,
    remarks,
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
        check_submission(predictions, [1, 2, 3], source="mine.json")
    assert "\n" not in str(caught.value)


def test_a_submission_holds_ids_and_answers_only(tmp_path):
    write_submission(tmp_path / "p.json", [{"question_id": 7, "answer": "İ", "logit": 0.5}])
    assert json.loads((tmp_path / "p.json").read_text()) == [{"question_id": 7, "answer": "İ"}]


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


def test_the_official_splits_are_known():
    assert QUESTIONS["test"] == ("test2015", 447_793) and QUESTIONS["test-dev"] == ("test-dev2015", 107_394)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"questions": predicted(1, 2)}, "expected the 447,793 questions of test2015, got 2"),
        ({"questions": predicted(1), "data_subtype": "val2014"}, "of test2015, these are of 'val2014'$"),
        (
            {"questions": predicted(1), "data_subtype": "test-dev2015"},
            "these are of 'test-dev2015'; EvalAI's phases test-dev and test-std both take answers to all 447,793",
        ),
        (
            {"questions": predicted(*range(107_394))},
            "got 107,394; EvalAI's phases .* refuse those to test-dev's 107,394",
        ),
        ({"questions": predicted(1, 1)}, r"1 question\(s\) asked more than once, e.g. 1"),
        (
            {"questions": [{"question_id": "1"}]},
            "question 0: expected an integer question_id, got {'question_id': '1'}",
        ),
        ([], "expected the official questions"),
    ],
)
@pytest.mark.parametrize("phase", ["test-dev", "test-std"])
def test_other_questions_than_the_official_ones_are_refused(content, message, phase):
    with pytest.raises(InputError, match=message):
        check_questions(content, phase, "q.json")


def test_answers_to_test_dev_alone_are_refused_with_the_reason(upload, monkeypatch):
    monkeypatch.setattr(submission, "QUESTIONS", {"test": ("test2015", 3), "test-dev": ("test-dev2015", 2)})
    with pytest.raises(InputError, match="p.json: 2 answers; EvalAI's phases test-dev and test-std both take answers"):
        upload(answered("yes", "no"), ids=(1, 2, 3))
    assert upload(answered("yes", "no", "yes"), ids=(1, 2, 3)) == 3
    for phase in ("test", "test-dev", "test-std"):
        assert check_questions({"questions": predicted(1, 2, 3)}, phase, "q.json") == [1, 2, 3]


def prepared(**more):
    return {"splits": {"train": {}, "minival": {}, "val": {}}, "dataset": "vqav2", **more}


@pytest.mark.parametrize(
    ("splits", "number", "words"),
    [
        (["val"], 20, ["vl-absvit score-vqa wants those of --split val,minival"]),
        (["minival"], 20, ["vl-absvit score-vqa wants those of --split val,minival"]),
        (["val", "minival"], 40, []),
        (["train"], 40, []),
        (["test-dev"], 107_394, ["for looking: EvalAI's phases .* alone; --split test answers them"]),
        (["test"], 447_793, ["EvalAI's phases test-dev and test-std both take this file"]),
        (["test"], 20, ["the official test2015 has 447,793 questions; EvalAI wants all"]),
    ],
)
def test_what_there_is_to_know_before_predictions_are_sent_is_said(splits, number, words):
    said = remarks(prepared(), splits, number)
    assert len(said) == len(words) and all(re.search(*pair) for pair in zip(words, said, strict=True))


def test_questions_that_were_left_out_with_their_images_are_counted():
    manifest = prepared(skipped_questions={"val": {"truncated": 2, "empty file": 1}, "train": {"empty file": 9}})
    assert remarks(manifest, ["val", "minival"], 40)[0].startswith("3 official questions are not among them")
    assert remarks(manifest, ["test"], 447_793) == remarks(prepared(), ["test"], 447_793)


def test_another_data_set_is_not_sent_as_vqav2():
    assert remarks(prepared(dataset="vqa_v1"), ["test"], 20) == []
    assert "3000000000007 is VizWiz_test_00000007" in remarks(prepared(dataset="vizwiz"), ["test"], 8000)[0]
    assert (
        "VizWiz's evaluation wants those of --split val,minival" in remarks(prepared(dataset="vizwiz"), ["val"], 9)[0]
    )
    assert remarks({"splits": {"test-dev": {}}}, ["test-dev"], 20)  # prepared by an earlier version
