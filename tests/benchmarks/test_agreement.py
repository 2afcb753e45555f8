"""Times of different results are not compared."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.agreement import check_outputs, check_training


def test_outputs_agree_to_a_ten_thousandth_or_as_well_as_bf16_can():
    scores = np.linspace(-1, 1, 8, dtype=np.float32)
    assert check_outputs(scores, scores + 5e-5, "fp32")["largest_difference"] == pytest.approx(5e-5, rel=0.01)
    assert check_outputs(scores.reshape(2, 4), scores.reshape(2, 4) + 1e-2, "bf16")["correlation"] == pytest.approx(1)
    with pytest.raises(RuntimeError, match="differ in fp32: by up to 0.001"):
        check_outputs(scores, scores + 1e-3, "fp32")
    with pytest.raises(RuntimeError, match="differ in bf16"):
        check_outputs(scores, scores[::-1], "bf16")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_number_agrees_with_nothing(precision):
    scores = np.linspace(-1, 1, 8, dtype=np.float32)
    with pytest.raises(RuntimeError, match=f"differ in {precision}"):
        check_outputs(scores, scores * np.nan, precision)


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 2), nn.Linear(2, 2))


def terms(model: nn.Module, scale: float = 1.0, others: bool = False, shift: float = 0.0):
    """Two terms of the first three layers; ``others`` also sends a gradient, and no value, to the last."""

    def compute():
        out = model[:3](torch.ones(5, 4))
        hidden = (model[3].bias - model[3].bias.detach()).sum() if others else 0
        return {"a": out.square().mean() + shift, "b": scale * (out.sum() - out.detach().sum()) + 1 + hidden}

    return compute


def test_losses_and_gradients_are_compared_without_dropout_and_leave_nothing_behind(model):
    agreement = check_training(model.train(), terms(model), terms(model), "fp32")
    assert agreement == {
        "largest_loss_difference": 0, "largest_gradient_difference": 0, "correlation": pytest.approx(1)
    }  # fmt: skip
    assert model.training and all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shift": 1e-3}, "losses by up to 0"),
        ({"scale": 1.01}, "a parameter's gradient by up to 0.0"),  # while the losses are the same
        ({"others": True}, "gradients differ: .'3.bias'."),
        ({"shift": torch.nan}, "losses by up to nan"),
    ],
)
def test_a_loss_or_a_gradient_that_differs_stops_the_comparison(model, changes, message):
    with pytest.raises(RuntimeError, match=message):
        check_training(model, terms(model, **changes), terms(model), "fp32")


def test_a_term_that_is_missing_stops_the_comparison(model):
    with pytest.raises(RuntimeError, match="terms differ: .'b'."):
        check_training(model, lambda: {"a": terms(model)()["a"]}, terms(model), "fp32")


def test_bf16_may_differ_by_rounding_but_not_in_direction(model):
    assert check_training(model, terms(model, shift=1e-3), terms(model), "bf16")["correlation"] > 0.999
    with pytest.raises(RuntimeError, match="correlation -"):
        check_training(model, terms(model, scale=-1.0), terms(model), "bf16")
