"""The linear decoder against least squares by other means, exact where it can be."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vl_absvit.errors import InputError
from vl_absvit.looking.linear_decoder import (
    LinearDecoder,
    decode,
    fit_decoder,
    judge_decoder,
    shared_scale,
    to_patches,
    to_pictures,
)

SIDE, PATCHES = 2, 9  # of a patch in pixels; of a picture
VALUES = 3 * SIDE**2


class Embedding:
    """A random patch embedding with positions that are as large as what they are added to."""

    def __init__(self, width: int) -> None:
        self.weight = torch.randn(VALUES, width).double()
        self.bias = torch.randn(width).double()
        self.positions = 3 * torch.randn(PATCHES, width).double()

    def batches(self, *sizes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """z_0 and pixels of new random pictures."""
        pixels = [torch.rand(size, PATCHES, VALUES).double() for size in sizes]
        return [(each @ self.weight + self.bias + self.positions, each) for each in pixels]


def test_patches_are_those_of_a_convolution_and_go_back_to_their_places():
    pictures, kernel = torch.rand(2, 3, 4, 6).double(), torch.rand(5, 3, SIDE, SIDE).double()
    patches = to_patches(pictures, (2, 3))
    assert patches.shape == (2, 2 * 3, VALUES)
    embedded = F.conv2d(pictures, kernel, stride=SIDE).flatten(2).mT
    torch.testing.assert_close(patches @ kernel.flatten(1).T, embedded)
    assert torch.equal(to_pictures(patches, (2, 3), (4, 6)), pictures.permute(0, 2, 3, 1))


@pytest.mark.parametrize("width", [VALUES, VALUES + 1, 3 * VALUES])
def test_pixels_of_unseen_pictures_come_back_where_the_embedding_can_be_inverted(width):
    embedding = Embedding(width)
    decoder = fit_decoder(embedding.batches(20, 20, 5), embedding.positions, ridge=1e-14)
    [(tokens, pixels)] = held_out = embedding.batches(7)
    torch.testing.assert_close(decode(decoder, tokens), pixels, rtol=0, atol=1e-6)
    assert judge_decoder(decoder, held_out).r2 == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("ridge", [1e-9, 0.01, 3.0])
def test_the_decoder_is_ridge_regression_with_a_free_intercept(ridge):
    """As rows added to the problem, solved without any of the sums."""
    width = 5  # fewer than the pixels of a patch: what comes back is blurred
    embedding = Embedding(width)
    batches = embedding.batches(4, 1, 3)
    tokens, pixels = (torch.cat(part) for part in zip(*batches, strict=True))
    content = (tokens - embedding.positions).flatten(0, 1)
    centred, aim = content - content.mean(dim=0), pixels.flatten(0, 1) - pixels.mean(dim=(0, 1))
    strength = (ridge * content.var(dim=0, correction=0).mean() * len(content)) ** 0.5
    rows = torch.cat([centred, strength * torch.eye(width).double()])
    expected = torch.linalg.lstsq(rows, torch.cat([aim, torch.zeros(width, VALUES).double()])).solution
    decoder = fit_decoder(batches, embedding.positions, ridge)
    torch.testing.assert_close(decoder.weight, expected, rtol=1e-6, atol=1e-8)
    decoded = decode(decoder, tokens)
    torch.testing.assert_close(decoded.mean(dim=(0, 1)), pixels.mean(dim=(0, 1)))
    torch.testing.assert_close(decoded.flatten(0, 1), centred @ expected + pixels.mean(dim=(0, 1)))
    torch.testing.assert_close(decoder.mean_patch, pixels.mean(dim=(0, 1)))


def test_as_many_patches_as_unknowns_are_enough_and_one_less_is_refused():
    positions = torch.zeros(1, 4)
    tokens, pixels = torch.randn(5, 1, 4), torch.rand(5, 1, VALUES)
    assert fit_decoder([(tokens, pixels)], positions).weight.shape == (4, VALUES)
    with pytest.raises(InputError, match="^4 patches cannot tell 5 unknowns of each pixel"):
        fit_decoder([(tokens[:4], pixels[:4])], positions)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e6])
def test_patches_that_are_all_the_same_are_refused(value):
    tokens = torch.full((20, 1, 4), value) + torch.tensor([0.1, 0.2, 0.3, 0.4])
    with pytest.raises(InputError, match="^all patches are the same"):
        fit_decoder([(tokens, torch.rand(20, 1, VALUES))], torch.zeros(1, 4))


@pytest.mark.parametrize("which", ["tokens", "pixels"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_refused(which, value):
    tokens, pixels = torch.randn(20, 1, 4), torch.rand(20, 1, VALUES)
    {"tokens": tokens, "pixels": pixels}[which][3, 0, 1] = value
    with pytest.raises(InputError, match="not finite"):
        fit_decoder([(tokens, pixels)], torch.zeros(1, 4))


def constant_decoder(value: float) -> LinearDecoder:
    """Decodes to ``value`` whatever it is shown; the mean patch is 0.5."""
    parts = torch.zeros(4, VALUES), torch.full((1, VALUES), value), torch.full((VALUES,), 0.5)
    return LinearDecoder(*(part.double() for part in parts))


def test_quality_by_hand():
    grey, light = torch.full((3, 1, VALUES), 0.5).double(), torch.full((1, 1, VALUES), 0.9).double()
    batches = [(torch.randn(len(each), 1, 4), each) for each in (grey, light)]
    of_mean_patch = judge_decoder(constant_decoder(0.5), batches)
    assert of_mean_patch.r2 == 0 and of_mean_patch.patches == 4
    # Errors of 0.1, 0.1, 0.1 and 0.3, where the mean patch has 0, 0, 0 and 0.4.
    other = judge_decoder(constant_decoder(0.6), batches)
    assert other.r2 == pytest.approx(1 - 0.12 / 0.16)
    assert other.psnr == pytest.approx(-10 * np.log10(0.12 / 4))
    assert judge_decoder(constant_decoder(0.6), batches[:1]) == (None, pytest.approx(20), 3)
    assert judge_decoder(constant_decoder(0.9), batches[1:]) == (1, None, 1)


def test_one_scale_for_all_priors_spares_all_but_the_strongest_hundredth():
    top_down = np.zeros((3, 10, 10, 3))
    top_down[1, :, :, 0] = 0.02
    top_down[2, 0, 0, 0] = -0.1
    assert shared_scale(top_down) == pytest.approx(0.5 / 0.02), "one of 101 changes is beyond"
    top_down[2, :, :, 2] = -0.1
    assert shared_scale(top_down) == pytest.approx(0.5 / 0.1)
    assert shared_scale(10 * top_down) == pytest.approx(0.05 / 0.1), "what is drawn does not depend on the gain"
    assert shared_scale(0 * top_down) == 1
