"""Norms of all processes' batches are those of one process with all of them: outputs, gradients, statistics."""

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.distributed_helper import run_on_ranks
from vl_absvit.distributed import rank, world_size
from vl_absvit.models.token_norms import MapBatchNorm, TokenBatchNorm, statistics_kept
from vl_absvit.tasks.global_norm import normed_by_all

INPUTS = {
    "maps": (MapBatchNorm, (4, 3, 2, 5)),
    "one value": (MapBatchNorm, (4, 3, 1, 1)),
    "tokens": (TokenBatchNorm, (4, 3, 3)),
}
"""Kinds of norms of three channels, and the shape of the input of all processes."""


def made(kind: str, frozen: bool = False) -> tuple[nn.Module, Tensor, Tensor]:
    """A norm that was used before, the input of all processes, and weights of its outputs in a loss."""
    torch.manual_seed(0)
    norm, shape = INPUTS[kind]
    layer = nn.Sequential(norm(3)).double()
    with torch.no_grad():
        for value in (layer[0].weight, layer[0].bias, layer[0].running_mean, layer[0].running_var):
            value.uniform_(0.5, 2)
    layer[0].weight.requires_grad_(not frozen)
    return layer.train(), 3 * torch.randn(shape).double() + 1, torch.randn(shape).double()


def passed(kind: str, kept: bool, frozen: bool) -> dict[str, Tensor]:
    """What two passes of this process's part give."""
    layer, x, weights = made(kind, frozen)
    if world_size() > 1:
        normed_by_all(layer)
    part = slice(rank() * len(x) // world_size(), (rank() + 1) * len(x) // world_size())
    x = x[part].requires_grad_()
    layer(x)
    if kept:
        with statistics_kept():
            out = layer(x)
    else:
        out = layer(x)
    (out * weights[part]).sum().backward()
    of_weights = {f"grad {name}": value.grad for name, value in layer.named_parameters() if value.grad is not None}
    return {"out": out.detach(), "grad": x.grad} | of_weights | dict(layer.named_buffers())


CASES = [(kind, kept, frozen) for kind in INPUTS for kept, frozen in ((False, False), (True, False), (False, True))]


def pass_all() -> list[dict[str, Tensor]]:
    return [passed(*case) for case in CASES]


def test_two_processes_norm_as_one():
    for case, one, *two in zip(CASES, pass_all(), *run_on_ranks(pass_all, 2), strict=True):
        for name, expected in one.items():
            parts = [each[name] for each in two]
            if name in ("out", "grad"):
                found = torch.cat(parts)
            elif name.startswith("grad"):
                found = sum(parts)
            else:
                assert torch.equal(*parts)
                found = parts[0]
            torch.testing.assert_close(found, expected, msg=f"{case} {name}")


@pytest.mark.parametrize("kind", INPUTS)
def test_its_backward_pass_is_the_derivative(kind):
    layer, x, _ = made(kind)
    normed_by_all(layer)
    assert torch.autograd.gradcheck(layer, (x.requires_grad_(),))


def test_inputs_in_bf16_are_normed_in_fp32_and_kept_in_bf16():
    layer, x, _ = made("maps")
    layer, x = layer.float(), x.bfloat16()
    twin = copy.deepcopy(layer)
    normed_by_all(layer)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        out = layer(x.requires_grad_())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, twin(x.float()).bfloat16())
    assert {each.dtype for each in kept if each.ndim > 1} == {torch.bfloat16}
    torch.testing.assert_close(layer[0].running_var, twin[0].running_var)


def test_names_and_weights_stay():
    model = nn.ModuleDict({"a": MapBatchNorm(2), "b": nn.Sequential(TokenBatchNorm(3))})
    before = {name: id(value) for name, value in model.named_parameters()}
    normed_by_all(model)
    assert {name: id(value) for name, value in model.named_parameters()} == before
    assert model["a"].state_dict().keys() == MapBatchNorm(2).state_dict().keys()
