"""Decoders in closed form: against least squares on all tokens one below the other, and what they are for."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from vl_absvit.errors import InputError
from vl_absvit.models.closed_form import RIDGE, Moments, fit_to_moments, look_moments, start_decoders, token_moments
from vl_absvit.models.top_down import Steered, feed_back
from vl_absvit.models.trunks.vit import AbSViT

IMAGES, WIDTH, BLOCKS = 12, 8, 3


@pytest.fixture
def vision() -> AbSViT:
    """A trunk with weights of some size, so that its tokens vary."""
    model = timm.create_model(
        "absvit_tiny_patch16_224", img_size=48, embed_dim=WIDTH, depth=BLOCKS, num_heads=2, num_classes=0,
        drop_path_rate=0.5, trainable_prior=False,
    )  # fmt: skip
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            nn.init.normal_(parameter, std=0.5)
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(IMAGES, 3, 48, 48)


def rows_of(vision: AbSViT, images: torch.Tensor) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """All tokens of the first look, one below the other: output, blocks' inputs, and these normed."""
    vision.eval()
    with torch.no_grad():
        look = vision.look_once(images)
        normed = [block.norm1(state) for block, state in zip(vision.blocks, look.states[:-1], strict=True)]
    rows = [
        [each.double().flatten(0, 1).numpy() for each in part] for part in ([look.tokens], look.states[:-1], normed)
    ]
    return rows[0][0], rows[1], rows[2]


def ridge_by_stacking(regressors: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Least squares with one more row per column that asks it to be 0."""
    width = regressors.shape[1]
    penalty = RIDGE * (regressors**2).sum() / width
    rows = np.concatenate([regressors, np.sqrt(penalty) * np.eye(width)])
    return np.linalg.lstsq(rows, np.concatenate([targets, np.zeros((width, targets.shape[1]))]), rcond=None)[0]


def test_every_decoder_is_the_ridge_regression_on_what_the_deeper_ones_reconstruct(vision, images):
    fitted = fit_to_moments(look_moments(vision, images.split(5)))
    reconstruction, inputs, normed = rows_of(vision, images)
    for depth in reversed(range(BLOCKS)):
        expected = ridge_by_stacking(reconstruction, inputs[depth])
        np.testing.assert_allclose(fitted.reconstruct[depth].T, expected, rtol=1e-6, atol=1e-8)
        reconstruction = reconstruction @ expected
        expected = ridge_by_stacking(reconstruction, normed[depth])
        np.testing.assert_allclose(fitted.transform[depth].T, expected, rtol=1e-6, atol=1e-8)


def test_with_an_open_mask_what_is_fed_back_explains_the_normed_inputs_as_much_as_is_said(vision, images):
    fitted = fit_to_moments(look_moments(vision, images.split(5)))
    start_decoders(vision, fitted)
    tokens, inputs, normed = rows_of(vision, images)
    opened = Steered(None, torch.ones(1, 1, 1), torch.from_numpy(tokens)[None].float())
    with torch.no_grad():
        signals = [signal.tokens[0].double().numpy() for signal in feed_back(vision.decoders, opened)]
    for signal, target, said in zip(signals, normed, fitted.normed_explained.tolist(), strict=True):
        explained = 1 - ((signal - target) ** 2).sum() / ((target - target.mean(axis=0)) ** 2).sum()
        assert explained == pytest.approx(said, abs=1e-5) and explained > 0.3
    reconstruction = tokens
    for depth in reversed(range(BLOCKS)):
        reconstruction = reconstruction @ fitted.reconstruct[depth].T.numpy()
        spread = ((inputs[depth] - inputs[depth].mean(axis=0)) ** 2).sum()
        explained = 1 - ((reconstruction - inputs[depth]) ** 2).sum() / spread
        assert explained == pytest.approx(fitted.inputs_explained[depth].item(), abs=1e-9)


def test_linear_targets_are_explained_whole():
    tokens, maps = torch.randn(200, WIDTH).double(), torch.randn(2, WIDTH, WIDTH).double()
    inputs = [tokens @ each for each in maps]
    fitted = fit_to_moments(token_moments(tokens, inputs, [2 * each for each in inputs]), ridge=1e-9)
    assert fitted.inputs_explained.min() > 1 - 1e-6 and fitted.normed_explained.min() > 1 - 1e-6
    torch.testing.assert_close(fitted.reconstruct[1].T, maps[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fitted.transform[1], 2 * torch.eye(WIDTH).double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_tokens_that_hardly_vary_give_bounded_decoders(rank):
    tokens = torch.randn(50, rank).double() @ torch.randn(rank, WIDTH).double()
    inputs = [torch.randn(50, WIDTH).double() for _ in range(2)]
    fitted = fit_to_moments(token_moments(tokens, inputs, inputs))
    assert all(each.isfinite().all() for each in fitted) and fitted.reconstruct.abs().max() < 100
    assert torch.linalg.matrix_rank(fitted.reconstruct[1], rtol=1e-6) == rank


def test_one_number_beside_which_all_others_are_small_costs_the_others_little():
    tokens = torch.randn(4000, WIDTH).double()
    tokens[:, 0] = 30 + tokens[:, 0]  # a number that is always large, as trunks have them
    target = tokens[:, 1:].repeat(1, 2)[:, :WIDTH]
    fitted = fit_to_moments(token_moments(tokens, [target], [target]))
    assert fitted.inputs_explained.item() > 0.98 and fitted.normed_explained.item() > 0.98


def test_images_may_come_in_any_batches_and_training_mode_stays(vision, images):
    vision.train()
    whole, parts = look_moments(vision, [images]), look_moments(vision, images.split(5))
    assert vision.training and vision.blocks[0].training
    for name, one, other in zip(Moments._fields, whole, parts, strict=True):
        assert one.dtype == torch.float64
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4, msg=name)


def test_numbers_that_are_not_finite_are_one_line(vision, images):
    vision.blocks[1].norm1.weight.data[3] = float("inf")
    with pytest.raises(InputError, match="the first look at the training images has numbers that are not finite"):
        look_moments(vision, [images])
