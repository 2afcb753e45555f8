"""Do maps tell where people look freely? Bottom-up, and top-down with a query that other pictures' fixations trained.

A picture is squeezed to the encoder's square, so that all of it is seen; maps are enlarged to its size again. Each
person's first fixation, which leans to the centre, is left out. Shapes: I pictures, N patches, D width, h x w cells.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from benchmarks.real.encoders import SIDE
from vl_absvit.data.json_files import read_json
from vl_absvit.data.rgb import open_rgb
from vl_absvit.errors import InputError
from vl_absvit.evaluation.attention_agreement import centre_map
from vl_absvit.evaluation.fixation_metrics import auc_judd, nss

BLUR = 12.0
"""Deviation of the Gaussian that makes a density of fixations, in pixels of OSIE's halved pictures: one degree."""
FOLDS, STEPS, RATE, TEMPERATURE = 5, 200, 0.03, 0.07


class Watched(NamedTuple):
    """A picture and where people looked."""

    picture: Image.Image
    fixations: np.ndarray  # (F, 2), x and y in pixels


def read_watched(folder: Path) -> list[Watched]:
    """The pictures of ``osie/`` with all fixations but each person's first.

    Raises:
        InputError: the folder is of another form.
    """
    found = []
    for entry in read_json(folder / "fixations.json", list):
        points = [fixation[:2] for viewer in entry["viewers"] for fixation in viewer[1:]]
        found.append(Watched(open_rgb(folder / "images" / entry["file"]), np.array(points, dtype=float)))
    if len(found) < FOLDS:
        raise InputError(f"{folder}: expected {FOLDS} pictures or more, got {len(found)}")
    return found


def squeezed(watched: Sequence[Watched]) -> list[Image.Image]:
    """Whole pictures in the encoder's square."""
    return [each.picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC) for each in watched]


def density(watched: Watched) -> np.ndarray:
    """Blurred fixations, (height, width) float32."""
    counts = np.zeros(watched.picture.size[::-1])
    np.add.at(counts, tuple(np.floor(watched.fixations).astype(int).T[::-1]), 1)
    return gaussian_filter(counts, BLUR).astype(np.float32)


def cell_shares(watched: Sequence[Watched], grid: tuple[int, int]) -> Tensor:
    """The share of a picture's density that falls on each cell, (I, h x w)."""
    columns_and_rows = grid[::-1]
    averages = [Image.fromarray(density(each)).resize(columns_and_rows, Image.Resampling.BOX) for each in watched]
    cells = torch.stack([torch.from_numpy(np.array(average)) for average in averages]).flatten(1)
    return cells / cells.sum(dim=1, keepdim=True)


def train_query(patches: Tensor, shares: Tensor) -> Tensor:
    """A prior whose cosines, over a temperature, give the shares by softmax: (D,).

    Args:
        patches: less the mean patch, (I, N, D).
        shares: of each patch, (I, N).
    """
    normed = F.normalize(patches, dim=-1)
    query = (shares.unsqueeze(-1) * normed).sum(dim=1).mean(dim=0).clone().requires_grad_()
    optimizer = torch.optim.Adam([query], lr=RATE)
    for _ in range(STEPS):
        logits = normed @ F.normalize(query, dim=0) / TEMPERATURE
        loss = F.cross_entropy(logits, shares)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return query.detach()


def queries_of_others(patches: Tensor, shares: Tensor) -> Tensor:
    """For every picture a query that was trained on the other folds' pictures, (I, D). Arguments: ``train_query``."""
    fold = torch.arange(len(patches)) % FOLDS
    trained = [train_query(patches[fold != each], shares[fold != each]) for each in range(FOLDS)]
    return torch.stack([trained[each] for each in fold.tolist()])


class Told(NamedTuple):
    """Means over pictures."""

    nss: float
    auc: float


def judge(watched: Sequence[Watched], maps: Sequence[np.ndarray]) -> Told:
    """The scores of a map (h, w) of each picture."""
    scores = []
    for one, each in zip(watched, maps, strict=True):
        enlarged = Image.fromarray(each.astype(np.float32)).resize(one.picture.size, Image.Resampling.BICUBIC)
        scores.append([metric(np.array(enlarged), one.fixations) for metric in (nss, auc_judd)])
    return Told(*np.mean(scores, axis=0).tolist())


def judge_baselines(watched: Sequence[Watched]) -> dict[str, Told]:
    """A Gaussian in the centre, and where people look on another photograph."""
    centre = centre_map(watched[0].picture.size[::-1])
    maps = [density(each) for each in watched]
    return {
        "centre": judge(watched, [centre] * len(watched)),
        "people on another photograph": judge(watched, [maps[-1], *maps[:-1]]),
    }
