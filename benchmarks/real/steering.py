"""Does the prior mask, and the second look, turn to the asked one of two things side by side?

Nothing is trained by gradient: priors are class prototypes, decoders are fitted in closed form.
Shapes: I pictures, N patches, D width, G groups.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.real.encoders import SIDE, VISION
from benchmarks.real.pictures import HALF, Pair, Things, side_by_side
from vl_absvit.config import VisionConfig
from vl_absvit.data.transforms import ImageTransform, image_transform
from vl_absvit.evaluation.controllability import control
from vl_absvit.looking.explanation import usual_block
from vl_absvit.looking.geometry import cell_centres
from vl_absvit.looking.prior_comparison import TEMPERATURE, Priors, sweep_pairs
from vl_absvit.models.architecture import build_vision, image_statistics
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.prior import prior_similarity
from vl_absvit.models.start_weights import load_trunk
from vl_absvit.models.top_down import relevance
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.first_look_fit import fit_part

RIDGE = 0.1
AT_ONCE = 16
Show = Callable[..., Image.Image]
"""From a file, and a size if it is not the whole, to a picture."""


class ClassPriors(NamedTuple):
    """What is found in example pictures."""

    mean: Tensor  # (D,), the mean patch
    prototypes: Tensor  # (G, D), each group's mean picture: the mean patch less the mean, of length 1
    discriminants: Tensor  # (G, D), Fisher's, which count least where all patches vary


def class_priors(patches: Tensor, groups: Tensor) -> ClassPriors:
    """Priors of groups of pictures.

    The discriminants are (C + lambda I)^-1 (m_g - m), with C the second moment of patches, m_g the mean patch of group
    g and m that of all groups; lambda is ``RIDGE`` times the mean square of a number.

    Args:
        patches: (I, N, D).
        groups: of each picture, (I,), counted from 0.
    """
    mean = patches.mean(dim=(0, 1))
    centred = patches - mean
    means = torch.stack([centred[groups == group].mean(dim=(0, 1)) for group in range(int(groups.max()) + 1)])
    rows = centred.flatten(0, 1).double()
    moment = rows.T @ rows / len(rows)
    moment += RIDGE * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype)
    discriminants = torch.linalg.solve(moment, (means - means.mean(dim=0)).double().T).T
    return ClassPriors(mean, mean_pictures(centred, groups), discriminants.float())


def mean_pictures(patches: Tensor, groups: Tensor) -> Tensor:
    """The mean over each group's pictures of their mean patch, of length 1: (G, D). Arguments: ``class_priors``."""
    pictures = F.normalize(patches.mean(dim=1), dim=-1)
    return torch.stack([pictures[groups == group].mean(dim=0) for group in range(int(groups.max()) + 1)])


def make_trunk(weights: Path | None, **options: Any) -> VisualEncoder:
    """The encoder with weights from a folder or, for None, random ones; options are those of ``vision``."""
    torch.manual_seed(0)
    vision = build_vision(VisionConfig(model=VISION, image_size=SIDE, **options), num_classes=0).eval()
    if weights is not None:
        load_trunk(vision, str(weights), VISION)
    return vision


@cache
def transform() -> ImageTransform:
    """From pictures to the encoder's inputs, as in evaluation."""
    return image_transform(SIDE, *image_statistics(VisionConfig(model=VISION)))


def to_inputs(pictures: Iterable[Image.Image]) -> Iterator[Tensor]:
    """The encoder's inputs, (3, SIDE, SIDE) each."""
    return map(transform(), pictures)


def to_picture(inputs: Tensor) -> Image.Image:
    """The picture of an input, (3, h, w)."""
    mean, std = (torch.tensor(channels).view(3, 1, 1) for channels in image_statistics(VisionConfig(model=VISION)))
    pixels = (255 * (inputs * std + mean)).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def in_batches(inputs: Iterable[Tensor]) -> Iterator[Tensor]:
    """Batches of inputs, (I, 3, SIDE, SIDE)."""
    inputs = list(inputs)
    for start in range(0, len(inputs), AT_ONCE):
        yield torch.stack(inputs[start : start + AT_ONCE])


@contextmanager
def looking() -> Iterator[None]:
    """Inside, looks are taken in bf16 and without gradients."""
    with torch.no_grad(), arithmetic("bf16", torch.device("cpu")):
        yield


