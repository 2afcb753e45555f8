"""Rows of a head follow their labels' texts; nothing is matched by its place."""

import json

import numpy as np
import pytest
import torch

from tests.models.test_build import SIZE, Tokens, vqa_config
from tests.models.vqa_model import build_vqa_model
from vl_absvit.config import VisionConfig
from vl_absvit.data.answers import AnswerVocabulary, normalise_answer
from vl_absvit.models.labels import match_labels
from vl_absvit.models.start_weights import load_start


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


def test_a_head_in_lxmerts_order_starts_one_in_openvqas(real_data, tmp_path):
    labels = json.loads((real_data / "answer-vocab/lxmert_trainval_ans2label.json").read_text())
    places = json.loads((real_data / "answer-vocab/openvqa_answer_dict.json").read_text())[0]
    config = vqa_config(VisionConfig(model="absvit_tiny_patch16_224", image_size=32, **SIZE))
    before, after = (build_vqa_model(config, 3129, Tokens()) for _ in range(2))
    torch.nn.init.normal_(before.head[3].bias)
    before.save_pretrained(tmp_path)
    match = match_labels(sorted(labels, key=labels.get), sorted(places, key=places.get), normalise_answer)
    load_start(after, str(tmp_path), match)
    for answer, place in places.items():
        assert after.head[3].bias[place] == before.head[3].bias[labels[answer]], answer
    rows = torch.tensor([labels[answer] for answer in sorted(places, key=places.get)])
    assert torch.equal(after.head[3].weight, before.head[3].weight[rows])
