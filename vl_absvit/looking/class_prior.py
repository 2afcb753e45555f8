"""A prior for each class of pixels, made of what the first look sees where the class is. Shapes: C classes, D width."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vl_absvit.data.segmentation_labels import VOID
from vl_absvit.models.segmenter import Segmenter


class ClassPriors(NamedTuple):
    """Priors of classes, and how many patches' area made each."""

    vectors: Tensor  # (C, D); 0 where none did
    patches: list[float]  # C


@torch.no_grad()
def class_priors(model: Segmenter, images: Iterable[tuple[Tensor, np.ndarray]]) -> ClassPriors:
    """The mean token of every class less that of all patches, of the first look after the final norm.

    A token counts for a class by the share of its patch that the class covers, so that thin things have a prior, too.
    Deep tokens share a large part, in which all classes' means are alike; without it a prior asks for what is the
    class's own.

    Args:
        model: in evaluation mode; its encoder takes images of any size.
        images: inputs (1, 3, h, w), and the classes of their pixels, (h, w).
    """
    vision, device = model.vision, next(model.parameters()).device
    sums, every = (torch.zeros(*size, vision.width, dtype=torch.float64) for size in ((model.num_classes,), ()))
    areas = torch.zeros(model.num_classes, dtype=torch.float64)
    patches, side = 0, vision.image_size[0] // vision.grids()[-1][0]
    for image, label in images:
        first = vision.look_once(image.to(device))
        tokens = first.tokens[0, first.prefix_tokens :].cpu().double()
        every, patches = every + tokens.sum(dim=0), patches + len(tokens)
        grid = vision.grids((image.shape[-2], image.shape[-1]))[-1]
        for number, share in shares_of_patches(label, grid, side).items():
            sums[number] += share.flatten().double() @ tokens
            areas[number] += share.sum()
    means = sums / areas[:, None] - every / max(patches, 1)
    return ClassPriors(torch.where(areas[:, None] > 0, means, 0.0).float(), areas.tolist())


def shares_of_patches(label: np.ndarray, grid: tuple[int, int], side: int) -> dict[int, Tensor]:
    """For each class in a label (h, w), the share of every patch that it covers, (rows, columns).

    Args:
        grid: rows and columns of patches, the last of which may be filled up with void.
        side: of a patch, in pixels.
    """
    filled = np.full((grid[0] * side, grid[1] * side), VOID, label.dtype)
    filled[: label.shape[0], : label.shape[1]] = label
    classes = [number for number in np.unique(label).tolist() if number != VOID]
    return {
        number: F.avg_pool2d(torch.from_numpy(filled == number).float()[None], side)[0] for number in classes
    }  # fmt: skip
