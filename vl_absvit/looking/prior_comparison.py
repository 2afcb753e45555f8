"""Second looks at a picture under several priors and strengths of the top-down signal.

Shi, Darrell, Wang, "Top-Down Visual Attention from Analysis by Synthesis", CVPR 2023 [AbS], Figures 4, 5 and 8.
Shapes: P priors, I images, B rows (one prior about one image each), N image tokens, D vision width, h x w patches.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vl_absvit.data.json_files import read_json
from vl_absvit.data.transforms import ImageTransform
from vl_absvit.errors import InputError
from vl_absvit.looking.maps import norm_map, prior_mask_map
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.prior import cosines, prior_similarity
from vl_absvit.models.strength import is_steerable, strength
from vl_absvit.tasks.classifier_checkpoint import ClassifierCheckpoint, load_classifier
from vl_absvit.tasks.vl_checkpoint import VLCheckpoint, load_parts, priors_of
from vl_absvit.variants import VARIANTS

TEMPERATURE = 0.07
"""Divides the cosines of texts before their softmax, as in the prior loss."""


class Priors(NamedTuple):
    """Named priors, the encoder that they steer, and measures of a look's tokens, (B, N, D) -> (B, P)."""

    vision: VisualEncoder
    transform: ImageTransform  # from pictures to the encoder's inputs
    vectors: Tensor  # (P, D)
    cosines: Callable[[Tensor], Tensor]  # of every prior with what the look has seen as a whole
    logits: Callable[[Tensor], Tensor]  # their softmax over some of the priors is the priors' shares in the look
    probabilities: Callable[[Tensor], Tensor] | None  # of every prior's class among all; None without classes


def text_priors(checkpoint: VLCheckpoint, texts: Sequence[str]) -> Priors:
    """Texts, through the text encoder and the prior projection [AbS 2.6].

    Cosines are those with what the dual encoder takes for an image, or with the best patch. Logits are the dual
    encoder's similarities over the temperature.

    Raises:
        InputError: a text is longer than the model reads.
    """
    vision, pool, vectors = checkpoint.model.vision, checkpoint.model.pool, priors_of(checkpoint, texts)

    def similarity(tokens: Tensor, pool: Literal["lse", "max", "mean", "cls"]) -> Tensor:
        return prior_similarity(vectors, vision.less_mean(tokens), pool, vision.num_prefix_tokens).T

    return Priors(
        vision,
        checkpoint.preprocessing.transform(),
        vectors,
        cosines=lambda tokens: similarity(tokens, "max" if pool == "lse" else pool),
        logits=lambda tokens: similarity(tokens, pool) / TEMPERATURE,
        probabilities=None,
    )


def class_priors(checkpoint: ClassifierCheckpoint, classes: Sequence[str]) -> Priors:
    """Class prototypes: a class's row of the classification head's weight [AbS, Figures 4 and 5].

    Cosines are those with the features that the head reads. Logits are those of the classes.

    Raises:
        InputError: the classifier does not know a class.
    """
    for name in classes:
        if name not in checkpoint.classes:
            known = f"{', '.join(checkpoint.classes[:3])}{', ...' if len(checkpoint.classes) > 3 else ''}"
            raise InputError(
                f"prior {name!r:.60}: expected one of the checkpoint's {len(checkpoint.classes)} classes, {known}"
            )
    vision, classify = checkpoint.model.vision, checkpoint.model.classify
    rows = [checkpoint.classes.index(name) for name in classes]
    assert isinstance(vision.head, nn.Linear), "a classifier ends in a linear layer"
    prototypes = vision.head.weight.detach()[rows]
    return Priors(
        vision,
        checkpoint.transform,
        prototypes,
        cosines=lambda tokens: cosines(vision.forward_head(tokens, pre_logits=True), prototypes),
        logits=lambda tokens: classify(tokens)[:, rows],
        probabilities=lambda tokens: classify(tokens).softmax(dim=-1)[:, rows],
    )


def load_steerable(folder: str | Path) -> VLCheckpoint | ClassifierCheckpoint:
    """Read a checkpoint folder of a VQA, retrieval or pretraining run; the model is in evaluation mode.

    Raises:
        InputError: the folder holds something else, or an encoder that no prior steers with a strength.
    """
    is_classifier = "classes" in read_json(Path(folder) / "config.json", dict)
    checkpoint = load_classifier(folder) if is_classifier else load_parts(folder)
    variant = checkpoint.model.vision.variant
    if not is_steerable(variant):
        known = " or ".join(other.label for other in VARIANTS.values() if is_steerable(other))
        raise InputError(
            f"checkpoint {folder}: expected {known}, whose second look a prior steers, got {variant.label}"
        )
    return checkpoint


