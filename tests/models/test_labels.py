"""Rows of a head follow their labels' texts; nothing is matched by its place."""

import numpy as np
import pytest

from vl_absvit.data.answers import AnswerVocabulary, normalise_answer
from vl_absvit.models.labels import match_labels


def test_labels_are_found_by_their_texts():
    match = match_labels(["yes", "no", "2", "red"], ["red", "blue", "yes"])
    assert match.rows == (3, None, 0) and match.new == ("blue",) and match.dropped == ("no", "2") and match.before == 4
    line = match.describe("answers")
    assert line.startswith("2 of 3 answers known to the start weights") and "1 new" in line and "2 dropped" in line
    assert "'blue'" in line and "'no', '2'" in line


def test_the_same_labels_change_nothing():
    assert match_labels(["a", "b"], ["a", "b"]).is_identity
    assert not match_labels(["a", "b"], ["b", "a"]).is_identity
    assert not match_labels(["a", "b", "c"], ["a", "b"]).is_identity


@pytest.mark.parametrize(
    ("before", "now", "rows"),
    [
        (["Yes", "no"], ["yes", "no"], (0, 1)),  # alike for the official evaluator
        (["dont know", "a dog"], ["dog", "don't know"], (1, 0)),
        (["two", "2"], ["2", "two"], (1, 0)),  # the very text comes first
        (["two", "2"], ["Two"], (0,)),  # else the first that is alike
        (["2"], ["2", "two"], (0, 0)),
        (["", "a"], ["the", ""], (0, 0)),
    ],
)
def test_answers_are_the_same_where_the_official_evaluator_takes_them_for_the_same(before, now, rows):
    assert match_labels(before, now, normalise_answer).rows == rows


def test_the_published_orders_of_the_same_answers_are_a_permutation_of_each_other(real_data):
    folder = real_data / "answer-vocab"
    lxmert = AnswerVocabulary.from_published(folder / "lxmert_trainval_label2ans.json").answers
    openvqa = AnswerVocabulary.from_published(folder / "openvqa_answer_dict.json").answers
    assert len(lxmert) == len(openvqa) == 3129
    match = match_labels(lxmert, openvqa, normalise_answer)
    assert [lxmert[row] for row in match.rows] == list(openvqa) and sorted(match.rows) == list(range(3129))
    assert not match.new and not match.dropped and np.mean([i == row for i, row in enumerate(match.rows)]) < 0.01
