"""Pictures changed by gradient until a model errs: FGSM and PGD, in the ball of a norm around every picture.

Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015, arXiv:1412.6572; Madry et al.,
"Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, arXiv:1706.06083. Radii are of pixel
values in [0, 1]; the pictures are normalised, as a model takes them. Shapes: I images, height H, width W.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vl_absvit.evaluation.attack_plan import Attack, Norm

ORDER: dict[Norm, float] = {"linf": float("inf"), "l2": 2.0}
ROUNDING = 1e-5
"""Of pixel values, and of lengths as a share of them, in fp32."""


class PixelScale(NamedTuple):
    """The normalisation (pixel - mean) / std of each channel, as tensors of shape (3, 1, 1)."""

    mean: Tensor
    std: Tensor

    @property
    def darkest(self) -> Tensor:
        """A pixel value of 0, normalised."""
        return (0 - self.mean) / self.std

    @property
    def brightest(self) -> Tensor:
        """A pixel value of 1, normalised."""
        return (1 - self.mean) / self.std


def pixel_scale(mean: Sequence[float], std: Sequence[float], like: Tensor) -> PixelScale:
    """The normalisation of pictures with the type and device of ``like``."""
    return PixelScale(*(like.new_tensor(values).view(3, 1, 1) for values in (mean, std)))


def attack_pictures(
    images: Tensor,
    losses_of: Callable[[Tensor], Tensor],
    scores_of: Callable[[Tensor], Tensor],
    attack: Attack,
    scale: PixelScale,
    places: Sequence[int],
) -> Tensor:
    """The pictures after the attack; of several restarts, each picture's most harmful one.

    That is the one with the lowest score, so that a picture withstands only if it does so from every start; and among
    equals the one whose loss went farthest.

    Args:
        images: normalised, (I, 3, H, W).
        losses_of: see ``perturb``.
        scores_of: from pictures to what each is worth to the model's accuracy, (I,).
        places: number of every picture in its data set, on which its random starts depend.

    Raises:
        FloatingPointError: a loss or its gradient is not finite.
    """
    sign, attacked = -1 if attack.targeted else 1, images
    lowest, farthest = images.new_full((len(images),), torch.inf), images.new_full((len(images),), -torch.inf)
    for restart in range(attack.restarts):
        start = None
        if attack.random_start:
            start = random_start(images, attack, scale, [(attack.seed, place, restart) for place in places])
        moved = perturb(images, losses_of, attack, scale, start)
        if attack.restarts == 1:  # there is nothing to compare it with
            attacked = moved
            break
        with torch.no_grad():
            score, reached = scores_of(moved), sign * losses_of(moved)
        is_worse = (score < lowest) | ((score == lowest) & (reached > farthest))
        attacked = torch.where(is_worse.view(-1, 1, 1, 1), moved, attacked)
        lowest, farthest = torch.where(is_worse, score, lowest), torch.where(is_worse, reached, farthest)
    check_within_ball(attacked, images, attack, scale)
    return attacked


def check_within_ball(attacked: Tensor, images: Tensor, attack: Attack, scale: PixelScale) -> None:
    """Raise ``AssertionError`` where a picture is beyond the ball around its own, or has values that no pixel has.

    Args:
        attacked, images: normalised, (I, 3, H, W).
    """
    moved = ((attacked - images) * scale.std).flatten(1).norm(p=ORDER[attack.norm], dim=1).max().item()
    pixels = attacked * scale.std + scale.mean
    assert moved <= attack.eps + ROUNDING * max(1.0, attack.eps), (
        f"an attacked picture is {moved:g} from its own, beyond {attack.eps:g}"
    )
    assert -ROUNDING <= pixels.min() and pixels.max() <= 1 + ROUNDING, "an attacked picture has no pixel's values"


def perturb(
    images: Tensor,
    losses_of: Callable[[Tensor], Tensor],
    attack: Attack,
    scale: PixelScale,
    start: Tensor | None = None,
) -> Tensor:
    """The pictures after all steps, x <- clip(project(x + step * direction(gradient))), (I, 3, H, W).

    Args:
        images: normalised, (I, 3, H, W).
        losses_of: from pictures to the loss of each, (I,), which depends on that picture alone. The attack raises
            it, or lowers it if it is targeted.
        start: what is added to the pictures before the first step, as ``random_start`` draws it; None adds nothing.

    Raises:
        FloatingPointError: a loss or its gradient is not finite.
    """
    sign = -1.0 if attack.targeted else 1.0
    moved = images if start is None else _clip(images + start, scale)
    for _ in range(attack.steps):
        gradient = _gradient(moved, losses_of)
        moved = moved + sign * _step(gradient, attack, scale)
        moved = _clip(_project(moved, images, attack, scale), scale)
    return moved


def random_start(images: Tensor, attack: Attack, scale: PixelScale, seeds: Sequence[Sequence[int]]) -> Tensor:
    """A point of the ball for every picture, uniformly drawn, in the pictures' normalised units, (I, 3, H, W).

    Args:
        seeds: of every picture, numbers that its draw depends on and nothing else: neither the batch nor the processes.
    """
    drawn = [_point_of_ball(tuple(images.shape[1:]), attack.norm, np.random.default_rng(seed)) for seed in seeds]
    return attack.eps * torch.from_numpy(np.stack(drawn)).to(images) / scale.std


def _point_of_ball(shape: tuple[int, ...], norm: Norm, rng: np.random.Generator) -> np.ndarray:
    """Uniformly drawn from the ball of radius 1."""
    if norm == "linf":
        return rng.uniform(-1, 1, shape)
    direction = rng.standard_normal(shape)
    return rng.random() ** (1 / direction.size) * direction / np.linalg.norm(direction)


def _gradient(images: Tensor, losses_of: Callable[[Tensor], Tensor]) -> Tensor:
    """Of every picture's loss by its normalised pixels, (I, 3, H, W)."""
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        losses = losses_of(images)
        (gradient,) = torch.autograd.grad(losses.sum(), images)
    if not (torch.isfinite(losses).all() and torch.isfinite(gradient).all()):
        raise FloatingPointError("the loss of an attacked picture, or its gradient, is not finite")
    return gradient


def _step(gradient: Tensor, attack: Attack, scale: PixelScale) -> Tensor:
    """The step of length ``attack.step`` that raises the losses most, normalised; none where a gradient is 0."""
    if attack.norm == "linf":
        return attack.step / scale.std * gradient.sign()
    by_pixels = gradient / scale.std
    length = by_pixels.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return attack.step / scale.std * by_pixels / length.clamp_min(torch.finfo(length.dtype).tiny)


def _project(moved: Tensor, images: Tensor, attack: Attack, scale: PixelScale) -> Tensor:
    """The nearest point of the ball around every picture."""
    if attack.norm == "linf":
        radius = attack.eps / scale.std
        return torch.minimum(torch.maximum(moved, images - radius), images + radius)
    difference = moved - images
    length = (difference * scale.std).flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return images + difference * (attack.eps / length.clamp_min(attack.eps))


def _clip(images: Tensor, scale: PixelScale) -> Tensor:
    """Pictures whose pixel values are in [0, 1]."""
    return torch.minimum(torch.maximum(images, scale.darkest), scale.brightest)
