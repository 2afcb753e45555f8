"""A map as a coarse segmentation: foreground where it is above a threshold.

Shi et al., "Visual Attention Emerges from Recurrent Sparse Reconstruction", ICML 2022 [VARS 4.3, Table 1.4]. The paper
releases no code. That its "mean IoU" is the foreground's, and that its false positives and negatives are shares of all
pixels, follows from its table: only so do the four rows agree on how much of the pictures is foreground.
Shapes: T thresholds, h x w pixels that the model saw. Masks are True at the foreground; pixels without a class count
nowhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vl_absvit.evaluation.attention_agreement import Box, check_finite
from vl_absvit.evaluation.fixation_comparison import centre_of
from vl_absvit.evaluation.map_on_picture import on_pixels, seen_pixels
from vl_absvit.evaluation.uncertain_mean import CONFIDENCE, RESAMPLES, uncertain_mean

THRESHOLD = 0.3
"""[VARS 4.3]"""
THRESHOLDS = np.round(np.arange(0, 1, 0.05), 2)
SEED = 0
DEFINITIONS = {
    "pictures": "only the pixels that the model saw and that have a class count; a map is scaled between its smallest "
    "and largest cell to [0, 1], enlarged bilinearly to its picture, and foreground where it is above the threshold",
    "iou": "of the foreground, TP / (TP + FP + FN), percent; mean over pictures; a picture where neither map nor mask "
    "has foreground is left out",
    "false_positive": "FP as a share of the pixels, percent; mean over pictures",
    "false_negative": "FN as a share of the pixels, percent; mean over pictures",
    "accumulated_iou": "IoU of the pixels of all pictures together, percent",
    "energy": "share of the scaled map's sum that lies on the foreground, percent; mean over pictures with a map that "
    "is not constant and a mask with foreground",
    "pointing": "share of these pictures whose strongest pixel is foreground, percent; of several equal ones all",
    "constant_maps": "cannot be scaled; they have no foreground",
    "best": "the threshold with the best IoU on these very pictures: too good to be compared",
    "best_on_train": "at the threshold with the best IoU on the training pictures",
    "everything": "all pixels are foreground",
    "centre": "a Gaussian in the middle of the picture, sigma a quarter of its shorter side",
    "other_picture": f"the map named under 'map', but of another picture, drawn with seed {SEED}",
    "standard_error": "of the mean over pictures",
    "interval": f"percentiles that hold {CONFIDENCE:.0%} of the means of {RESAMPLES:,} resamples of the pictures",
}


class Counts(NamedTuple):
    """Pixels of one picture above every threshold."""

    true_positive: np.ndarray  # (T,)
    false_positive: np.ndarray  # (T,)
    foreground: int
    pixels: int
    energy: float  # share of the map's sum on the foreground, in [0, 1]; NaN where there is none
    points: float  # 1 if the strongest pixel is foreground, 0 if not; NaN where there is none
    is_constant: bool

    @property
    def false_negative(self) -> np.ndarray:
        """(T,)"""
        return self.foreground - self.true_positive

    @property
    def iou(self) -> np.ndarray:
        """Of the foreground, (T,); NaN where neither map nor mask has any."""
        union = self.foreground + self.false_positive
        return np.divide(self.true_positive, union, out=np.full(union.shape, np.nan), where=union > 0)


def count(scaled: np.ndarray, foreground: np.ndarray, valid: np.ndarray, thresholds: np.ndarray) -> Counts:
    """Compare a map with a mask.

    Args:
        scaled: in [0, 1], (h, w).
        foreground, valid: bool, (h, w).
        thresholds: ascending, (T,).
    """
    values, is_front = scaled[valid], foreground[valid]
    # A value passes as many thresholds as are below it.
    passed = np.searchsorted(thresholds, values, side="left")
    above = [
        np.bincount(passed[chosen], minlength=len(thresholds) + 1)[::-1].cumsum()[::-1][1:]
        for chosen in (is_front, ~is_front)
    ]
    is_constant = not len(values) or bool(scaled.min() == scaled.max())
    energy = points = np.nan
    if not is_constant and is_front.any() and values.sum() > 0:
        energy = float(values[is_front].sum() / values.sum())
        points = float(is_front[values == values.max()].all())
    return Counts(above[0], above[1], int(is_front.sum()), len(values), energy, points, is_constant)


def count_picture(
    maps: Mapping[str, np.ndarray],
    box: Box,
    size: tuple[int, int],
    foreground: np.ndarray,
    valid: np.ndarray,
    *,
    other_map: np.ndarray | None,
    thresholds: np.ndarray,
) -> dict[str, Counts] | None:
    """Every row of one picture; None if no pixel that the model saw has a class.

    Args:
        maps: the model's, name -> (h, w) over ``box``.
        size: width and height of the picture.
        foreground, valid: of the whole picture, (height, width), bool.
        other_map: the main kind of map of another picture; None if there is none.

    Raises:
        InputError: a map is no grid of finite numbers, or the box is not within the picture.
    """
    part = seen_pixels(box, size)
    front, known = part.cut(foreground), part.cut(valid)
    if not known.any():
        return None
    shown = {name: on_pixels(min_max(grid), box, size) for name, grid in maps.items()}
    shown["centre"] = min_max(part.cut(centre_of(size)))
    if other_map is not None:
        shown["other_picture"] = on_pixels(min_max(other_map), box, size)
    counts = {name: count(scaled, front, known, thresholds) for name, scaled in shown.items()}
    everything = count(np.ones(front.shape), front, known, thresholds)
    return counts | {"everything": everything._replace(energy=np.nan, points=np.nan, is_constant=False)}


def min_max(grid: np.ndarray) -> np.ndarray:
    """A map between 0 and 1; a constant one is 0 everywhere.

    Raises:
        InputError: it holds a value that is not finite.
    """
    grid = np.asarray(grid, dtype=np.float64)
    check_finite(grid)
    low, high = grid.min(), grid.max()
    return (grid - low) / (high - low) if high > low else np.zeros_like(grid)


def best_threshold(pictures: Sequence[Mapping[str, Counts]], name: str, thresholds: np.ndarray) -> float:
    """The lowest threshold with the best mean IoU of a row."""
    return float(thresholds[np.nanargmax(_mean_iou(pictures, name))])


def _mean_iou(pictures: Sequence[Mapping[str, Counts]], name: str) -> np.ndarray:
    """(T,); NaN where no picture has an IoU."""
    values = np.stack([picture[name].iou for picture in pictures if name in picture])
    known = (~np.isnan(values)).sum(axis=0)
    return np.divide(np.nansum(values, axis=0), known, out=np.full(known.shape, np.nan), where=known > 0)


def summarise(
    pictures: Sequence[Mapping[str, Counts]],
    main: str,
    thresholds: np.ndarray,
    threshold: float,
    trained: Mapping[str, float],
) -> dict[str, Any]:
    """Rows over all pictures, and counts, as JSON.

    Args:
        pictures: at least one; row -> counts.
        main: the map in the headline.
        threshold: one of ``thresholds``.
        trained: row -> the best threshold on training pictures, one of ``thresholds``; may be empty.
    """
    names = list(dict.fromkeys(name for picture in pictures for name in picture))
    rows: dict[str, Any] = {}
    for name in names:
        own = [picture[name] for picture in pictures if name in picture]
        sweep = [_at(own, place) for place in range(len(thresholds))]
        rows[name] = _with_uncertainty(own, int(np.flatnonzero(thresholds == threshold)[0]), threshold)
        for measure in ("energy", "points"):
            values = 100 * np.array([getattr(counts, measure) for counts in own])
            rows[name]["pointing" if measure == "points" else measure] = uncertain_mean(values, SEED)._asdict()
        if name != "everything":
            best = best_threshold(pictures, name, thresholds)
            rows[name]["best"] = {"threshold": best, **sweep[int(np.flatnonzero(thresholds == best)[0])]}
            rows[name]["sweep"] = [
                {"threshold": float(value), **scores} for value, scores in zip(thresholds, sweep, strict=True)
            ]
        if name in trained and name != "everything":
            place = int(np.flatnonzero(thresholds == trained[name])[0])
            rows[name]["best_on_train"] = _with_uncertainty(own, place, trained[name])
    return {
        "map": main,
        "threshold": threshold,
        **{name: rows[main][name]["mean"] for name in ("iou", "false_positive", "false_negative")},
        "rows": rows,
        "counts": {
            "pictures": len(pictures),
            "constant_maps": {
                name: number for name in names if (number := sum(p[name].is_constant for p in pictures if name in p))
            },
        },
    }


def _shares(own: Sequence[Counts], place: int) -> dict[str, np.ndarray]:
    """Percentages of every picture at a threshold."""
    pixels = np.array([counts.pixels for counts in own])
    return {
        "iou": 100 * np.array([counts.iou[place] for counts in own]),
        "false_positive": 100 * np.array([counts.false_positive[place] for counts in own]) / pixels,
        "false_negative": 100 * np.array([counts.false_negative[place] for counts in own]) / pixels,
    }


def _accumulated(own: Sequence[Counts], place: int) -> float | None:
    inside = sum(int(counts.true_positive[place]) for counts in own)
    union = sum(counts.foreground + int(counts.false_positive[place]) for counts in own)
    return 100 * inside / union if union else None


def _at(own: Sequence[Counts], place: int) -> dict[str, float | None]:
    means = {}
    for name, values in _shares(own, place).items():
        known = values[~np.isnan(values)]
        means[name] = float(known.mean()) if len(known) else None
    return means | {"accumulated_iou": _accumulated(own, place)}


def _with_uncertainty(own: Sequence[Counts], place: int, threshold: float) -> dict[str, Any]:
    means = {name: uncertain_mean(values, SEED)._asdict() for name, values in _shares(own, place).items()}
    return {"threshold": threshold, **means, "accumulated_iou": _accumulated(own, place)}
