"""The pairs of caption and image that a training pass of retrieval reads, hard negatives among them.

Shapes: B samples, C captions of each that are read, the own one first, K hard images per caption, I distinct images,
T tokens.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vl_absvit.data.collate import RetrievalBatch
from vl_absvit.distributed import world_size
from vl_absvit.models.looks import FirstLook
from vl_absvit.models.vl_model import Pairs, Texts, VLAbSViT
from vl_absvit.tasks import hard_captions, hard_images
from vl_absvit.tasks.hard_captions import HardCaptions
from vl_absvit.tasks.hard_negatives import Draw, choose, exchange
from vl_absvit.tasks.prior_losses import Compared


class HardNegatives(NamedTuple):
    """What a pass has to read and look at beside its own samples; None where nothing was drawn."""

    captions: HardCaptions | None  # of the images
    images: Tensor | None  # (B * K, 3, height, width), of the captions; those of a caption are adjacent


def step_hard_negatives(
    passes: Sequence[Compared], batches: Sequence[RetrievalBatch], how: Draw, *, candidates: int, pad_id: int
) -> list[HardNegatives]:
    """For every pass of an optimizer step what would be drawn, had the step one pass alone.

    Args:
        passes: priors of the samples' own captions, and first looks.
        batches: of the same passes.
        candidates: captions per sample in ``batches``.
        pad_id: fills shorter texts.
    """
    known = exchange(batches)
    chosen = choose(passes, known, how)
    captions = images = [None] * len(batches)
    if how.captions:
        captions = hard_captions.to_read(batches, known, chosen.captions, candidates=candidates, pad_id=pad_id)
    if how.images:
        images = hard_images.to_look_at(batches, known, chosen.images)
    return list(map(HardNegatives, captions, images))


class Found(NamedTuple):
    """Hard negatives as pairs are made of them; None where nothing was drawn."""

    first: FirstLook  # at the pass's own images and, behind them, at others
    captions: Texts | None  # (B, T), of the images
    images: Tensor | None  # (B * K,) rows of ``first``, of the captions; those of a caption are adjacent


def find_hard(model: VLAbSViT, own: Texts, first: FirstLook, batch: RetrievalBatch, how: Draw) -> Found:
    """Draw hard negatives where a step is one pass.

    Args:
        own: the samples' own captions, (B, T).
        first: at the batch's images.
    """
    captions = images = None
    if how.captions or how.images:
        known = exchange([batch])
        own_pass = Compared(own.prior, first.tokens, batch.image_index, batch.image_ids, first.prefix_tokens)
        chosen = choose([own_pass], known, how)
        if how.captions:
            captions = hard_captions.travelled(own, known, chosen.captions[0])
        if how.images and world_size() == 1:  # all images of the step have been looked at
            images = chosen.images.flatten()
        elif how.images:
            (pixels,) = hard_images.to_look_at([batch], known, chosen.images)
            first, images = hard_images.look_at(model.vision, pixels, first)
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
            first, images = hard_images.look_at(model.vision, known.images, first)
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
    return Pairs(hard_captions.join(*parts), torch.cat(about))
