"""The agreement of maps with people by VQA-HAT's measure, and baselines that give it a scale.

Das et al., "Human Attention in Visual Question Answering", EMNLP 2016 [HAT]: both maps are averaged onto 14 x 14 cells.
Spearman's rank correlation compares their cells. It is averaged over people, then over questions.

A map's *rank vector* holds the ranks of its cells (equal cells share their mean rank), centred and of length 1. The dot
product of two rank vectors is the Spearman correlation of their maps. The rank vector of a constant map is zero.

Shapes: Q questions, C cells.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vl_absvit.errors import InputError
from vl_absvit.evaluation.uncertain_mean import uncertain_mean

GRID = (14, 14)
"""Cells that maps are compared on, rows and columns [HAT 4]."""
CENTRE_SIGMA = 0.25
"""Standard deviation of the centre's Gaussian, as a share of the image's width and of its height."""

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1); the far edges are excluded."""


class Donors(NamedTuple):
    """For each question, the other question whose map replaces its own in the *shuffled* row."""

    places: np.ndarray  # (Q,), index of the other question; -1 if there is none
    same_image: np.ndarray  # (Q,) bool, whether it is about the same image


class Agreement(NamedTuple):
    """The mean of a row's correlations and its uncertainty. None stands where there are too few questions."""

    rank_correlation: float | None  # mean over questions
    standard_error: float | None  # of this mean
    interval: tuple[float, float] | None  # 95 %, percentiles of the means of resampled questions
    questions: int  # with a value in this row


def area_average(grid: ArrayLike, shape: tuple[int, int] = GRID, box: Box | None = None) -> np.ndarray:
    """Average a map onto a grid of another size: each new cell is the mean over the area that it covers.

    Fractions of old cells count by their area, so that the mean of the map stays the same, for larger and smaller
    grids. The result is not rounded to grey values, which would create ties. It is rounded to float32, so that constant
    areas of the map stay constant whatever the order of summation.

    Args:
        grid: (h, w).
        shape: rows and columns of the new grid.
        box: the part to take, in cells of ``grid``; by default all of it.

    Returns:
        ``shape``, float32.

    Raises:
        InputError: the map is no grid of finite numbers, or the box is empty or not within it.
    """
    grid = np.asarray(grid, dtype=np.float64)
    if grid.ndim != 2 or grid.size == 0:
        raise InputError(f"expected a map of the shape (h, w), got {grid.shape}")
    check_finite(grid)
    height, width = grid.shape
    x0, y0, x1, y1 = box or (0, 0, width, height)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise InputError(f"the box {(x0, y0, x1, y1)} is not a part of a map of {width} x {height}")
    rows, columns = _weights(height, shape[0], y0, y1), _weights(width, shape[1], x0, x1)
    return (rows @ grid @ columns.T).astype(np.float32)


@lru_cache(maxsize=64)
def _weights(length: int, cells: int, low: float, high: float) -> np.ndarray:
    """The share of each of ``length`` old cells in each new one between ``low`` and ``high``: (cells, length)."""
    edges = low + (high - low) * np.arange(cells + 1) / cells
    old = np.arange(length)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    overlap = overlap.clip(min=0)
    return overlap / overlap.sum(axis=1, keepdims=True)


def human_on_grid(grey: np.ndarray, box: Box, image_size: tuple[int, int]) -> np.ndarray:
    """Cut a human map of the whole image to the part that the model saw, and average it: ``GRID``, float32.

    Args:
        grey: (height, width), in any resolution.
        box: the part that the model saw, in pixels of the image.
        image_size: width and height of the image.

    Raises:
        InputError: the box is not within the image; rounding may exceed it by half a pixel.
    """
    (width, height), (x0, y0, x1, y1) = image_size, box
    if not (-0.5 <= x0 < x1 <= width + 0.5 and -0.5 <= y0 < y1 <= height + 0.5):
        raise InputError(f"the box {box} is not a part of an image of {width} x {height}")
    across, down = grey.shape[1] / width, grey.shape[0] / height
    right, lower = min(float(grey.shape[1]), x1 * across), min(float(grey.shape[0]), y1 * down)
    return area_average(grey, box=(max(0.0, x0 * across), max(0.0, y0 * down), right, lower))


