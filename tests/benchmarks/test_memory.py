"""What a forward pass keeps for the backward pass, and what a side holds at most, counted by hand."""

import pytest
import torch

from benchmarks.memory import MemoryCounter, kept_for_backward


def test_inputs_of_products_are_kept_once_and_parameters_not_at_all():
    weight, x = torch.randn(4, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    assert kept_for_backward(lambda: x @ weight, [weight]) == 3 * 4 * 4
    assert kept_for_backward(lambda: (x @ weight) @ weight, [weight]) == 2 * (3 * 4 * 4)
    assert kept_for_backward(lambda: (x @ weight) + (x @ weight), [weight]) == 3 * 4 * 4
    assert kept_for_backward(lambda: x @ weight, []) == (3 + 4) * 4 * 4


def test_views_share_their_storage_and_a_slice_keeps_the_whole():
    weight, x = torch.randn(4, 4, requires_grad=True), torch.randn(6, 4)
    assert kept_for_backward(lambda: x[:3] @ weight + x[3:] @ weight, [weight]) == 6 * 4 * 4


@pytest.mark.parametrize("rows", [4, 2])
def test_bf16_keeps_half_and_copies_of_parameters_do_not_count(rows):
    weight, x = torch.randn(4, 4, requires_grad=True), torch.randn(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = torch.nn.functional.linear(x, torch.ones(4, 4, requires_grad=True))  # what is made of x in bf16
        assert kept_for_backward(lambda: torch.nn.functional.linear(hidden, weight[:rows]), [weight]) == 3 * 4 * 2


def test_what_is_made_of_parameters_alone_counts_where_it_is_no_copy():
    weight = torch.randn(4, 4, requires_grad=True)
    assert kept_for_backward(lambda: weight.exp().sin(), [weight]) == 4 * 4 * 4


def test_a_stage_holds_what_it_makes_and_what_earlier_stages_of_its_turn_left():
    memory, others = MemoryCounter(), torch.ones(1000)
    memory.begin_turn()
    with memory.stage("first"):
        kept = others + 1  # 4,000 bytes
        (kept + 1).sum()  # another 4,000, and the sum: gone after it
    with memory.stage("second"):
        kept[:10].add(1)  # 40 beside what the first stage left
    assert memory.peak_bytes == {"first": 8004, "second": 4040}
    memory.begin_turn()
    with memory.stage("second"):
        kept + 1  # what was kept belongs to another turn
    assert memory.peak_bytes["second"] == 4040
    del kept


def test_what_the_forward_pass_keeps_is_there_in_the_backward_pass():
    weight, memory = torch.randn(100, 100, requires_grad=True), MemoryCounter()
    with memory.stage("forward"):
        loss = (weight * 2).exp().sum()
    with memory.stage("backward"):
        loss.backward()
    assert memory.peak_bytes["backward"] >= memory.peak_bytes["forward"] >= 2 * weight.nbytes
