"""The tables of scripts/evidence.sh: every row's scores, and how far they are from those of one row, seed by seed.

python scripts/tabulate_evidence.py runs/evidence --rows vit absvit --output runs/evidence/table

Reads ROOT/<row>-<seed>/summary.json of what is finished so far; a folder without one is named as missing. Writes
OUTPUT.md and OUTPUT.json. Scores are means and standard deviations over a row's seeds. Differences are those of a row
and of --against on the seeds that both have: their mean, its standard error, and in bold where the 95 % interval of it
(Student's t) excludes 0.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.data.files import write_text
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.evaluation.controllability import read_steering
from vl_absvit.evaluation.paired_differences import CONFIDENCE, PairedDifference, paired_difference

AGAINST = "absvit"


class Column(NamedTuple):
    """A score of one run; None where the run has no such thing."""

    title: str
    digits: int
    read: Callable[[dict[str, Any]], float | None]


class Row(NamedTuple):
    """The runs of a row."""

    runs: dict[int, dict[str, float | None]]  # seed -> column -> score, of the finished ones
    missing: list[int]  # seeds of the others

    def column(self, name: str) -> dict[int, float]:
        """Seed -> score, where there is one."""
        scores_of = {seed: scores[name] for seed, scores in self.runs.items()}
        return {seed: score for seed, score in scores_of.items() if score is not None}


class Spread(NamedTuple):
    """A row's score."""

    by_seed: dict[int, float]
    mean: float
    standard_deviation: float | None  # of the sample; None of a single seed


class Sheet(NamedTuple):
    """A table as texts."""

    title: str
    head: list[str]
    lines: list[list[tuple[str, bool]]]  # cells, and whether each is a difference that is hardly one by chance


def last_look(scores: Mapping[str, Any], first: str, second: str) -> float | None:
    """The second look's score, or the first one's in a model that looks once."""
    return scores.get(second, scores.get(first))


def mask(run: dict[str, Any]) -> dict[str, float]:
    """How far the prior masks of questions that name objects are open; nothing where there is no such mask."""
    return (run.get("prior_mask") or {}).get("asked") or {}


def steered(run: dict[str, Any], score: str) -> float | None:
    """A score of the second look at pictures of two things; None where no strength steers one."""
    return None if run["steering"] is None else run["steering"][score]


SAID = {
    "vqa": Column("VQA accuracy", 1, lambda run: run["vqa_accuracy"]),
    "dual_ir_r1": Column("IR R@1, dual encoder", 1, lambda run: run["retrieval"][0]["ir_r1"]),
    "dual_tr_r1": Column("TR R@1, dual encoder", 1, lambda run: run["retrieval"][0]["tr_r1"]),
    "ir_r1": Column("IR R@1, whole model", 1, lambda run: run["retrieval"][1]["ir_r1"]),
    "tr_r1": Column("TR R@1, whole model", 1, lambda run: run["retrieval"][1]["tr_r1"]),
}
LOOKED = {
    "pointing_mask": Column("pointing, prior mask", 1, lambda run: run.get("prior_mask_pointing")),
    "mask_shut": Column("mask shut, % of questions", 1, lambda run: mask(run).get("shut")),
    "mask_open": Column("mask open, % of patches", 1, lambda run: mask(run).get("open")),
    "pointing_tokens": Column(
        "pointing, tokens of the last look", 1, lambda run: last_look(run, "bottom_up_pointing", "top_down_pointing")
    ),
    "steered_half": Column("steering, asked half", 1, lambda run: steered(run, "asked_half")),
    "steered_both": Column("steering, both halves", 1, lambda run: steered(run, "both_halves")),
    "agreement_mask": Column("human agreement, prior mask", 3, lambda run: run["agreement"].get("prior_mask")),
    "agreement_tokens": Column(
        "human agreement, tokens of the last look", 3, lambda run: last_look(run["agreement"], "bottom_up", "top_down")
    ),
    "agreement_cls": Column(
        "human agreement, CLS of the last look",
        3,
        lambda run: last_look(run["agreement"], "bottom_up_cls", "top_down_cls"),
    ),
    "agreement_cross": Column("human agreement, cross-attention", 3, lambda run: run["agreement"]["cross"]),
}
COLUMNS = SAID | LOOKED


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of scripts/evidence.sh")
    parser.add_argument("--rows", nargs="+", required=True, metavar="NAME", help="rows in the order of the tables")
    parser.add_argument(
        "--against", default=AGAINST, metavar="NAME", help=f"row that the others are compared with (default: {AGAINST})"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="STEM", help="STEM.md and STEM.json to write")
    arguments = parser.parse_args()
    against = arguments.against
    if against not in arguments.rows and against != AGAINST:
        raise ConfigError(f"--against: expected one of --rows, got {against!r:.60}")
    rows = {name: read_row(arguments.root, name) for name in arguments.rows}
    scores = {name: summarise(row) for name, row in rows.items()}
    differences = {
        name: compare(row, rows[against]) for name, row in rows.items() if against in rows and name != against
    }
    content = {
        "rows": {
            name: {"seeds": list(row.runs), "missing": row.missing, "scores": as_json(scores[name])}
            for name, row in rows.items()
        },
        "against": against,
        "confidence": CONFIDENCE,
        "differences": {name: as_json(each) for name, each in differences.items()},
    }
    missing = name_missing(rows)
    sheets = [
        sheet
        for about, columns in (("Answers and retrieval", SAID), ("Where it looks", LOOKED))
        for sheet in (
            lay_out(f"{about}: mean ± standard deviation over seeds.", scores, columns),
            lay_out(f"{about}, minus {against} seed by seed: mean ± standard error.", differences, columns),
        )
        if sheet.lines
    ]
    write_json(arguments.output.with_suffix(".json"), content, indent=1)
    write_text(arguments.output.with_suffix(".md"), as_markdown(sheets, missing))
    show(sheets, missing)


