"""The first minutes on a GPU: does everything run there, to the same numbers as on a CPU, how fast, in how much memory.

python -m benchmarks.gpu_check --device cuda --minutes 6 --output gpu_check.json
It needs neither network nor data: weights, images and texts are random. What does not fit into the time is left out and
said so. The exit code is 1 where a check fails.
"""

import argparse
import gc
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import retrieval, train_vqa
from benchmarks.every_task import BASE, DROPPING, EXPLAINED, READS, SELECTIONS, TINY, Trial, config_of
from benchmarks.measure import PRECISIONS, Turns, describe_machine
from benchmarks.samples import ANSWERS
from benchmarks.waits import Waits, real_cuda
from vl_absvit.cli import OptionParser, run_main
from vl_absvit.config import Precision
from vl_absvit.data.json_files import write_json
from vl_absvit.errors import InputError
from vl_absvit.planning.measurement import hold_against_count
from vl_absvit.tasks.facts import Facts, Words
from vl_absvit.tasks.registry import TASKS
from vl_absvit.variants import VARIANTS, TopDown

OK, FAILED, SKIPPED, TOLD = "ok", "FAILED", "skipped", ""
TOLERANCE = {"fp32": 1e-3, "bf16": 3e-2, "compiled": 1e-3}
"""How far a loss may be from the CPU's in fp32, relative to it; on a GPU sums are taken in another order."""
PEAK_TFLOPS = {  # of dense bf16 products, from the makers' data sheets; the first name that fits counts
    "B200": 2250, "H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "L40": 181, "L4": 121,
    "A40": 150, "A10G": 70, "A10": 125, "RTX 4090": 165, "RTX 3090": 71,
}  # fmt: skip
COUNTED = (0.7, 1.15)
"""Measured memory over the planner's count, within which the count is good."""


class Row(NamedTuple):
    """One line of the table."""

    part: str
    what: str
    found: str
    expected: str
    verdict: str


class Setting(NamedTuple):
    """What is checked where."""

    device: torch.device
    size: Literal["tiny", "base"]  # of what is timed
    is_cuda: bool

    @property
    def work(self) -> dict[str, int]:
        """Of what is timed."""
        if self.size == "tiny":
            return dict(images=2, captions=8, shortlist=2, batch=8, gallery=2, repeats=1, planned=2)
        return dict(images=32, captions=512, shortlist=64, batch=256, gallery=32, repeats=3, planned=16)


Part = Callable[[Setting], Iterator[Row]]


def everything_runs(setting: Setting) -> Iterator[Row]:
    """A step, an evaluation and maps of every task with every encoder; the host waits for the device when it must."""
    for kind in TASKS:
        for top_down in VARIANTS:
            yield attempt("runs", f"{kind}, {top_down}", partial(_runs, setting, kind, top_down))


def _runs(setting: Setting, kind: str, top_down: TopDown) -> tuple[str, str, bool | None]:
    trial = Trial(kind, top_down, setting.device, passes=2)
    allowed: dict[str, tuple[Callable[[], object], int]] = {
        "step": (trial.step, 1),
        "evaluation": (trial.evaluate, 1 + READS.get(kind, 1)),
        "maps": (trial.maps, 1),
    }
    if kind not in SELECTIONS:
        del allowed["evaluation"]
    if kind not in EXPLAINED:
        del allowed["maps"]
    found = {}
    for name, (run, _) in allowed.items():
        if setting.is_cuda:
            run()  # what a device does once
        with real_cuda() if setting.is_cuda else nullcontext(Waits()) as waits:
            run()
        found[name] = sum(waits.values())
    said = ", ".join(f"{name} {number}" for name, number in found.items())
    expected = ", ".join(f"{name} {most}" for name, (_, most) in allowed.items())
    is_good = all(found[name] <= most for name, (_, most) in allowed.items())
    return (f"waits: {said}", f"at most {expected}", is_good) if setting.is_cuda else ("runs", "runs", True)


