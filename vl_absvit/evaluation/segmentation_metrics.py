"""How well pixels are classified: intersection over union, from counts over a whole data set.

The definitions are those of mmsegmentation, in integers. Shapes: C classes.
"""

from typing import NamedTuple

import numpy as np

from vl_absvit.data.segmentation_labels import VOID


def count_pixels(prediction: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Pixels of every class that were given every class, (C, C) int64: a row for each true class.

    Pixels without a class leave prediction and label. Counts of pictures are added.

    Args:
        prediction: class of every pixel, (H, W).
        label: true class of every pixel, or 255, (H, W).

    Raises:
        ValueError: sizes differ, or a number is no class.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"expected a prediction of the label's size {label.shape}, got {prediction.shape}")
    counted = label != VOID
    true, given = label[counted].astype(np.int64), prediction[counted].astype(np.int64)
    for name, values in (("label", true), ("prediction", given)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(f"expected classes 0 to {classes - 1} in a {name}, got {values.min()} to {values.max()}")
    return np.bincount(true * classes + given, minlength=classes**2).reshape(classes, classes)


class PixelScores(NamedTuple):
    """Scores in percent; None where nothing is defined."""

    miou: float | None  # mean IoU of the classes that are labelled or predicted
    macc: float | None  # mean recall of the classes that are labelled
    aacc: float | None  # share of all pixels that are right
    iou: list[float | None]  # C; None for a class that is neither labelled nor predicted
    recall: list[float | None]  # C; None for a class that is not labelled
    labelled: list[int]  # C, pixels
    predicted: list[int]  # C, pixels that have a class


def pixel_scores(counts: np.ndarray) -> PixelScores:
    """Scores out of counts (C, C). A class that is predicted and never labelled has an IoU of 0, which counts."""
    right, labelled, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    iou = _percent(right, labelled + predicted - right)
    recall = _percent(right, labelled)
    return PixelScores(
        miou=_mean(iou),
        macc=_mean(recall),
        aacc=_percent(right.sum(keepdims=True), labelled.sum(keepdims=True))[0],
        iou=iou,
        recall=recall,
        labelled=labelled.tolist(),
        predicted=predicted.tolist(),
    )


def _percent(part: np.ndarray, whole: np.ndarray) -> list[float | None]:
    return [100 * a / b if b else None for a, b in zip(part.tolist(), whole.tolist(), strict=True)]


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
