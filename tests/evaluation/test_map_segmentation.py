"""Maps as segmentations: by hand, by brute force, and where there is nothing to segment."""

import numpy as np
import pytest

from vl_absvit.errors import InputError
from vl_absvit.evaluation.curve_plot import draw_curves
from vl_absvit.evaluation.map_curves import ranks_of
from vl_absvit.evaluation.map_segmentation import (
    THRESHOLDS,
    best_threshold,
    count,
    count_picture,
    min_max,
    summarise,
)

BY_HAND = np.array([[0.2, 0.8, 0.5], [1, 0.1, 0.4]])
LABEL = np.array([[0, 5, 255], [9, 0, 0]])
AT = int(np.flatnonzero(THRESHOLDS == 0.3)[0])


def counted(grid, label, thresholds=THRESHOLDS, box=None, other_map=None):
    height, width = label.shape
    return count_picture(
        {"map": np.asarray(grid)}, box or (0, 0, width, height), (width, height), label != 0, label != 255,
        other_map=other_map, thresholds=thresholds,
    )  # fmt: skip


def test_the_hand_case():
    """Scaled it is [[.11, .78, .44], [1, 0, .33]]; the pixel of 255 does not count."""
    scores = summarise([counted(BY_HAND, LABEL)], "map", THRESHOLDS, 0.3, {})
    assert scores["iou"] == pytest.approx(200 / 3)
    assert (scores["false_positive"], scores["false_negative"]) == (pytest.approx(20), 0)
    assert scores["rows"]["map"]["accumulated_iou"] == pytest.approx(200 / 3)
    everything = scores["rows"]["everything"]
    assert everything["iou"]["mean"] == pytest.approx(40) and everything["false_positive"]["mean"] == pytest.approx(60)


def test_every_threshold_equals_brute_force_also_where_values_are_level_with_it():
    rng = np.random.default_rng(0)
    scaled = rng.integers(0, 21, size=(9, 7)) / 20
    front, valid = rng.random((9, 7)) < 0.4, rng.random((9, 7)) < 0.9
    found = count(scaled, front, valid, THRESHOLDS)
    for place, threshold in enumerate(THRESHOLDS):
        above = (scaled > threshold) & valid
        inside, wrong, missed = (above & front).sum(), (above & ~front).sum(), (~above & front & valid).sum()
        assert (found.true_positive[place], found.false_positive[place]) == (inside, wrong)
        assert found.false_negative[place] == missed
        assert found.iou[place] == pytest.approx(inside / (inside + wrong + missed))
    assert found.energy == pytest.approx(scaled[front & valid].sum() / scaled[valid].sum())
    strongest = (scaled == scaled[valid].max()) & valid
    assert found.points == bool(front[strongest].all())


def test_means_are_over_pictures_and_the_accumulated_iou_over_pixels():
    small, large = counted(np.eye(2), np.eye(2, dtype=int)), counted(np.eye(4), np.ones((4, 4), dtype=int))
    row = summarise([small, large], "map", THRESHOLDS, 0.3, {"map": 0.5})["rows"]["map"]
    assert row["iou"]["mean"] == pytest.approx((100 + 25) / 2) and row["iou"]["number"] == 2
    assert row["accumulated_iou"] == pytest.approx(100 * (2 + 4) / (2 + 16))
    assert row["best_on_train"]["threshold"] == 0.5 and row["best_on_train"]["iou"] == row["iou"]
    assert [at["threshold"] for at in row["sweep"]] == THRESHOLDS.tolist()
    assert row["sweep"][AT]["iou"] == row["iou"]["mean"]


def test_the_best_threshold_is_the_lowest_of_equally_good_ones():
    picture = counted([[0.0, 0.52, 1.0]], np.array([[0, 0, 1]]))
    assert best_threshold([picture], "map", THRESHOLDS) == 0.55
    scores = summarise([picture], "map", THRESHOLDS, 0.3, {})["rows"]["map"]
    assert scores["best"]["threshold"] == 0.55 and scores["best"]["iou"] == 100


@pytest.mark.parametrize("grid", [np.full((2, 3), 0.5), np.zeros((2, 3))])
def test_a_constant_map_has_no_foreground_and_is_counted(grid):
    scores = summarise([counted(grid, LABEL)], "map", THRESHOLDS, 0.3, {})
    assert (scores["iou"], scores["false_positive"]) == (0, 0) and scores["false_negative"] == pytest.approx(40)
    assert scores["counts"]["constant_maps"] == {"map": 1}
    assert scores["rows"]["map"]["energy"]["number"] == scores["rows"]["map"]["pointing"]["number"] == 0


def test_tiny_maps_are_scaled_like_others():
    assert min_max(BY_HAND * 1e-9) == pytest.approx(min_max(BY_HAND))
    assert min_max(BY_HAND * 1e-200) == pytest.approx(min_max(BY_HAND))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_map_with_what_is_no_number_is_not_taken_for_a_constant_one(value):
    with pytest.raises(InputError, match="a map holds values that are not finite"):
        counted([[0.2, value], [0.1, 0.4]], np.ones((2, 2)))
    with pytest.raises(InputError, match="a map holds values that are not finite"):
        ranks_of(np.array([[0.2, value]]))


def test_a_picture_without_foreground_counts_where_the_map_has_some():
    assert counted(BY_HAND, np.zeros((2, 3), dtype=int))["map"].iou[AT] == 0
    nothing = count(np.zeros((2, 2)), np.zeros((2, 2), bool), np.ones((2, 2), bool), THRESHOLDS)
    assert np.isnan(nothing.iou).all() and not nothing.false_negative.any()
    assert counted(BY_HAND, np.full((2, 3), 255)) is None


def test_only_what_the_model_saw_counts():
    label = np.zeros((4, 8), dtype=int)
    label[:, :4] = 1
    seen = counted(np.eye(4), label, box=(2, 0, 6, 4))
    assert seen["map"].pixels == 16 and seen["map"].foreground == 8
    with_other = counted(np.eye(4), label, box=(2, 0, 6, 4), other_map=np.fliplr(np.eye(4)))
    assert list(with_other) == ["map", "centre", "other_picture", "everything"]


def test_curves_are_drawn_for_any_number_of_rows(tmp_path):
    curves = {"a": ([0.0, 1.0], [1.0, float("nan")]), "b": ([0.0, 1.0], [2.0, 3.0])}
    draw_curves(tmp_path / "curves.png", {"one": curves, "two": {"a": curves["a"]}}, ["threshold"])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
