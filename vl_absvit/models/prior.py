"""From a text to the prior xi: a sentence vector, then one linear layer [AbS 2.6].

The cosine of priors and first-look tokens is the dual encoder. Shapes: B texts, T tokens, I images, N image tokens,
D widths.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vl_absvit.precision import always_fp32

POOL_TEMPERATURE = 0.07
"""Temperature of ``lse`` pooling. At this default temperature of the contrastive loss, every patch is a candidate."""
PATCH_POOLS = ("lse", "max")
"""Poolings of an image's similarities, patch by patch; the others pool its tokens."""


def first_token(tokens: Tensor, is_token: Tensor) -> Tensor:
    """The ``<s>`` token, the paper's [cls]: (B, T, D), (B, T) -> (B, D)."""
    return tokens[:, 0]


def masked_mean(tokens: Tensor, is_token: Tensor) -> Tensor:
    """Mean over real tokens only: (B, T, D), (B, T) -> (B, D)."""
    weights = is_token.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1)


def end_token(tokens: Tensor, is_token: Tensor) -> Tensor:
    """The ``</s>`` token, the last real one (released retrieval models): (B, T, D), (B, T) -> (B, D)."""
    return tokens[torch.arange(len(tokens), device=tokens.device), is_token.sum(dim=1) - 1]


def padded_mean(tokens: Tensor, is_token: Tensor) -> Tensor:
    """Mean over all positions, padding included.

    It depends on the padded length; released VQA weights were trained with it.
    """
    return tokens.mean(dim=1)


SENTENCE_VECTORS = {"cls": first_token, "masked_mean": masked_mean, "eos": end_token, "padded_mean": padded_mean}


@always_fp32
def cosines(some: Tensor, others: Tensor) -> Tensor:
    """Cosines of all rows with all other rows, (A, D), (B, D) -> (A, B)."""
    return F.normalize(some, dim=-1) @ F.normalize(others, dim=-1).T


@always_fp32
def prior_similarity(
    prior: Tensor, tokens: Tensor, pool: Literal["lse", "max", "mean", "cls"], prefix_tokens: int = 1
) -> Tensor:
    """Similarity of every prior to every image, by cosines.

    Args:
        prior: prior vectors xi, (B, D).
        tokens: image tokens, (I, N, D).
        pool: pooling of an image: its best-matching patch, its mean patch, its CLS token, or ``lse`` over all patches
            i, tau log sum_i exp(cos_i / tau). This smooth maximum gives a prior gradients from all patches before it
            knows its own (as in MIL-NCE, Miech et al., CVPR 2020, arXiv:1912.06430). It exceeds the maximum by at most
            tau log N.
        prefix_tokens: number of tokens before the patches, CLS first.

    Returns:
        (B, I) in fp32, in [-1, 1] except for ``lse``.
    """
    patches = tokens[:, prefix_tokens:]
    if pool in PATCH_POOLS:
        prior, patches = (F.normalize(vectors, dim=-1) for vectors in (prior, patches))
        similarity = torch.einsum("bd,ind->bin", prior, patches)
        if pool == "max":
            return similarity.amax(dim=-1)
        return POOL_TEMPERATURE * (similarity / POOL_TEMPERATURE).logsumexp(dim=-1)
    return cosines(prior, tokens[:, 0] if pool == "cls" else patches.mean(dim=1))


class PriorProjection(nn.Module):
    """xi = P t, t the sentence vector; P is trained by the prior loss.

    Args:
        text_width: width of the text tokens.
        vision_width: width D of the vision tokens that the prior is compared with.
        sentence: kind of the sentence vector.
    """

    def __init__(
        self, *, text_width: int, vision_width: int, sentence: Literal["cls", "masked_mean", "eos", "padded_mean"]
    ) -> None:
        super().__init__()
        self.sentence_vector = SENTENCE_VECTORS[sentence]
        self.project = nn.Linear(text_width, vision_width)

    def forward(self, tokens: Tensor, is_token: Tensor) -> Tensor:
        """Text tokens (B, T, text width), real where ``is_token`` (B, T) -> prior vectors (B, D)."""
        return self.project(self.sentence_vector(tokens, is_token))