def all_tokens(vision: VisualEncoder, inputs: Iterable[Tensor]) -> Tensor:
    """Tokens of the first looks at some inputs, (I, 1 + N, D)."""
    with looking():
        return torch.cat([vision.look_once(batch).tokens.float() for batch in in_batches(inputs)])


def patches_of(vision: VisualEncoder, inputs: Iterable[Tensor]) -> Tensor:
    """Patches of the first looks at some inputs, (I, N, D)."""
    return all_tokens(vision, inputs)[:, vision.num_prefix_tokens :]


def colours_of(inputs: Iterable[Tensor]) -> Tensor:
    """The mean colour of every patch, (I, N, 3): what a prior can do without an encoder."""
    side = SIDE // 16
    return torch.cat([F.avg_pool2d(batch, side).flatten(2).mT for batch in in_batches(inputs)])


class Task(NamedTuple):
    """Two things side by side, one of which is asked for."""

    examples: list[Tensor]  # inputs
    groups: Tensor  # of each example, (I,)
    pairs: list[Tensor]  # inputs
    asked: Tensor  # groups of the left and of the right thing, (pairs, 2)

    def first(self, pairs: int) -> "Task":
        """The task with its first pairs alone."""
        return self._replace(pairs=self.pairs[:pairs], asked=self.asked[:pairs])


def make_task(things: Things, pairs: Sequence[Pair], show: Show) -> Task:
    """The inputs of all examples and pairs."""
    names = sorted(things.examples)
    groups = [names.index(name) for name in names for _ in things.examples[name]]
    examples = [show(file) for name in names for file in things.examples[name]]
    shown = [side_by_side(*(show(file, HALF) for file in pair.files)) for pair in pairs]
    asked = [[names.index(group) for group in pair.groups] for pair in pairs]
    return Task(list(to_inputs(examples)), torch.tensor(groups), list(to_inputs(shown)), torch.tensor(asked))


def score(maps: Tensor) -> dict[str, float]:
    """How often maps of the left and of the right thing, (I, 2, h, w), point into its half, in percent."""
    number, centres = len(maps), cell_centres((0, 0, SIDE, SIDE), *maps.shape[2:])
    boxes = np.array([[(0, 0, HALF[0], SIDE), (HALF[0], 0, SIDE, SIDE)]] * number, dtype=float)
    found = control(maps.float().numpy(), np.stack([centres] * number), np.full(number, SIDE / 2), boxes)
    return {"asked_half": found.asked_half, "both_halves": found.both_halves}


def masks(patches: Tensor, asked: Tensor, mean: Tensor, vectors: Tensor) -> Tensor:
    """The prior masks of pairs for the left and for the right thing, (I, 2, h, w).

    Args:
        patches: (I, N, D).
        asked: rows of ``vectors``, (I, 2).
        mean: the mean patch, which is taken out, (D,).
        vectors: priors, (G, D).
    """
    grid = round(patches.shape[1] ** 0.5)
    found = [relevance(patches - mean, vectors[side]) for side in asked.T]
    return torch.stack(found, dim=1).unflatten(-1, (grid, grid))


def fit(vision: VisualEncoder, examples: Sequence[Tensor]) -> Tensor:
    """Find the encoder's decoders and its mean token; returns the examples' patches, (I, N, D)."""
    assert vision.mean_token is not None, "the encoder is centred"
    fit_part(vision, "decoders", iter(examples))
    patches = patches_of(vision, examples)
    vision.mean_token.copy_(patches.mean(dim=(0, 1)))
    vision.fold()
    return patches


def steer(vision: VisualEncoder, vectors: Tensor, task: Task, alpha: float) -> dict[str, Any]:
    """Ask for both things of every pair: where the first look and the second look point.

    Args:
        vision: fitted.
        vectors: priors, (G, D).
        alpha: strength of the feedback.
    """

    def similarity(tokens: Tensor) -> Tensor:
        return prior_similarity(vectors, vision.less_mean(tokens), "mean", vision.num_prefix_tokens).T

    priors = Priors(vision, transform(), vectors, similarity, lambda tokens: similarity(tokens) / TEMPERATURE, None)
    batches = zip(in_batches(task.pairs), task.asked.split(AT_ONCE), strict=True)
    with looking():
        looks = sweep_pairs(priors, batches, [alpha], usual_block(vision))
    maps = {"bottom_up": looks.first.maps, "second_look": looks.second[alpha].maps}
    return {name: score(torch.from_numpy(each)) for name, each in maps.items()}
