"""How long a program takes from its start to its first word, by this checkout and by another one, in turns.

A checkpoint with random weights and a picture are made up. Each side's ``scripts/export_attention.py`` explains one
question about the picture, and several; it speaks when the maps are written. Files are in the system's memory: no side
waits for a disk.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console

from benchmarks.checkouts import OTHER, OURS, checkouts
from benchmarks.measure import describe_machine, spread
from benchmarks.pictures import jpeg, make_picture
from benchmarks.synthetic import Size, random_model
from benchmarks.tables import span, table_of
from benchmarks.texts import made_up_questions, train_tokenizer
from vl_absvit.cli import progress
from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.data.json_files import make_room, write_json
from vl_absvit.errors import InputError
from vl_absvit.tasks.vl_checkpoint import Preprocessing, VLCheckpoint, save_parts
from vl_absvit.tasks.vqa import ANSWERS

PROGRAM = "scripts/export_attention.py"
_ANSWERS = 3129  # VQAv2's
_PICTURE = (640, 480)


class Run(NamedTuple):
    """What one program took."""

    seconds: float  # to its first byte on stdout
    processor_seconds: float  # of all its processes, to the end


def run(*, size: Size, questions: Sequence[int], beside: Path | None, repeats: int, output: Path | None) -> None:
    """Measure, print the table, write the JSON; the arguments are the command's options."""
    if output is not None:
        make_room(output)
    sides = checkouts(beside, PROGRAM)
    with progress() as bar, tempfile.TemporaryDirectory() as folder:
        task = bar.add_task("rounds", total=repeats * len(questions) * len(sides))
        make_inputs(Path(folder), size, questions)
        runs = take_turns(sides, Path(folder), questions, repeats, lambda: bar.advance(task))
    cases = {case: summarise(of_case) for case, of_case in runs.items()}
    show(Console(), cases)
    if output is not None:
        told = {"benchmark": "start", "size": size, "repeats": repeats}
        write_json(output, told | {"machine": describe_machine(torch.device("cpu")), "cases": cases}, indent=1)


def make_inputs(folder: Path, size: Size, numbers: Sequence[int]) -> None:
    """A checkpoint, a picture, and files of questions about it."""
    questions, checkpoint = made_up_questions(1000), folder / "checkpoint"
    checkpoint.mkdir()
    model = random_model(size, {"kind": "vqa", "num_answers": _ANSWERS})
    # What is left out has its default, for which an earlier version need not have had a name.
    model.architecture["vision"] = {key: model.architecture["vision"][key] for key in ("model", "image_size")}
    preprocessing = Preprocessing(224, (0.5,) * 3, (0.5,) * 3, 50)
    training = {"task": "vqa", "dataset": "made up", "start": None}
    save_parts(checkpoint, VLCheckpoint(model, train_tokenizer(questions), preprocessing, training))
    answers = tuple(f"answer {row}" for row in range(_ANSWERS))
    AnswerVocabulary(answers, min_count=9, normaliser="vqa-official-1").save(checkpoint / ANSWERS)
    (folder / "picture.jpg").write_bytes(jpeg(make_picture(_PICTURE, np.random.default_rng(0))))
    for asked in numbers:
        lines = [json.dumps({"image": "picture.jpg", "question": text}) + "\n" for text in questions[:asked]]
        (folder / f"{asked}.jsonl").write_text("".join(lines), encoding="utf-8")


def take_turns(
    sides: Mapping[str, Path], folder: Path, questions: Sequence[int], repeats: int, advance: Callable[[], object]
) -> dict[str, dict[str, list[Run]]]:
    """Every side's runs, by case."""
    runs: dict[str, dict[str, list[Run]]] = {
        f"{asked} question{'s' * (asked > 1)}": {name: [] for name in sides} for asked in questions
    }
    for _ in range(repeats):
        for asked, of_case in zip(questions, runs.values(), strict=True):
            for name, checkout in sides.items():
                of_case[name].append(explain(checkout, folder, asked))
                advance()
    return runs


def explain(checkout: Path, folder: Path, asked: int) -> Run:
    """Run a checkout's program on so many questions.

    Raises:
        InputError: it ended with an error.
    """
    command: list[str | Path] = [
        sys.executable,
        PROGRAM,
        "--checkpoint",
        folder / "checkpoint",
        "--requests",
        folder / f"{asked}.jsonl",
    ]
    command += ["--output", folder / "out"]
    environment = os.environ | {"PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1"}
    before, begun = os.times(), time.monotonic()
    with (folder / "err").open("w+", encoding="utf-8") as errors:
        with subprocess.Popen(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None, "it is a pipe"
            process.stdout.read(1)
            seconds = time.monotonic() - begun
            process.stdout.read()
        if process.returncode:
            errors.seek(0)
            raise InputError(f"{checkout}/{PROGRAM} failed: {errors.read().strip()[-300:]}")
    after = os.times()
    shutil.rmtree(folder / "out")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(seconds, used)


def summarise(runs: Mapping[str, list[Run]]) -> dict[str, dict]:
    """Seconds of every side, and how much longer the other took, round by round."""
    found: dict[str, dict] = {
        name: {field: spread([getattr(each, field) for each in of_side])._asdict() for field in Run._fields}
        for name, of_side in runs.items()
    }
    if OTHER in runs:
        pairs = list(zip(runs[OTHER], runs[OURS], strict=True))
        found["ratio"] = {
            field: spread([getattr(other, field) / getattr(ours, field) for other, ours in pairs])._asdict()
            for field in Run._fields
        }
    return found


def show(console: Console, cases: Mapping[str, dict[str, dict]]) -> None:
    """A row for every case and side."""
    table = table_of("", "to the first word, s", "processor, s")
    for case, sides in cases.items():
        for name, of_side in sides.items():
            title = f"{case}: " + ("the other / this checkout" if name == "ratio" else name)
            table.add_row(title, *(span(of_side[field]) for field in Run._fields))
    console.print(table)
