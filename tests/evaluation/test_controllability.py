"""Does a map follow the prior: by hand, with what no prior moves, and with maps that point nowhere."""

import numpy as np
import pytest

from vl_absvit.evaluation.controllability import control, share_of_asked, strongest_cell
from vl_absvit.looking.geometry import cell_centres

CENTRES = cell_centres((0, 0, 40, 40), 4, 4)[None]  # one picture of 40 x 40 pixels, cells of 10
MIDDLES = np.array([20.0])
BOXES = np.array([[[0, 0, 10, 40], [30, 0, 40, 40]]], dtype=float)  # the outer columns


def peak(row, column):
    grid = np.zeros((4, 4))
    grid[row, column] = 1
    return grid


def score(asked_left, asked_right, logits=None):
    return control(np.array([[asked_left, asked_right]]), CENTRES, MIDDLES, BOXES, logits)


@pytest.mark.parametrize(
    "left, right, expected",
    [
        (peak(0, 0), peak(3, 3), (100, 100, 100)),  # on the thing asked for, both times
        (peak(0, 1), peak(3, 2), (100, 100, 0)),  # in its half, beside it
        (peak(0, 0), peak(0, 1), (50, 0, 50)),  # always left
        (peak(2, 3), peak(1, 0), (0, 0, 0)),  # where it was not asked to
    ],
)
def test_scores_by_hand(left, right, expected):
    result = score(left, right)
    assert (result.asked_half, result.both_halves, result.asked_object) == expected
    assert result.share is None and result.without_peak == 0


def test_scores_of_several_pictures_are_means_over_priors_and_over_pictures():
    maps = np.array([[peak(0, 0), peak(0, 3)], [peak(0, 0), peak(0, 1)]])
    twice = [np.concatenate([each, each]) for each in (CENTRES, MIDDLES, BOXES)]
    result = control(maps, *twice)
    assert (result.asked_half, result.both_halves, result.asked_object) == (75, 50, 75)


def test_a_map_that_no_prior_moves_gets_half_of_the_halves_and_never_both():
    rng = np.random.default_rng(0)
    for _ in range(20):
        grid = rng.random((4, 4))
        result = score(grid, grid)
        assert result.asked_half == 50 and result.both_halves == 0 and result.asked_object in (0, 50)


def test_several_strongest_cells_count_only_if_all_are_right():
    both = peak(0, 0) + peak(3, 3)
    assert score(both, both).asked_half == 0
    assert score(peak(0, 0) + peak(1, 1), peak(0, 3)).asked_half == 100


def test_a_map_without_peak_points_nowhere_and_is_counted():
    result = score(np.zeros((4, 4)), np.full((4, 4), 7.0))
    assert (result.asked_half, result.both_halves, result.asked_object, result.without_peak) == (0, 0, 0, 2)


def test_the_middle_belongs_to_neither_half():
    centres = cell_centres((0, 0, 40, 40), 1, 1)[None]  # its only centre is (20, 20)
    result = control(np.ones((1, 2, 1, 1)), centres, MIDDLES, BOXES)
    assert result.asked_half == 0


def test_shares_by_hand():
    logits = np.array([[[np.log(3), 0.0], [0.0, np.log(4)]]])  # 3 : 1 for the left one, then 1 : 4
    np.testing.assert_allclose(share_of_asked(logits), [[0.75, 0.8]])
    assert score(peak(0, 0), peak(0, 3), logits).share == pytest.approx(77.5)


def test_what_no_prior_changes_gets_a_mean_share_of_one_half_however_large_the_logits():
    logits = np.array([[[1000.0, 999.0], [1000.0, 999.0]]])
    assert score(peak(0, 0), peak(0, 3), logits).share == pytest.approx(50)


def test_the_strongest_cell_is_the_first_of_several_with_its_place_in_pixels():
    assert strongest_cell(3 * peak(1, 2) + 3 * peak(2, 0), CENTRES[0]) == (1, 2, 25.0, 15.0, 3.0)
    assert strongest_cell(np.zeros((4, 4)), CENTRES[0]) is None
