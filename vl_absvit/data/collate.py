"""Samples to batches.

Shapes: B samples (questions, or captions with false ones beside them), I distinct images, T tokens, A answers of the
vocabulary, C captions per sample.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vl_absvit.data.kept_rows import KeptRows

PAD_MULTIPLE = 8
"""Texts are padded to a multiple of this, because matrix kernels are fast at such widths."""


class VQASample(NamedTuple):
    """One question and its image."""

    question_id: int
    image_id: int
    image: Tensor  # (3, H, W), or (K,) if its first look was kept; the same tensor for all questions on an image
    token_ids: list[int]
    labels: list[int]  # answers in the vocabulary; empty without annotation
    scores: list[float]  # their soft scores


class VQABatch(NamedTuple):
    """Questions of one forward pass. An image that several questions share occurs once."""

    images: Tensor  # (I, 3, H, W) distinct images; or (I, K), what was kept of the first look at them
    image_index: Tensor  # (B,) long, row of ``images`` for each question
    image_ids: Tensor  # (I,) long
    token_ids: Tensor  # (B, T) long; or (B, T, D), token vectors that were kept
    is_token: Tensor  # (B, T) bool, True = real token
    soft_answers: Tensor  # (B, A) float32
    question_ids: Tensor  # (B,) long


class RetrievalSample(NamedTuple):
    """One image, a caption of it and false captions."""

    caption_id: int
    image_id: int
    image: Tensor  # (3, H, W), or (K,) if its first look was kept; the same tensor for all samples on an image
    texts: list[list[int]]  # token ids of C captions: the image's own first, then the false ones


class RetrievalBatch(NamedTuple):
    """True and false captions of one forward pass. An image that several samples share occurs once."""

    images: Tensor  # (I, 3, H, W) distinct images; or (I, K), what was kept of the first look at them
    image_index: Tensor  # (B,) long, row of ``images`` for each sample
    image_ids: Tensor  # (I,) long
    token_ids: Tensor  # (B * C, T) long, or (B * C, T, D) if kept; a sample's captions are adjacent, the own one first
    is_token: Tensor  # (B * C, T) bool, True = real token
    # The rest stays in host memory, where it is used.
    caption_ids: np.ndarray  # (B,) int64, ids of the images' own captions
    captioned_ids: np.ndarray  # (B,) int64, ids of their images
    wordings: np.ndarray  # (B,) int64, equal for captions of the same text


class StatementSample(NamedTuple):
    """One statement, its images and its label."""

    statement_id: int
    image_ids: tuple[int, ...]  # one or two
    images: tuple[Tensor, ...]  # (3, H, W) each; the same tensor wherever an image is needed
    token_ids: list[int]
    label: int


class StatementBatch(NamedTuple):
    """Statements of one forward pass, about k images each. An image that several need occurs once."""

    images: Tensor  # (I, 3, H, W) distinct images
    image_index: Tensor  # (k * B,) long, row of ``images`` of every statement's first image, then of every second one
    image_ids: Tensor  # (I,) long
    token_ids: Tensor  # (B, T) long
    is_token: Tensor  # (B, T) bool, True = real token
    labels: Tensor  # (B,) long
    wordings: Tensor  # (B,) long, equal for statements of the same text
    statement_ids: Tensor  # (B,) long


class _DistinctImages(NamedTuple):
    images: Tensor  # (I, 3, H, W), or (I, K)
    image_index: Tensor  # (B,) long
    image_ids: Tensor  # (I,) long


def collate_vqa(
    samples: Sequence[VQASample], *, pad_id: int, vocabulary_size: int, text_states: KeptRows | None = None
) -> VQABatch:
    """One batch. Texts are padded with ``pad_id`` to the longest one's length, rounded up to a multiple of eight.

    Args:
        text_states: token vectors that were kept, by ``wording``, which stand in for the ids.
    """
    token_ids, is_token = pad_texts([sample.token_ids for sample in samples], pad_id, text_states)
    soft_answers = torch.zeros(len(samples), vocabulary_size)
    for row, sample in enumerate(samples):
        soft_answers[row, sample.labels] = torch.tensor(sample.scores)
    return VQABatch(
        **distinct_images([(sample.image_id, sample.image) for sample in samples])._asdict(),
        token_ids=token_ids,
        is_token=is_token,
        soft_answers=soft_answers,
        question_ids=torch.tensor([sample.question_id for sample in samples]),
    )


def collate_retrieval(
    samples: Sequence[RetrievalSample], *, pad_id: int, text_states: KeptRows | None = None
) -> RetrievalBatch:
    """One batch. All samples have the same number of captions, which are padded as in ``pad_texts``."""
    token_ids, is_token = pad_texts([text for sample in samples for text in sample.texts], pad_id, text_states)
    return RetrievalBatch(
        **distinct_images([(sample.image_id, sample.image) for sample in samples])._asdict(),
        token_ids=token_ids,
        is_token=is_token,
        caption_ids=np.array([sample.caption_id for sample in samples]),
        captioned_ids=np.array([sample.image_id for sample in samples]),
        wordings=np.array([wording(sample.texts[0]) for sample in samples]),
    )


def collate_statements(samples: Sequence[StatementSample], *, pad_id: int) -> StatementBatch:
    """One batch of statements with the same number of images each, padded as in ``pad_texts``."""
    token_ids, is_token = pad_texts([sample.token_ids for sample in samples], pad_id)
    sides = range(len(samples[0].images))
    shown = [(sample.image_ids[side], sample.images[side]) for side in sides for sample in samples]
    return StatementBatch(
        **distinct_images(shown)._asdict(),
        token_ids=token_ids,
        is_token=is_token,
        labels=torch.tensor([sample.label for sample in samples]),
        wordings=torch.tensor([wording(sample.token_ids) for sample in samples]),
        statement_ids=torch.tensor([sample.statement_id for sample in samples]),
    )


def wording(token_ids: Sequence[int]) -> int:
    """A number that is the same for a text in every process."""
    return int.from_bytes(hashlib.sha256(str(list(token_ids)).encode()).digest()[:7])


def distinct_images(shown: Sequence[tuple[int, Tensor]]) -> _DistinctImages:
    """The images of ids with their images, in order of first occurrence."""
    image_of = dict(shown)
    row_of = {image_id: row for row, image_id in enumerate(image_of)}
    return _DistinctImages(
        images=torch.stack(list(image_of.values())),
        image_index=torch.tensor([row_of[image_id] for image_id, _ in shown]),
        image_ids=torch.tensor(list(image_of)),
    )


def pad_texts(
    texts: Sequence[Sequence[int]], pad_id: int, text_states: KeptRows | None = None
) -> tuple[Tensor, Tensor]:
    """Token ids (B, T) and their mask (B, T), True = real token.

    With token vectors that were kept, by ``wording``, these stand in for the ids, (B, T, D), 0 at padding.
    """
    longest = max(len(text) for text in texts)
    length = -(-longest // PAD_MULTIPLE) * PAD_MULTIPLE
    token_ids = torch.full((len(texts), length), pad_id)
    is_token = torch.zeros(len(texts), length, dtype=torch.bool)
    for row, text in enumerate(texts):
        token_ids[row, : len(text)] = torch.tensor(text)
        is_token[row, : len(text)] = True
    if text_states is None:
        return token_ids, is_token
    kept = text_states.load([wording(text) for text in texts])
    vectors = pad_sequence([row.view(len(text), -1) for row, text in zip(kept, texts, strict=True)], batch_first=True)
    return F.pad(vectors, (0, 0, 0, length - longest)), is_token
