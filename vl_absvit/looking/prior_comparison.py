"""One picture, several priors: how the second look follows what it is asked for, and how strongly.

Shi, Darrell, Wang, "Top-Down Visual Attention from Analysis by Synthesis", CVPR 2023 [AbS], Figures 4, 5 and 8.
Shapes: P priors, I images, B rows (one prior about one image each), N image tokens, D vision width, h x w patches.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from vl_absvit.data.json_files import read_json
from vl_absvit.data.transforms import ImageTransform
from vl_absvit.errors import InputError
from vl_absvit.looking.maps import norm_map, prior_mask_map
from vl_absvit.models.looks import FirstLook, Look, VisualEncoder
from vl_absvit.models.prior import cosines, prior_similarity
from vl_absvit.tasks.classifier_checkpoint import ClassifierCheckpoint, load_classifier
from vl_absvit.tasks.vl_checkpoint import VLCheckpoint, load_parts, priors_of
from vl_absvit.variants import VARIANTS, Variant

TEMPERATURE = 0.07
"""By which the cosines of texts are divided before their softmax, as in the prior loss."""


class Priors(Protocol):
    """Named priors and the encoder that they steer."""

    vision: VisualEncoder
    transform: ImageTransform  # from pictures to the encoder's inputs
    vectors: Tensor  # (P, D)

    def cosines(self, tokens: Tensor) -> Tensor:
        """Cosine of every prior with what a look has seen as a whole, (B, N, D) -> (B, P)."""

    def logits(self, tokens: Tensor) -> Tensor:
        """Numbers whose softmax over some of the priors are their shares in a look, (B, N, D) -> (B, P)."""

    def probabilities(self, tokens: Tensor) -> Tensor | None:
        """Probability of every prior's class among all classes, (B, N, D) -> (B, P); None without classes."""


class TextPriors:
    """Texts, through the text encoder and the prior projection [AbS 2.6]."""

    def __init__(self, checkpoint: VLCheckpoint, texts: Sequence[str]) -> None:
        """
        Raises:
            InputError: a text is longer than the model reads.
        """
        self.vision, self._pool = checkpoint.model.vision, checkpoint.model.pool
        self.transform, self.vectors = checkpoint.preprocessing.transform(), priors_of(checkpoint, texts)

    def cosines(self, tokens: Tensor) -> Tensor:
        """Of priors with what the dual encoder takes for an image, or with the best patch: (B, N, D) -> (B, P)."""
        pool = "max" if self._pool == "lse" else self._pool
        return prior_similarity(self.vectors, tokens, pool, self.vision.num_prefix_tokens).T

    def logits(self, tokens: Tensor) -> Tensor:
        """As the dual encoder compares texts and images, over the temperature, (B, N, D) -> (B, P)."""
        return prior_similarity(self.vectors, tokens, self._pool, self.vision.num_prefix_tokens).T / TEMPERATURE

    def probabilities(self, tokens: Tensor) -> None:
        """There are no classes."""
        return None


class ClassPriors:
    """Class prototypes: a class's row of the classification head's weight [AbS, Figures 4 and 5]."""

    def __init__(self, checkpoint: ClassifierCheckpoint, classes: Sequence[str]) -> None:
        """
        Raises:
            InputError: the classifier does not know a class.
        """
        for name in classes:
            if name not in checkpoint.classes:
                known = f"{', '.join(checkpoint.classes[:3])}{', ...' if len(checkpoint.classes) > 3 else ''}"
                raise InputError(
                    f"prior {name!r:.60}: expected one of the checkpoint's {len(checkpoint.classes)} classes, {known}"
                )
        self.vision, self.transform = checkpoint.model.vision, checkpoint.transform
        self._classify = checkpoint.model.classify
        self._rows = [checkpoint.classes.index(name) for name in classes]
        self.vectors = self.vision.head.weight.detach()[self._rows]

    def cosines(self, tokens: Tensor) -> Tensor:
        """Of prototypes with the features that the head reads, (B, N, D) -> (B, P)."""
        return cosines(self.vision.forward_head(tokens, pre_logits=True), self.vectors)

    def logits(self, tokens: Tensor) -> Tensor:
        """Of the classes, (B, N, D) -> (B, P)."""
        return self._classify(tokens)[:, self._rows]

    def probabilities(self, tokens: Tensor) -> Tensor:
        """Of the classes among all, (B, N, D) -> (B, P)."""
        return self._classify(tokens).softmax(dim=-1)[:, self._rows]


def load_steerable(folder: str | Path) -> VLCheckpoint | ClassifierCheckpoint:
    """Read a checkpoint folder of a VQA, retrieval or pretraining run; the model is in evaluation mode.

    Raises:
        InputError: the folder holds something else, or an encoder that no prior steers with a strength.
    """
    is_classifier = "classes" in read_json(Path(folder) / "config.json", dict)
    checkpoint = load_classifier(folder) if is_classifier else load_parts(folder)
    variant = checkpoint.model.vision.variant
    if not _is_steerable(variant):
        known = " or ".join(other.label for other in VARIANTS.values() if _is_steerable(other))
        raise InputError(
            f"checkpoint {folder}: expected {known}, whose second look a prior steers, got {variant.label}"
        )
    return checkpoint


def _is_steerable(variant: Variant) -> bool:
    """Whether the strength counts: it is that of what is fed back, which a prior chooses."""
    return variant.uses_prior and variant.feeds_back


@contextmanager
def strength(vision: VisualEncoder, alpha: float) -> Iterator[None]:
    """Inside, the top-down signal has the strength ``alpha``; all else stays as it was trained."""
    trained = vision.modulate
    vision.modulate = partial(trained, gain=alpha)
    try:
        yield
    finally:
        vision.modulate = trained


class View(NamedTuple):
    """What a look shows, in B rows."""

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
        second[alpha] = _view(priors, looks.second, block, f"alpha {alpha:g}: the second look")
    seen_first = _view(priors, first, block, "the first look")
    assert mask is not None, "there is a strength at least, and the encoder uses a prior"
    return Sweep(seen_first, prior_mask_map(mask, vision.token_grid()), second)


def _view(priors: Priors, look: FirstLook | Look, block: int, name: str) -> View:
    tokens = look.tokens
    maps = norm_map(priors.vision.outputs(look.states), priors.vision.token_grid(block), block)
    view = View(maps, priors.cosines(tokens), priors.logits(tokens), priors.probabilities(tokens))
    if not all(part.isfinite().all() for part in view if part is not None):
        raise InputError(f"{name} gives numbers that are not finite")
    return view


class PairViews(NamedTuple):
    """What a kind of look shows of n pictures of two things, asked for the left and for the right one."""

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
        if logits is not None:
            logits = logits.gather(1, things[image_index]).unflatten(0, (-1, 2)).cpu().numpy()
        return PairViews(maps.unflatten(0, (-1, 2)).cpu().numpy(), logits)

    first = result.first
    return PairSweep(
        of_pairs(first.maps[image_index], first.logits[image_index]),
        of_pairs(result.prior_mask, None),
        {alpha: of_pairs(view.maps, view.logits) for alpha, view in result.second.items()},
    )