def losses_agree(setting: Setting) -> Iterator[Row]:
    """Losses of one step are the CPU's in fp32."""
    for kind in TASKS:
        ways = ["fp32", "bf16", "compiled"] if kind == "vqa" else ["fp32", "bf16"]
        for way in ways:
            yield attempt("losses", f"{kind}, {way}", partial(_agree, setting, kind, way))


def _agree(setting: Setting, kind: str, way: str) -> tuple[str, str, bool | None]:
    expected = Trial(kind, "absvit", torch.device("cpu")).step()
    precision: Precision = "bf16" if way == "bf16" else "fp32"
    found = Trial(kind, "absvit", setting.device, precision=precision, compiled=way == "compiled").step()
    # Of nearly equal captions bf16 may draw another one.
    names = [name for name in expected if not (way == "bf16" and name == "itm")]
    difference = max(abs(found[name] - expected[name]) / abs(expected[name]) for name in names)
    return f"differ by {difference:.1e}", f"{TOLERANCE[way]:.0e}", difference <= TOLERANCE[way]


def draws_agree(setting: Setting) -> Iterator[Row]:
    """Looking ahead without gradient draws what the pass with gradient draws."""
    for precision in PRECISIONS:

        def draws(precision: Precision = precision) -> tuple[str, str, bool | None]:
            difference = Trial("vqa", "absvit", setting.device, precision=precision, size=DROPPING).ahead_differs_by()
            return f"differ by {difference:.1e}", "1e-05", difference <= 1e-5

        yield attempt("dropout", f"with and without gradient, {precision}", draws)


def steps_are_fast(setting: Setting) -> Iterator[Row]:
    """Throughput and memory of the VQA step, against the naive transcription."""
    work, card = setting.work, _peak_of(setting)

    def measure() -> dict:
        turns = Turns(setting.device, "bf16", work["repeats"], lambda: None)
        return train_vqa.measure(setting.size, work["images"], [1], setting.is_cuda, turns)

    yield from _timed(
        "VQA step", measure, lambda result: next(iter(result["cases"].values()))["sides"], work["images"], card
    )


def scoring_is_fast(setting: Setting) -> Iterator[Row]:
    """Throughput and memory of scoring a gallery, against the naive transcription."""
    work, card = setting.work, _peak_of(setting)
    pairs = work["gallery"] * work["captions"]

    def measure() -> dict:
        turns = Turns(setting.device, "bf16", work["repeats"], lambda: None)
        sizes = (work["gallery"], work["captions"], work["shortlist"], work["batch"])
        return retrieval.measure(setting.size, *sizes, turns)

    yield from _timed("retrieval", measure, lambda result: result["sides"], pairs, card)


def memory_is_as_planned(setting: Setting) -> Iterator[Row]:
    """What a step takes beside what the planner counts."""
    size, samples = (BASE if setting.size == "base" else TINY), setting.work["planned"]
    for precision in reversed(PRECISIONS):

        def plan(precision: Precision = precision) -> tuple[str, str, bool | None]:
            facts = Facts(None, ANSWERS, Words(size.words, 1, 0, 2), ())
            config = config_of("vqa", "absvit", precision, 1, size._replace(samples=samples))
            step = hold_against_count(config, facts, samples, setting.device, precision)
            share = step["peak_bytes"] / step["counted_bytes"]
            is_good = COUNTED[0] <= share <= COUNTED[1] if setting.is_cuda else None  # a small one drowns on a CPU
            return f"{_mib(step['peak_bytes'])}, {share:.2f} of the count", f"{COUNTED[0]} to {COUNTED[1]}", is_good

        yield attempt("memory", f"VQA step of {samples}, {precision}", plan)


