"""Calls in child processes of bounded memory and time: what they may do."""

import pytest
import torch

from benchmarks.waits import fake_cuda
from tests.hostile.bounded import run_bounded


def take_a_step() -> int:
    weight = torch.ones(3, requires_grad=True)
    (2 * weight).sum().backward()
    return int(weight.grad.sum())


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU, a fork can take no backward pass")
def test_a_child_takes_a_backward_pass_also_where_its_parent_saw_a_pretended_gpu():
    with fake_cuda():
        torch.zeros(1, device="cuda")
    take_a_step()
    outcome = run_bounded(take_a_step)
    assert outcome.code == 6, outcome.err
