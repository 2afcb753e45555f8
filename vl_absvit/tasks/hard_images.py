"""Hard images, on their way to the captions that are to be told from theirs.

Pixels travel, and in the pass of a caption its hard images are looked at again, with gradient. First looks could travel
instead, but are larger (base size, 224 px, fp32: 3 MB with the first block's projections, against 0.6 MB of pixels):
those of the whole batch would go one way and their gradients the other, and be held meanwhile. And first looks of other
passes have no gradient, so that a step in several passes would be another than in one; like this, a caption's losses
need its own pass alone. The price is one first look more per hard image, beside the second look and the fusion that any
pair costs; none where one process takes a step in one pass, which looks at all images anyway. Shapes: B samples in a
pass of this rank; P passes in an optimizer step; K hard images per caption.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from vl_absvit.data.collate import RetrievalBatch
from vl_absvit.distributed import gather_with_grad
from vl_absvit.models.looks import FirstLook, VisualEncoder
from vl_absvit.tasks.hard_negatives import Known


def to_look_at(batches: Sequence[RetrievalBatch], known: Known, rows: Tensor) -> list[Tensor]:
    """Pixels of the hard images of each pass, (B * K, 3, height, width); those of a caption are adjacent.

    Args:
        batches: of this rank's passes.
        known: of the same passes.
        rows: which of the images of all ranks, (P, B, K).
    """
    images = gather_with_grad(torch.cat([batch.images for batch in batches]), known.images)
    return [images[own.flatten()] for own in rows]


def look_at(vision: VisualEncoder, pixels: Tensor, first: FirstLook) -> tuple[FirstLook, Tensor]:
    """First looks at images behind those that are there, and their rows, (images,)."""
    rows = len(first.tokens) + torch.arange(len(pixels), device=pixels.device)
    return first.followed_by(vision.look_once(pixels)), rows
