"""The prior loss over the batches of all ranks.

Shapes: B texts and I distinct images on this rank, N tokens, D vision width.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vl_absvit.config import PriorConfig
from vl_absvit.distributed import gather_objects, gather_with_grad, rank
from vl_absvit.losses import prior_loss
from vl_absvit.models.absvit import TwoLooks
from vl_absvit.models.prior import prior_similarity


def global_prior_loss(
    prior: Tensor, looks: TwoLooks, image_index: Tensor, image_ids: Tensor, config: PriorConfig
) -> Tensor:
    """The prior loss of the global batch, the same on every rank.

    Args:
        prior: of this rank's texts, each about an image of its own batch, (B, D).
        looks: at this rank's images; the second look is needed, one row per text, where it is compared.
        image_index: row of ``image_ids`` each text is about, (B,).
        image_ids: ids of this rank's images, (I,).
        config: which look and pooling, and the temperature.
    """
    if config.look == "first":
        scores = global_similarity(prior, looks.first.tokens, image_index, image_ids, config.pool)
        # An image that several ranks hold is one image: its first column stands for it.
        first_column = (scores.column_ids.unsqueeze(1) == scores.column_ids).int().argmax(dim=1)
        is_repeat = first_column != torch.arange(len(first_column), device=first_column.device)
        similarity = scores.similarity.masked_fill(is_repeat, -torch.inf)
        own_column = first_column[scores.own_column]
    else:  # every text has an image of its own, looked at through that text
        own = torch.arange(len(prior), device=prior.device)
        scores = global_similarity(prior, looks.second.tokens, own, image_ids[image_index], config.pool)
        similarity, own_column = scores.similarity, scores.own_column
    text_ids = scores.column_ids[scores.own_column]
    return prior_loss(similarity, text_ids, scores.column_ids, own_column, config.temperature, config.blank_negatives)


class GlobalSimilarity(NamedTuple):
    """The dual encoder's scores over all ranks, with gradient; A texts and C image columns in all."""

    similarity: Tensor  # (A, C)
    column_ids: Tensor  # (C,) image id of every column
    own_column: Tensor  # (A,) the column each text is about


def global_similarity(
    prior: Tensor, tokens: Tensor, own_column: Tensor, column_ids: Tensor, pool: Literal["max", "mean", "cls"]
) -> GlobalSimilarity:
    """Similarity of every rank's priors to every rank's images.

    Priors travel, tokens stay: every rank compares all priors with its own images, and the small score columns are
    gathered.

    Args:
        prior: of this rank's texts, (B, D).
        tokens: of this rank's images, (I, N, D).
        own_column: row of ``tokens`` each text is about, (B,).
        column_ids: image ids of the rows of ``tokens``, (I,).
        pool: what stands for an image.
    """
    similarity = prior_similarity(gather_with_grad(prior), tokens, pool)  # (A, I)
    return GlobalSimilarity(
        gather_with_grad(similarity.T.contiguous()).T,
        gather_with_grad(column_ids),
        gather_with_grad(own_column + _columns_before(len(tokens))),
    )


def _columns_before(own: int) -> int:
    """Number of columns that the ranks before this one contribute."""
    return sum(gather_objects([own])[: rank()])
