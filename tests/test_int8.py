"""int8: linear layers of integers, whose error is that of rounding and which no other token can change."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vl_absvit.errors import ConfigError
from vl_absvit.int8 import linear_int8, quantise
from vl_absvit.precision import always_fp32, arithmetic, without_autocast

CPU = torch.device("cpu")


needs_vnni = pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="this CPU has no VNNI instructions")


@needs_vnni
def test_the_product_is_that_of_rounded_tokens_and_rows_bit_by_bit():
    x, weight, bias = torch.randn(3, 5, 40), torch.randn(7, 40), torch.randn(7)
    weight[3], x[1, 2] = 0, 0
    rounded = []
    for rows in (x, weight):
        scales = rows.abs().amax(-1, keepdim=True).clamp(min=1e-30).double() / 127
        rounded.append(((rows / scales).round(), scales))
    (tokens, by_token), (matrix, by_row) = rounded
    expected = (tokens.double() @ matrix.double().T) * by_token * by_row.T + bias
    found = linear_int8(x, quantise(weight), bias)
    assert found.dtype == torch.float32 and found.shape == (3, 5, 7)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert (found - F.linear(x, weight, bias)).abs().max() < 0.2, "the rounding of 40 products of about 1"
    assert not torch.equal(found, F.linear(x, weight, bias))


@needs_vnni
def test_a_token_becomes_the_same_in_any_company():
    x, weight = torch.randn(50, 64) * torch.logspace(-3, 3, 50)[:, None], quantise(torch.randn(32, 64))
    alone = torch.cat([linear_int8(token[None], weight, None) for token in x])
    assert torch.equal(linear_int8(x, weight, None), alone)


@needs_vnni
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so_in_its_token_alone(bad):
    x, weight = torch.randn(4, 16), quantise(torch.randn(8, 16))
    x[2, 5] = bad
    found = linear_int8(x, weight, None)
    assert not found[2].isfinite().any() and found[[0, 1, 3]].isfinite().all()


@needs_vnni
def test_it_holds_inside_and_not_where_numbers_are_compared_or_another_precision_was_asked_for():
    layer, x = nn.Linear(16, 8), torch.randn(4, 16)
    with torch.no_grad():
        exact, rounded = layer(x), linear_int8(x, quantise(layer.weight), layer.bias)
        with arithmetic("int8", CPU):
            assert torch.equal(layer(x), rounded) and layer(x).dtype == torch.float32
            assert torch.equal(always_fp32(layer)(x), exact)
            with without_autocast(CPU):
                assert torch.equal(layer(x), exact)
            with arithmetic("fp32", CPU):
                assert torch.equal(layer(x), exact)
            with arithmetic("bf16", CPU):
                assert layer(x).dtype == torch.bfloat16
            assert torch.equal(F.linear(x.double(), layer.weight.double()), x.double() @ layer.weight.double().T)
            assert layer(x[:0]).shape == (0, 8)
            assert torch.equal(layer(x), rounded)
        assert torch.equal(layer(x), exact)


@needs_vnni
def test_weights_that_change_or_are_cut_are_quantised_anew():
    layer, x = nn.Linear(16, 8, bias=False), torch.randn(4, 16)
    with torch.no_grad(), arithmetic("int8", CPU):
        before = layer(x)
        torch.testing.assert_close(F.linear(x, layer.weight[4:]), before[:, 4:])
        layer.weight.mul_(2)
        assert torch.equal(layer(x), 2 * before)
        layer.weight.data = 3 * layer.weight.data
        torch.testing.assert_close(layer(x), 6 * before)


@needs_vnni
def test_the_gradient_of_tokens_is_that_of_the_layer_without_rounding():
    layer, x = nn.Linear(16, 8), torch.randn(4, 16, requires_grad=True)
    with arithmetic("int8", CPU):
        out = layer(x)
    out.square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * out.detach() @ layer.weight)
    assert layer.weight.grad is None and layer.bias.grad is None


def test_other_devices_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"^--precision int8: expected a CPU, the device is cuda; bf16"):
        arithmetic("int8", torch.device("cuda"))
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    with pytest.raises(ConfigError, match=r"^--precision int8: expected an x86 CPU with VNNI .* choose bf16 or fp32$"):
        arithmetic("int8", CPU)
