"""Top-k accuracy and corruption error, from logits and labels alone. Ties count against the model.

Corruption errors are those of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions
and Perturbations", ICLR 2019, arXiv:1903.12261, section 4. Shapes: I images, C classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vl_absvit.data.corruptions import SEVERITIES

KS = (1, 5)
ALEXNET_ERRORS = {
    "gaussian_noise": 88.6428,
    "shot_noise": 89.4468,
    "impulse_noise": 92.2640,
    "defocus_blur": 81.9880,
    "glass_blur": 82.6268,
    "motion_blur": 78.5948,
    "zoom_blur": 79.8360,
    "snow": 86.6816,
    "frost": 82.6572,
    "fog": 81.9324,
    "brightness": 56.4592,
    "contrast": 85.3204,
    "elastic_transform": 64.6056,
    "pixelate": 71.7840,
    "jpeg_compression": 60.6500,
}
"""The 15 corruptions of ImageNet-C in the paper's order, with AlexNet's top-1 error in percent on each.

Means over the five severities, as Hendrycks published them with AugMix (arXiv:1912.02781, google-research/augmix).
"""
ALEXNET_CLEAN_ERROR = 43.478
"""On ImageNet's validation images, in percent: torchvision's AlexNet, whose errors those above are."""


def subset_logits(logits: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The logits of some classes, (I, C) -> (I, len(columns)). Other classes cannot be chosen."""
    return logits[:, columns]


def label_ranks(logits: np.ndarray, labels: np.ndarray, owners: np.ndarray | None = None) -> np.ndarray:
    """For each image, the number of wrong logits that are at least as large as the largest right one.

    Args:
        logits: (I, K), finite.
        labels: each image's class, (I,).
        owners: the class that each logit stands for, (K,), every class at least once and -1 for none; None: its own.

    Returns:
        (I,); 0 is best.
    """
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite")
    is_own = (np.arange(logits.shape[1]) if owners is None else owners) == labels[:, None]  # (I, K)
    best = np.where(is_own, logits, -np.inf).max(axis=1, keepdims=True)
    return (~is_own & (logits >= best)).sum(axis=1)


class ClassCounts(NamedTuple):
    """For each class, the number of images and of right ones."""

    images: np.ndarray  # (C,)
    right: dict[int, np.ndarray]  # k -> images whose class is among the first k, (C,)

    def accuracy(self, k: int) -> float:
        """Percentage of all images whose class is among the first k."""
        return 100 * int(self.right[k].sum()) / int(self.images.sum())


def count_top_k(ranks: np.ndarray, labels: np.ndarray, num_classes: int, ks: Sequence[int] = KS) -> ClassCounts:
    """Count for each class. A k above the number of classes is always right (see ``clamped``).

    Args:
        ranks: what ``label_ranks`` gives, (I,).
        labels: (I,).
    """
    within = {k: labels[ranks < k] for k in ks}
    images, *right = (np.bincount(part, minlength=num_classes) for part in (labels, *within.values()))
    return ClassCounts(images, dict(zip(within, right, strict=True)))


def clamped(num_classes: int, ks: Iterable[int] = KS) -> list[str]:
    """A remark for every k that is above the number of classes."""
    return [
        f"there are only {num_classes} classes: top{k} is top{num_classes}, which is always right"
        for k in ks
        if k > num_classes
    ]


class CorruptionScores(NamedTuple):
    """A model's errors on corrupted images, in percent."""

    mean_errors: dict[str, float]  # for each corruption, the mean over its severities
    corruption_errors: dict[str, float]  # CE, relative to AlexNet's error, for corruptions with all five severities
    mean_error: float  # mean over corruptions
    mce: float | None  # mean CE of all 15 corruptions; None if one is missing
    relative_mce: float | None  # the same of what corruption adds to the clean error; None if that is not known


def corruption_error(errors: Sequence[float], alexnet_error: float) -> float:
    """CE: the mean error over a corruption's five severities, relative to AlexNet's, in percent."""
    if len(errors) != len(SEVERITIES):
        raise ValueError(f"expected the errors of {len(SEVERITIES)} severities, got {len(errors)}")
    return 100 * float(np.mean(errors)) / alexnet_error


def relative_corruption_error(errors: Sequence[float], clean_error: float, alexnet_error: float) -> float:
    """Relative CE: what a corruption adds to the clean error, relative to what it adds to AlexNet's, in percent."""
    if len(errors) != len(SEVERITIES):
        raise ValueError(f"expected the errors of {len(SEVERITIES)} severities, got {len(errors)}")
    return 100 * (float(np.mean(errors)) - clean_error) / (alexnet_error - ALEXNET_CLEAN_ERROR)


def corruption_scores(errors: Mapping[str, Mapping[int, float]], clean_error: float | None = None) -> CorruptionScores:
    """Means and corruption errors.

    Args:
        errors: corruption -> severity -> top-1 error in percent; not empty.
        clean_error: on the same images as they are, in percent, if it is known.
    """
    unknown = [name for name in errors if name not in ALEXNET_ERRORS]
    if unknown:
        raise ValueError(f"{unknown[0]} is none of the 15 corruptions")
    ordered = {name: [errors[name][s] for s in sorted(errors[name])] for name in ALEXNET_ERRORS if name in errors}
    means = {name: float(np.mean(values)) for name, values in ordered.items()}
    whole = {name: values for name, values in ordered.items() if sorted(errors[name]) == list(SEVERITIES)}
    of_all = {name: corruption_error(values, ALEXNET_ERRORS[name]) for name, values in whole.items()}
    mce = relative_mce = None
    if len(whole) == len(ALEXNET_ERRORS):
        mce = float(np.mean(list(of_all.values())))
        if clean_error is not None:
            relative_mce = float(
                np.mean(
                    [
                        relative_corruption_error(values, clean_error, ALEXNET_ERRORS[name])
                        for name, values in whole.items()
                    ]
                )
            )
    return CorruptionScores(means, of_all, float(np.mean(list(means.values()))), mce, relative_mce)
