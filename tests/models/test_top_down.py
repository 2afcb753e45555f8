"""Modulation and feedback, by hand and against the naive formulas."""

import pytest
import torch
from torch import nn

from vl_absvit.models.top_down import (
    MASK_TEMPERATURE,
    CalibratedMask,
    FeedbackDecoder,
    calibrated_relevance,
    reconstruction_loss,
    relevance,
    reweight,
    reweight_project,
    transform_loss,
)

IMAGES, TEXTS, TOKENS, WIDTH, BLOCKS = 2, 5, 7, 16, 3
IMAGE_INDEX = torch.tensor([0, 0, 1, 0, 1])


@pytest.fixture
def decoders() -> nn.ModuleList:
    return nn.ModuleList(FeedbackDecoder(width=WIDTH) for _ in range(BLOCKS)).double()


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(IMAGES, TOKENS, WIDTH).double()


@pytest.fixture
def prior() -> torch.Tensor:
    return torch.randn(TEXTS, WIDTH).double()


def test_modulation_by_hand():
    z = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [1.0, 1.0]]])  # along, across, against, at 45 degrees
    xi = torch.tensor([[5.0, 0.0]])
    expected = torch.tensor([[[4.0, 0.0], [0.0, 0.0], [0.0, 0.0], [2**0.5, 2**0.5]]])
    torch.testing.assert_close(reweight(z, xi, gain=2.0).tokens, expected)
    torch.testing.assert_close(relevance(z, xi), torch.tensor([[1.0, 0.0, 0.0, 0.5**0.5]]))


def test_a_calibrated_mask_by_hand():
    z = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [1.0, 1.0], [3.0, 4.0]]], dtype=torch.float64)  # cosines 1, 0, .71, .6
    xi, threshold = torch.tensor([[5.0, 0.0]], dtype=torch.float64), torch.tensor([0.6], dtype=torch.float64)
    sure = 2 / (1 + torch.exp(torch.tensor((0.6 - 0.5**0.5) / MASK_TEMPERATURE, dtype=torch.float64))) - 1
    mask = calibrated_relevance(z, xi, threshold)
    assert mask[0, 1] == 0, "against what is asked for"
    torch.testing.assert_close(mask[0, 2:], torch.stack([sure, torch.zeros_like(sure)]), atol=1e-12, rtol=0)
    assert 0.99 < mask[0, 0] <= 1


def test_modulations_take_the_mask_that_they_are_given(tokens, prior):
    mask_of = CalibratedMask().double()
    mask_of.threshold.data += 0.1
    for modulate in (reweight, reweight_project):
        steered = modulate(tokens, prior, 1.0, IMAGE_INDEX, mask_of=mask_of)
        expected = calibrated_relevance(tokens[IMAGE_INDEX], prior, torch.tensor([0.1]).double())
        torch.testing.assert_close(steered.mask, expected)
        assert (steered.scale[expected == 0] == 0).all()


def test_rank_one_modulation_by_hand():
    z = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [1.0, 1.0]]])
    xi = torch.tensor([[5.0, 0.0]])
    # xi xi^T = [[25, 0], [0, 0]]: the first token gives 1 * 25 * 2, the last cos 45 degrees * 25 * 1
    expected = torch.tensor([[[50.0, 0.0], [0.0, 0.0], [0.0, 0.0], [25 * 0.5**0.5, 0.0]]])
    torch.testing.assert_close(reweight_project(z, xi, gain=1.0).tokens, expected)


def test_reconstruction_loss_by_hand():
    decoder = FeedbackDecoder(width=2)
    decoder.reconstruct.weight.data = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    below, above = torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[1.0, 4.0]]])
    # R above = (2, 4); squared errors 1 and 9, mean 5
    assert reconstruction_loss(nn.ModuleList([decoder]), [below, above]).item() == 5.0


def test_reconstruction_loss_teaches_only_the_reconstructing_decoders(decoders):
    states = [torch.randn(2, TOKENS, WIDTH, dtype=torch.float64, requires_grad=True) for _ in range(BLOCKS + 1)]
    reconstruction_loss(decoders, states).backward()
    assert all(state.grad is None for state in states)
    assert all(d.reconstruct.weight.grad.any() and d.transform.weight.grad is None for d in decoders)


def test_transform_loss_by_hand():
    decoder = FeedbackDecoder(width=2)
    decoder.reconstruct.weight.data = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    decoder.transform.weight.data = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    below, above = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[1.0, 4.0]]])
    # R above = (2, 4), T of it = (4, 2); the norm of below = (-1, 1); squared errors 25 and 1, mean 13
    norms = [nn.LayerNorm(2, eps=0, elementwise_affine=False)]
    assert transform_loss(nn.ModuleList([decoder]), norms, [below, above]).item() == 13.0


def test_transform_loss_teaches_only_the_transforming_decoders(decoders):
    states = [torch.randn(2, TOKENS, WIDTH, dtype=torch.float64, requires_grad=True) for _ in range(BLOCKS + 1)]
    norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(BLOCKS)).double()
    transform_loss(decoders, norms, states).backward()
    assert all(each.grad is None for each in (*states, *norms.parameters()))
    assert all(d.transform.weight.grad.any() and d.reconstruct.weight.grad is None for d in decoders)