def read_row(root: Path, name: str) -> Row:
    """The finished runs of a row, and which are missing.

    Raises:
        InputError: there is no folder of the row, or a file in one has another form.
    """
    folders = {
        int(match[1]): folder
        for folder in (root.iterdir() if root.is_dir() else ())
        if (match := re.fullmatch(rf"{re.escape(name)}-(\d+)", folder.name))
    }
    if not folders:
        raise InputError(f"{root}: row {name} has no run; expected folders such as {name}-0")
    finished = {seed: (folder / "summary.json").exists() for seed, folder in sorted(folders.items())}
    return Row(
        {seed: read_scores(folders[seed]) for seed, is_finished in finished.items() if is_finished},
        [seed for seed, is_finished in finished.items() if not is_finished],
    )


def read_scores(folder: Path) -> dict[str, float | None]:
    """Every column's score of one run."""
    path = folder / "summary.json"
    run, steering = read_json(path, dict), folder / "steering/scores.json"
    if run.get("steering") is None:  # as in summaries of an earlier version
        run["steering"] = read_steering(steering) if steering.exists() else None
    try:
        return {name: column.read(run) for name, column in COLUMNS.items()}
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected a summary of summarise_demo.py with agreement and two retrieval results: {error!r}"
        ) from error


def summarise(row: Row) -> dict[str, Spread]:
    """Mean and standard deviation of every column that all finished runs have."""
    summary = {}
    for name in COLUMNS:
        by_seed = row.column(name)
        if by_seed and len(by_seed) == len(row.runs):
            values = by_seed.values()
            summary[name] = Spread(by_seed, mean(values), stdev(values) if len(values) > 1 else None)
    return summary


def compare(row: Row, reference: Row) -> dict[str, PairedDifference]:
    """Differences of every column that both rows have for the same seeds."""
    found = {name: paired_difference(row.column(name), reference.column(name)) for name in COLUMNS}
    return {name: each for name, each in found.items() if each is not None}


def as_json(found: Mapping[str, Spread | PairedDifference]) -> dict[str, dict[str, Any]]:
    """Of every column, under the fields' names."""
    return {
        name: each._asdict() | ({"excludes_zero": each.excludes_zero} if isinstance(each, PairedDifference) else {})
        for name, each in found.items()
    }


def lay_out(
    title: str, found: Mapping[str, Mapping[str, Spread | PairedDifference]], columns: Mapping[str, Column]
) -> Sheet:
    """A line per row: its name, its seeds, and ``mean ± spread`` of every column."""
    lines = []
    for name, of_columns in found.items():
        seeds = max((len(each.by_seed) for each in of_columns.values()), default=0)
        cells = [cell(column, of_columns.get(key)) for key, column in columns.items()]
        lines.append([(name, False), (str(seeds), False), *cells])
    return Sheet(title, ["row", "seeds", *(column.title for column in columns.values())], lines)


def cell(column: Column, found: Spread | PairedDifference | None) -> tuple[str, bool]:
    """``mean ± deviation``, or ``+mean ± standard error`` and whether it excludes 0; a dash where there is nothing."""
    if found is None:
        return "-", False
    if isinstance(found, PairedDifference):
        sign, spread, is_clear = "+", found.standard_error, found.excludes_zero
    else:
        sign, spread, is_clear = "", found.standard_deviation, False
    digits = column.digits
    return f"{found.mean:{sign}.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}"), is_clear


def name_missing(rows: Mapping[str, Row]) -> str:
    """Which runs are not finished, in words; nothing where all are."""
    parts = [f"{name}-{seed}" for name, row in rows.items() for seed in row.missing]
    return f"Not finished: {', '.join(parts)}." if parts else ""


def as_markdown(sheets: Sequence[Sheet], missing: str) -> str:
    """The tables for a document."""
    parts = [missing] if missing else []
    for sheet in sheets:
        lines = [[f"**{text}**" if is_clear else text for text, is_clear in line] for line in sheet.lines]
        lines = [sheet.head, ["---"] * len(sheet.head), *lines]
        parts += [sheet.title, "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    return "\n\n".join(parts) + "\n"


def show(sheets: Sequence[Sheet], missing: str) -> None:
    """The tables on screen, with a star at what is bold in a document."""
    console = Console(width=max(Console().width, 160))
    for sheet in sheets:
        table = Table(*sheet.head, title=sheet.title)
        for line in sheet.lines:
            table.add_row(*(f"{text} *" if is_clear else text for text, is_clear in line))
        console.print(table)
    console.print(f"*: the {CONFIDENCE:.0%} interval of a mean difference excludes 0")
    if missing:
        console.print(missing)


if __name__ == "__main__":
    run_main(main)
