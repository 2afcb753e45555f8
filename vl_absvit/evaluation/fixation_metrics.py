"""How well a map tells where people look: NSS and AUC of one picture.

Peters, Iyer, Itti, Koch, "Components of bottom-up gaze allocation in natural images", Vision Research 2005 (NSS); Judd,
Durand, Torralba, "A Benchmark of Computational Models of Saliency to Predict Human Fixations", MIT 2012 (AUC-Judd).
Shapes: h x w pixels of a picture, F fixations. A fixation is (x, y) in pixels and lies in pixel (floor x, floor y).
"""

import numpy as np
from scipy.stats import rankdata

from vl_absvit.errors import InputError


def nss(saliency: np.ndarray, fixations: np.ndarray) -> float:
    """Normalised scanpath saliency: the mean at the fixations of the map with mean 0 and deviation 1 over pixels.

    A map that is the same everywhere gets 0.

    Args:
        saliency: (h, w), finite.
        fixations: (F, 2), at least one.

    Raises:
        InputError: a fixation is not on the map.
    """
    saliency = saliency.astype(np.float64)
    spread = saliency.std()
    if spread == 0:
        return 0.0
    return float((at_fixations(saliency, fixations).mean() - saliency.mean()) / spread)


def auc_judd(saliency: np.ndarray, fixations: np.ndarray) -> float:
    """The chance that a fixated pixel has more than another one, ties counting half.

    The fixated pixels are those of all fixations, each once. Nothing is drawn at random.

    Args and errors: as ``nss``; some pixel is not fixated.
    """
    at_fixations(saliency, fixations)
    is_fixated = np.zeros(saliency.shape, dtype=bool)
    columns, rows = np.floor(fixations).astype(int).T
    is_fixated[rows, columns] = True
    fixated, others = is_fixated.sum(), (~is_fixated).sum()
    ranks = rankdata(saliency)[is_fixated.ravel()]
    return float((ranks.sum() - fixated * (fixated + 1) / 2) / (fixated * others))


def at_fixations(saliency: np.ndarray, fixations: np.ndarray) -> np.ndarray:
    """The map's values at fixations, (F,); arguments and errors are those of ``nss``."""
    columns, rows = np.floor(fixations).astype(int).T
    height, width = saliency.shape
    if not ((columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)).all():
        raise InputError(f"a fixation is not on the picture of {width} x {height} pixels")
    return saliency[rows, columns]
