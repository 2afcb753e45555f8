"""The prior loss over the batches of all ranks.

Shapes: B texts and I distinct images on this rank, N tokens, D vision width.
"""

import torch
from torch import Tensor

from vl_absvit.config import PriorConfig
from vl_absvit.distributed import gather_objects, gather_with_grad, rank
from vl_absvit.losses import prior_loss, prior_similarity
from vl_absvit.models.vl_model import VLOutput


def global_prior_loss(output: VLOutput, image_index: Tensor, image_ids: Tensor, config: PriorConfig) -> Tensor:
    """The prior loss of the global batch, the same on every rank.

    Priors travel, tokens stay: every rank compares all priors with its own images, and the small score columns are
    gathered.

    Args:
        output: this rank's forward pass.
        image_index: row of ``image_ids`` each text is about, (B,).
        image_ids: ids of this rank's images, (I,).
        config: which look and pooling, and the temperature.
    """
    if config.look == "first":
        tokens, column_ids, own_column = output.first_look, image_ids, image_index
    else:  # every text has an image of its own, looked at through that text
        tokens, column_ids = output.second_look, image_ids[image_index]
        own_column = torch.arange(len(tokens), device=tokens.device)
    similarity = prior_similarity(gather_with_grad(output.prior), tokens, config.pool)  # (all B, own columns)
    similarity = gather_with_grad(similarity.T.contiguous()).T  # (all B, all columns)
    column_ids = gather_with_grad(column_ids)
    own_column = gather_with_grad(own_column + _columns_before(len(tokens)))
    if config.look == "first":
        # An image that several ranks hold is one image: its first column stands for it.
        first_column = (column_ids.unsqueeze(1) == column_ids).int().argmax(dim=1)
        is_repeat = first_column != torch.arange(len(column_ids), device=column_ids.device)
        similarity, own_column = similarity.masked_fill(is_repeat, -torch.inf), first_column[own_column]
    text_image_ids = gather_with_grad(image_ids[image_index])
    return prior_loss(similarity, text_image_ids, column_ids, own_column, config.temperature, config.blank_negatives)


def _columns_before(own: int) -> int:
    """Number of columns that the ranks before this one contribute."""
    return sum(gather_objects([own])[: rank()])
