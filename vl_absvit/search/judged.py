"""The whole model's judgement of the pictures that the dual encoder found for a text, and where they answer to it.

Shapes: I pictures, N image tokens, h x w patches.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vl_absvit.data.rgb import open_rgb
from vl_absvit.errors import InputError
from vl_absvit.looking.geometry import Box, scaled, seen_box
from vl_absvit.looking.maps import prior_mask_map
from vl_absvit.looking.overlay import resized
from vl_absvit.looking.predictions import MatchPrediction, predictions_of
from vl_absvit.models.vl_model import Pairs, Texts
from vl_absvit.tasks.vl_checkpoint import VLCheckpoint

AT_ONCE = 8
"""Pictures of a forward pass."""
SIDE = 512
"""Longer side of the pictures that are kept, in pixels."""


class Judged(NamedTuple):
    """A picture that was opened and looked at with a text in mind."""

    prediction: MatchPrediction | None  # of the whole model, if it was asked
    picture: Image.Image  # RGB, upright, its longer side at most ``SIDE``
    box: Box  # part of ``picture`` that the model saw and the mask covers
    prior_mask: np.ndarray | None  # (h, w); None for an encoder that uses no prior


@torch.no_grad()
def judge(
    checkpoint: VLCheckpoint, texts: Texts, files: Sequence[Path], *, whole: bool
) -> Iterator[Judged | InputError]:
    """Look at pictures with one text in mind, in their order; an error stands for a picture that cannot be opened.

    Args:
        checkpoint: its model is in evaluation mode, and on the device to use.
        texts: the encoded text, one row.
        whole: whether the whole model judges how well text and picture match; else the first look and the mask suffice.
    """
    for start in range(0, len(files), AT_ONCE):
        opened = [_opened(file) for file in files[start : start + AT_ONCE]]
        pictures = [picture for picture in opened if isinstance(picture, Image.Image)]
        judged = iter(_judge(checkpoint, texts, pictures, whole) if pictures else ())
        for picture in opened:
            yield picture if isinstance(picture, InputError) else next(judged)


def _opened(file: Path) -> Image.Image | InputError:
    try:
        return open_rgb(file)
    except InputError as error:
        return error


def _judge(checkpoint: VLCheckpoint, texts: Texts, pictures: Sequence[Image.Image], whole: bool) -> list[Judged]:
    model, transform = checkpoint.model, checkpoint.preprocessing.transform()
    images = torch.stack([transform(picture) for picture in pictures]).to(next(model.parameters()).device)
    first = model.vision.look_once(images)
    texts = texts.take(torch.zeros(len(pictures), dtype=torch.long, device=images.device))
    predictions: Sequence[MatchPrediction | None] = [None] * len(pictures)
    if whole:
        out = model.read(first, Pairs(texts, None))
        mask = out.looks.prior_mask
        predictions = [found for found in predictions_of(out.logits, ()) if isinstance(found, MatchPrediction)]
    else:
        mask = model.vision.modulate(first.tokens, texts.prior).mask if model.vision.uses_prior else None
    masks = _masks(checkpoint, mask, len(pictures))
    kept = [_kept(picture, checkpoint.preprocessing.image_size) for picture in pictures]
    return [Judged(prediction, *small, grid) for prediction, small, grid in zip(predictions, kept, masks, strict=True)]


def _kept(picture: Image.Image, image_size: int) -> tuple[Image.Image, Box]:
    """A smaller picture, and the part of it that the model saw."""
    scale = min(1.0, SIDE / max(picture.size))
    return resized(picture, scale), scaled(seen_box(*picture.size, image_size), scale)


def _masks(checkpoint: VLCheckpoint, mask: Tensor | None, pictures: int) -> Sequence[np.ndarray | None]:
    if mask is None:
        return [None] * pictures
    return list(prior_mask_map(mask, checkpoint.model.vision.token_grid()).float().cpu().numpy())