def attempt(part: str, what: str, check: Callable[[], tuple[str, str, bool | None]]) -> Row:
    """A check's row; an error is a failure like another."""
    try:
        found, expected, is_good = check()
    except Exception as error:
        traceback.print_exc()
        return Row(part, what, f"{type(error).__name__}: {' '.join(str(error).split())[:80]}", "no error", FAILED)
    finally:
        gc.collect()
        torch.cuda.empty_cache()
    return Row(part, what, found, expected, TOLD if is_good is None else OK if is_good else FAILED)


def _timed(
    what: str, measure: Callable[[], dict], sides_of: Callable[[dict], dict], items: int, peak: float | None
) -> Iterator[Row]:
    sides: dict = {}

    def run() -> tuple[str, str, bool | None]:
        sides.update(sides_of(measure()))
        return "outputs agree", "with the naive side", True

    yield attempt("speed", what, run)
    for name, side in sides.items():
        seconds = (side.get("seconds") or side["seconds_per_gallery"])["median"]
        flops = side.get("flop") or side["flop_per_gallery"]
        rate = f"{items / seconds:.4g}/s"
        memory = f", {_mib(side['peak_bytes'])}" if side.get("peak_bytes") else ""
        share = f", MFU {flops / seconds / peak:.1%}" if peak else ", MFU unknown: no peak of this device is known"
        yield Row("speed", f"{what}, {name}", rate + memory + share, f"naive / it: {side['ratio']['median']:.2f}", TOLD)


def peak_of(name: str) -> float | None:
    """Operations per second of a card's dense bf16 products, if it is known."""
    return next((1e12 * tera for card, tera in PEAK_TFLOPS.items() if all(word in name for word in card.split())), None)


def _peak_of(setting: Setting) -> float | None:
    return peak_of(torch.cuda.get_device_name(setting.device)) if setting.is_cuda else None


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


PARTS: list[tuple[Part, float]] = [  # and the seconds that one of its checks may take on a GPU
    (everything_runs, 5), (losses_agree, 10), (draws_agree, 5), (memory_is_as_planned, 15), (steps_are_fast, 60),
    (scoring_is_fast, 40),
]  # fmt: skip


def check(setting: Setting, seconds: float, clock: Callable[[], float] = time.monotonic) -> list[Row]:
    """All rows, as far as the time goes."""
    end, rows = clock() + seconds, []
    for part, needed in PARTS:
        checks = part(setting)
        while True:
            if end - clock() < needed:
                rows.append(Row(part.__name__, "the rest of it", "time is up", "", SKIPPED))
                break
            row = next(checks, None)
            if row is None:
                break
            rows.append(row)
    return rows


def main() -> None:
    """The command."""
    arguments = parse_arguments()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise InputError("PyTorch finds no GPU here; --device cpu --size tiny runs the same checks without one")
    setting = Setting(torch.device(arguments.device), arguments.size, arguments.device == "cuda")
    started = time.monotonic()
    rows = check(setting, 60 * arguments.minutes)
    machine = describe_machine(setting.device)
    title = f"{machine['device']}, torch {torch.__version__}, {arguments.size}, {time.monotonic() - started:.0f} s"
    table = Table("part", "what", "found", "expected", "", title=title)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    failed = sum(row.verdict == FAILED for row in rows)
    write_json(arguments.output, {"machine": machine, "size": arguments.size, "failed": failed,
                                  "rows": [row._asdict() for row in rows]}, indent=1)  # fmt: skip
    if failed:
        raise InputError(f"{failed} of {len(rows)} checks failed; see the table and {arguments.output}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = OptionParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where (default: cuda)")
    parser.add_argument("--size", choices=("base", "tiny"), default="base", help="of what is timed (default: base)")
    parser.add_argument("--minutes", type=float, default=5.5, help="after which the rest is left out (default: 5.5)")
    parser.add_argument("--output", type=Path, default=Path("gpu_check.json"), help="the table (gpu_check.json)")
    return parser.parse_args()


if __name__ == "__main__":
    run_main(main)
