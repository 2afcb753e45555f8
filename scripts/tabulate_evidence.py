"""The table of scripts/evidence.sh: mean and standard deviation over seeds of every row's scores.

python scripts/tabulate_evidence.py runs/evidence --rows vit absvit --output runs/evidence/table

Reads ROOT/<row>-<seed>/summary.json of every seed that is there, the same seeds for every row; writes OUTPUT.md and
OUTPUT.json.
"""

import re
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.data.json_files import read_json, write_json, write_text
from vl_absvit.errors import InputError


class Column(NamedTuple):
    """A score of one run; None where the run has no such thing."""

    title: str
    digits: int
    read: Callable[[dict[str, Any]], float | None]


def last_look(scores: dict[str, Any], first: str, second: str) -> float | None:
    """The second look's score, or the first one's in a model that looks once."""
    return scores.get(second, scores.get(first))


COLUMNS = {
    "vqa": Column("VQA accuracy", 1, lambda run: run["vqa_accuracy"]),
    "dual_ir_r1": Column("IR R@1, dual encoder", 1, lambda run: run["retrieval"][0]["ir_r1"]),
    "dual_tr_r1": Column("TR R@1, dual encoder", 1, lambda run: run["retrieval"][0]["tr_r1"]),
    "ir_r1": Column("IR R@1, whole model", 1, lambda run: run["retrieval"][1]["ir_r1"]),
    "tr_r1": Column("TR R@1, whole model", 1, lambda run: run["retrieval"][1]["tr_r1"]),
    "agreement_mask": Column("human agreement, prior mask", 3, lambda run: run["agreement"].get("prior_mask")),
    "agreement_cls": Column(
        "human agreement, CLS of the last look",
        3,
        lambda run: last_look(run["agreement"], "bottom_up_cls", "top_down_cls"),
    ),
    "agreement_cross": Column("human agreement, cross-attention", 3, lambda run: run["agreement"]["cross"]),
    "pointing_mask": Column("pointing, prior mask", 1, lambda run: run.get("prior_mask_pointing")),
    "pointing_tokens": Column(
        "pointing, tokens of the last look", 1, lambda run: last_look(run, "bottom_up_pointing", "top_down_pointing")
    ),
}


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of scripts/evidence.sh")
    parser.add_argument("--rows", nargs="+", required=True, metavar="NAME", help="rows in the order of the table")
    parser.add_argument("--output", type=Path, required=True, metavar="STEM", help="STEM.md and STEM.json to write")
    arguments = parser.parse_args()
    runs = {name: read_runs(arguments.root, name) for name in arguments.rows}
    seeds = {name: list(of_seed) for name, of_seed in runs.items()}
    for name in arguments.rows[1:]:
        if seeds[name] != seeds[arguments.rows[0]]:
            raise InputError(f"{arguments.root}: row {name} has seeds {seeds[name]}, others {seeds[arguments.rows[0]]}")
    table = {name: summarise(list(of_seed.values())) for name, of_seed in runs.items()}
    write_json(arguments.output.with_suffix(".json"), {"seeds": seeds[arguments.rows[0]], "rows": table}, indent=1)
    write_text(arguments.output.with_suffix(".md"), as_markdown(table))
    show(table)


def read_runs(root: Path, name: str) -> dict[int, dict[str, Any]]:
    """The scores of a row, by seed."""
    runs = {}
    for folder in root.iterdir():
        if match := re.fullmatch(rf"{re.escape(name)}-(\d+)", folder.name):
            runs[int(match[1])] = read_scores(folder / "summary.json")
    if not runs:
        raise InputError(f"{root}: row {name} has no run; expected folders such as {name}-0")
    return dict(sorted(runs.items()))


def read_scores(path: Path) -> dict[str, float | None]:
    """Every column's score of one run."""
    summary = read_json(path, dict)
    try:
        return {name: column.read(summary) for name, column in COLUMNS.items()}
    except (KeyError, IndexError, TypeError) as error:
        raise InputError(
            f"{path}: expected a summary of summarise_demo.py with agreement and two retrieval results: {error!r}"
        ) from error


def summarise(runs: list[dict[str, float | None]]) -> dict[str, dict[str, Any]]:
    """Mean and sample standard deviation of every column; one run has no deviation."""
    summary = {}
    for name in COLUMNS:
        values = [run[name] for run in runs]
        if None not in values:
            deviation = stdev(values) if len(values) > 1 else None
            summary[name] = {"mean": mean(values), "standard_deviation": deviation, "values": values}
    return summary


def cell(column: Column, summary: dict[str, Any] | None) -> str:
    """``mean ± deviation``; a dash where there is nothing to measure."""
    if summary is None:
        return "-"
    spread = summary["standard_deviation"]
    return f"{summary['mean']:.{column.digits}f}" + ("" if spread is None else f" ± {spread:.{column.digits}f}")


def as_markdown(table: dict[str, dict[str, Any]]) -> str:
    """The table for a document."""
    lines = [
        "| row | " + " | ".join(column.title for column in COLUMNS.values()) + " |",
        "| --- " * (len(COLUMNS) + 1) + "|",
    ]
    for row, summary in table.items():
        cells = [cell(column, summary.get(name)) for name, column in COLUMNS.items()]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def show(table: dict[str, dict[str, Any]]) -> None:
    """The table on screen."""
    shown = Table("row", *(column.title for column in COLUMNS.values()))
    for row, summary in table.items():
        shown.add_row(row, *(cell(column, summary.get(name)) for name, column in COLUMNS.items()))
    Console(width=max(Console().width, 160)).print(shown)


if __name__ == "__main__":
    run_main(main)
