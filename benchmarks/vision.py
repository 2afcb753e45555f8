"""Both looks at images, the visual encoder alone, in evaluation: from pixels to the second look's tokens.

Every image is steered by a patch of its own first look, so that the prior mask is open somewhere. The naive side
computes the reconstruction loss as well, as it does in the whole model.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Unpack, cast

import torch
from torch import Tensor

from benchmarks.contest import COMPILED, NAIVE, OURS, compare_with_fp32, measure_cases
from benchmarks.contest_tables import show
from benchmarks.evaluating import evaluation_case, share_with_signal
from benchmarks.measure import PRECISIONS, Turns
from benchmarks.naive import look_twice, reconstruction_error
from benchmarks.session import Common, run_session
from benchmarks.synthetic import SyntheticImages, random_model
from vl_absvit.config import VisionConfig
from vl_absvit.models.trunks.vit import AbSViT


def run(*, size: Literal["tiny", "base"], images: int, compiled: bool, **common: Unpack[Common]) -> None:
    """Measure, print the tables, write the JSON; the arguments are the command's options.

    Raises: as ``run_session``.
    """
    told = {"benchmark": "vision", "size": size, "images": images}
    run_session(told, partial(measure, size, images, compiled), compare_with_fp32, show, **common)


@torch.no_grad()
def measure(
    size: Literal["tiny", "base"],
    images: int,
    compiled: bool,
    turns: Turns,
) -> dict[str, Any]:
    """Everything about one precision."""
    device, precision = turns.device, turns.precision
    model = random_model(size, {"kind": "matching"}).to(device, PRECISIONS[precision])
    vision, config = cast(AbSViT, model.vision), VisionConfig(**model.architecture["vision"])
    vision.fold()
    made = SyntheticImages(images, config.image_size)
    pixels = made.collate(made.__getitems__(range(images))).to(device, PRECISIONS[precision])
    first = vision.look_once(pixels).tokens
    prior = first[:, first.shape[1] // 2]
    sides: dict[str, Callable[[], Tensor]] = {
        NAIVE: lambda: naive_tokens(vision, pixels, prior, config),
        OURS: lambda: vision.look_twice(pixels, prior).seen(None),
    }
    if compiled:
        look_twice_compiled = torch.compile(vision.look_twice)
        sides[COMPILED] = lambda: look_twice_compiled(pixels, prior).seen(None)
    told = {"tokens_with_signal": share_with_signal(vision.look_twice(pixels, prior))}
    name = f"{images} image{'s' * (images > 1)}"
    case = evaluation_case(name, 1, sides, precision, told)
    return measure_cases([case], turns)


def naive_tokens(vision: AbSViT, pixels: Tensor, prior: Tensor, config: VisionConfig) -> Tensor:
    """The second look's tokens as the formulas stand, and the reconstruction loss, which nobody asked for."""
    second = look_twice(vision, pixels, prior, config.modulation, config.gain).second
    reconstruction_error(vision, second.states)
    return second.tokens
