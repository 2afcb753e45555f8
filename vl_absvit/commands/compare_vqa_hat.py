"""Compare where a model looked with where people looked when they answered the same questions.

vl-absvit compare-vqa-hat --maps EXPORT --hat OUT --output scores.json

EXPORT is written by vl-absvit export-attention --data OUT, OUT by vl-absvit prepare-vqa-hat. Human maps are cut to
the part of the image that the model saw; both maps are averaged onto 14 x 14 cells. "definitions" in scores.json says
what each row means.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from vl_absvit.cli import OptionParser, add_export_options, progress, run_main
from vl_absvit.data.json_files import make_room, write_json
from vl_absvit.data.records import read_manifest
from vl_absvit.data.vqa_hat import HATQuestion, read_hat_questions, read_human_maps
from vl_absvit.errors import InputError
from vl_absvit.evaluation.attention_agreement import Agreement
from vl_absvit.evaluation.hat_comparison import DEFINITIONS, HATComparison, Scores
from vl_absvit.looking.export_reader import check_kinds, main_map, read_index, read_maps


def main() -> None:
    arguments = parse_arguments()
    make_room(arguments.output)
    questions = read_hat_questions(arguments.hat)
    index = read_index(arguments.maps, "question")
    scores = compare(match(index, questions, arguments), arguments)
    (prepared,) = read_manifest(arguments.hat)["splits"].values()
    known = {question.question_id for question in questions}
    scores.counts.update(
        constant_human_maps_at_preparation=prepared["constant_maps"],
        questions_without_image=sum(question.image_size is None for question in questions),
        exported_without_human_map=sum(entry["question_id"] not in known for entry in index),
    )
    write_json(arguments.output, as_json(scores), indent=1)
    show(scores)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_export_options(parser)
    parser.add_argument("--hat", type=Path, required=True, metavar="OUT", help="the prepared VQA-HAT")
    return parser.parse_args()


def match(
    index: Sequence[dict[str, Any]], questions: Sequence[HATQuestion], arguments: argparse.Namespace
) -> dict[int, dict[str, Any]]:
    """The line of the export's index for every question that has human maps and an image.

    Raises:
        InputError: one is missing, or there twice, or about another question or image.
    """
    entries: dict[int, dict[str, Any]] = {}
    for entry in index:
        question_id = entry["question_id"]
        if question_id in entries:
            raise InputError(f"{arguments.maps}: question {question_id} was exported more than once")
        if question_id is not None:
            entries[question_id] = entry
    asked = [question for question in questions if question.image_size is not None]
    if not asked:
        raise InputError(f"{arguments.hat}: none of its {len(questions)} questions has an image")
    missing = [question.question_id for question in asked if question.question_id not in entries]
    if missing:
        raise InputError(
            f"{arguments.maps}: {len(missing)} of the {len(asked)} questions with human maps were not exported, "
            f"e.g. {missing[0]}; export all of {arguments.hat}"
        )
    matched = {question.question_id: entries[question.question_id] for question in asked}
    for question, entry in zip(asked, matched.values(), strict=True):
        assert question.image_size is not None, "the question has an image"
        # An id means another question in VQA v2 than in VQA v1, which VQA-HAT is about.
        expected = (question.image_id, question.question, list(question.image_size))
        found = (entry["image_id"], entry["question"], entry["image_size"])
        if found != expected:
            raise InputError(
                f"{arguments.maps}: question {question.question_id} is {_describe(*found)}, "
                f"in {arguments.hat} it is {_describe(*expected)}"
            )
    return matched


def _describe(image_id: int, question: str, size: Sequence[int]) -> str:
    return f"{question!r:.60} about image {image_id} of {size[0]} x {size[1]} pixels"


def compare(entries: Mapping[int, dict[str, Any]], arguments: argparse.Namespace) -> Scores:
    """Read the maps of both sides, a question at a time.

    Raises:
        InputError: a file is damaged, lacks a map, or nothing is left to compare.
    """
    kinds = arguments.map or list(read_maps(arguments.maps, next(iter(entries.values()))))
    comparison = HATComparison(kinds, main_map(kinds))
    waiting = dict(entries)
    with progress() as bar:
        task = bar.add_task("comparing", total=len(entries))
        for question_id, human in read_human_maps(arguments.hat):
            entry = waiting.pop(question_id, None)
            if entry is None:
                continue
            maps = read_maps(arguments.maps, entry)
            check_kinds(maps, kinds, arguments.maps / entry["npz"], only=not arguments.map)
            try:
                comparison.add(question_id, entry["image_id"], maps, human, tuple(entry["box"]), entry["image_size"])
            except InputError as error:
                raise InputError(f"{arguments.maps / entry['npz']}: {error}") from error
            bar.advance(task)
    if waiting:
        raise InputError(f"{arguments.hat}: {len(waiting)} questions have no human map, e.g. {next(iter(waiting))}")
    if not len(comparison):
        raise InputError(f"{arguments.hat}: no human map varies within what the model saw")
    return comparison.scores()


def as_json(scores: Scores) -> dict[str, Any]:
    """What is written: the headline with the rows' means, then every row, the counts and what the names mean."""
    rows = {name: row.overall._asdict() for name, row in scores.rows.items()}
    means = {name: rows[name]["rank_correlation"] if name in rows else None
             for name in ("inter_human", "centre", "shuffled", "bottom_up", "uniform_noise")}  # fmt: skip
    off_centre = {name: row.off_centre._asdict() for name, row in scores.rows.items()}
    return {
        "map": scores.map,
        **rows[scores.map],
        **means,
        "rows": rows,
        "off_centre": {"questions": scores.off_centre_questions, "rows": off_centre},
        "counts": scores.counts,
        "definitions": DEFINITIONS,
    }


def show(scores: Scores) -> None:
    """The rows as a table, and the counts that are not 0."""
    table = Table("map", title="rank correlation with human maps", box=SIMPLE)
    for name in ("all", "95 % interval", "n", "off centre", "95 % interval", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in scores.rows.items():
        table.add_row(name, *_cells(row.overall), *_cells(row.off_centre))
    Console().print(table)
    for name, count in scores.counts.items():
        numbers = count if isinstance(count, dict) else {"": count}
        for kind, number in numbers.items():
            if number:
                print(f"{number:,} {name.replace('_', ' ')}{f': {kind}' if kind else ''}")


def _cells(row: Agreement) -> tuple[str, str, str]:
    if row.rank_correlation is None:
        return "-", "-", "0"
    interval = "-" if row.interval is None else f"{row.interval[0]:.3f}, {row.interval[1]:.3f}"
    return f"{row.rank_correlation:.3f}", interval, f"{row.questions:,}"


if __name__ == "__main__":
    run_main(main)
