"""Models with random weights, and images and captions that are made up: what a benchmark needs of reality.

Shapes: I images, C captions, T tokens.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from transformers import RobertaConfig

from vl_absvit.config import FusionConfig, VisionConfig
from vl_absvit.data.collate import pad_texts
from vl_absvit.models import VLAbSViT
from vl_absvit.models.architecture import FORMAT, build_from_architecture

Size = Literal["tiny", "small", "base"]
VOCABULARY = 50265
PAD, START, END, FIRST_WORD = 1, 0, 2, 4  # token ids of RoBERTa
SHORTEST, LONGEST = 8, 40

_TEXT = {"tiny": (192, 4, 3), "small": (384, 6, 6), "base": (768, 12, 12)}  # width, layers, heads
_FUSION = {
    "tiny": FusionConfig(width=192, num_layers=2, num_heads=3),
    "small": FusionConfig(width=384, num_layers=3, num_heads=6),
    "base": FusionConfig(),
}


def random_model(size: Size, head: dict, seed: int = 0, image_size: int = 224, looks_again_from: int = 0) -> VLAbSViT:
    """A model in evaluation mode; ``head`` is the architecture's part, such as ``{"kind": "matching"}``.

    Args:
        image_size: side of the images, in pixels.
        looks_again_from: first block of the second look.
    """
    vision = VisionConfig(model=f"absvit_{size}_patch16_224", image_size=image_size, looks_again_from=looks_again_from)
    width, layers, heads = _TEXT[size]
    text = RobertaConfig(
        vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * width, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5,
        initializer_range=0.02 * (768 / width) ** 0.5, pad_token_id=PAD, bos_token_id=START, eos_token_id=END,
    )  # fmt: skip
    architecture = {
        "format": FORMAT,
        "vision": asdict(vision),
        "text": text.to_dict(),
        "sentence": "cls",
        "pool": "max",
        "fusion": asdict(_FUSION[size]),
        "head": head,
    }
    torch.manual_seed(seed)
    return build_from_architecture(architecture, location=size).eval()


def caption_lengths(number: int, generator: np.random.Generator) -> np.ndarray:
    """Tokens of captions, ``<s>`` and ``</s>`` included: 16 on average as in Flickr30K, none below 8 or above 40."""
    return np.clip(np.rint(6 + generator.gamma(4, 2.5, number)), SHORTEST, LONGEST).astype(np.int64)


def random_text(length: int, generator: np.random.Generator, vocabulary: int = VOCABULARY) -> list[int]:
    """Token ids of any words between ``<s>`` and ``</s>``."""
    return [START, *generator.integers(FIRST_WORD, vocabulary, length - 2).tolist(), END]


class SyntheticGallery:
    """Images and captions to rank, with the attributes of ``vl_absvit.data.captions.CaptionGallery``.

    Args:
        images: I.
        captions: C, which describe the images in turn.
        resolution: side of the images, in pixels.
        vocabulary: token ids to draw from.
    """

    def __init__(
        self, images: int, captions: int, resolution: int, seed: int = 0, vocabulary: int = VOCABULARY
    ) -> None:
        generator = np.random.default_rng(seed)
        self.image_ids, self.caption_ids = np.arange(images), np.arange(captions)
        self.image_of_caption = self.caption_ids % images
        self.lengths = caption_lengths(captions, generator)
        self._token_ids = [random_text(length, generator, vocabulary) for length in self.lengths]
        self.images = SyntheticImages(images, resolution, seed)

    def texts(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Token ids (rows, T) and their mask (rows, T), True = real token."""
        return pad_texts([self._token_ids[row] for row in rows], PAD)


class SyntheticImages(Dataset):
    """Coloured clouds (3, resolution, resolution), which differ from image to image and within each."""

    def __init__(self, number: int, resolution: int, seed: int = 0) -> None:
        coarse = torch.randn(number, 3, 7, 7, generator=torch.Generator().manual_seed(seed))
        self._images = F.interpolate(coarse, size=(resolution, resolution), mode="bilinear")

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, rows: Sequence[int]) -> list[Tensor]:
        """Several images at once, as a loader asks for them."""
        return [self._images[row] for row in rows]

    def collate(self, images: Sequence[Tensor]) -> Tensor:
        """One tensor (images, 3, resolution, resolution)."""
        return torch.stack(list(images))
