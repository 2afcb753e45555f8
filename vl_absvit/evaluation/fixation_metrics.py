"""How well a map tells where people look in one picture.

Peters, Iyer, Itti, Koch, "Components of bottom-up gaze allocation in natural images", Vision Research 2005 (NSS); Judd,
Durand, Torralba, "A Benchmark of Computational Models of Saliency to Predict Human Fixations", MIT 2012 (AUC-Judd, CC,
SIM); Bylinskii et al., "What do different evaluation metrics tell us about saliency models?", TPAMI 2019 (shuffled AUC,
KL); Kuemmerer, Wallis, Bethge, "Information-theoretic model comparison", PNAS 2015 (information gain).
Shapes: h x w pixels of a picture, F fixations. A fixation is (x, y) in pixels and lies in pixel (floor x, floor y).
"""

import numpy as np

from vl_absvit.errors import InputError
from vl_absvit.evaluation.attention_agreement import check_finite

EPS = 2.2204e-16
"""Added to densities before logarithms, as the MIT benchmark does. Maps with zeros owe it their KL and gain."""


def nss(saliency: np.ndarray, fixations: np.ndarray) -> float:
    """Normalised scanpath saliency: the mean at the fixations of the map with mean 0 and deviation 1 over pixels.

    A map that is the same everywhere gets 0.

    Args:
        saliency: (h, w), finite.
        fixations: (F, 2), at least one.

    Raises:
        InputError: there is no fixation, one is not on the map, or the map has a value that is not finite.
    """
    values = at_fixations(saliency, fixations)
    if is_constant(saliency):
        return 0.0
    scale, mean = np.float64(saliency.max()) - saliency.min(), saliency.mean(dtype=np.float64)
    deviation = ((saliency - mean) / scale).std(dtype=np.float64)  # squares of tiny values would be none
    return float((values.mean(dtype=np.float64) - mean) / scale / deviation)


def is_constant(saliency: np.ndarray) -> bool:
    """Whether a map is the same everywhere, so that it ranks no pixel before another."""
    return bool(saliency.min() == saliency.max())


def auc_judd(saliency: np.ndarray, fixations: np.ndarray) -> float:
    """The chance that a fixated pixel has more than another one, ties counting half.

    The fixated pixels are those of all fixations, each once. Nothing is drawn at random.

    Args and errors: as ``nss``. Another error is that every pixel is fixated.
    """
    at_fixations(saliency, fixations)
    is_fixated = np.zeros(saliency.shape, dtype=bool)
    columns, rows = pixels_of(fixations)
    is_fixated[rows, columns] = True
    if is_fixated.all():
        raise InputError("every pixel is fixated, none is left to compare with")
    return _auc(saliency[is_fixated], saliency[~is_fixated])


def auc_shuffled(saliency: np.ndarray, fixations: np.ndarray, others: np.ndarray) -> float:
    """The chance that a fixation has more than a fixation on another picture, ties counting half.

    A map that only tells that people look at the centre gets 0.5. All fixations of the others count; none is drawn.

    Args:
        others: fixations on other pictures, carried over to this one, (G, 2), at least one.

    Other arguments and errors: as ``nss``.
    """
    return _auc(at_fixations(saliency, fixations), at_fixations(saliency, others))


def _auc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Mann-Whitney's statistic: the area under the curve without any thresholds, exact, ties counting half."""
    ordered = np.sort(positives)
    below = np.searchsorted(ordered, negatives, "left").mean() + np.searchsorted(ordered, negatives, "right").mean()
    return float(1 - below / (2 * len(positives)))


def density_of(fixations: np.ndarray, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """Fixations per pixel, spread by a Gaussian of ``sigma`` pixels that is cut at 4 sigma; nothing comes from outside.

    Args:
        fixations: (F, 2), on the picture; one at the same place twice counts twice.
        shape: rows and columns of the picture.

    Returns:
        ``shape``, float64.
    """
    columns, rows = pixels_of(fixations)
    return _bells(rows, shape[0], sigma).T @ _bells(columns, shape[1], sigma)


def _bells(places: np.ndarray, length: int, sigma: float) -> np.ndarray:
    """A Gaussian around each place, cut at 4 sigma, whose whole sum is 1: (F, length)."""
    reach = int(4 * sigma + 0.5)
    bell = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    distances = np.arange(length) - places[:, None]
    return np.where(np.abs(distances) <= reach, np.exp(-(distances**2) / (2 * sigma**2)), 0.0) / bell.sum()


def correlation(saliency: np.ndarray, density: np.ndarray) -> float:
    """CC: Pearson's correlation of a map's pixels and the density of fixations; 0 if one of them is constant.

    Args:
        saliency, density: (h, w).

    Raises:
        InputError: one of them has a value that is not finite.
    """
    check_finite(saliency)
    check_finite(density)
    deviations = []
    for values in (saliency, density):
        if is_constant(values):
            return 0.0
        centred = (values - values.mean(dtype=np.float64)) / (np.float64(values.max()) - values.min())
        deviations.append(centred / np.linalg.norm(centred))
    return float((deviations[0] * deviations[1]).sum())


def similarity(p: np.ndarray, q: np.ndarray) -> float:
    """SIM: the common part of a map and the density of fixations, sum of min(p, q).

    Args:
        p, q: made by ``as_distribution``, (h, w).
    """
    return float(np.minimum(p, q).sum())


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """KL(density || map) = sum of q log(eps + q / (p + eps)), in nats; arguments as ``similarity``."""
    return float((q * np.log(EPS + q / (p + EPS))).sum())


def information_gain(p: np.ndarray, baseline: np.ndarray, fixations: np.ndarray) -> float:
    """Mean over fixations of log2(eps + p) - log2(eps + p of a baseline), in bits; errors as ``nss``.

    Args:
        p, baseline: made by ``as_distribution``, (h, w).
    """
    ours, theirs = (np.log2(EPS + at_fixations(values, fixations)) for values in (p, baseline))
    return float((ours - theirs).mean())


def as_distribution(values: np.ndarray) -> np.ndarray:
    """A map that sums to 1. One with negative values is lifted to 0 before; an all-zero one becomes uniform."""
    check_finite(values)
    values = values.astype(np.float64)
    lifted = values - min(values.min(), 0.0)
    highest = lifted.max()
    if highest == 0:
        return np.full_like(lifted, 1 / lifted.size)
    lifted /= highest  # the sum of huge or tiny values might be none
    return lifted / lifted.sum()


def pixels_of(fixations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of the pixel of each fixation, (F,) each."""
    columns, rows = np.floor(fixations).astype(int).reshape(-1, 2).T
    return columns, rows


def at_fixations(saliency: np.ndarray, fixations: np.ndarray) -> np.ndarray:
    """The map's values at fixations, (F,); arguments and errors are those of ``nss``."""
    check_finite(saliency)
    if not len(fixations):
        raise InputError("there is no fixation")
    height, width = saliency.shape
    if not ((fixations >= 0) & (fixations < (width, height))).all():
        raise InputError(f"a fixation is not on the picture of {width} x {height} pixels")
    columns, rows = pixels_of(fixations)
    return saliency[rows, columns]