def rank_vector(grid: ArrayLike) -> np.ndarray:
    """The rank vector of a map, (C,). Equal cells share their mean rank.

    Raises:
        InputError: a value is not finite and has no rank.
    """
    from scipy.stats import rankdata

    grid = np.asarray(grid)
    check_finite(grid)
    ranks = rankdata(grid, axis=None)
    ranks -= ranks.mean()
    length = np.linalg.norm(ranks)
    return ranks / length if length else ranks


def spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    """Spearman's rank correlation of two maps of one shape. It is None if one of them is constant."""
    a, b = rank_vector(a), rank_vector(b)
    return float(np.clip(a @ b, -1, 1)) if a.any() and b.any() else None


def consensus(human: Sequence[ArrayLike]) -> np.ndarray:
    """The mean rank vector of one question's human maps, (C,). None of the maps is constant.

    Its dot product with a map's rank vector is the mean of the map's correlations with the people.
    """
    vectors = np.stack([rank_vector(grid) for grid in human])  # (people, C)
    if not vectors.any(axis=1).all():
        raise InputError("a constant human map ranks nothing; leave it out")
    return vectors.mean(axis=0)


def correlations(vectors: np.ndarray, consensuses: np.ndarray) -> np.ndarray:
    """For each question, the mean Spearman correlation of a map with the human maps, (Q,). A constant map gets 0.

    Args:
        vectors: rank vectors of the maps, (Q, C).
        consensuses: mean rank vectors of the human maps of the same questions, (Q, C).
    """
    return np.einsum("qc,qc->q", vectors, consensuses)


def inter_human(consensuses: np.ndarray, people: np.ndarray) -> np.ndarray:
    """For each question, the mean correlation between two of its human maps, (Q,). It is NaN with fewer than two maps.

    The squared length of a sum of k unit vectors is k plus the sum of all dot products of two different vectors.

    Args:
        consensuses: (Q, C).
        people: number of human maps of each question, (Q,).
    """
    people = np.asarray(people, dtype=np.float64)
    squared_lengths = np.einsum("qc,qc->q", consensuses, consensuses)
    pairs = np.where(people > 1, people - 1, np.nan)
    return (people * squared_lengths - 1) / pairs


def centre_map(shape: tuple[int, int] = GRID, box: Box = (0, 0, 1, 1)) -> np.ndarray:
    """A Gaussian of width ``CENTRE_SIGMA`` at the centre of the image, at the centres of cells: ``shape``, float32.

    Args:
        box: the part of the image that the grid covers, as shares of its width and height.
    """
    x0, y0, x1, y1 = box
    y, x = ((np.arange(cells) + 0.5) / cells for cells in shape)
    y, x = y0 + (y1 - y0) * y - 0.5, x0 + (x1 - x0) * x - 0.5
    return np.exp(-(y[:, None] ** 2 + x**2) / (2 * CENTRE_SIGMA**2)).astype(np.float32)


def uniform_noise(question_id: int, seed: int, shape: tuple[int, int] = GRID) -> np.ndarray:
    """A map of uniform noise that depends on question and seed alone: ``shape``."""
    return np.random.default_rng([seed, question_id]).random(shape)


def choose_donors(question_ids: ArrayLike, image_ids: ArrayLike, seed: int) -> Donors:
    """Draw another question for each one: about the same image if there is one, else about another image."""
    question_ids, image_ids = np.asarray(question_ids), np.asarray(image_ids)
    by_image: dict[int, list[int]] = {}
    for place, image_id in enumerate(image_ids.tolist()):
        by_image.setdefault(image_id, []).append(place)
    places = np.full(len(question_ids), -1)
    for place, (question_id, image_id) in enumerate(zip(question_ids.tolist(), image_ids.tolist(), strict=True)):
        rng = np.random.default_rng([seed, question_id])
        siblings = [other for other in by_image[image_id] if other != place]
        if siblings:
            places[place] = rng.choice(siblings)
        elif len(by_image) > 1:
            other = rng.integers(len(question_ids) - 1)
            places[place] = other + (other >= place)  # any other question; this one is alone on its image
    return Donors(places, (places >= 0) & (image_ids[places] == image_ids))


def agreement(values: np.ndarray, seed: int = 0) -> Agreement:
    """Mean, standard error and interval of one row.

    Args:
        values: a correlation for each question, (Q,); NaN if the row has none.
        seed: seed of the resampling of questions.
    """
    return Agreement(*uncertain_mean(values, seed))


def check_finite(values: np.ndarray) -> None:
    """Raise ``InputError`` where a map holds a value that is not finite."""
    if not np.isfinite(values).all():
        raise InputError("a map holds values that are not finite")
