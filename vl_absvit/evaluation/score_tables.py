"""Tables of several recipes' scores over seeds, and of how far they are from those of one recipe, seed by seed."""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from vl_absvit.data.files import write_text
from vl_absvit.data.json_files import write_json
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.evaluation.paired_differences import CONFIDENCE, PairedDifference, paired_difference


class Column(NamedTuple):
    """A score of one run."""

    title: str
    digits: int


Scores = Mapping[str, float | None]
"""A run's score by column; None where the run has no such thing."""


class Row(NamedTuple):
    """The runs of a row."""

    runs: dict[int, Scores]  # seed -> column -> score, of the finished ones
    missing: list[int]  # seeds of the others

    @property
    def columns(self) -> list[str]:
        """Names of the scores."""
        return list(next(iter(self.runs.values()), {}))

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


def tabulate(
    arguments: argparse.Namespace,
    groups: Mapping[str, Mapping[str, Column]],
    files: Sequence[str],
    read: Callable[[Path], Scores],
) -> None:
    """The tables that a program's command line asks for.

    Args:
        arguments: the options of ``cli.add_table_options``.
        groups: as ``write_tables`` takes them.
        files, read: as ``read_row`` takes them.

    Raises:
        ConfigError: the row to compare with is none of the rows.
        InputError: as ``read_row``.
    """
    if arguments.against not in arguments.rows:
        raise ConfigError(f"--against: expected one of --rows, got {arguments.against!r:.60}")
    rows = {name: read_row(arguments.root, name, files, read) for name in arguments.rows}
    write_tables(rows, groups, arguments.against, arguments.output)


def read_row(root: Path, name: str, files: Sequence[str], read: Callable[[Path], Scores]) -> Row:
    """The finished runs of a row, ``ROOT/NAME-SEED``, and which are missing.

    Args:
        files: what a finished run has in its folder.
        read: the scores of a finished run.

    Raises:
        InputError: there is no folder of the row, there are two of a seed, or a file in one has another form.
    """
    folders: dict[int, Path] = {}
    for folder in sorted(root.iterdir() if root.is_dir() else ()):
        if match := re.fullmatch(rf"{re.escape(name)}-(\d+)", folder.name):
            if (other := folders.setdefault(int(match[1]), folder)) != folder:
                raise InputError(f"{root}: {other.name} and {folder.name} are both of seed {int(match[1])}")
    if not folders:
        raise InputError(f"{root}: row {name} has no run; expected folders such as {name}-0")
    missing = [seed for seed, folder in folders.items() if not all((folder / file).exists() for file in files)]
    runs = {seed: _checked(folder, read(folder)) for seed, folder in folders.items() if seed not in missing}
    return Row(dict(sorted(runs.items())), sorted(missing))


def _checked(folder: Path, scores: Scores) -> Scores:
    """The scores of a run, all of which must be numbers; raises ``InputError``."""
    for name, score in scores.items():
        if score is not None and type(score) not in (int, float):
            raise InputError(f"{folder}: expected a number as the score {name}, got {shown(score)}")
    return scores


def write_tables(
    rows: Mapping[str, Row], groups: Mapping[str, Mapping[str, Column]], against: str | None, stem: Path
) -> None:
    """Write STEM.md and STEM.json, and show the tables.

    Args:
        groups: what a table is about -> its columns, by the names that the rows have.
        against: row that the others are compared with; none if it is None or no row.
    """
    scores = {name: summarise(row) for name, row in rows.items()}
    reference = rows.get(against) if against is not None else None
    differences = {
        name: compare(row, reference) for name, row in rows.items() if reference is not None and name != against
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
        for about, columns in groups.items()
        for sheet in (
            lay_out(f"{about}: mean ± standard deviation over seeds.", scores, columns),
            lay_out(f"{about}, minus {against} seed by seed: mean ± standard error.", differences, columns),
        )
        if sheet.lines
    ]
    write_json(stem.with_suffix(".json"), content, indent=1)
    write_text(stem.with_suffix(".md"), as_markdown(sheets, missing))
    show(sheets, missing)


def summarise(row: Row) -> dict[str, Spread]:
    """Mean and standard deviation of every column that all finished runs have."""
    summary = {}
    for name in row.columns:
        by_seed = row.column(name)
        if by_seed and len(by_seed) == len(row.runs):
            values = by_seed.values()
            summary[name] = Spread(by_seed, mean(values), stdev(values) if len(values) > 1 else None)
    return summary


def compare(row: Row, reference: Row) -> dict[str, PairedDifference]:
    """Differences of every column that both rows have for the same seeds."""
    found = {name: paired_difference(row.column(name), reference.column(name)) for name in row.columns}
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
