"""Tokens and attention weights to maps: which number lands on which patch, by hand and by brute force."""

import pytest
import torch

from vl_absvit.errors import ConfigError
from vl_absvit.looking.maps import cls_map, cross_gradient_map, cross_map, difference_map, norm_map
from vl_absvit.token_grid import TokenGrid

LAYERS, ROWS, HEADS, TEXT, IMAGE = 3, 2, 4, 5, 10
SQUARE, CELLS = TokenGrid(1, 2, 2), TokenGrid(1, 3, 3)  # of 5 tokens and of 10
IS_TOKEN = torch.arange(TEXT) < torch.tensor([[TEXT], [3]])


@pytest.fixture
def weights() -> list[torch.Tensor]:
    return [torch.rand(ROWS, HEADS, TEXT, IMAGE) for _ in range(LAYERS)]


def test_patches_lie_on_the_grid_in_raster_order_without_the_tokens_before_them():
    per_token = torch.tensor([[99.0, 1, 2, 3, 4, 5, 6]])
    assert TokenGrid(1, 2, 3).on_grid(per_token).tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert TokenGrid(0, 1, 7).on_grid(per_token).tolist() == [per_token.tolist()]


def test_a_norm_map_is_the_length_of_the_named_blocks_tokens_by_hand():
    outputs = [torch.full((1, 5, 2), float(k)) for k in range(1, 5)]
    outputs[1][0, 1] = torch.tensor([3.0, 4.0])
    assert norm_map(outputs, SQUARE)[0, 0, 0] == 5  # third block from the end of four
    torch.testing.assert_close(norm_map(outputs, SQUARE, block=1), norm_map(outputs, SQUARE))
    torch.testing.assert_close(norm_map(outputs, SQUARE, block=-1), torch.full((1, 2, 2), 4 * 2**0.5))


@pytest.mark.parametrize("block", [-5, 4])
def test_a_block_that_does_not_exist_is_refused(block):
    with pytest.raises(ConfigError, match=f"no block {block}: the vision encoder has 4, from -4 to 3"):
        norm_map([torch.zeros(1, 5, 2)] * 4, SQUARE, block)


def test_a_difference_has_the_sign_of_what_the_text_adds():
    assert difference_map(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])).tolist() == [2, -1]


def test_a_cls_map_is_the_cls_row_of_the_weights_by_hand():
    weights = torch.tensor([[[0.6, 0.1, 0.1, 0.1, 0.1], [0.0, 0.5, 0.1, 0.3, 0.1]]])  # (1, H, N)
    torch.testing.assert_close(cls_map(weights, SQUARE), torch.tensor([[[0.3, 0.1], [0.2, 0.1]]]))
    torch.testing.assert_close(cls_map(weights, SQUARE, heads="max"), torch.tensor([[[0.5, 0.1], [0.3, 0.1]]]))


@pytest.mark.parametrize("heads", ["mean", "max"])
def test_a_cross_map_averages_over_layers_and_real_text_tokens_by_brute_force(weights, heads):
    result = cross_map(weights, IS_TOKEN, CELLS, heads)
    for row, length in enumerate((TEXT, 3)):
        for patch in range(IMAGE - 1):
            cells = [
                [float(layer[row, head, word, 1 + patch]) for head in range(HEADS)]
                for layer in weights
                for word in range(length)
            ]
            expected = sum(max(cell) if heads == "max" else sum(cell) / HEADS for cell in cells) / len(cells)
            assert result[row, patch // 3, patch % 3] == pytest.approx(expected, rel=1e-5)


def test_padding_does_not_move_a_cross_map(weights):
    padded = [torch.cat([layer, torch.full((ROWS, HEADS, 3, IMAGE), 50.0)], dim=2) for layer in weights]
    is_token = torch.cat([IS_TOKEN, torch.zeros(ROWS, 3, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(cross_map(padded, is_token, CELLS), cross_map(weights, IS_TOKEN, CELLS))
    gradients = [torch.randn_like(layer) for layer in padded]
    torch.testing.assert_close(
        cross_gradient_map(padded, gradients, is_token, CELLS),
        cross_gradient_map(weights, [gradient[:, :, :TEXT] for gradient in gradients], IS_TOKEN, CELLS),
    )


def test_a_gradient_map_keeps_what_speaks_for_the_answer_by_hand():
    attention = torch.tensor([0.1, 0.4, 0.2, 0.2, 0.1]).expand(1, 2, 1, 5)
    gradient = torch.tensor([[9.0, 1.0, -1.0, 2.0, 0.0], [9.0, 3.0, -2.0, -2.0, 0.0]]).reshape(1, 2, 1, 5)
    is_token = torch.ones(1, 1, dtype=torch.bool)
    result = cross_gradient_map([attention], [gradient], is_token, SQUARE)
    torch.testing.assert_close(result, torch.tensor([[[(0.4 + 1.2) / 2, 0.0], [0.4 / 2, 0.0]]]))
    largest = cross_gradient_map([attention], [gradient], is_token, SQUARE, heads="max")
    torch.testing.assert_close(largest, torch.tensor([[[1.2, 0.0], [0.4, 0.0]]]))
