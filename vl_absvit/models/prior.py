"""From a text to the prior xi: a sentence vector, then one linear layer [AbS 2.6].

The cosine of priors and first-look tokens is the dual encoder. Shapes: B texts, T tokens, I images, N image tokens,
D widths.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vl_absvit.precision import always_fp32


def first_token(tokens: Tensor, is_token: Tensor) -> Tensor:
    """The ``<s>`` token, the paper's [cls]: (B, T, D), (B, T) -> (B, D)."""
    return tokens[:, 0]


def masked_mean(tokens: Tensor, is_token: Tensor) -> Tensor:
    """Mean over real tokens only: (B, T, D), (B, T) -> (B, D)."""
    weights = is_token.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1)


def end_token(tokens: Tensor, is_token: Tensor) -> Tensor:
    """The ``</s>`` token, which is the last real one (released retrieval models): (B, T, D), (B, T) -> (B, D)."""
    return tokens[torch.arange(len(tokens), device=tokens.device), is_token.sum(dim=1) - 1]


def padded_mean(tokens: Tensor, is_token: Tensor) -> Tensor:
    """Mean over all positions, padding included.

    It depends on the padded length; released VQA weights were trained with it.
    """
    return tokens.mean(dim=1)


SENTENCE_VECTORS = {"cls": first_token, "masked_mean": masked_mean, "eos": end_token, "padded_mean": padded_mean}


@always_fp32
def cosines(some: Tensor, others: Tensor) -> Tensor:
    """Of every row with every row of the others, (A, D), (B, D) -> (A, B)."""
    return F.normalize(some, dim=-1) @ F.normalize(others, dim=-1).T


@always_fp32
def prior_similarity(
    prior: Tensor, tokens: Tensor, pool: Literal["max", "mean", "cls"], prefix_tokens: int = 1
) -> Tensor:
    """Cosine of every prior with every image.

    Args:
        prior: prior vectors xi, (B, D).
        tokens: image tokens, (I, N, D).
        pool: what stands for an image: its best-matching patch, its mean patch, or its CLS token.
        prefix_tokens: how many of the tokens come before the patches, CLS first.

    Returns:
        (B, I), in [-1, 1] and fp32.
    """
    patches = tokens[:, prefix_tokens:]
    if pool == "max":
        prior, patches = (F.normalize(each, dim=-1) for each in (prior, patches))
        return torch.einsum("bd,ind->bin", prior, patches).amax(dim=-1)
    return cosines(prior, tokens[:, 0] if pool == "cls" else patches.mean(dim=1))


class PriorProjection(nn.Module):
    """xi = P t, t the sentence vector; P is trained by the prior loss.

    Args:
        text_width: width of the text tokens.
        vision_width: width D of the vision tokens that the prior is compared with.
        sentence: which sentence vector.
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
