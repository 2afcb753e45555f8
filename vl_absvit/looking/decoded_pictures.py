"""Decoded pictures of a model: of z_0, and of the feedback to it (``linear_decoder.py`` has the decoder).

Per block l, deepest first, AbSViT's feedback makes r_l = R_l r_{l+1} and td_l = T_l r_l [AbS 2.5]. R_l is trained to
reconstruct the block's input, so that r_1 lives where z_0 does, and it is r_1 that is decoded. T_1 takes it from there
to the space of the first block's values; no decoder of z_0 could read td_1.

Shapes: I images, B rows (one prior about one image each), n patches, D vision width, P pixel values of a patch.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vl_absvit.data.json_files import read_json
from vl_absvit.data.records import ImageTable
from vl_absvit.errors import InputError
from vl_absvit.looking.linear_decoder import LinearDecoder, decode, decode_signal, to_patches, to_pictures
from vl_absvit.models.heads import HEADS
from vl_absvit.models.looks import FirstLook, VisualEncoder
from vl_absvit.models.top_down import reconstructions
from vl_absvit.tasks.vl_checkpoint import Preprocessing, VLCheckpoint, load_parts
from vl_absvit.variants import VARIANTS


class Decoded(NamedTuple):
    """A picture, its decoded tokens and the decoded feedback, in pixels of [0, 1]."""

    image: np.ndarray  # (h, w, 3), as the model sees it
    bottom_up: np.ndarray  # (h, w, 3), decoded z_0
    top_down: np.ndarray  # (B, h, w, 3), what r_1 adds to that

    sum: np.ndarray  # (B, h, w, 3), decoded z_0 + r_1


def load_decodable(folder: str | Path) -> VLCheckpoint:
    """Read a checkpoint folder of a VQA or retrieval run; the model is in evaluation mode.

    Raises:
        InputError: the folder holds something else, or an encoder that feeds nothing back to the first block.
    """
    if "classes" in read_json(Path(folder) / "config.json", dict):
        raise InputError(
            f"checkpoint {folder}: expected {HEADS['vqa'].title} or {HEADS['matching'].title}, got a classifier"
        )
    checkpoint = load_parts(folder)
    vision = checkpoint.model.vision
    variant = vision.variant
    if not variant.feeds_back:
        known = ", ".join(other.label for other in VARIANTS.values() if other.feeds_back)
        raise InputError(
            f"checkpoint {folder}: expected one of {known}, whose decoders reconstruct the first block's input, "
            f"got {variant.label}"
        )
    if vision.looks_again_from:
        raise InputError(
            f"checkpoint {folder}: expected feedback to the first block's input, got a model that looks again from "
            f"block {vision.looks_again_from} on"
        )
    return checkpoint


def to_pixels(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The model's inputs (I, 3, h, w) as RGB in [0, 1]."""
    mean, std = (
        images.new_tensor(channels).view(3, 1, 1) for channels in (preprocessing.image_mean, preprocessing.image_std)
    )
    return images * std + mean


@torch.no_grad()
def tokens_and_patches(
    checkpoint: VLCheckpoint, images: ImageTable, image_ids: Sequence[int], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """For batches of images: z_0 of their patches, (I, n, D), and the pixels of these as doubles, (I, n, P)."""
    vision, transform = checkpoint.model.vision, checkpoint.preprocessing.transform()
    of_vision = next(vision.parameters())
    for start in range(0, len(image_ids), batch_size):
        pictures = images.open(image_ids[start : start + batch_size])
        inputs = torch.stack([transform(picture) for picture in pictures]).to(of_vision)
        pixels = to_pixels(inputs.double(), checkpoint.preprocessing)
        yield vision.token_grid(0).patches(vision.embed_images(inputs)), to_patches(pixels, vision.grids()[0])


def reconstructed_input(
    vision: VisualEncoder, first: FirstLook, prior: Tensor | None, image_index: Tensor | None
) -> Tensor:
    """r_1 = R_1 ... R_L of the modulated tokens, with their strength, (B, N, D); arguments are those of ``modulate``.

    An encoder without prior has one row for every image.
    """
    steered = vision.modulate(first.tokens, prior, image_index=image_index)
    *_, reconstruction = reconstructions(vision.feedback_decoders, steered)
    return reconstruction.tokens


@torch.no_grad()
def decode_image(
    checkpoint: VLCheckpoint, decoder: LinearDecoder, picture: Image.Image, prior: Tensor | None
) -> Decoded:
    """Decode the first block's input, the feedback of every prior to it, and their sum.

    Args:
        picture: RGB, upright.
        prior: (B, D); None for an encoder that uses none, which gives one row.

    Raises:
        InputError: what the model gives is not finite.
    """
    vision = checkpoint.model.vision
    grid = vision.token_grid(0)
    image = checkpoint.preprocessing.transform()(picture)[None].to(next(vision.parameters()))
    first = vision.look_once(image)
    index = None if prior is None else torch.zeros(len(prior), dtype=torch.long, device=image.device)
    tokens = grid.patches(first.start.tokens).double()  # (1, n, D)
    signal = grid.patches(reconstructed_input(vision, first, prior, index)).double()  # (B, n, D)
    patches = decode(decoder, tokens), decode_signal(decoder, signal), decode(decoder, tokens + signal)
    if not all(pixels.isfinite().all() for pixels in patches):
        raise InputError("what the model makes of the picture has numbers that are not finite")
    size = image.shape[-2], image.shape[-1]
    bottom_up, top_down, both = (to_pictures(part, vision.grids()[0], size).cpu().numpy() for part in patches)
    pixels = to_pixels(image, checkpoint.preprocessing)[0].permute(1, 2, 0).cpu().numpy()
    return Decoded(pixels, bottom_up[0], top_down, both)
