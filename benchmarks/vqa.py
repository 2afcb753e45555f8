"""Answering questions about images, in evaluation: text encoder, both looks, fusion and head.

The naive side reads every question about an image of its own. Ours shares an image's first look among its questions.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch

from benchmarks.contest import COMPILED, NAIVE, OURS, Case, measure_cases
from benchmarks.evaluating import evaluation_case, share_with_signal
from benchmarks.measure import PRECISIONS, Turns
from benchmarks.naive import naive_forward
from benchmarks.naive_training import question_batch
from benchmarks.samples import ANSWERS, Workload, questions_about
from benchmarks.session import run_on_questions
from benchmarks.synthetic import PAD, random_model
from vl_absvit.data.collate import collate_vqa
from vl_absvit.models import VLAbSViT


@torch.no_grad()
def measure(
    size: Literal["tiny", "base"],
    images: int,
    questions: Sequence[int],
    compiled: bool,
    turns: Turns,
) -> dict[str, Any]:
    """Everything about one precision."""
    device, precision = turns.device, turns.precision
    model = random_model(size, {"kind": "vqa", "num_answers": ANSWERS}).to(device, PRECISIONS[precision])
    model.vision.fold()
    resolution = model.vision.image_size[0]
    works = [Workload(images, number, resolution) for number in questions]
    cases = [make_case(model, work, compiled, precision) for work in works]
    return measure_cases(cases, turns)


def make_case(model: VLAbSViT, work: Workload, compiled: bool, precision: str) -> Case:
    """Both sides' forward passes on the same questions."""
    parameter = next(model.parameters())
    samples = questions_about(work)
    pairs = question_batch(samples, ANSWERS, parameter.device).pairs
    pairs = pairs._replace(images=pairs.images.to(parameter.dtype))
    batch = collate_vqa(samples, pad_id=PAD, vocabulary_size=ANSWERS)
    inputs = [batch.images.to(parameter.dtype), batch.token_ids, batch.is_token, batch.image_index]
    inputs = [tensor.to(parameter.device) for tensor in inputs]
    sides = {
        NAIVE: lambda: naive_forward(model, pairs.images, pairs.token_ids, pairs.is_token).logits,
        OURS: lambda: model(*inputs).logits,
    }
    if compiled:
        compiled_model = torch.compile(model)
        sides[COMPILED] = lambda: compiled_model(*inputs).logits
    told = {"tokens_with_signal": share_with_signal(model(*inputs).looks)}
    return evaluation_case(work.named("question"), work.per_image, sides, precision, told)


run = partial(run_on_questions, "vqa", measure)
"""The benchmark, by the command's options."""
