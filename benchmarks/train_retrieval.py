"""A training step of retrieval: batch, forward pass with all losses, backward pass, optimizer.

Every image has its own caption and false ones, and one more that is drawn for matching; every caption has an image more
that is drawn for it. The naive side reads each of these pairs anew. Ours shares an image's first look among them.
"""

from functools import partial
from typing import Any, Literal, Unpack

from accelerate.utils import send_to_device

from benchmarks.contest import NAIVE, OURS, compare_with_fp32, measure_cases
from benchmarks.contest_tables import show
from benchmarks.measure import Turns
from benchmarks.naive import naive_forward
from benchmarks.naive_training import caption_batch, caption_losses
from benchmarks.samples import Workload, captioned_images
from benchmarks.session import Common, run_session
from benchmarks.synthetic import PAD, random_model
from benchmarks.training import Trainee, in_precision, make_optimizers, nowhere, training_case
from vl_absvit.config import Precision, RetrievalConfig
from vl_absvit.data.collate import collate_retrieval
from vl_absvit.tasks.retrieval import RetrievalTask


def run(*, size: Literal["tiny", "base"], images: int, negatives: int, **common: Unpack[Common]) -> None:
    """Measure, print the tables, write the JSON; the arguments are the command's options.

    Raises: as ``run_session``.
    """
    told = {"benchmark": "train-retrieval", "size": size, "images": images, "negatives": negatives}
    run_session(told, partial(measure, size, images, negatives), compare_with_fp32, show, **common)


def measure(
    size: Literal["tiny", "base"],
    images: int,
    negatives: int,
    turns: Turns,
) -> dict[str, Any]:
    """Everything about one precision."""
    device, precision = turns.device, turns.precision
    model = random_model(size, {"kind": "matching"}).to(device)
    task = RetrievalTask.without_data(RetrievalConfig(negatives=negatives, **nowhere(precision)), model)
    work = Workload(images, 1 + negatives, model.vision.image_size[0])
    sides = make_trainees(task, work, precision)
    optimizers = make_optimizers(task, sides)
    case = training_case(work.named("caption"), work.per_image, task, sides, optimizers, precision)
    return measure_cases([case], turns)


def make_trainees(task: RetrievalTask, work: Workload, precision: Precision) -> dict[str, Trainee]:
    """Both sides on the same captions."""
    model, samples = task.model, captioned_images(work)
    device = next(model.parameters()).device
    read = in_precision(partial(naive_forward, model), precision, device)
    return {
        NAIVE: Trainee(lambda: caption_batch(samples, device), lambda batch: caption_losses(read, batch, task.config)),
        OURS: Trainee(
            lambda: send_to_device(collate_retrieval(samples, pad_id=PAD), device),
            lambda batch: task.losses(model, batch),
        ),
    }
