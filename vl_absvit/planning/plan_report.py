"""A plan as JSON and as tables."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from vl_absvit.config import TaskConfig
from vl_absvit.planning.choices import Choice, Rate, overrides, run_steps, step_seconds
from vl_absvit.planning.counter import States
from vl_absvit.tasks.facts import Facts

GIB, TERA, DAY = 2**30, 1e12, 24 * 60 * 60


class Setting(NamedTuple):
    """The task and the machine of a plan."""

    task: str
    device: str  # whose kernels
    processes: int
    memory_gib: float  # of each process
    headroom: float  # share of it that is left for what is not counted


def describe(
    setting: Setting,
    config: TaskConfig,
    facts: Facts,
    states: States,
    choices: Sequence[Choice],
    chosen: Choice | None,
    rates: Mapping[str, Rate],
    measured: Sequence[Mapping[str, object]],
) -> dict[str, object]:
    """The whole plan, as JSON.

    Args:
        chosen: the recommended one of ``choices``.
        rates: by precision, as far as they are known.
        measured: steps on this machine, as ``hold_against_count`` gives them.
    """
    steps = None if facts.samples is None else run_steps(config.optim, facts.samples)
    rows = [_row(choice, rates.get(choice.precision), steps) for choice in choices]
    recommended = None
    if chosen is not None:
        recommended = rows[choices.index(chosen)] | {"overrides": overrides(chosen, config.run.precision)}
    return {
        **setting._asdict(),
        "assumed": list(facts.assumed),
        "batch_size": config.optim.batch_size,
        "image_size": config.vision.image_size,
        "samples": facts.samples,
        "steps": steps,
        "states_bytes": states._asdict(),
        "choices": rows,
        "recommended": recommended,
        "rates": {precision: rate._asdict() for precision, rate in rates.items()},
        "measured": list(measured),
    }


def _row(choice: Choice, rate: Rate | None, steps: int | None) -> dict[str, object]:
    seconds = None if rate is None else step_seconds(choice, rate)
    return {
        **choice._asdict(),
        "seconds_per_step": seconds,
        "days": None if seconds is None or steps is None else seconds * steps / DAY,
    }


def show(console: Console, plan: Mapping) -> None:
    """The plan for people."""
    states, room = plan["states_bytes"], (1 - plan["headroom"]) * plan["memory_gib"]
    console.print(
        f"{plan['task']} at {plan['image_size']} pixels, {plan['batch_size']} samples a step, "
        f"{plan['processes']} process(es) on {plan['device']}"
    )
    for line in plan["assumed"]:
        console.print(f"assumed: {line}", highlight=False)
    console.print(
        f"every process holds {_gib(sum(states.values()))} GiB: weights {_gib(states['weights'])}, AdamW's moments "
        f"{_gib(states['moments'])}, buckets of gradients to be exchanged {_gib(states['buckets'])}"
    )
    console.print(
        f"it may take {room:.1f} of {plan['memory_gib']:g} GiB; the rest is left for what is not counted (context of "
        "the driver, workspaces of libraries, fragmentation): an assumption, see --headroom"
    )
    console.print(_table(plan["choices"]))
    for precision, rate in plan["rates"].items():
        console.print(f"time in {precision}: {rate['flop_per_second'] / TERA:.3g} TFLOP/s, {rate['source']}")
    for step in plan["measured"]:
        console.print(
            f"measured in {step['precision']}: {step['samples']} samples took {_number(step['pass_seconds'])} s and "
            f"{_gib(step['peak_bytes'])} GiB (counted: {_gib(step['counted_bytes'])} GiB)"
        )
    if not plan["rates"]:
        console.print("time: not known here; --measure measures a step, --tflops and --utilisation assume a rate")
    else:
        console.print("times leave out loading, the exchange between processes and evaluation")
    if plan["steps"] is not None:
        console.print(f"the run: {plan['steps']:,} steps, {plan['samples']:,} training samples an epoch")
    else:
        console.print("the run: no prepared data to count samples in; --samples says how many there are")
    chosen = plan["recommended"]
    advice = "nothing fits" if chosen is None else f"recommended: {chosen['overrides']}"
    console.print(advice, highlight=False, soft_wrap=True)


def _table(rows: Sequence[Mapping]) -> Table:
    timed = any(row["seconds_per_step"] is not None for row in rows)
    in_days = any(row["days"] is not None for row in rows)
    names = ["precision", "recomputing", "micro-batch", "passes", "GiB", "fits", "TFLOP a step"]
    table = Table(*names, *["s a step"] * timed, *["a run"] * in_days)
    for column in table.columns[2:]:
        column.justify = "right"
    before = None
    for row in rows:
        kind = (row["precision"], row["checkpointing"])
        if before not in (None, kind):
            table.add_section()
        before = kind
        table.add_row(
            row["precision"],
            "yes" if row["checkpointing"] else "no",
            str(row["micro_batch_size"]),
            str(row["passes"]),
            _gib(row["peak_bytes"]),
            "yes" if row["fits"] else "[red]no[/red]",
            _number(row["flops"] / TERA),
            *[_number(row["seconds_per_step"])] * timed,
            *[_duration(row["days"])] * in_days,
        )
    return table


def _gib(size: int) -> str:
    return _number(size / GIB)


def _duration(days: float | None) -> str:
    if days is None:
        return ""
    hours = 24 * days
    return f"{60 * hours:.3g} min" if hours < 1 else f"{hours:.3g} h" if days < 1 else f"{_number(days)} days"


def _number(value: float | None) -> str:
    """Three digits, or all before the point."""
    return "" if value is None else f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"
