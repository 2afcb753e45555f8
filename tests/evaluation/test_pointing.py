"""The pointing game: by hand, ties against us, and against a naive version."""

import numpy as np

from vl_absvit.evaluation.pointing import PointingScore, pointing_accuracy, points_at
from vl_absvit.looking.geometry import cell_centres

CENTRES = cell_centres((0, 0, 20, 20), 2, 2)  # (5, 5), (15, 5), (5, 15), (15, 15)
LEFT_TOP = [0, 0, 10, 10]


def test_the_strongest_cells_centre_must_lie_in_a_box_by_hand():
    cells = np.array([[0.9, 0.1], [0.2, 0.3]])
    assert points_at(cells, CENTRES, [LEFT_TOP])
    assert points_at(cells, CENTRES, [[12, 12, 20, 20], LEFT_TOP])
    assert not points_at(cells, CENTRES, [[6, 0, 20, 20]])  # overlaps the cell, but not its centre


def test_near_edges_are_inside_and_far_edges_are_outside():
    cells = np.array([[1.0, 0.0], [0.0, 0.0]])
    assert points_at(cells, CENTRES, [[5, 5, 6, 6]])
    assert not points_at(cells, CENTRES, [[0, 0, 5, 6]]) and not points_at(cells, CENTRES, [[0, 0, 6, 5]])


def test_of_equally_strong_cells_each_must_lie_on_an_object():
    cells = np.array([[1.0, 1.0], [0.0, 0.0]])
    assert not points_at(cells, CENTRES, [LEFT_TOP])
    assert points_at(cells, CENTRES, [LEFT_TOP, [10, 0, 20, 10]])


def test_a_map_that_says_nothing_points_at_nothing():
    assert not points_at(np.zeros((2, 2)), CENTRES, [LEFT_TOP])


def test_questions_without_boxes_are_left_out_and_counted():
    cells = np.array([[1.0, 0.0], [0.0, 0.0]])
    boxes = [[LEFT_TOP], [], [[10, 10, 20, 20]], []]
    assert pointing_accuracy([cells] * 4, [CENTRES] * 4, boxes) == PointingScore(50.0, 2, 2)
    assert pointing_accuracy([cells], [CENTRES], [[]]) == PointingScore(0.0, 0, 1)
