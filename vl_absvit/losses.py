"""Losses as pure functions, always in fp32. Shapes: B texts, I images, P pairs, C candidates, A answers.

The reconstruction loss stands beside the decoders it trains, in ``models/top_down.py``.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vl_absvit.precision import always_fp32

POSITIVE_WEIGHT = 16.0
"""A mask that misses what is asked for costs as much as sixteen that open on what is not."""


@always_fp32
def vqa_loss(logits: Tensor, soft_answers: Tensor) -> Tensor:
    """Binary cross-entropy on soft scores, summed over answers, mean over the batch [METER].

    Args:
        logits: (B, A).
        soft_answers: score of every answer in [0, 1], (B, A).
    """
    return vqa_losses(logits, soft_answers).mean()


@always_fp32
def vqa_losses(logits: Tensor, soft_answers: Tensor) -> Tensor:
    """``vqa_loss`` of every question, (B,)."""
    return F.binary_cross_entropy_with_logits(logits, soft_answers, reduction="none").sum(dim=1)


@always_fp32
def class_loss(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of one look, mean over images, or over all cells of all mosaics.

    Args:
        logits: (I, classes) or (I, cells, classes).
        targets: probability of every class, in the same shape.
        label_smoothing: share of the targets that is spread evenly over all classes.
    """
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(0, -2), label_smoothing=label_smoothing)


@always_fp32
def pixel_loss(logits: Tensor, labels: Tensor, divisor: Tensor, void: int) -> Tensor:
    """Cross-entropy of pixels at the labels' size, to which logits are enlarged bilinearly: its sum over ``divisor``.

    Where no pixel has a class it is 0, and so is its gradient.

    Args:
        logits: (I, C, h, w).
        labels: class of every pixel, or ``void``, (I, H, W) long.
        divisor: number of pixels, (); at least 1 is taken.
        void: the label of pixels that have no class.
    """
    enlarged = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(enlarged, labels, ignore_index=void, reduction="sum")
    return total / divisor.clamp(min=1)


@always_fp32
def ranking_loss(scores: Tensor) -> Tensor:
    """Cross-entropy of what is true of every query among its candidates: of an image's captions [METER, retrieval], or
    of a caption's images.

    Args:
        scores: of the true candidate, first, and of the false ones, (B, C).
    """
    return -scores.log_softmax(dim=1)[:, 0].mean()


@always_fp32
def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of labels, mean over statements [METER: NLVR2, SNLI-VE].

    Args:
        logits: (B, L).
        labels: (B,) long.
    """
    return F.cross_entropy(logits, labels)


@always_fp32
def masked_word_losses(logits: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy of every hidden token [METER], (M,).

    Args:
        logits: over the vocabulary, (M, V).
        answers: the true ids, (M,) long.
    """
    return F.cross_entropy(logits, answers, reduction="none")


@always_fp32
def itm_loss(logits: Tensor, is_match: Tensor) -> Tensor:
    """Cross-entropy of image-text matching, mean over pairs.

    Args:
        logits: of "does not match" and "matches", (P, 2).
        is_match: (P,) bool.
    """
    return F.cross_entropy(logits, is_match.long())


@always_fp32
def prior_loss(
    similarity: Tensor,
    text_image_ids: Tensor,
    image_ids: Tensor,
    own_column: Tensor,
    temperature: float,
    blank_negatives: bool = False,
    also_true: Tensor | None = None,
    is_counted: Tensor | None = None,
) -> Tensor:
    """L_prior = -log p_xi(z): InfoNCE of each prior against its own image; negatives are the others [AbS Eq. 2.13].

    Columns that show the text's own image once more are neither positives nor negatives.

    Args:
        similarity: of every prior to every image, (B, I).
        text_image_ids: id of the image each text is about, (B,).
        image_ids: id of the image in each column, (I,).
        own_column: the column that is the text's positive, (B,).
        temperature: divides the similarity.
        blank_negatives: count as many blank images, of similarity 0, as there are images as negatives. InfoNCE does
            not change when all cosines of a prior sink together; below 0 the paper's clamp silences every token.
        also_true: images that the text is true of, too, and that are neither positives nor negatives, (B, I) bool.
        is_counted: texts that count, (B,) bool: others are not true of their images. None counts all.
    """
    logits = similarity / temperature
    is_own = torch.arange(logits.shape[1], device=logits.device) == own_column.unsqueeze(1)
    repeats = text_image_ids.unsqueeze(1) == image_ids  # (B, I)
    if also_true is not None:
        repeats = repeats | also_true
    logits = logits.masked_fill(repeats & ~is_own, -torch.inf)
    if blank_negatives:
        logits = F.pad(logits, (0, 1), value=math.log(logits.shape[1]))  # (B, I + 1), I blank images in one column
    return _mean(F.cross_entropy(logits, own_column, reduction="none"), is_counted)


def _mean(values: Tensor, is_counted: Tensor | None) -> Tensor:
    """Mean over the texts that count, 0 of none; ``values`` are (B,)."""
    if is_counted is None:
        return values.mean()
    return (values * is_counted).sum() / is_counted.sum().clamp(min=1)


@always_fp32
def calibration_loss(
    similarity: Tensor,
    text_image_ids: Tensor,
    image_ids: Tensor,
    own_column: Tensor,
    threshold: Tensor,
    temperature: float,
    also_true: Tensor | None = None,
    is_counted: Tensor | None = None,
) -> Tensor:
    """Ties the zero of the calibrated mask to "not this": what is asked for lies above the threshold beta.

    16 * mean over texts of -log p(own image) + mean over pairs of text and another image of -log(1 - p), where p =
    sigmoid((s - beta) / tau) and s is the similarity of text and image: a pairwise sigmoid loss (Zhai et al., "Sigmoid
    Loss for Language Image Pre-Training", ICCV 2023) with the decision boundary where the mask begins to open.

    Args:
        similarity, text_image_ids, image_ids, own_column, also_true, is_counted: as ``prior_loss``; -inf marks columns
            that do not count.
        threshold: beta, (1,).
        temperature: tau, of the mask.
    """
    logits = (similarity - threshold) / temperature
    is_other = (text_image_ids.unsqueeze(1) != image_ids) & (similarity != -torch.inf)  # (B, I)
    if also_true is not None:
        is_other = is_other & ~also_true
    if is_counted is not None:
        is_other = is_other & is_counted.unsqueeze(1)
    missed = _mean(F.softplus(-logits.gather(1, own_column.unsqueeze(1)).squeeze(1)), is_counted)
    opened = F.softplus(logits.masked_fill(~is_other, -torch.inf)).sum() / is_other.sum().clamp(min=1)
    return POSITIVE_WEIGHT * missed + opened
