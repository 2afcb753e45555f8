"""A training step of VQA: batch, forward pass with all losses, backward pass, optimizer.

The naive side trains on every question with an image of its own. Ours shares an image's first look among its questions.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from accelerate.utils import send_to_device
from torch import nn

from benchmarks.contest import COMPILED, NAIVE, OURS, measure_cases
from benchmarks.measure import Turns
from benchmarks.naive import naive_forward
from benchmarks.naive_training import question_batch, question_losses
from benchmarks.samples import ANSWERS, Workload, questions_about
from benchmarks.session import run_on_questions
from benchmarks.synthetic import PAD, random_model
from benchmarks.training import Trainee, in_precision, make_optimizers, nowhere, training_case
from vl_absvit.config import Precision, VQAConfig
from vl_absvit.data.collate import collate_vqa
from vl_absvit.tasks.vqa import VQATask


def measure(
    size: Literal["tiny", "base"],
    images: int,
    questions: Sequence[int],
    compiled: bool,
    turns: Turns,
) -> dict[str, Any]:
    """Everything about one precision."""
    device, precision = turns.device, turns.precision
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
    return measure_cases(cases, turns)


def make_trainees(task: VQATask, work: Workload, compiled: bool, precision: Precision) -> dict[str, Trainee]:
    """Both sides on the same questions."""
    model, samples = task.model, questions_about(work)
    device = next(model.parameters()).device
    read = in_precision(partial(naive_forward, model), precision, device)

    def own_batch() -> Any:
        return send_to_device(collate_vqa(samples, pad_id=PAD, vocabulary_size=ANSWERS), device)

    sides = {
        NAIVE: Trainee(
            lambda: question_batch(samples, ANSWERS, device), lambda batch: question_losses(read, batch, task.config)
        ),
        OURS: Trainee(own_batch, lambda batch: task.losses(model, batch)),
    }
    if compiled:
        fast = cast(nn.Module, torch.compile(model))
        sides[COMPILED] = Trainee(own_batch, lambda batch: task.losses(fast, batch))
    return sides


run = partial(run_on_questions, "train-vqa", measure)
"""The benchmark, by the command's options."""
