"""The tables of a contest: what each side took, and what its parts took."""

from typing import Any

from rich.console import Console

from benchmarks.contest import NAIVE, OURS
from benchmarks.tables import number, span, table_of


def show(console: Console, precision: str, result: dict[str, Any]) -> None:
    """One precision: the sides of every case, their parts, and what another question on an image costs."""
    sides = [side for case in result["cases"].values() for side in case["sides"].values()]
    has_peak = any(side["peak_bytes"] for side in sides)
    has_activations = any(side["activation_bytes"] for side in sides)
    memory = ["GiB at most"] * has_peak + ["MiB of activations"] * has_activations
    ratios = ("naive / this", "by operations", "naive fp32 / this", "by operations and rate")
    table = table_of(precision, "s", *ratios, "GFLOP", "of a matmul's rate", *memory)
    for case_name, case in result["cases"].items():
        for name, side in case["sides"].items():
            row = [
                span(side["seconds"]),
                span(side["ratio"]),
                f"{case['floor']:.2f}" if name == OURS else "",
                f"{side['ratio_to_fp32_naive']:.2f}" if "ratio_to_fp32_naive" in side else "",
                f"{case['floor_to_fp32_naive']:.2f}" if name == OURS and "floor_to_fp32_naive" in case else "",
                number(side["flop"] / 1e9),
                f"{side['share_of_matmul_rate']:.0%}",
            ]
            row += [number(side["peak_bytes"] / 2**30) if side["peak_bytes"] else ""] * has_peak
            row += [number((side["activation_bytes"] or 0) / 2**20)] * has_activations
            table.add_row(f"{case_name}: {name}", *row)
        table.add_section()
    console.print(table)
    if any(len(side["parts"]) > 1 for side in sides):
        _show_parts(console, result)
    for name, case in result["cases"].items():
        told = ", ".join(f"{key.replace('_', ' ')} {number(value)}" for key, value in case["agreement"].items())
        console.print(f"{name}: {told}")
        if has_activations:
            kept = case["sides"][OURS]["activation_bytes"] / case["sides"][NAIVE]["activation_bytes"]
            console.print(f"{name}: ours keeps {kept:.2f} of the naive side's bytes of activations")
    for name, cost in result["extra_question"].items():
        console.print(
            f"another question on an image costs {name} {cost['seconds']:.2f} of the first "
            f"(by operations {cost['flop']:.2f})"
        )
    console.print(f"a plain matrix product: {number(result['matmul_flop_per_second']['median'] / 1e9)} GFLOP/s\n")


def _show_parts(console: Console, result: dict[str, Any]) -> None:
    table = table_of("part", "s", "GFLOP", "of a matmul's rate")
    for case_name, case in result["cases"].items():
        for name, side in case["sides"].items():
            for part_name, part in side["parts"].items():
                numbers = span(part["seconds"]), number(part["flop"] / 1e9), f"{part['share_of_matmul_rate']:.0%}"
                table.add_row(f"{case_name}: {name}, {part_name}", *numbers)
        table.add_section()
    console.print(table)
