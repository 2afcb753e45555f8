"""Hard captions, on their way to the images that are to be told from theirs.

Captions travel, which keeps the work of every rank the same. Shapes: B samples in a pass of this rank, A in all passes
of all ranks; P passes in an optimizer step; T tokens.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vl_absvit.data.collate import RetrievalBatch
from vl_absvit.distributed import gather_with_grad
from vl_absvit.models.vl_model import Texts
from vl_absvit.tasks.hard_negatives import Known


def travelled(own: Texts, known: Known, rows: Tensor) -> Texts:
    """Encoded captions of all ranks, with gradient, where a step is one pass.

    Args:
        own: the own captions of this rank's samples, (B, T).
        known: of the same pass.
        rows: which of all, (B,).
    """
    texts, counts = _pad(own, known.text_length), known.samples
    is_token = gather_with_grad(texts.is_token.long(), counts).bool()
    every = Texts(gather_with_grad(texts.tokens, counts), is_token, gather_with_grad(texts.prior, counts))
    return every.take(rows)


class HardCaptions(NamedTuple):
    """What a forward pass has to read beside its own captions."""

    token_ids: Tensor  # (B, T)
    is_token: Tensor  # (B, T)


def to_read(
    batches: Sequence[RetrievalBatch], known: Known, rows: Tensor, *, candidates: int, pad_id: int
) -> list[HardCaptions]:
    """The captions that each pass of a step reads once more, so that they have a gradient there.

    Args:
        batches: of this rank's passes.
        known: of the same passes.
        rows: which of all captions, (P, B).
        candidates: captions per sample in ``batches``.
        pad_id: fills shorter texts.
    """
    padded = []
    for batch in batches:
        missing = 0, known.text_length - batch.token_ids.shape[1]
        own_ids, own_is_token = batch.token_ids[::candidates], batch.is_token[::candidates].long()
        padded.append((F.pad(own_ids, missing, value=pad_id), F.pad(own_is_token, missing)))
    token_ids, is_token = (gather_with_grad(torch.cat(parts), known.samples) for parts in zip(*padded, strict=True))
    return [HardCaptions(token_ids[own], is_token[own].bool()) for own in rows]


def join(*parts: Texts) -> Texts:
    """Texts one below the other, padded to the longest."""
    length = max(part.is_token.shape[1] for part in parts)
    return Texts(*map(torch.cat, zip(*(_pad(part, length) for part in parts), strict=True)))


def _pad(texts: Texts, length: int) -> Texts:
    missing = length - texts.is_token.shape[1]
    return Texts(F.pad(texts.tokens, (0, 0, 0, missing)), F.pad(texts.is_token, (0, missing)), texts.prior)
