"""What of an export no script has to run for: which checkpoints can be looked into, and what their heads say."""

from types import SimpleNamespace

import pytest
import torch

from vl_absvit.errors import InputError
from vl_absvit.looking import viewer
from vl_absvit.looking.predictions import AnswerPrediction, MatchPrediction, predictions_of
from vl_absvit.models.heads import MatchScores


@pytest.mark.parametrize("head", ["pretraining", "nlvr2", "snli"])
def test_a_model_that_neither_answers_nor_ranks_is_refused(monkeypatch, head):
    model = SimpleNamespace(architecture={"head": {"kind": head}})
    monkeypatch.setattr(viewer, "read_json", lambda *_: {})
    monkeypatch.setattr(viewer, "load_parts", lambda folder: SimpleNamespace(model=model))
    with pytest.raises(InputError, match="checkpoint X: expected a VQA model or a retrieval model, got an? .*model"):
        viewer.load_checkpoint("X")


def test_an_answer_is_the_highest_logit_also_where_confidences_round_to_one():
    logits = torch.tensor([[50.0, 60.0, -1.0], [0.0, -2.0, -1.0]])
    assert predictions_of(logits, ["a", "b", "c"]) == [AnswerPrediction("b", 1.0), AnswerPrediction("a", 0.5)]


def test_a_match_is_the_probability_of_the_second_of_two_logits():
    scores = MatchScores(
        rank=torch.tensor([-1.5, 2.0]), itm=torch.tensor([[0.0, 0.0], [1.0, 1.0 + torch.log(torch.tensor(3.0))]])
    )
    assert predictions_of(scores, ()) == [MatchPrediction(0.5, -1.5), MatchPrediction(pytest.approx(0.75), 2.0)]