class View(NamedTuple):
    """Maps and measures of a look, in B rows."""

    maps: Tensor  # (B, h, w), lengths of patch tokens
    cosines: Tensor  # (B, P)
    logits: Tensor  # (B, P)
    probabilities: Tensor | None  # (B, P)


class Sweep(NamedTuple):
    """A first look, and a second look for every strength."""

    first: View  # rows are the I images
    prior_mask: Tensor  # (B, h, w); no strength changes it
    second: dict[float, View]  # strength -> rows of a prior and an image each


@torch.no_grad()
def sweep(
    priors: Priors, images: Tensor, asked: Tensor, image_index: Tensor, alphas: Sequence[float], block: int
) -> Sweep:
    """Look once at every image, and again for each of its priors with each strength.

    Args:
        images: (I, 3, height, width).
        asked: which of the priors every row asks for, (B,).
        image_index: which of the images every row is about, (B,).
        alphas: strengths; at least one.
        block: whose tokens the maps measure, see ``norm_map``.

    Raises:
        InputError: what a look gives is not finite.
    """
    vision = priors.vision
    first, second, mask = vision.look_once(images), {}, None
    for alpha in alphas:
        with strength(vision, alpha):
            looks = vision.look_again(first, priors.vectors[asked], image_index)
        mask = looks.prior_mask
        states = looks.second_states(image_index)
        second[alpha] = _view(priors, looks.seen(image_index), states, block, f"alpha {alpha:g}: the second look")
    seen_first = _view(priors, first.tokens, first.states, block, "the first look")
    assert mask is not None, "there is a strength at least, and the encoder uses a prior"
    return Sweep(seen_first, prior_mask_map(mask, vision.token_grid()), second)


def _view(priors: Priors, tokens: Tensor, states: list[Tensor], block: int, name: str) -> View:
    """The view of a look with these tokens and states."""
    maps = norm_map(priors.vision.outputs(states), priors.vision.token_grid(block), block)
    probabilities = priors.probabilities and priors.probabilities(tokens)
    view = View(maps, priors.cosines(tokens), priors.logits(tokens), probabilities)
    if not all(part.isfinite().all() for part in view if part is not None):
        raise InputError(f"{name} gives numbers that are not finite")
    return view


class PairViews(NamedTuple):
    """Maps and logits of n pictures of two things, with the left and the right thing as prior."""

    maps: np.ndarray  # (n, 2, h, w)
    logits: np.ndarray | None  # (n, 2, 2), asked for x of the left and of the right thing; None for a map alone


class PairSweep(NamedTuple):
    """A first look, which is the same for both things, and second looks."""

    first: PairViews
    prior_mask: PairViews
    second: dict[float, PairViews]  # by strength


def sweep_pairs(
    priors: Priors, batches: Iterable[tuple[Tensor, Tensor]], alphas: Sequence[float], block: int
) -> PairSweep:
    """Ask for each of two things in every picture; other arguments and errors are those of ``sweep``.

    Args:
        batches: images (I, 3, height, width), and which priors are their left and their right thing, (I, 2).
    """
    parts = [_sweep_batch(priors, images, things, alphas, block) for images, things in batches]

    def join(views: Sequence[PairViews]) -> PairViews:
        logits = None if views[0].logits is None else np.concatenate([view.logits for view in views])
        return PairViews(np.concatenate([view.maps for view in views]), logits)

    return PairSweep(
        join([part.first for part in parts]),
        join([part.prior_mask for part in parts]),
        {alpha: join([part.second[alpha] for part in parts]) for alpha in alphas},
    )


def _sweep_batch(priors: Priors, images: Tensor, things: Tensor, alphas: Sequence[float], block: int) -> PairSweep:
    image_index = torch.arange(len(images), device=images.device).repeat_interleave(2)
    result = sweep(priors, images, things.flatten(), image_index, alphas, block)

    def of_pairs(maps: Tensor, logits: Tensor | None) -> PairViews:
        """From rows (2I, ...), left before right, to pairs."""
        own = None
        if logits is not None:
            own = logits.gather(1, things[image_index]).unflatten(0, (-1, 2)).cpu().numpy()
        return PairViews(maps.unflatten(0, (-1, 2)).cpu().numpy(), own)

    first = result.first
    return PairSweep(
        of_pairs(first.maps[image_index], first.logits[image_index]),
        of_pairs(result.prior_mask, None),
        {alpha: of_pairs(view.maps, view.logits) for alpha, view in result.second.items()},
    )
