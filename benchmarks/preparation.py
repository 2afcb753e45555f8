"""How long a data set of questions takes to be prepared, by this checkout and by another one, each a whole program.

Pictures of COCO's size are made up; a hundred files stand under many names, for no side remembers a file. Five
questions are asked about each picture, and ten people answer, as in VQAv2. The sides take turns, each prepares into a
folder of its own, and the folders must hold the same bytes. Reading files that the system has just written does not
wait for a disk.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

from benchmarks.checkouts import OTHER, OURS, checkouts
from benchmarks.measure import describe_machine, spread
from benchmarks.pictures import jpeg, make_picture
from benchmarks.tables import number, span, table_of
from vl_absvit.cli import progress
from vl_absvit.data.json_files import make_room, read_json, write_json
from vl_absvit.errors import InputError
from vl_absvit.prepare.coco_images import official_file

PROGRAM = "data_prep/prepare_vqav2.py"
QUESTIONS_PER_IMAGE, ANSWERS_PER_QUESTION = 5, 10
DISTINCT_PICTURES, SIZE = 100, (640, 480)
ANSWERS, AGREEMENT = 5_000, 0.7  # distinct answers; the chance that a person gives a question's own
_SECONDS_BETWEEN_LOOKS = 0.02  # at a process's memory
_TOLD = ("splits", "vocabulary", "minival", "missing_images", "skipped_images", "skipped_questions", "warnings")


class Run(NamedTuple):
    """What one preparation took."""

    seconds: float
    processor_seconds: float  # of all its processes
    peak_bytes: int  # of its first process, which holds the tables


def run(*, images: int, beside: Path | None, repeats: int, output: Path | None) -> None:
    """Measure, print the table, write the JSON; the arguments are the command's options."""
    if output is not None:
        make_room(output)
    sides = checkouts(beside, PROGRAM)
    with progress() as bar, tempfile.TemporaryDirectory() as folder:
        task = bar.add_task("rounds", total=repeats * len(sides))
        write_raw(Path(folder, "raw"), images)
        runs = take_turns(sides, Path(folder), repeats, lambda: bar.advance(task))
    results = summarise(runs)
    _show(Console(), images, results)
    if output is not None:
        told = {"benchmark": "preparation", "images": images, "repeats": repeats}
        write_json(output, told | {"machine": describe_machine(torch.device("cpu")), "results": results}, indent=1)


def write_raw(raw: Path, images: int, seed: int = 0) -> None:
    """The files of val2014 with ``images`` pictures."""
    generator = np.random.default_rng(seed)
    (raw / "val2014").mkdir(parents=True)
    for image_id in range(1, images + 1):
        file = raw / official_file("val2014", image_id)
        if image_id <= DISTINCT_PICTURES:
            file.write_bytes(jpeg(make_picture(SIZE, generator)))
        else:
            file.hardlink_to(raw / official_file("val2014", (image_id - 1) % DISTINCT_PICTURES + 1))
    questions, annotations = [], []
    for image_id in range(1, images + 1):
        for question_id in range(1000 * image_id, 1000 * image_id + QUESTIONS_PER_IMAGE):
            own, *others = (f"answer {n}" for n in generator.zipf(1.5, 1 + ANSWERS_PER_QUESTION) % ANSWERS)
            said = [own if generator.random() < AGREEMENT else other for other in others]
            ids = {"question_id": question_id, "image_id": image_id}
            text = f"What is number {question_id} beside the other things?"
            questions.append(ids | {"question": text})
            answers = [{"answer": a, "answer_confidence": "yes", "answer_id": n} for n, a in enumerate(said, start=1)]
            types = {"question_type": "what is", "answer_type": "other", "multiple_choice_answer": own}
            annotations.append(ids | types | {"answers": answers})
    write_json(raw / "v2_OpenEnded_mscoco_val2014_questions.json", {"questions": questions})
    write_json(raw / "v2_mscoco_val2014_annotations.json", {"annotations": annotations})


def take_turns(
    sides: Mapping[str, Path], folder: Path, repeats: int, advance: Callable[[], object]
) -> dict[str, list[Run]]:
    """Prepare ``folder / "raw"`` by every side's checkout, again and again.

    Raises:
        InputError: a preparation failed, or two made different folders.
    """
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for _ in range(repeats):
        made = {}
        for name, checkout in sides.items():
            runs[name].append(prepare(checkout, folder / "raw", folder / "out"))
            made[name] = content_of(folder / "out")
            shutil.rmtree(folder / "out")
            advance()
        if made[OURS] != made.get(OTHER, made[OURS]):
            raise InputError("the prepared folders differ")
    return runs


def prepare(checkout: Path, raw: Path, output: Path) -> Run:
    """Run a checkout's program, in as many processes as it takes for itself.

    Raises:
        InputError: it ended with an error.
    """
    command: list[str | Path] = [sys.executable, checkout / PROGRAM, "--root", raw, "--output", output]
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=subprocess.DEVNULL)
    peak = 0
    while not (done := os.wait4(process.pid, os.WNOHANG))[0]:
        peak = _most_memory(process.pid) or peak
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    seconds = time.perf_counter() - start
    _, status, usage = done
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(f"{checkout}: {PROGRAM} ended with {process.returncode}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak)


def _most_memory(process: int) -> int:
    """Bytes of memory that a process has held at most; 0 if it has ended."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text(encoding="utf-8"))
    return 1024 * int(found[1]) if found else 0


def content_of(folder: Path) -> dict[str, Any]:
    """The files of a prepared folder by name; of the manifest, what is told by every version of the program."""
    content: dict[str, Any] = {file.name: file.read_bytes() for file in folder.iterdir()}
    manifest = read_json(folder / "manifest.json", dict)
    return content | {"manifest.json": {key: manifest[key] for key in _TOLD}}


def summarise(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Spreads of every side's runs; and of the other's seconds over ours, round by round."""
    results: dict[str, Any] = {
        name: {field: spread([getattr(each, field) for each in taken])._asdict() for field in Run._fields}
        for name, taken in runs.items()
    }
    if OTHER in runs:
        ratios = [other.seconds / ours.seconds for ours, other in zip(runs[OURS], runs[OTHER], strict=True)]
        results["ratio"] = spread(ratios)._asdict()
    return results


def _show(console: Console, images: int, results: Mapping[str, Any]) -> None:
    title = f"{QUESTIONS_PER_IMAGE * images:,} questions about {images:,} pictures"
    table = table_of(title, "seconds", "processor seconds", "memory, MB")
    for name in (name for name in (OURS, OTHER) if name in results):
        side = results[name]
        memory = number(side["peak_bytes"]["median"] / 1e6)
        table.add_row(name, span(side["seconds"]), span(side["processor_seconds"]), memory)
    console.print(table)
    if "ratio" in results:
        console.print(f"the other / this checkout, in seconds: {span(results['ratio'])}; the folders are equal")
