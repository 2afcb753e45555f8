"""What is measured: operations as one counts them by hand, rounds in turn, and a clear word where there is no GPU."""

import pytest
import torch

from benchmarks.measure import FlopCounter, Spread, matmul, spread, take_turns

CPU = torch.device("cpu")


def test_a_matrix_product_and_attention_count_two_operations_per_multiply_add():
    counter = FlopCounter()
    with counter.stage("product"):
        torch.randn(3, 5) @ torch.randn(5, 7)
    with counter.stage("attention"), torch.no_grad():
        q, k = torch.randn(2, 4, 6, 8), torch.randn(2, 4, 9, 8)
        mask = torch.ones(2, 1, 1, 9, dtype=torch.bool)
        torch.nn.functional.scaled_dot_product_attention(q, k, k, mask)
    assert counter.flops == {"product": 2 * 3 * 5 * 7, "attention": 2 * 2 * (2 * 4 * 6 * 9 * 8)}


def test_sides_take_turns_and_the_first_round_only_counts():
    order, rounds = [], []

    def side(name):
        def run(stage):
            with stage(name):
                order.append(name)

        return run

    measured = take_turns([side("a"), side("b")], CPU, 2, lambda: rounds.append(len(order)))
    assert order == ["a", "b"] * 3 and rounds == [2, 4, 6]
    assert {name: len(seconds) for name, seconds in measured.seconds.items()} == {"a": 2, "b": 2}
    assert measured.flops == measured.peak_bytes == {"a": 0, "b": 0}


def test_a_stage_that_fails_is_not_timed():
    def fail(stage):
        with stage("a"):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        take_turns([fail], CPU, 1, lambda: None)


def test_the_reference_is_a_product_of_two_square_matrices(monkeypatch):
    monkeypatch.setattr("benchmarks.measure.MATMUL_SIDE", {"cpu": 16})
    measured = take_turns([matmul(CPU, torch.bfloat16)], CPU, 3, lambda: None)
    assert measured.flops == {"matmul": 2 * 16**3} and len(measured.seconds["matmul"]) == 3


def test_a_spread_is_median_least_and_greatest():
    assert spread([3, 1, 2, 10]) == Spread(2.5, 1.0, 10.0)
