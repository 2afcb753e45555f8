"""A training step of VQA: batch, forward pass with all losses, backward pass, optimizer.

The naive side trains on every question with an image of its own. Ours shares an image's first look among its questions.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Unpack

import torch
from accelerate.utils import send_to_device

from benchmarks.contest import COMPILED, NAIVE, OURS, compare_with_fp32, measure_cases
from benchmarks.contest_tables import show
from benchmarks.naive import naive_forward
from benchmarks.naive_training import question_batch, question_losses
from benchmarks.samples import ANSWERS, Workload, questions_about
from benchmarks.session import Common, run_session
from benchmarks.synthetic import PAD, random_model
from benchmarks.training import Trainee, in_precision, make_optimizers, nowhere, training_case
from vl_absvit.data.collate import collate_vqa
from vl_absvit.tasks.vqa import VQAConfig, VQATask


def run(
    *, size: Literal["tiny", "base"], images: int, questions: Sequence[int], compiled: bool, **common: Unpack[Common]
) -> None:
    """Measure, print the tables, write the JSON; the arguments are the command's options.

    Raises: as ``run_session``.
    """
    questions = sorted(set(questions))
    told = {"benchmark": "train-vqa", "size": size, "images": images, "questions": questions}
    run_session(told, partial(measure, size, images, questions, compiled), compare_with_fp32, show, **common)


def measure(
    size: Literal["tiny", "base"],
    images: int,
    questions: Sequence[int],
    compiled: bool,
    device: torch.device,
    precision: str,
    repeats: int,
    advance: Callable[[], object],
) -> dict[str, Any]:
    """Everything about one precision; ``advance`` is called after every round."""
    model = random_model(size, {"kind": "vqa", "num_answers": ANSWERS}).to(device)
    task = VQATask.without_data(VQAConfig(**nowhere(precision)), model)
    resolution = model.vision.image_size[0]
    works = [Workload(images, number, resolution) for number in questions]
    trainees = [make_trainees(task, work, compiled, precision) for work in works]
    optimizers = make_optimizers(task, trainees[0])
    cases = [
        training_case(work.named("question"), work.per_image, task, sides, optimizers, precision)
        for work, sides in zip(works, trainees, strict=True)
    ]
    return measure_cases(cases, device, precision, repeats, advance)


def make_trainees(task: VQATask, work: Workload, compiled: bool, precision: str) -> dict[str, Trainee]:
    """Both sides on the same questions."""
    model, samples = task.model, questions_about(work)
    device = next(model.parameters()).device
    read = in_precision(partial(naive_forward, model), precision, device)

    def own_batch():
        return send_to_device(collate_vqa(samples, pad_id=PAD, vocabulary_size=ANSWERS), device)

    sides = {
        NAIVE: Trainee(
            lambda: question_batch(samples, ANSWERS, device), lambda batch: question_losses(read, batch, task.config)
        ),
        OURS: Trainee(own_batch, lambda batch: task.losses(model, batch)),
    }
    if compiled:
        fast = torch.compile(model)
        sides[COMPILED] = Trainee(own_batch, lambda batch: task.losses(fast, batch))
    return sides
