"""The accuracy of data that has not ten answers a question: the official one's formula, under another name."""

import pytest

from vl_absvit.data.answers import soft_score
from vl_absvit.errors import InputError
from vl_absvit.evaluation.accuracy_rules import OFFICIAL, SHARE, accuracy_rule, share_accuracy
from vl_absvit.evaluation.vqa_accuracy import question_accuracy, vqa_scores


@pytest.mark.parametrize(
    ("count", "answers", "score"),
    [
        (1, 1, 1),
        (0, 1, 0),
        (1, 2, 1),
        (1, 3, 1),
        (1, 4, 0.75),
        (1, 5, 0.6),
        (2, 5, 1),
        (1, 9, 1 / 3),
        (1, 10, 0.3),
        (3, 10, 0.9),
    ],
)
def test_scores_by_hand(count, answers, score):
    assert soft_score(count, answers) == pytest.approx(score)
    assert share_accuracy("Yes", ["yes "] * count + ["no"] * (answers - count)) == pytest.approx(score)


@pytest.mark.parametrize("count", range(11))
def test_with_ten_answers_it_is_the_official_accuracy(count):
    answers = ["yes"] * count + ["no"] * (10 - count)
    assert share_accuracy("yes", answers) == pytest.approx(question_accuracy("yes", answers))


def test_signs_and_letters_count():
    assert share_accuracy("5", ["-5"]) == share_accuracy("C", ["C++"]) == share_accuracy("A", ["B"]) == 0
    assert share_accuracy("a", ["A"]) == share_accuracy("new  york", ["New York"]) == 1


def test_a_folder_says_which_accuracy_it_has():
    assert accuracy_rule({}) is OFFICIAL and accuracy_rule({"accuracy": "share"}) is SHARE
    assert OFFICIAL.metric != SHARE.metric and "not the official" in SHARE.words
    with pytest.raises(InputError, match="expected the accuracy to be one of official, share, got 'mine'"):
        accuracy_rule({"accuracy": "mine"})


def test_all_scores_go_by_the_rule():
    annotations = [{"question_id": 1, "question_type": "q", "answer_type": "a", "answers": ["yes"]}]
    predictions = [{"question_id": 1, "answer": "Yes"}]
    assert vqa_scores(annotations, predictions, SHARE.of_question).overall == 100
    assert vqa_scores(annotations, predictions).overall == 0  # leaving the only person out leaves nobody
