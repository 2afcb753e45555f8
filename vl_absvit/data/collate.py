"""Samples to batches.

Shapes: B samples (questions, or captions with false ones beside them), I distinct images, T tokens, A answers of the
vocabulary, C captions per sample.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PAD_MULTIPLE = 8
"""Texts are padded to a multiple of this, because matrix kernels are fast at such widths."""


class VQASample(NamedTuple):
    """One question and its image."""

    question_id: int
    image_id: int
    image: Tensor  # (3, H, W); the same tensor for all questions on an image in a batch
    token_ids: list[int]
    labels: list[int]  # answers in the vocabulary; empty without annotation
    scores: list[float]  # their soft scores


class VQABatch(NamedTuple):
    """Questions of one forward pass. An image that several questions share occurs once."""

    images: Tensor  # (I, 3, H, W) distinct images
    image_index: Tensor  # (B,) long, row of ``images`` for each question
    image_ids: Tensor  # (I,) long
    token_ids: Tensor  # (B, T) long
    is_token: Tensor  # (B, T) bool, True = real token
    soft_answers: Tensor  # (B, A) float32
    question_ids: Tensor  # (B,) long


class RetrievalSample(NamedTuple):
    """One image, a caption of it and false captions."""

    caption_id: int
    image_id: int
    image: Tensor  # (3, H, W); the same tensor for all samples on an image in a batch
    texts: list[list[int]]  # token ids of C captions: the image's own first, then the false ones


class RetrievalBatch(NamedTuple):
    """True and false captions of one forward pass. An image that several samples share occurs once."""

    images: Tensor  # (I, 3, H, W) distinct images
    image_index: Tensor  # (B,) long, row of ``images`` for each sample
    image_ids: Tensor  # (I,) long
    token_ids: Tensor  # (B * C, T) long; a sample's captions are adjacent, the image's own first
    is_token: Tensor  # (B * C, T) bool, True = real token
    # The rest stays in host memory, where it is used.
    caption_ids: np.ndarray  # (B,) int64, ids of the images' own captions
    captioned_ids: np.ndarray  # (B,) int64, ids of their images
    wordings: np.ndarray  # (B,) int64, equal for captions of the same text


class _DistinctImages(NamedTuple):
    images: Tensor  # (I, 3, H, W)
    image_index: Tensor  # (B,) long
    image_ids: Tensor  # (I,) long


def collate_vqa(samples: Sequence[VQASample], *, pad_id: int, vocabulary_size: int) -> VQABatch:
    """One batch. Texts are padded with ``pad_id`` to the longest one's length, rounded up to a multiple of eight."""
    token_ids, is_token = pad_texts([sample.token_ids for sample in samples], pad_id)
    soft_answers = torch.zeros(len(samples), vocabulary_size)
    for row, sample in enumerate(samples):
        soft_answers[row, sample.labels] = torch.tensor(sample.scores)
    return VQABatch(
        **_distinct_images(samples)._asdict(),
        token_ids=token_ids,
        is_token=is_token,
        soft_answers=soft_answers,
        question_ids=torch.tensor([sample.question_id for sample in samples]),
    )


def collate_retrieval(samples: Sequence[RetrievalSample], *, pad_id: int) -> RetrievalBatch:
    """One batch. All samples have the same number of captions, which are padded as in ``pad_texts``."""
    token_ids, is_token = pad_texts([text for sample in samples for text in sample.texts], pad_id)
    return RetrievalBatch(
        **_distinct_images(samples)._asdict(),
        token_ids=token_ids,
        is_token=is_token,
        caption_ids=np.array([sample.caption_id for sample in samples]),
        captioned_ids=np.array([sample.image_id for sample in samples]),
        wordings=np.array([wording(sample.texts[0]) for sample in samples]),
    )


def wording(token_ids: Sequence[int]) -> int:
    """A number that is the same for a text in every process."""
    return int.from_bytes(hashlib.sha256(str(list(token_ids)).encode()).digest()[:7])


def _distinct_images(samples: Sequence[VQASample] | Sequence[RetrievalSample]) -> _DistinctImages:
    image_of = {sample.image_id: sample.image for sample in samples}  # in order of first occurrence
    row_of = {image_id: row for row, image_id in enumerate(image_of)}
    return _DistinctImages(
        images=torch.stack(list(image_of.values())),
        image_index=torch.tensor([row_of[sample.image_id] for sample in samples]),
        image_ids=torch.tensor(list(image_of)),
    )


def pad_texts(texts: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Token ids (B, T) and their mask (B, T), True = real token."""
    longest = max(len(text) for text in texts)
    length = -(-longest // PAD_MULTIPLE) * PAD_MULTIPLE
    token_ids = torch.full((len(texts), length), pad_id)
    is_token = torch.zeros(len(texts), length, dtype=torch.bool)
    for row, text in enumerate(texts):
        token_ids[row, : len(text)] = torch.tensor(text)
        is_token[row, : len(text)] = True
    return token_ids, is_token
