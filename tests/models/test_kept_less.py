"""Linear layers that compute their input again: plain autograd's outputs and gradients bit by bit, on fewer bytes."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.memory import kept_for_backward
from tests.models.test_absvit import IMAGE_INDEX, WIDTH, make
from vl_absvit.models import kept_less
from vl_absvit.models.attention import softmax
from vl_absvit.models.kept_less import linear_and_norm, linear_of_gelu, linear_of_norm

B, N, D, E = 2, 37, 16, 24


@pytest.fixture
def layer() -> nn.Linear:
    return nn.Linear(D, E)


@pytest.fixture
def norm() -> nn.LayerNorm:
    norm = nn.LayerNorm(D, eps=1e-6)
    for weight in norm.parameters():
        nn.init.normal_(weight)
    return norm


def learned(compute: Callable[[Tensor], Tensor], parts: nn.ModuleList, precision: str) -> list[Tensor | None]:
    """Output and gradients."""
    parts.zero_grad()
    x = torch.randn(B, N, D, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        out = compute(x)
    out.float().square().sum().backward()
    return [out, x.grad, *(weight.grad for weight in parts.parameters())]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("frozen", ["nothing", "layer", "norm"])
def test_outputs_and_gradients_are_those_of_plain_autograd_bit_by_bit(layer, norm, frozen, precision):
    parts = nn.ModuleDict({"layer": layer, "norm": norm})
    if frozen != "nothing":
        parts[frozen].requires_grad_(False)

    def both(x: Tensor) -> Tensor:
        product, normed = linear_and_norm(x, norm, *kept_less._parameters(layer))
        return product.sum() + normed.square().sum()

    for ours, plain in (
        (lambda x: linear_of_gelu(x, layer), lambda x: layer(F.gelu(x))),
        (lambda x: linear_of_norm(x, norm, layer), lambda x: layer(norm(x))),
        (both, lambda x: layer(norm(x)).sum() + norm(x).square().sum()),
    ):
        found, expected = (learned(compute, parts, precision) for compute in (ours, plain))
        if ours is both:  # plain autograd norms twice, and adds in another order
            torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
            continue
        for one, other in zip(found, expected, strict=True):
            assert one is other is None or torch.equal(one, other) and one.dtype == other.dtype


def test_gradients_are_those_of_small_differences(layer, norm):
    layer, norm = layer.double(), norm.double()
    x = torch.randn(1, 3, D, dtype=torch.double, requires_grad=True)
    weights = [*layer.parameters(), *norm.parameters()]
    assert torch.autograd.gradcheck(lambda x, *_: linear_of_gelu(x, layer), (x, *weights[:2]))
    assert torch.autograd.gradcheck(lambda x, *_: linear_and_norm(x, norm, *weights[:2]), (x, *weights))


def test_one_tensor_is_kept_where_there_were_two(layer, norm):
    parts, x = nn.ModuleList([layer, norm]), torch.randn(B, N, D, requires_grad=True)
    size, statistics = x.nbytes, 2 * 4 * B * N
    for compute, kept in (
        (lambda: layer(F.gelu(x)), 2 * size),
        (lambda: linear_of_gelu(x, layer), size),
        (lambda: layer(norm(x)), 2 * size + statistics),
        (lambda: linear_of_norm(x, norm, layer), size + statistics),
    ):
        assert kept_for_backward(compute, parts.parameters()) == kept


@pytest.mark.parametrize("top_down", ["absvit", "absvit_qkv", "mask_att", "none"])
def test_looks_have_the_gradients_of_plain_autograd_and_keep_a_quarter_less(top_down, monkeypatch):
    images, prior = torch.randn(2, 3, 32, 32).double(), torch.randn(5, WIDTH).double()
    model, found = make(top_down=top_down, gain=3.0).double(), []

    def look() -> Tensor:
        return model.look_twice(images, prior, IMAGE_INDEX).seen(IMAGE_INDEX).square().sum()

    for is_plain in (False, True):
        if is_plain:
            for module in (kept_less, softmax):
                monkeypatch.setattr(module, "keeps_less", lambda: False)
        model.zero_grad()
        look().backward()
        gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        found.append((gradients, kept_for_backward(look, model.parameters())))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-9, atol=1e-9)
    assert found[0][1] < 0.75 * found[1][1]


def test_a_norm_or_an_mlp_of_another_kind_is_called_as_it_is(layer):
    x, other = torch.randn(B, N, D), nn.RMSNorm(D)
    assert torch.equal(linear_of_norm(x, other, layer), layer(other(x)))
    assert torch.equal(linear_of_norm(x, None, layer), layer(x))
    model, called = make().double(), []
    block = model.blocks[0]
    block.mlp.act.register_forward_hook(lambda *_: called.append(1))
    tokens = torch.randn(1, 5, WIDTH).double()
    expected = block(tokens)
    assert not called
    with torch.no_grad():
        torch.testing.assert_close(block(tokens), expected)
    block.mlp.act = nn.GELU(approximate="tanh")
    block.mlp.act.register_forward_hook(lambda *_: called.append(1))
    block(tokens)
    assert called == [1, 1]
