"""How time and memory grow with the work: larger images, more questions on one, larger galleries, more processes.

Training passes are forward and backward, losses included, without the optimizer; a gallery is scored exactly, every
pair, from pixels and token ids. One thing varies at a time. Lines are fitted to logarithms: time ~ x^slope. Memory is
what a training pass keeps for its backward pass, and what scoring a gallery holds at most, on a CPU beside the weights.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from accelerate.utils import send_to_device
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from benchmarks.agreement import total
from benchmarks.measure import (
    MATMUL,
    PRECISIONS,
    Measurements,
    Stage,
    describe_machine,
    matmul,
    pick_device,
    spread,
    take_turns,
)
from benchmarks.memory import kept_for_backward
from benchmarks.samples import ANSWERS, Workload, questions_about
from benchmarks.scaling_shown import draw, show
from benchmarks.synthetic import PAD, Size, SyntheticGallery, random_model
from benchmarks.team import Team
from benchmarks.training import nowhere
from vl_absvit.cli import progress
from vl_absvit.config import Precision, VQAConfig
from vl_absvit.data.captions import CaptionGallery
from vl_absvit.data.collate import collate_vqa
from vl_absvit.data.json_files import make_room, write_json
from vl_absvit.models import VLAbSViT
from vl_absvit.tasks.retrieval_scores import GalleryScorer
from vl_absvit.tasks.vqa import VQATask

PATCH = 16  # pixels
SIDE = 224
SIDES = (112, 160, 224, 320, 448)
QUESTIONS = (1, 2, 4, 8, 16)
CAPTIONS = (8, 16, 32, 64)
IMAGES = (1, 2, 4, 8)
FEWEST_CAPTIONS = CAPTIONS[0]
IMAGES_OF_A_TEAM = 4
PAIRS_PER_BATCH = 64

PATCHES, ASKED, WRITTEN, SHOWN, PROCESSES = (
    "patches of an image",
    "questions on an image",
    "captions of a gallery",
    "images of a gallery",
    "processes",
)


class Point(NamedTuple):
    """A place on an axis."""

    axis: str
    x: int


class Work(NamedTuple):
    """What grows along an axis, in words."""

    work: str
    memory: str  # what its bytes are of


ACTIVATIONS, AT_MOST = "activations", "at most"
WORK = {
    PATCHES: Work(f"a training pass on one image and question, images of {SIDES[0]} to {SIDES[-1]} px", ACTIVATIONS),
    ASKED: Work(f"a training pass on one image of {SIDE} px", ACTIVATIONS),
    WRITTEN: Work("one image, all pairs scored", AT_MOST),
    SHOWN: Work(f"{FEWEST_CAPTIONS} captions, all pairs scored", AT_MOST),
    PROCESSES: Work(
        f"a training pass on {IMAGES_OF_A_TEAM} images and questions, shared, one thread each; operations and memory "
        "of one process",
        ACTIVATIONS,
    ),
}


Side = Callable[[Stage], object]


def run(
    *,
    size: Size,
    device: Literal["cpu", "cuda"],
    precision: Precision,
    processes: Sequence[int],
    repeats: int,
    output: Path | None,
    figure: Path | None,
) -> None:
    """Measure, print the table, draw the figure, write the JSON; the arguments are the command's options.

    Raises:
        ConfigError: there is no GPU to use.
    """
    where = pick_device(device)
    for file in (output, figure):
        if file is not None:
            make_room(file)
    with progress() as bar:
        task = bar.add_task("rounds", total=repeats + 1)
        result = measure(size, where, precision, sorted(set(processes)), repeats, lambda: bar.advance(task))
    show(Console(), result)
    if figure is not None:
        draw(result, figure)
    if output is not None:
        told = {"benchmark": "scaling", "size": size, "precision": precision, "repeats": repeats}
        write_json(output, told | {"machine": describe_machine(where), "results": result}, indent=1)


def measure(
    size: Size,
    device: torch.device,
    precision: Precision,
    processes: Sequence[int],
    repeats: int,
    advance: Callable[[], object],
) -> dict[str, Any]:
    """All axes, whose points take turns; ``advance`` is called after every round.

    Args:
        processes: that share a training pass, each number in turn; not measured on a GPU, of which there is one.
    """
    passes = training_passes(size, device, precision)
    kept = {point: kept_for_backward(each.losses, each.model.parameters()) for point, each in passes.items()}
    sides = [_timed(point, each.run) for point, each in passes.items()] + gallery_sides(size, device, precision)
    with ExitStack() as stack:
        teams: dict[int, Team] = {}
        if device.type == "cpu":
            for number in processes:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                teams[number] = Team(number, IMAGES_OF_A_TEAM, size, precision, folder)
                stack.callback(teams[number].end)
        sides += [_timed(Point(PROCESSES, number), team.train) for number, team in teams.items()]
        measured = take_turns([matmul(device, PRECISIONS[precision]), *sides], device, repeats, advance)
    for number, team in teams.items():  # nothing of what they do can be seen from here
        measured.flops[Point(PROCESSES, number)] = team.share.flop
        kept[Point(PROCESSES, number)] = team.share.kept_bytes
    return summarise(measured, kept)


class TrainingPass(NamedTuple):
    """Forward and backward on one batch."""

    model: VLAbSViT
    losses: Callable[[], Tensor]  # the forward pass: the sum of the losses

    def run(self) -> None:
        """Both, and the gradients thrown away."""
        self.losses().backward()
        self.model.zero_grad()


def training_passes(size: Size, device: torch.device, precision: Precision) -> dict[Point, TrainingPass]:
    """Training passes on larger images, and with more questions on one."""
    head = {"kind": "vqa", "num_answers": ANSWERS}
    models = {side: random_model(size, head, image_size=side).to(device).train() for side in (SIDE, *SIDES)}
    works = {Point(PATCHES, (side // PATCH) ** 2): Workload(1, 1, side) for side in SIDES}
    works |= {Point(ASKED, number): Workload(1, number, SIDE) for number in QUESTIONS}
    return {point: _training_pass(models[work.resolution], work, precision) for point, work in works.items()}


def _training_pass(model: VLAbSViT, work: Workload, precision: Precision) -> TrainingPass:
    device = next(model.parameters()).device
    task = VQATask.without_data(VQAConfig(**nowhere(precision)), model)
    batch = collate_vqa(questions_about(work), pad_id=PAD, vocabulary_size=ANSWERS)
    batch = send_to_device(batch, device)
    return TrainingPass(model, lambda: total(task.losses(model, batch)))


def gallery_sides(size: Size, device: torch.device, precision: Precision) -> list[Side]:
    """Galleries of more captions, and of more images."""
    model = random_model(size, {"kind": "matching"}, image_size=SIDE).to(device, PRECISIONS[precision])
    model.vision.fold()
    works = [(Point(WRITTEN, captions), 1, captions) for captions in CAPTIONS]
    works += [(Point(SHOWN, images), images, FEWEST_CAPTIONS) for images in IMAGES]
    return [
        _timed(point, partial(score_all, model, SyntheticGallery(images, captions, SIDE)))
        for point, images, captions in works
    ]


@torch.no_grad()
def score_all(model: VLAbSViT, gallery: SyntheticGallery) -> np.ndarray:
    """Scores of all pairs, (images, captions)."""
    scorer = GalleryScorer(model, cast(CaptionGallery, gallery), PAIRS_PER_BATCH, Progress(disable=True))
    return scorer.judge(np.ones_like(scorer.compare(keep=True, num_workers=0), dtype=bool))


def _timed(point: Point, work: Callable[[], object]) -> Side:
    def take_turn(stage: Stage) -> None:
        with stage(point):
            work()

    return take_turn


def summarise(measured: Measurements, kept: Mapping[Point, int]) -> dict[str, Any]:
    """Every point of every axis, and how steeply time, operations and memory grow along it.

    Args:
        measured: the stage ``matmul``, and one for each point; operations are those of one process.
        kept: bytes for the backward pass, where there is one.
    """
    rate = spread(measured.flops[MATMUL] / np.array(measured.seconds[MATMUL]))
    axes: dict[str, Any] = {}
    for point, seconds in measured.seconds.items():
        if point == MATMUL:
            continue
        axis = axes.setdefault(point.axis, WORK[point.axis]._asdict() | {"points": []})
        flop, taken, workers = measured.flops[point], spread(seconds), point.x if point.axis == PROCESSES else 1
        axis["points"].append(
            {
                "x": point.x,
                "seconds": taken._asdict(),
                "flop": flop,
                "bytes": kept.get(point, measured.peak_bytes.get(point)),
                "share_of_matmul_rate": workers * flop / taken.median / rate.median,
            }
        )
    for axis in axes.values():
        points = axis["points"]
        xs = [point["x"] for point in points]
        values = {
            "seconds": [point["seconds"]["median"] for point in points],
            "flop": [point["flop"] for point in points],
            "bytes": [point["bytes"] for point in points],
        }
        axis["slopes"] = {name: slope(xs, ys) for name, ys in values.items()}
    return {"matmul_flop_per_second": rate._asdict(), "axes": axes}


def slope(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """The exponent a of y ~ x^a that fits best in logarithms; None where there is one point."""
    if len(xs) < 2:
        return None
    return float(np.polyfit(np.log(xs), np.log(ys), 1)[0])
