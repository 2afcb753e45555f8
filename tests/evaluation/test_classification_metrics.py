"""Top-k and corruption errors: by hand, against naive versions, ties, and what AlexNet itself gets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vl_absvit.evaluation.classification_metrics import (
    ALEXNET_ERRORS,
    SEVERITIES,
    clamped,
    corruption_error,
    corruption_scores,
    count_top_k,
    label_ranks,
    subset_logits,
)

# The same network's errors in percent by corruption and severity 1 to 5, as a branch of timm published them for its
# validation script: a second source of the baselines.
ALEXNET_BY_SEVERITY = """
gaussian_noise     69.528 82.542 93.554 98.138 99.452
shot_noise         71.224 85.108 93.574 98.182 99.146
impulse_noise      78.374 89.808 94.870 98.720 99.548
defocus_blur       65.624 73.202 85.036 91.364 94.714
glass_blur         64.308 75.054 88.806 91.622 93.344
motion_blur        58.430 70.048 82.108 89.750 92.638
zoom_blur          70.008 76.992 80.784 84.198 87.198
snow               71.726 88.392 86.468 91.870 94.952
frost              61.390 79.734 88.790 89.942 93.430
fog                67.474 76.050 84.378 87.260 94.500
brightness         45.140 48.502 54.048 62.166 72.440
contrast           64.548 76.150 88.874 97.760 99.270
elastic_transform  52.596 70.116 55.686 64.076 80.554
pixelate           52.218 54.620 73.728 87.092 91.262
jpeg_compression   51.002 54.718 57.294 65.458 74.778
"""


def alexnet():
    """AlexNet's error by corruption and severity."""
    rows = (line.split() for line in ALEXNET_BY_SEVERITY.strip().splitlines())
    return {name: dict(zip(SEVERITIES, map(float, values), strict=True)) for name, *values in rows}


def naive_is_within(row, label, k):
    """Whether a label is among the first k once wrong classes are put first among equals."""
    ordered = sorted(range(len(row)), key=lambda column: (-row[column], column == label))
    return label in ordered[:k]


def test_ranks_and_counts_by_hand():
    logits = np.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.0, 5.0, 4.0], [1.0, 2.0, 9.0]])
    labels = np.array([0, 1, 1, 1])
    ranks = label_ranks(logits, labels)
    assert ranks.tolist() == [0, 2, 0, 1]
    counts = count_top_k(ranks, labels, 3, ks=(1, 2))
    assert counts.images.tolist() == [1, 3, 0]
    assert counts.right[1].tolist() == [1, 1, 0] and counts.right[2].tolist() == [1, 2, 0]
    assert (counts.accuracy(1), counts.accuracy(2)) == (50, 75)


@given(st.integers(1, 8), st.integers(1, 7), st.integers(0, 2**32 - 1), st.booleans())
def test_counts_equal_a_naive_version(images, classes, seed, with_ties):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(images, classes)), rng.integers(classes, size=images)
    if with_ties:
        logits = logits.round()
    counts = count_top_k(label_ranks(logits, labels), labels, classes)
    for k in (1, 5):
        within = [naive_is_within(row, label, k) for row, label in zip(logits.tolist(), labels.tolist(), strict=True)]
        assert counts.right[k].sum() == sum(within)
        for name in range(classes):
            assert counts.right[k][name] == sum(w for w, label in zip(within, labels, strict=True) if label == name)


def test_ties_count_against_the_model():
    assert label_ranks(np.array([[1.0, 1.0, 0.0]]), np.array([0])).tolist() == [1]
    nothing = label_ranks(np.zeros((4, 10)), np.arange(4))
    assert count_top_k(nothing, np.arange(4), 10).accuracy(5) == 0


def test_a_k_above_the_number_of_classes_is_that_number_and_said():
    labels = np.array([0, 1, 2])
    assert count_top_k(label_ranks(np.zeros((3, 3)), labels), labels, 3).accuracy(5) == 100
    assert clamped(3) == ["there are only 3 classes: top5 is top3, which is always right"]
    assert clamped(5) == []


def test_a_wrong_class_outside_the_subset_does_not_count():
    logits = np.array([[9.0, 2.0, 8.0, 3.0], [9.0, 4.0, 8.0, 3.0]])
    columns = np.array([3, 1])  # the subset's classes, in its own order
    labels = np.array([0, 0])  # both images are of column 3
    assert label_ranks(logits, columns[labels]).tolist() == [2, 3]
    assert subset_logits(logits, columns).tolist() == [[3.0, 2.0], [3.0, 4.0]]
    assert label_ranks(subset_logits(logits, columns), labels).tolist() == [0, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_rank_nothing(value):
    with pytest.raises(ValueError, match="finite"):
        label_ranks(np.array([[value, 1.0]]), np.array([0]))


# Corruptions.


def test_the_baselines_are_the_means_of_alexnets_errors_by_severity():
    assert list(alexnet()) == list(ALEXNET_ERRORS) and len(ALEXNET_ERRORS) == 15
    for name, errors in alexnet().items():
        assert np.mean(list(errors.values())) == pytest.approx(ALEXNET_ERRORS[name], abs=5e-5), name


def test_alexnet_itself_has_an_mce_of_100():
    scores = corruption_scores(alexnet())
    assert scores.mce == pytest.approx(100, abs=1e-4)
    assert all(error == pytest.approx(100, abs=1e-4) for error in scores.corruption_errors.values())


def test_a_model_with_half_of_alexnets_errors_has_half_its_mce():
    halved = {name: {severity: error / 2 for severity, error in errors.items()} for name, errors in alexnet().items()}
    assert corruption_scores(halved).mce == pytest.approx(50, abs=1e-4)


def test_corruption_errors_by_hand():
    assert corruption_error([10, 20, 30, 40, 50], 60.0) == 50
    with pytest.raises(ValueError, match="5 severities, got 4"):
        corruption_error([10, 20, 30, 40], 60.0)
    errors = {name: dict.fromkeys(SEVERITIES, 10.0) for name in ALEXNET_ERRORS}
    errors["fog"] = dict.fromkeys(SEVERITIES, 81.9324)
    scores = corruption_scores(errors)
    assert scores.corruption_errors["fog"] == pytest.approx(100)
    assert scores.mean_error == pytest.approx((14 * 10 + 81.9324) / 15)
    expected = (100 + sum(1000 / error for name, error in ALEXNET_ERRORS.items() if name != "fog")) / 15
    assert scores.mce == pytest.approx(expected)


def test_a_partial_set_has_no_mce_and_an_incomplete_corruption_no_ce():
    scores = corruption_scores({"snow": {1: 20.0, 5: 40.0}, "fog": dict.fromkeys(SEVERITIES, 81.9324)})
    assert scores.mce is None and scores.corruption_errors == {"fog": pytest.approx(100)}
    assert scores.mean_errors == {"snow": 30.0, "fog": pytest.approx(81.9324)}
    errors = alexnet()
    del errors["frost"][3]
    assert corruption_scores(errors).mce is None


def test_a_corruption_that_is_none_of_the_fifteen_is_refused():
    with pytest.raises(ValueError, match="saturate is none of the 15"):
        corruption_scores({"saturate": dict.fromkeys(SEVERITIES, 1.0)})
