"""Accuracy against hand-made numbers, the leave-one-out definition, and the official evaluator's quirks."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vl_absvit.errors import InputError
from vl_absvit.evaluation.vqa_accuracy import question_accuracy, vqa_scores


def records(answers, **fields):
    """Official answer records, numbered."""
    return [
        {"answer": answer, "answer_confidence": "yes", "answer_id": i} | fields for i, answer in enumerate(answers, 1)
    ]


def annotation(question, answers, answer_type="other", question_type="what"):
    return {
        "question_id": question,
        "image_id": 1,
        "question_type": question_type,
        "answer_type": answer_type,
        "answers": records(answers),
    }


def predict(**answers):
    return [{"question_id": int(question[1:]), "answer": answer} for question, answer in answers.items()]


@pytest.mark.parametrize(("agreeing", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_accuracy_leaves_one_annotator_out(agreeing, expected):
    humans = ["red"] * agreeing + ["blue"] * (10 - agreeing)
    assert question_accuracy("red", humans) == pytest.approx(expected)
    assert question_accuracy("red", records(humans)) == question_accuracy("red", humans)


@settings(database=None, deadline=None, max_examples=100)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), st.sampled_from("abcd"))
def test_accuracy_is_the_mean_over_all_subsets_without_one(letters, prediction):
    words = [f"word{letter}" for letter in letters]
    subsets = [words[:i] + words[i + 1 :] for i in range(len(words))]
    expected = sum(min(subset.count(f"word{prediction}") / 3, 1) for subset in subsets) / len(words)
    assert question_accuracy(f"word{prediction}", words) == pytest.approx(expected)


def test_answers_are_normalised_only_where_annotators_differ():
    assert question_accuracy("YES", ["yes"] * 10) == 0
    assert question_accuracy("YES", ["yes"] * 9 + ["Yes"]) == 1
    assert question_accuracy("The Two!", ["2"] * 9 + ["two"]) == 1
    assert question_accuracy("two", ["2"] * 10) == 0


def test_white_space_around_an_answer_is_no_difference():
    assert question_accuracy("yes\n", ["yes", "yes ", "\tyes", "\u180eyes"] + ["yes"] * 6) == 1
    assert question_accuracy("YES", ["yes", "yes ", "\tyes", "\u180eyes"] + ["yes"] * 6) == 0


def test_records_alike_in_every_field_vanish_together():
    assert question_accuracy("yes", records(["yes"] * 10, answer_id=1)) == 0
    # Leaving out a "no" leaves four matches; leaving out a "yes" leaves none.
    assert question_accuracy("yes", records(["yes"] * 4 + ["no"] * 6, answer_id=1)) == pytest.approx(0.6)
    # Two that are alike only once they are normalised vanish together too: 2, 2 and eight times 4 of 3.
    pair = records(["Two", "2", "two", "2", *["cat"] * 6])
    pair[1]["answer_id"] = 1
    assert question_accuracy("two", pair) == pytest.approx((2 * 2 / 3 + 2 + 6) / 10)


def test_a_different_confidence_keeps_records_apart():
    humans = records(["yes"] * 10, answer_id=1)
    humans[0]["answer_confidence"] = "maybe"
    assert question_accuracy("yes", humans) == pytest.approx((1 + 9 * 1 / 3) / 10)


def test_scores_by_hand():
    annotations = [
        annotation(11, ["red"] * 4 + ["blue"] * 6),
        annotation(12, ["red"] * 1 + ["blue"] * 9),
        annotation(13, ["yes"] * 8 + ["no"] * 2, answer_type="yes/no", question_type="is"),
    ]
    scores = vqa_scores(annotations, predict(q13="no", q11="red", q12="red"))
    assert scores.per_question == {11: 100.0, 12: 30.0, 13: 60.0}
    assert scores.per_answer_type == {"other": 65.0, "yes/no": 60.0}
    assert scores.per_question_type == {"what": 65.0, "is": 60.0}
    assert scores.overall == 63.33


def test_ties_round_away_from_zero_as_in_python_2():
    humans = ["red"] * 10
    annotations = [annotation(i, humans, question_type="a" if i < 32 else "b") for i in range(33)]
    predictions = [{"question_id": i, "answer": "red" if i == 0 else "blue"} for i in range(33)]
    assert vqa_scores(annotations, predictions).per_question_type["a"] == 3.13  # 100 / 32 = 3.125


def test_scoring_changes_nothing_and_can_be_repeated():
    annotations = [annotation(1, ["A.Cat", "the two", "Two", "2.", "two..", "none", "two", "2", "a", "x"])]
    predictions = predict(q1="The Two..")
    before = copy.deepcopy((annotations, predictions))
    first = vqa_scores(annotations, predictions)
    assert (annotations, predictions) == before
    assert vqa_scores(annotations, predictions) == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question_id": "1"}, "annotation 0: expected an integer question_id, got '1'"),
        ({"question_type": None}, "question 1: expected question_type to be a string, got None"),
        ({"answer_type": 3}, "question 1: expected answer_type to be a string, got 3"),
        ({"answers": []}, r"question 1: expected a list of human answers, got \[\]"),
        ({"answers": "yes"}, "question 1: expected a list of human answers, got 'yes'"),
        ({"answers": [{"answer": 1}]}, "question 1: expected every human answer to be a string"),
        ({"answers": [None]}, "question 1: expected every human answer to be a string, got None"),
    ],
)
def test_annotations_of_another_form_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        vqa_scores([annotation(1, ["yes"]) | change], predict(q1="yes"))


def test_annotations_are_a_list_of_distinct_questions():
    with pytest.raises(InputError, match="question 1 is annotated more than once"):
        vqa_scores([annotation(1, ["yes"])] * 2, predict(q1="yes"))
    with pytest.raises(InputError, match="there are no annotations"):
        vqa_scores([], [])
    with pytest.raises(InputError, match="expected a list of annotations, got an object"):
        vqa_scores({"annotations": []}, [])
    with pytest.raises(InputError, match="annotation 0 is a number"):
        vqa_scores([1], [])
    with pytest.raises(InputError, match="without a prediction"):
        vqa_scores([annotation(1, ["yes"])], [])
