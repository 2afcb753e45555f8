"""One run of a benchmark: every precision in turn, the tables, the JSON."""

import gc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from rich.console import Console

from benchmarks.contest import compare_with_fp32
from benchmarks.contest_tables import show as show_contest
from benchmarks.measure import PRECISIONS, Turns, describe_machine, pick_device
from vl_absvit.cli import progress
from vl_absvit.data.json_files import make_room, write_json

Measure = Callable[[Turns], dict[str, Any]]
"""Measures one precision."""


class Common(TypedDict):
    """The options that all of these benchmarks have."""

    device: Literal["cpu", "cuda"]
    precision: Sequence[str]
    repeats: int  # timed rounds; one more counts operations
    output: Path | None


def run_session(
    told: Mapping[str, object],
    measure: Measure,
    compare: Callable[[dict[Any, dict[str, Any]]], None],
    show: Callable[[Console, str, dict[str, Any]], None],
    **common: Unpack[Common],
) -> None:
    """Measure, print the tables, write the JSON.

    Args:
        told: what the JSON begins with: the benchmark's name and its settings.
        compare: adds to the results, by precision, how each stands to the others.
        show: prints one precision's result.

    Raises:
        ConfigError: there is no GPU to use.
        RuntimeError: the sides do not compute the same.
    """
    where, repeats, output = pick_device(common["device"]), common["repeats"], common["output"]
    if output is not None:
        make_room(output)
    precisions = [name for name in PRECISIONS if name in common["precision"]]
    with progress() as bar:
        task = bar.add_task("rounds", total=len(precisions) * (repeats + 1))
        results = {}
        for name in precisions:
            results[name] = measure(Turns(where, name, repeats, lambda: bar.advance(task)))
            gc.collect()  # models and what trained them are gone before the next ones come
    compare(results)
    for name, result in results.items():
        show(Console(), name, result)
    if output is not None:
        settings = {**told, "repeats": repeats}
        write_json(output, settings | {"machine": describe_machine(where), "results": results}, indent=1)


def run_on_questions(
    benchmark: str,
    measure: Callable[..., dict[str, Any]],
    *,
    size: Literal["tiny", "base"],
    images: int,
    questions: Sequence[int],
    compiled: bool,
    **common: Unpack[Common],
) -> None:
    """A benchmark of questions about images; the named arguments are the command's options.

    Args:
        measure: of size, images, questions, compiled and turns.

    Raises: as ``run_session``.
    """
    questions = sorted(set(questions))
    told = {"benchmark": benchmark, "size": size, "images": images, "questions": questions}
    run_session(told, partial(measure, size, images, questions, compiled), compare_with_fp32, show_contest, **common)
