"""Attention layers with a top-down input, each by its definition, however the input is held."""

import pytest
import torch
from timm.layers import Attention
from torch import Tensor

from vl_absvit.models.attention import TopDownAttention, TopDownQKVAttention, ValueMaskAttention
from vl_absvit.models.top_down import Steered, reweight, reweight_project

WIDTH = 16
IMAGE_INDEX = torch.tensor([1, 0, 1])
LAYERS = [TopDownAttention, TopDownQKVAttention, ValueMaskAttention]


def make(layer: type[TopDownAttention], bias: bool = True) -> TopDownAttention:
    attn = layer(WIDTH, num_heads=4, qkv_bias=bias).double()
    for parameter in attn.parameters():
        torch.nn.init.normal_(parameter)
    return attn


def naive(attn: TopDownAttention, x: Tensor, top_down: Steered) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, the top-down input through a whole ``qkv`` of its own."""
    q, k, v = attn.qkv(x).chunk(3, dim=-1)
    td_q, td_k, td_v = attn.qkv(top_down.tokens).chunk(3, dim=-1)
    return {
        TopDownAttention: (q, k, v + td_v),
        TopDownQKVAttention: (q + td_q, k + td_k, v + td_v),
        ValueMaskAttention: (q, k, v * top_down.mask[:, :, None]),
    }[type(attn)]


@pytest.fixture(params=[reweight, reweight_project])
def top_down(request) -> Steered:
    tokens, prior = torch.randn(2, 7, WIDTH).double(), torch.randn(3, WIDTH).double()
    return request.param(tokens, prior, 2.0, IMAGE_INDEX)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layer", LAYERS)
def test_projections_equal_the_definition_afresh_and_from_what_is_there(layer, bias, top_down):
    attn, x = make(layer, bias), torch.randn(3, 7, WIDTH).double()
    q, k, v = naive(attn, x, top_down)
    for projections in (attn.project(x, top_down), attn.steer(attn.project(x), top_down)):
        torch.testing.assert_close(projections.queries_keys, torch.cat([q, k], dim=-1), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(projections.values, v, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layer", LAYERS)
def test_without_a_top_down_input_all_layers_are_timms_on_the_same_weights(layer):
    attn, x = make(layer), torch.randn(3, 7, WIDTH).double()
    twin = Attention(WIDTH, num_heads=4, qkv_bias=True).double()
    twin.load_state_dict(attn.state_dict())
    torch.testing.assert_close(attn(x), twin(x))


@pytest.mark.parametrize("layer", LAYERS)
def test_attention_is_the_softmax_of_queries_and_keys_over_the_values(layer, top_down):
    attn, x = make(layer), torch.randn(3, 7, WIDTH).double()
    projections = attn.project(x, top_down)
    q, k, v = (t.reshape(3, 7, 4, 4).transpose(1, 2) for t in naive(attn, x, top_down))
    weights = (q @ k.transpose(2, 3) / 2).softmax(dim=-1)
    torch.testing.assert_close(attn.weights(projections), weights)
    torch.testing.assert_close(attn.attend(projections), attn.proj((weights @ v).transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("layer", LAYERS)
def test_only_qkv_lets_the_text_change_where_a_block_attends(layer, top_down):
    attn, x = make(layer), torch.randn(3, 7, WIDTH).double()
    plain, steered = attn.project(x), attn.project(x, top_down)
    assert torch.allclose(plain.queries_keys, steered.queries_keys) == (layer is not TopDownQKVAttention)
    assert not torch.allclose(plain.values, steered.values)
