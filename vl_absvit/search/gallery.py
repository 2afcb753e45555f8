"""What is kept of a first look, so that the dual encoder's scores can be had of it, and the best of many.

``models/prior.py`` defines the scores. A mean patch or CLS token is one unit vector of a picture, kept in fp32. A best
patch, or the smooth maximum over patches, depends on the text, so that all patches are kept, as unit vectors in fp16:
which rounds a component by at most 2^-11 of it.
Shapes: I pictures, V vectors of each, B texts, D vision width, N image tokens.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vl_absvit.errors import InputError
from vl_absvit.models.prior import PATCH_POOLS, POOL_TEMPERATURE
from vl_absvit.precision import always_fp32

Pool = Literal["lse", "max", "mean", "cls"]
BLOCK_BYTES = 32 << 20
"""Bytes of vectors that are compared at once, in fp32."""
SLACK = 0.01
"""By how much a cosine of rounded unit vectors may exceed 1."""


class Nearest(NamedTuple):
    """The best pictures of each text, the best first."""

    similarity: np.ndarray  # (B, k) float32
    rows: np.ndarray  # (B, k), of the gallery


@always_fp32
def kept_vectors(tokens: Tensor, pool: Pool, prefix_tokens: int) -> Tensor:
    """Unit vectors of first looks (I, N, D) that are compared with priors, (I, V, D)."""
    patches = tokens[:, prefix_tokens:]
    if pool not in PATCH_POOLS:
        patches = (tokens[:, 0] if pool == "cls" else patches.mean(dim=1)).unsqueeze(1)
    return F.normalize(patches, dim=-1)


def dtype_of(pool: Pool) -> str:
    """The type in which vectors are kept, as numpy names it."""
    return "float16" if pool in PATCH_POOLS else "float32"


def similarities(priors: Tensor, vectors: Tensor, pool: Pool) -> Tensor:
    """The dual encoder's scores of priors (B, D) with kept vectors (I, V, D), both of length 1: (B, I)."""
    cosines = (vectors.flatten(0, 1) @ priors.T).view(*vectors.shape[:2], -1)  # (I, V, B)
    if not (cosines.abs().amax() <= 1 + SLACK):  # true of NaN, too
        raise InputError("the index's vectors are not of length 1: it is damaged; remove it and make it again")
    if pool == "lse":
        return POOL_TEMPERATURE * (cosines / POOL_TEMPERATURE).logsumexp(dim=1).T
    return cosines.amax(dim=1).T


@torch.no_grad()
def nearest(priors: Tensor, parts: Iterable[np.ndarray], pool: Pool, number: int) -> Nearest:
    """The pictures of a gallery that are most similar to each text, by comparing all.

    Memory is bounded: a block of the gallery, and its scores.

    Args:
        priors: (B, D).
        parts: of the gallery, (I, V, D) each, such as memory-mapped files.
    """
    priors = F.normalize(priors.float().cpu(), dim=-1)
    best = torch.empty(len(priors), 0)
    rows = torch.empty(len(priors), 0, dtype=torch.long)
    start = 0
    for part in parts:
        step = max(1, BLOCK_BYTES // (4 * part[0].size)) if len(part) else 1
        for begin in range(0, len(part), step):
            block = torch.from_numpy(part[begin : begin + step]).float()
            scores = similarities(priors, block, pool)
            places = torch.arange(start + begin, start + begin + len(block)).expand_as(scores)
            if scores.shape[1] > number:
                scores, chosen = scores.topk(number, dim=1)
                places = places.gather(1, chosen)
            best, rows = torch.cat([best, scores], dim=1), torch.cat([rows, places], dim=1)
            if best.shape[1] > 64 * number:
                best, rows = _best(best, rows, number)
        start += len(part)
    best, rows = _best(best, rows, number)
    return Nearest(best.numpy(), rows.numpy())


def _best(scores: Tensor, rows: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The highest scores and their rows, the highest first."""
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :number]
    return scores.gather(1, order), rows.gather(1, order)
