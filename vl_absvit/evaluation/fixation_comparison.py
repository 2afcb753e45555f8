"""A model's maps beside eye fixations, picture by picture, and baselines that give the numbers a scale.

Shapes: h x w pixels that the model saw, F fixations on them. Fixations are (x, y) in pixels, counted from 0.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from vl_absvit.evaluation.attention_agreement import Box
from vl_absvit.evaluation.fixation_metrics import (
    EPS,
    as_distribution,
    auc_judd,
    auc_shuffled,
    correlation,
    density_of,
    divergence,
    information_gain,
    is_constant,
    nss,
    similarity,
)
from vl_absvit.evaluation.map_on_picture import Seen, on_pixels, seen_pixels
from vl_absvit.evaluation.uncertain_mean import CONFIDENCE, RESAMPLES, UncertainMean, uncertain_mean

SEED = 0
CENTRE_SIGMA = 0.25
"""Standard deviation of the centre's Gaussian, as a share of the picture's shorter side."""
DENSITY_SIGMA = 0.03
"""Standard deviation of the densities' Gaussian, as a share of the picture's longer side: 24 pixels of 800."""
METRICS = ("nss", "auc_judd", "auc_shuffled", "cc", "sim", "kl", "information_gain")
DEFINITIONS = {
    "pictures": "only the part that the model saw counts, its pixels and the fixations on them; a fixation lies in the "
    "pixel (floor x, floor y); maps are bilinear between the centres of their cells; every metric is the mean over "
    "pictures",
    "nss": "mean of the map with mean 0 and population deviation 1 at the fixations; a pixel that was fixated twice "
    "counts twice; a constant map gets 0",
    "nss_over_fixations": "the same, mean over all fixations of all pictures",
    "auc_judd": "chance that a fixated pixel has more than another one, ties counting half, nothing drawn at random",
    "auc_shuffled": "chance that a fixation has more than a fixation on another picture; these are carried over by "
    "their place as shares of width and height, and all of them count",
    "cc": "Pearson's correlation with the density of fixations; a constant map gets 0",
    "sim": "sum of the smaller of both distributions; a map with negative values is lifted to 0 before",
    "kl": f"sum of q log(eps + q / (p + eps)), q the density, p the map, eps {EPS:g}, in nats; less is better",
    "information_gain": f"mean over fixations of log2(eps + p) - log2(eps + p of 'centre'), eps {EPS:g}, in bits",
    "density": "the fixations, each a Gaussian that is cut at 4 sigma",
    "centre": f"a Gaussian at the centre of the picture; sigma is {CENTRE_SIGMA} of the shorter side",
    "other_picture": f"the map named under 'map', but of another picture, drawn with seed {SEED}",
    "inter_observer": "the density of the other observers against the fixations of one, mean over the observers of a "
    "picture, for pictures with at least two",
    "standard_error": "of the mean over pictures",
    "interval": f"percentiles that hold {CONFIDENCE:.0%} of the means of {RESAMPLES:,} resamples of the pictures, "
    f"seed {SEED}",
}
ONCE_PER_PIXEL = (
    "mean of the map with mean 0 and population deviation 1 at the fixated pixels, each once; a constant map gets 0"
)
"""Definition of NSS of a binary map of fixations, as the MIT benchmark has it."""


class Fixations(NamedTuple):
    """Where people looked in one picture."""

    places: np.ndarray  # (F, 2), on the picture
    observers: np.ndarray | None  # (F,), a number for each person; None if it is not known who looked
    size: tuple[int, int]  # width and height of the picture

    def seen(self, box: Box) -> tuple["Fixations", Seen]:
        """Those on what the model saw, counted from its corner, and that part."""
        part = seen_pixels(box, self.size)
        x, y = np.floor(self.places).T
        inside = (x >= part.left) & (x < part.right) & (y >= part.top) & (y < part.bottom)
        observers = None if self.observers is None else self.observers[inside]
        return Fixations(self.places[inside] - (part.left, part.top), observers, self.size), part

    def on(self, size: tuple[int, int]) -> np.ndarray:
        """Their places carried over to a picture of another size, (F, 2)."""
        return self.places / self.size * size


class PictureScores(NamedTuple):
    """The rows of one picture."""

    rows: dict[str, dict[str, float]]  # row -> metric -> value; NaN where there is none
    fixations: int  # that the model could see
    counted: int  # of them, that NSS is a mean over
    constant: list[str]  # maps that are the same everywhere


def score_picture(
    fixations: Fixations,
    maps: Mapping[str, np.ndarray],
    box: Box,
    *,
    others: np.ndarray,
    other_map: np.ndarray | None,
    sigma: float | None = None,
    once_per_pixel: bool = False,
) -> PictureScores | None:
    """Every row of one picture; None if no fixation is on what the model saw, or every pixel was fixated.

    Args:
        maps: the model's, name -> (h, w) over ``box``.
        others: fixations on other pictures, carried over to this one, (G, 2); may be none.
        other_map: the main kind of map of another picture; None if there is none.
        sigma: of the densities, in pixels; None means ``DENSITY_SIGMA``.
        once_per_pixel: whether NSS counts a pixel once that was fixated several times.

    Raises:
        InputError: a map is no grid of finite numbers, or the box is not within the picture.
    """
    seen, part = fixations.seen(box)
    shape = part.bottom - part.top, part.right - part.left
    pixels = np.unique(np.floor(seen.places), axis=0)
    if not len(pixels) or len(pixels) == shape[0] * shape[1]:
        return None
    sigma = DENSITY_SIGMA * max(fixations.size) if sigma is None else sigma
    negatives = Fixations(others, None, fixations.size).seen(box)[0].places
    middle = part.cut(centre_of(fixations.size))
    centre = as_distribution(middle)
    values = {name: on_pixels(grid, box, fixations.size) for name, grid in maps.items()}
    shown = values | {"centre": middle}
    if other_map is not None:
        shown["other_picture"] = on_pixels(other_map, box, fixations.size)
    density = density_of(seen.places, shape, sigma)
    metrics_of = partial(_scores, negatives=negatives, centre=centre, once_per_pixel=once_per_pixel)
    rows = {name: metrics_of(saliency, seen.places, density) for name, saliency in shown.items()}
    rows["inter_observer"] = _between_observers(seen, shape, sigma, metrics_of)
    constant = [name for name, saliency in values.items() if is_constant(saliency)]
    return PictureScores(rows, len(seen.places), len(pixels if once_per_pixel else seen.places), constant)


def centre_of(size: tuple[int, int]) -> np.ndarray:
    """A Gaussian in the middle of a picture of this width and height, (height, width)."""
    x, y = (np.arange(side) - (side - 1) / 2 for side in size)
    sigma = CENTRE_SIGMA * min(size)
    return np.exp(-(y[:, None] ** 2 + x**2) / (2 * sigma**2))


def _scores(
    saliency: np.ndarray,
    places: np.ndarray,
    density: np.ndarray,
    *,
    negatives: np.ndarray,
    centre: np.ndarray,
    once_per_pixel: bool,
) -> dict[str, float]:
    """All metrics of one map, in the order of ``METRICS``; ``centre`` is a distribution."""
    p, q = as_distribution(saliency), as_distribution(density)
    return {
        "nss": nss(saliency, np.unique(np.floor(places), axis=0) if once_per_pixel else places),
        "auc_judd": auc_judd(saliency, places),
        "auc_shuffled": auc_shuffled(saliency, places, negatives) if len(negatives) else np.nan,
        "cc": correlation(saliency, density),
        "sim": similarity(p, q),
        "kl": divergence(p, q),
        "information_gain": information_gain(p, centre, places),
    }


def _between_observers(
    seen: Fixations, shape: tuple[int, int], sigma: float, metrics_of: Callable[..., dict[str, float]]
) -> dict[str, float]:
    """Each observer's fixations against the density of the others', mean over observers."""
    people = np.unique(seen.observers) if seen.observers is not None else np.empty(0)
    if len(people) < 2:
        return dict.fromkeys(METRICS, np.nan)
    of_each = []
    for person in people:
        own = seen.observers == person
        # Subtracting one's own density from that of all would leave crumbs where the others have none.
        others, density = (density_of(seen.places[chosen], shape, sigma) for chosen in (~own, own))
        of_each.append(metrics_of(others, seen.places[own], density))
    return {metric: float(np.mean([scores[metric] for scores in of_each])) for metric in METRICS}


def summarise(pictures: Sequence[PictureScores], main: str) -> dict[str, Any]:
    """Rows of means over pictures, and counts, as JSON.

    Args:
        pictures: at least one.
        main: the map in the headline.
    """
    names = list(dict.fromkeys(name for picture in pictures for name in picture.rows))
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        own = [picture for picture in pictures if name in picture.rows]
        means: dict[str, UncertainMean] = {
            metric: uncertain_mean(np.array([picture.rows[name][metric] for picture in own]), SEED)
            for metric in METRICS
        }
        weights, values = (
            np.array([picture.counted for picture in own]), np.array([picture.rows[name]["nss"] for picture in own])
        )  # fmt: skip
        known = ~np.isnan(values)
        over_all = float(np.average(values[known], weights=weights[known])) if known.any() else None
        rows[name] = {metric: mean._asdict() for metric, mean in means.items()}
        rows[name]["nss_over_fixations"] = None if name == "inter_observer" else over_all
    constant = [name for picture in pictures for name in picture.constant]
    return {
        "map": main,
        **{metric: rows[main][metric]["mean"] for metric in METRICS},
        "rows": rows,
        "counts": {
            "pictures": len(pictures),
            "fixations": sum(picture.fixations for picture in pictures),
            "constant_maps": {name: constant.count(name) for name in names if name in constant},
        },
    }
