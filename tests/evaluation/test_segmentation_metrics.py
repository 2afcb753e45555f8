"""IoU and accuracies are mmsegmentation's, on pairs by hand and on genuine labels; what is no class stops."""

import json

import numpy as np
import pytest

from vl_absvit.evaluation.segmentation_metrics import count_pixels, pixel_scores
from vl_absvit.prepare.segmentation import SEGMENTATION_SETS

OUT_OF_RANGE = {"prediction_is_255", "label_outside_classes"}


def test_by_hand():
    counts = count_pixels(np.array([[0, 1, 1], [1, 2, 0]]), np.array([[0, 0, 1], [1, 255, 255]]), 4)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    scores = pixel_scores(counts)
    assert scores.iou == [50, pytest.approx(200 / 3), None, None] and scores.recall == [50, 100, None, None]
    assert (scores.miou, scores.macc, scores.aacc) == (pytest.approx(175 / 3), 75, 75)


def test_a_class_that_is_only_predicted_counts_as_0_and_nothing_is_defined_of_nothing():
    scores = pixel_scores(count_pixels(np.array([[0, 1]]), np.array([[0, 0]]), 3))
    assert scores.iou == [50, 0, None] and scores.miou == 25 and scores.macc == 50
    empty = pixel_scores(count_pixels(np.array([[1]]), np.array([[255]]), 2))
    assert empty[:3] == (None, None, None)


def test_counts_are_those_of_a_loop():
    draw = np.random.default_rng(0)
    prediction, label = draw.integers(5, size=(2, 9, 7))
    label[draw.random(label.shape) < 0.2] = 255
    expected = np.zeros((5, 5), int)
    for given, true in zip(prediction.flat, label.flat, strict=True):
        if true != 255:
            expected[true, given] += 1
    np.testing.assert_array_equal(count_pixels(prediction, label, 5), expected)


def test_what_is_no_class_or_of_another_size_stops():
    one = np.zeros((2, 2), int)
    with pytest.raises(ValueError, match="expected classes 0 to 2 in a label, got 0 to 9"):
        count_pixels(one, np.array([[0, 9], [0, 0]]), 3)
    with pytest.raises(ValueError, match="in a prediction, got 0 to 255"):
        count_pixels(np.array([[0, 255], [0, 0]]), one, 3)
    with pytest.raises(ValueError, match=r"label's size \(2, 2\), got \(1, 2\)"):
        count_pixels(one[:1], one, 3)


def percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 2)


def rounded(values: list[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 2) for value in values]


def test_mmsegmentations_figures_on_pairs(golden):
    cases = json.loads((golden / "segmentation/metric_pairs.json").read_text())["cases"]
    assert len(cases) == 11
    for case in cases:
        if case["name"] in OUT_OF_RANGE:
            continue
        number = case["num_classes"]
        counts = np.zeros((number, number), np.int64)
        for pair in case["pairs"]:
            label = np.array(pair["label"])
            if case["reduce_zero_label"]:
                label = np.where(np.isin(label, (0, 255)), 255, label - 1)
            counts += count_pixels(np.array(pair["prediction"]), label, number)
        if "confusion_rows_label_columns_prediction" in case:
            assert counts.tolist() == case["confusion_rows_label_columns_prediction"]
        scores, expected = pixel_scores(counts), case["accumulated"]
        assert rounded(scores.iou) == [percent(value) for value in expected["IoU"]], case["name"]
        assert rounded(scores.recall) == [percent(value) for value in expected["Acc"]], case["name"]
        found = {"aAcc": scores.aacc, "mIoU": scores.miou, "mAcc": scores.macc}
        assert dict(zip(found, rounded(found.values()), strict=True)) == case["reported_percent"], case["name"]


@pytest.mark.parametrize(
    ("name", "dataset", "split"),
    [("voc_val", "voc", "val"), ("ade20k_val", "ade20k", "val"), ("cityscapes_train", "cityscapes", "train")],
)
def test_mmsegmentations_figures_on_genuine_labels(golden, real_data, name, dataset, split):
    recorded = json.loads((golden / "segmentation/real_labels.json").read_text())["sets"][name]
    folder = real_data / "segmentation"
    layout = SEGMENTATION_SETS[dataset].read(folder / "cityscapes" if dataset == "cityscapes" else folder)
    if dataset == "voc":
        layout.splits[split] = [pair for pair in layout.splits[split] if f"{pair.name}.png" in recorded["label_files"]]
    classes = len(layout.classes)
    counts = np.zeros((classes, classes), np.int64)
    assert len(layout.splits[split]) == len(recorded["label_files"])
    for pair in layout.splits[split]:
        label = layout.values.read(layout.root / pair.label)
        prediction = np.roll(np.where(label == 255, 0, label), (7, 11), axis=(0, 1))
        counts += count_pixels(prediction, label, classes)
    right, labelled = np.diagonal(counts), counts.sum(axis=1)
    assert right.tolist() == recorded["intersect"] and labelled.tolist() == recorded["label_area"]
    assert (labelled + counts.sum(axis=0) - right).tolist() == recorded["union"]
    scores, expected = pixel_scores(counts), recorded["metrics_as_mmsegmentation_rounds_them"]
    found = {"aAcc": scores.aacc, "mIoU": scores.miou, "mAcc": scores.macc}
    named = zip(layout.classes, scores.iou, strict=True)
    found |= {f"IoU.{one}": value for one, value in named if value is not None}
    assert rounded(found.values()) == [percent(expected[key]) for key in found]
    assert set(found) == set(expected)
