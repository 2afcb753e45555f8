"""The arithmetic of a contest, by hand, and its tables."""

import io

import pytest
import torch
from rich.console import Console

from benchmarks.contest import Case, Key, compare_with_fp32, measure_cases, summarise
from benchmarks.contest_tables import show
from benchmarks.measure import Measurements, Turns

CPU = torch.device("cpu")


def measured(seconds: dict, flops: dict, matmul: float = 1.0) -> Measurements:
    """Two rounds of a matrix product of 100 operations, and what else there was."""
    return Measurements({"matmul": [matmul, matmul], **seconds}, {"matmul": 100, **flops}, {})


def key(part: str, side: str = "ours", case: str = "one") -> Key:
    return Key(case, side, part)


@pytest.fixture
def result() -> dict:
    """One and four questions: forward and optimizer of two sides."""
    cases = [
        Case(name, number, {"naive": None, "ours": None}, {"x": 0.5}, {"naive": 8, "ours": 6})
        for name, number in (("one", 1), ("four", 4))
    ]
    seconds, flops = {}, {}
    for case, side, forward, optimizer, work in (
        ("one", "naive", [8.0, 6.0], [2.0, 2.0], 400),
        ("one", "ours", [4.0, 3.0], [1.0, 1.0], 200),
        ("four", "naive", [32.0, 24.0], [2.0, 2.0], 1600),
        ("four", "ours", [10.0, 7.5], [1.0, 1.0], 500),
    ):
        seconds |= {key("forward", side, case): forward, key("optimizer", side, case): optimizer}
        flops |= {key("forward", side, case): work, key("optimizer", side, case): 0}
    return summarise(cases, measured(seconds, flops))


def test_sides_are_summed_over_parts_and_compared_round_by_round(result):
    one = result["cases"]["one"]
    assert one["questions"] == 1 and one["agreement"] == {"x": 0.5} and one["floor"] == 2
    ours = one["sides"]["ours"]
    assert ours["seconds"] == {"median": 4.5, "low": 4.0, "high": 5.0}
    assert ours["ratio"] == {"median": 2.0, "low": 2.0, "high": 2.0}  # 10 / 5 and 8 / 4
    assert ours["flop"] == 200 and ours["share_of_matmul_rate"] == 200 / 4.5 / 100
    assert ours["parts"]["forward"] == {
        "seconds": {"median": 3.5, "low": 3.0, "high": 4.0}, "flop": 200, "share_of_matmul_rate": 200 / 3.5 / 100
    }  # fmt: skip
    assert ours["activation_bytes"] == 6 and ours["peak_bytes"] is None


def test_another_question_costs_what_more_of_them_cost_more_without_the_optimizer(result):
    extra = result["extra_question"]
    assert extra["naive"] == {"seconds": 1.0, "flop": 1.0}  # (28 - 7) / 3 of 7
    assert extra["ours"] == {"seconds": pytest.approx((8.75 - 3.5) / 3 / 3.5), "flop": 0.5}


def test_other_precisions_stand_to_naive_fp32(result):
    bf16 = {
        "matmul_flop_per_second": {"median": 250.0},
        "cases": {"one": {"floor": 2.0, "sides": {"ours": {"seconds": {"median": 1.5}}}}},
    }
    compare_with_fp32({"fp32": result, "bf16": bf16})
    assert bf16["cases"]["one"]["sides"]["ours"]["ratio_to_fp32_naive"] == 9 / 1.5
    assert bf16["cases"]["one"]["floor_to_fp32_naive"] == 2.0 * 2.5
    assert result["cases"]["one"]["sides"]["ours"]["ratio_to_fp32_naive"] == 9 / 4.5
    compare_with_fp32({"bf16": {}})  # nothing to compare with


def test_compiled_code_is_not_counted_and_has_our_operations(monkeypatch):
    monkeypatch.setattr("benchmarks.measure.MATMUL_SIDE", {"cpu": 8})
    calls = []

    def side(name: str):
        def run(stage):
            with stage("forward"):
                calls.append(name)
                torch.ones(2, 3) @ torch.ones(3, 4)

        return run

    case = Case("one", 1, {name: side(name) for name in ("naive", "ours", "compiled")}, {})
    sides = measure_cases([case], Turns(CPU, "fp32", 1, lambda: calls.append("|")))["cases"]["one"]["sides"]
    assert calls == ["naive", "ours", "|", "naive", "ours", "compiled", "|"]
    assert [cost["flop"] for cost in sides.values()] == [48, 48, 48]


def test_the_tables_show_times_floor_memory_parts_and_another_question(result):
    compare_with_fp32({"fp32": result})
    text = io.StringIO()
    show(Console(file=text, width=200), "fp32", result)
    shown = text.getvalue()
    row = next(line for line in shown.splitlines() if "four: ours" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][1:6] == [
        "9.75 (8.5-11)",
        "3.07 (3.06-3.09)",
        "3.20",
        "3.08",
        "3.20",
    ]
    assert "one: ours, forward" in shown and "one: x 0.5" in shown
    assert "one: ours keeps 0.75 of the naive side's bytes" in shown
    assert "another question on an image costs ours 0.50 of the first (by operations 0.50)" in shown
