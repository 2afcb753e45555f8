"""Answering questions about images, in evaluation: text encoder, both looks, fusion and head.

The naive side reads every question about an image of its own. Ours shares an image's first look among its questions.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Unpack

import torch

from benchmarks.contest import COMPILED, NAIVE, OURS, Case, compare_with_fp32, measure_cases
from benchmarks.contest_tables import show
from benchmarks.evaluating import evaluation_case, share_with_signal
from benchmarks.measure import PRECISIONS
from benchmarks.naive import naive_forward
from benchmarks.naive_training import question_batch
from benchmarks.samples import ANSWERS, Workload, questions_about
from benchmarks.session import Common, run_session
from benchmarks.synthetic import PAD, random_model
from vl_absvit.data.collate import collate_vqa
from vl_absvit.models import VLAbSViT


def run(
    *, size: Literal["tiny", "base"], images: int, questions: Sequence[int], compiled: bool, **common: Unpack[Common]
) -> None:
    """Measure, print the tables, write the JSON; the arguments are the command's options.

    Raises: as ``run_session``.
    """
    questions = sorted(set(questions))
    told = {"benchmark": "vqa", "size": size, "images": images, "questions": questions}
    run_session(told, partial(measure, size, images, questions, compiled), compare_with_fp32, show, **common)


@torch.no_grad()
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
    model = random_model(size, {"kind": "vqa", "num_answers": ANSWERS}).to(device, PRECISIONS[precision])
    model.vision.fold()
    resolution = model.vision.image_size[0]
    works = [Workload(images, number, resolution) for number in questions]
    cases = [make_case(model, work, compiled, precision) for work in works]
    return measure_cases(cases, device, precision, repeats, advance)


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
