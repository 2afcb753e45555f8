"""Answers on a CPU in fp32, bf16 and int8, which take turns, with one question about each of a few pictures.

Weights are random and fp32. How far a precision is from fp32 is said by the correlation of all answers' scores.
Processor time tells what the machine was not there for.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.measure import describe_machine, spread
from benchmarks.samples import ANSWERS, Workload, questions_about
from benchmarks.synthetic import PAD, random_model
from benchmarks.tables import number, span, table_of
from vl_absvit.cli import progress
from vl_absvit.config import EvaluationPrecision
from vl_absvit.data.collate import collate_vqa
from vl_absvit.data.json_files import make_room, write_json
from vl_absvit.models import VLAbSViT
from vl_absvit.precision import arithmetic

CPU = torch.device("cpu")
PRECISIONS = get_args(EvaluationPrecision)


def run(*, size: Literal["tiny", "base"], images: Sequence[int], repeats: int, output: Path | None) -> None:
    """Measure, print the tables, write the JSON; the arguments are the command's options.

    Raises:
        ConfigError: the CPU does not compute in int8.
    """
    if output is not None:
        make_room(output)
    model = random_model(size, {"kind": "vqa", "num_answers": ANSWERS})
    model.vision.fold()
    with progress() as bar:
        task = bar.add_task("rounds", total=len(images) * (repeats + 1))
        results = {number: measure(model, number, repeats, lambda: bar.advance(task)) for number in images}
    console = Console()
    for pictures, result in results.items():
        table = table_of(f"{pictures} x 1 question", "seconds", "processor seconds", "times fp32", "correlation")
        for precision, numbers in result.items():
            times = span(numbers["seconds"]), span(numbers["processor"])
            table.add_row(precision, *times, number(numbers["times_as_fast"]), f"{numbers['correlation']:.5f}")
        console.print(table)
    if output is not None:
        told = {"benchmark": "precisions", "size": size, "repeats": repeats}
        by_images = {str(number): result for number, result in results.items()}
        write_json(output, told | {"machine": describe_machine(CPU), "results": by_images}, indent=1)


@torch.no_grad()
def measure(
    model: VLAbSViT, images: int, repeats: int, advance: Callable[[], object]
) -> dict[EvaluationPrecision, dict[str, Any]]:
    """Seconds of every precision, its speed by processor time, its correlation with fp32; the first round warms up."""
    samples = questions_about(Workload(images, 1, model.vision.image_size[0]))
    batch = collate_vqa(samples, pad_id=PAD, vocabulary_size=ANSWERS)
    seconds, processor = defaultdict(list), defaultdict(list)
    logits: dict[EvaluationPrecision, Tensor] = {}
    for timed in (False, *[True] * repeats):
        for precision in PRECISIONS:
            begun, used = time.perf_counter(), time.process_time()
            with arithmetic(precision, CPU):
                logits[precision] = model(batch.images, batch.token_ids, batch.is_token, batch.image_index).logits
            if timed:
                seconds[precision].append(time.perf_counter() - begun)
                processor[precision].append(time.process_time() - used)
        advance()
    return {
        precision: {
            "seconds": spread(seconds[precision])._asdict(),
            "processor": spread(processor[precision])._asdict(),
            "times_as_fast": spread(processor["fp32"]).median / spread(processor[precision]).median,
            "correlation": float(
                torch.stack([logits["fp32"].ravel(), logits[precision].float().ravel()]).corrcoef()[0, 1]
            ),
        }
        for precision in PRECISIONS
    }
