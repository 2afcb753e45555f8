"""The pairs of caption and image that a training pass of retrieval reads, hard negatives among them.

Hard captions travel between ranks, which keeps the work of every rank the same. Of hard images, pixels travel. The pass
of a caption looks at its hard images again, with gradient. First looks would be larger (base size, 224 px, fp32: 3 MB
with the first block's projections, against 0.6 MB of pixels). Those of the whole batch would go one way and their
gradients the other. First looks of other passes have no gradient either: a step in several passes would be another than
in one. Looking again costs one first look more per hard image, and nothing where one process takes a step in one pass.

Shapes: B samples in a pass of this rank, A in all passes of all ranks; P passes in an optimizer step; C captions of
each sample that are read, the own one first; K hard images per caption; I distinct images; T tokens.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vl_absvit.data.collate import RetrievalBatch
from vl_absvit.data.pairs import PairBatch
from vl_absvit.data.transfer import to_device
from vl_absvit.distributed import gather_with_grad, world_size
from vl_absvit.models.looks import FirstLook, VisualEncoder
from vl_absvit.models.vl_model import Pairs, Texts, VLAbSViT
from vl_absvit.tasks.hard_negatives import Draw, StepSamples, choose_hard_negatives, exchange_samples
from vl_absvit.tasks.prior_losses import Compared


class Needed(NamedTuple):
    """Samples of a pass that need a hard negative; None means all of them."""

    captions: list[int] | None = None  # rows whose images need a hard caption
    images: list[int] | None = None  # rows whose captions need a hard image


class HardCaptions(NamedTuple):
    """Captions that a forward pass reads beside its own."""

    token_ids: Tensor  # (B, T), or (B, T, D) if token vectors were kept
    is_token: Tensor  # (B, T)


class HardNegatives(NamedTuple):
    """Captions and images of a pass beside its own samples; None where nothing was drawn."""

    captions: HardCaptions | None  # of the images
    images: Tensor | None  # (B * K, ...) as a batch has images, of the captions; those of a caption are adjacent


def step_hard_negatives(
    passes: Sequence[Compared],
    batches: Sequence[RetrievalBatch | PairBatch],
    wanted: Draw,
    *,
    candidates: int,
    pad_id: int,
    needed: Sequence[Needed] | None = None,
) -> list[HardNegatives]:
    """Hard negatives for every pass of an optimizer step, drawn as if the step had one pass alone.

    Args:
        passes: priors of the samples' own captions, and first looks.
        batches: of the same passes.
        candidates: captions per sample in ``batches``.
        pad_id: fills shorter texts.
        needed: of every pass; None means of all samples.
    """
    known = exchange_samples(batches)
    chosen = choose_hard_negatives(passes, known, wanted)
    needed = [Needed()] * len(batches) if needed is None else needed
    captions: Sequence[HardCaptions | None] = [None] * len(batches)
    images: Sequence[Tensor | None] = [None] * len(batches)
    if chosen.captions is not None:
        rows = [_some(own, of_pass.captions) for own, of_pass in zip(chosen.captions, needed, strict=True)]
        captions = _captions_to_read(batches, known, rows, candidates=candidates, pad_id=pad_id)
    if chosen.images is not None:
        rows = [_some(own, of_pass.images) for own, of_pass in zip(chosen.images, needed, strict=True)]
        images = _images_to_look_at(batches, known, rows)
    return list(map(HardNegatives, captions, images))


def _some(rows: Tensor, needed: list[int] | None) -> Tensor:
    """The rows of the samples that need a hard negative. Where none does it is one row, which no pair takes.

    So all processes read and look equally often, as engines that divide the model among them expect.
    """
    return rows if needed is None else rows[to_device(torch.tensor(needed or [0], dtype=torch.long), rows.device)]


class Found(NamedTuple):
    """Encoded hard negatives, ready for pairs; None where nothing was drawn."""

    first: FirstLook  # at the pass's own images and, behind them, at others
    captions: Texts | None  # (B, T), of the images
    images: Tensor | None  # (B * K,) rows of ``first``, of the captions; those of a caption are adjacent


def find_hard(
    model: VLAbSViT,
    own: Texts,
    first: FirstLook,
    batch: RetrievalBatch | PairBatch,
    wanted: Draw,
    needed: Needed = Needed(),  # noqa: B008  # it cannot be changed
) -> Found:
    """Draw hard negatives where a step is one pass.

    Args:
        own: the samples' own captions, (B, T).
        first: at the batch's images.
        needed: samples that get them.
    """
    captions = images = None
    if wanted.captions or wanted.images:
        known = exchange_samples([batch])
        assert own.prior is not None, "the dual encoder compares priors"
        tokens = model.vision.less_mean(first.tokens)
        own_pass = Compared(own.prior, tokens, batch.image_index, batch.image_ids, first.prefix_tokens)
        chosen = choose_hard_negatives([own_pass], known, wanted)
        if chosen.captions is not None:
            captions = _gather_captions(own, known, _some(chosen.captions[0], needed.captions))
        if chosen.images is not None and world_size() == 1:  # all images of the step have been looked at
            images = _some(chosen.images[0], needed.images).flatten()
        elif chosen.images is not None:
            (pixels,) = _images_to_look_at([batch], known, [_some(chosen.images[0], needed.images)])
            first, images = _look_also_at(model.vision, pixels, first)
    return Found(first, captions, images)


def take_hard(model: VLAbSViT, first: FirstLook, known: HardNegatives) -> Found:
    """Read and look at hard negatives that were drawn in looking ahead.

    Args:
        first: at the pass's own images.
    """
    captions = images = None
    device = first.tokens.device
    # The random numbers that follow have to be those that were drawn in looking ahead.
    with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
        if known.captions is not None:
            captions = model.encode_texts(*known.captions)
        if known.images is not None:
            first, images = _look_also_at(model.vision, known.images, first)
    return Found(first, captions, images)


def make_pairs(texts: Texts, own: Tensor, image_index: Tensor, hard: Found) -> Pairs:
    """Every image with its captions, then with its hard caption, and every own caption with its hard images.

    Args:
        texts: C captions of every sample, (B * C, T).
        own: rows of the own ones, (B,).
        image_index: row of the image each sample is about, (B,).
    """
    samples = len(own)
    parts, about = [texts], [image_index.repeat_interleave(len(texts.tokens) // samples)]
    if hard.captions is not None:
        parts.append(hard.captions)
        about.append(image_index)
    if hard.images is not None:
        parts.append(texts.take(own.repeat_interleave(len(hard.images) // samples)))
        about.append(hard.images)
    return Pairs(join_texts(*parts), torch.cat(about))


def _captions_to_read(
    batches: Sequence[RetrievalBatch | PairBatch],
    known: StepSamples,
    rows: Sequence[Tensor],
    *,
    candidates: int,
    pad_id: int,
) -> list[HardCaptions]:
    """The captions that each pass of a step reads once more, so that they have a gradient there.

    Args:
        batches: of this rank's passes.
        known: of the same passes.
        rows: which of all captions, P x (B,).
        candidates: captions per sample in ``batches``.
        pad_id: fills shorter texts.
    """
    padded = []
    for batch in batches:
        missing = 0, known.text_length - batch.token_ids.shape[1]
        own_ids, own_is_token = batch.token_ids[::candidates], batch.is_token[::candidates].long()
        # Token vectors that were kept stand in for the ids, with a further dimension.
        of_ids = (*(0, 0) * (own_ids.ndim - 2), *missing)
        padded.append((F.pad(own_ids, of_ids, value=pad_id), F.pad(own_is_token, missing)))
    token_ids, is_token = (gather_with_grad(torch.cat(parts), known.samples) for parts in zip(*padded, strict=True))
    return [HardCaptions(token_ids[own], is_token[own].bool()) for own in rows]


def _images_to_look_at(
    batches: Sequence[RetrievalBatch | PairBatch], known: StepSamples, rows: Sequence[Tensor]
) -> list[Tensor]:
    """Pixels of the hard images of each pass, (B * K, 3, height, width); those of a caption are adjacent.

    Args:
        batches: of this rank's passes.
        known: of the same passes.
        rows: which of the images of all ranks, P x (B, K).
    """
    images = gather_with_grad(torch.cat([batch.images for batch in batches]), known.images)
    return [images[own.flatten()] for own in rows]


def _gather_captions(own: Texts, known: StepSamples, rows: Tensor) -> Texts:
    """Encoded captions of all ranks, with gradient, where a step is one pass.

    Args:
        own: the own captions of this rank's samples, (B, T).
        known: of the same pass.
        rows: which of all, (B,).
    """
    texts, counts = _pad(own, known.text_length), known.samples
    assert texts.prior is not None, "the dual encoder compares priors"
    is_token = gather_with_grad(texts.is_token.long(), counts).bool()
    every = Texts(gather_with_grad(texts.tokens, counts), is_token, gather_with_grad(texts.prior, counts))
    return every.take(rows)


def _look_also_at(vision: VisualEncoder, pixels: Tensor, first: FirstLook) -> tuple[FirstLook, Tensor]:
    """First looks at images behind those that are there, and their rows, (images,)."""
    rows = len(first.tokens) + torch.arange(len(pixels), device=pixels.device)
    return first.followed_by(vision.look_once(pixels)), rows


def join_texts(*parts: Texts) -> Texts:
    """Texts one below the other, padded to the longest."""
    length = max(part.is_token.shape[1] for part in parts)
    return Texts(*map(torch.cat, zip(*(_pad(part, length) for part in parts), strict=True)))


def _pad(texts: Texts, length: int) -> Texts:
    missing = length - texts.is_token.shape[1]
    return Texts(F.pad(texts.tokens, (0, 0, 0, missing)), F.pad(texts.is_token, (0, missing)), texts.prior)
