"""Attention weights on request: they are the softmax that attention uses, and asking for them changes nothing."""

import pytest
import torch
from torch import Tensor

from vl_absvit.models.fusion import Attention, CoAttentionFusion

WIDTH, HEADS, LAYERS = 16, 4, 3


@pytest.fixture
def fusion() -> CoAttentionFusion:
    model = CoAttentionFusion(
        text_width=8, vision_width=12, width=WIDTH, num_layers=LAYERS, num_heads=HEADS, mlp_ratio=2, dropout=0.1
    ).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    is_token = torch.arange(5) < torch.tensor([[5], [3]])
    return torch.randn(2, 5, 8).double(), is_token, torch.randn(2, 10, 12).double()


@pytest.mark.parametrize("pooled_only", [False, True])
def test_asking_for_weights_changes_nothing(fusion, inputs, pooled_only):
    plain, asked = (fusion(*inputs, pooled_only=pooled_only, need_weights=need) for need in (False, True))
    tokens = 1 if pooled_only else 5
    torch.testing.assert_close(asked.pooled, plain.pooled, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(asked.text[:, :tokens], plain.text, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(asked.image, plain.image, rtol=1e-6, atol=1e-6)
    assert plain.text_to_image is None


def test_there_are_weights_of_every_layer_head_and_text_token_even_where_only_the_first_is_pooled(fusion, inputs):
    weights = fusion(*inputs, pooled_only=True, need_weights=True).text_to_image
    assert [tuple(each.shape) for each in weights] == [(2, HEADS, 5, 10)] * LAYERS
    for layer in weights:
        torch.testing.assert_close(layer.sum(dim=-1), torch.ones(2, HEADS, 5).double())


def test_the_weights_of_the_first_layer_are_the_softmax_of_its_queries_and_keys(fusion, inputs):
    text, is_token, image = inputs
    layer = fusion.text_layers[0]
    x = fusion.text_transform(text) + fusion.token_types.weight[0]
    seen = fusion.image_transform(image) + fusion.token_types.weight[1]
    x = layer.self_attention(x, x, is_token).tokens
    attention = layer.cross_attention
    for head in range(HEADS):
        part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
        query, key = attention.query(x)[..., part], attention.key(seen)[..., part]
        expected = (query @ key.transpose(1, 2) / (WIDTH / HEADS) ** 0.5).softmax(dim=-1)
        torch.testing.assert_close(fusion(*inputs, need_weights=True).text_to_image[0][:, head], expected)


def test_asked_weights_leave_padding_out_and_give_the_same_tokens():
    attention = Attention(width=WIDTH, num_heads=HEADS, dropout=0.0).double()
    x, context = torch.randn(2, 3, WIDTH).double(), torch.randn(2, 6, WIDTH).double()
    is_token = torch.arange(6) < torch.tensor([[6], [2]])
    tokens, weights = attention(x, context, is_token, need_weights=True)
    torch.testing.assert_close(tokens, attention(x, context, is_token).tokens)
    assert (weights[1, :, :, 2:] == 0).all() and (weights[0] > 0).all()


def test_asked_weights_carry_gradients_to_the_output(fusion, inputs):
    out = fusion(*inputs, pooled_only=True, need_weights=True)
    gradients = torch.autograd.grad(out.pooled.sum(), out.text_to_image)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    # The pooler reads the first token alone, and after the last layer no token hears of another.
    assert gradients[-1][:, :, 0].abs().sum() > 0 and (gradients[-1][:, :, 1:] == 0).all()
