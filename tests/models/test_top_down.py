"""Modulation and feedback, by hand and against the naive formulas."""

import pytest
import torch
from torch import nn

from vl_absvit.models.top_down import (
    MASK_TEMPERATURE,
    CalibratedMask,
    FeedbackDecoder,
    Steered,
    calibrated_relevance,
    feed_back,
    keep_all,
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


def naive_feedback(decoders: nn.ModuleList, modulated: torch.Tensor) -> list[torch.Tensor]:
    """The paper's step 3 on all tokens of every text."""
    signals, state = [None] * len(decoders), modulated
    for level in range(len(decoders) - 1, -1, -1):
        state = state @ decoders[level].reconstruct.weight.T
        signals[level] = state @ decoders[level].transform.weight.T
    return signals


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


def test_projection_equals_the_materialised_outer_product(tokens, prior):
    own = tokens[IMAGE_INDEX]
    outer = prior.unsqueeze(2) @ prior.unsqueeze(1)  # (B, D, D)
    naive = 5.0 * (relevance(own, prior).unsqueeze(-1) * own) @ outer
    torch.testing.assert_close(reweight_project(tokens, prior, 5.0, IMAGE_INDEX).tokens, naive)


@pytest.mark.parametrize("modulation", [reweight, reweight_project])
def test_factored_feedback_equals_feedback_on_all_tokens_of_every_text(modulation, decoders, tokens, prior):
    steered = modulation(tokens, prior, 5.0, image_index=IMAGE_INDEX)
    for signal, naive in zip(feed_back(decoders, steered), naive_feedback(decoders, steered.tokens), strict=True):
        torch.testing.assert_close(signal.tokens, naive)


@pytest.mark.parametrize(("modulation", "rows"), [(reweight, IMAGES * TOKENS), (reweight_project, TEXTS)])
def test_decoders_run_once_per_image_token_or_once_per_text(modulation, rows, decoders, tokens, prior):
    seen = []
    for decoder in decoders:
        decoder.reconstruct.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(0, -2).shape[0]))
    feed_back(decoders, modulation(tokens, prior, 5.0, image_index=IMAGE_INDEX))
    assert seen == [rows] * BLOCKS


def test_zero_gain_gives_zero_signals(decoders, tokens, prior):
    for signal in feed_back(decoders, reweight(tokens, prior, 0.0, IMAGE_INDEX)):
        assert not signal.tokens.any()


def test_feedback_without_a_prior_runs_on_the_images_own_tokens(decoders, tokens):
    steered = keep_all(tokens, None, 5.0)
    torch.testing.assert_close(steered.tokens, 5 * tokens)
    assert steered.mask is None and steered.image_index is None
    for signal, naive in zip(feed_back(decoders, steered), naive_feedback(decoders, 5 * tokens), strict=True):
        torch.testing.assert_close(signal.tokens, naive)


def test_tokens_against_the_prior_are_silent_and_the_mask_stays_in_range(tokens, prior):
    mask = relevance(tokens[IMAGE_INDEX], prior)
    cosine = torch.cosine_similarity(tokens[IMAGE_INDEX], prior.unsqueeze(1), dim=-1)
    assert (mask[cosine < 0] == 0).all() and (cosine < 0).any()
    assert mask.min() >= 0 and mask.max() <= 1


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


def test_steered_tokens_are_the_product_of_their_factors():
    steered = Steered(
        torch.ones(2, 1), torch.tensor([[[2.0]], [[3.0]]]), torch.tensor([[[1.0]], [[4.0]]]), torch.tensor([1, 1])
    )
    assert steered.tokens.flatten().tolist() == [8.0, 12.0]
