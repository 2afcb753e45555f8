"""Folded projections give what plain attention gives."""

import pytest
import torch
from torch import Tensor

from vl_absvit.models.fusion import Attention
from vl_absvit.models.short_attention import attend_from_few, attend_to_few, is_short

WIDTH, HEADS = 16, 4


@pytest.fixture
def layer() -> Attention:
    layer = Attention(width=WIDTH, num_heads=HEADS, dropout=0.5).double().eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def plain(layer: Attention, x: Tensor, context: Tensor, is_token: Tensor | None) -> Tensor:
    """Attention by its formula, one row, head and query at a time."""
    out, size = torch.empty_like(x), WIDTH // HEADS
    for b in range(len(x)):
        q, k, v = layer.query(x[b]), layer.key(context[b]), layer.value(context[b])
        for s in range(x.shape[1]):
            mixed = []
            for h in range(HEADS):
                part = slice(h * size, (h + 1) * size)
                scores = k[:, part] @ q[s, part] / size**0.5
                if is_token is not None:
                    scores[~is_token[b]] = -torch.inf
                mixed.append(scores.softmax(dim=0) @ v[:, part])
            out[b, s] = layer.out(torch.cat(mixed))
    return out


@pytest.mark.parametrize("fold", [attend_from_few, attend_to_few])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("queries", "tokens"), [(1, 7), (5, 2), (3, 3)])
def test_folding_changes_nothing(layer, fold, masked, queries, tokens):
    x, context = torch.randn(2, queries, WIDTH).double(), torch.randn(2, tokens, WIDTH).double()
    is_token = torch.arange(tokens) < torch.tensor([[tokens], [1]]) if masked else None
    mask = None if is_token is None else is_token[:, None, None, :]
    torch.testing.assert_close(fold(layer, x, context, mask), plain(layer, x, context, is_token), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("queries", "tokens"), [(2, 9), (9, 2)])
@torch.no_grad()
def test_the_layer_folds_where_a_side_is_short_and_gives_the_same_tokens(layer, queries, tokens, monkeypatch):
    x, context = torch.randn(2, queries, WIDTH).double(), torch.randn(2, tokens, WIDTH).double()
    expected = layer(x, context, need_weights=True).tokens
    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", None)
    torch.testing.assert_close(layer(x, context).tokens, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_where_something_learns_nothing_is_folded(layer, training, monkeypatch):
    monkeypatch.setattr("vl_absvit.models.fusion.attend_from_few", None)
    x, context = torch.randn(2, 1, WIDTH).double(), torch.randn(2, 9, WIDTH).double()
    with torch.set_grad_enabled(not training):
        layer.train(training)(x, context)


def test_short_means_that_half_is_saved():
    assert is_short(32, 12, 768) and not is_short(33, 12, 768)
