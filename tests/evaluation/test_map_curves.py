"""Cells by their order, and pictures whose cells change: by hand."""

import numpy as np
import pytest
import torch
from torchvision.transforms import GaussianBlur

from vl_absvit.evaluation.map_curves import (
    area,
    changed,
    deletion_start,
    insertion_start,
    on_input,
    ranks_of,
    steps_of,
)


def test_the_strongest_cell_comes_first_and_equal_ones_in_raster_order():
    assert ranks_of(np.array([[0.5, 2, 0.5], [-1, 2, 0.5]])).tolist() == [[2, 0, 3], [5, 1, 4]]
    assert ranks_of(np.full((2, 2), 7.0)).tolist() == [[0, 1], [2, 3]]
    assert ranks_of(np.array([[1e-9, 3e-9]])).tolist() == [[1, 0]]


def test_a_pixel_has_the_rank_of_its_cell():
    ranks = np.array([[2, 0], [1, 3]])
    assert on_input(ranks, (4, 6)).tolist() == [[2, 2, 2, 0, 0, 0]] * 2 + [[1, 1, 1, 3, 3, 3]] * 2
    assert on_input(ranks, (3, 3)).tolist() == [[2, 2, 0], [2, 2, 0], [1, 1, 3]]  # sides that cells do not divide


def test_steps_begin_with_none_and_end_with_all():
    assert steps_of(4, 1) == [0, 1, 2, 3, 4]
    assert steps_of(5, 2) == [0, 2, 4, 5]
    assert steps_of(4, 9) == [0, 4]


def test_changed_pictures_have_the_first_cells_of_the_other():
    image, other = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    ranks = torch.tensor([[1, 0], [2, 3]])
    found = changed(image, other, ranks, [0, 1, 3, 4])
    assert found[:, 0].tolist() == [[[0, 0], [0, 0]], [[0, 1], [0, 0]], [[1, 1], [1, 0]], [[1, 1], [1, 1]]]
    assert torch.equal(found[:, 0], found[:, 2])


def test_deletion_ends_at_the_mean_colour_and_insertion_begins_with_a_blurred_picture():
    image = torch.randn(3, 32, 32)
    before, after = deletion_start(image)
    assert torch.equal(before, image) and not after.any()
    before, after = insertion_start(image)
    assert torch.equal(after, image)
    torch.testing.assert_close(before, GaussianBlur(11, (5.0, 5.0))(image))


def test_the_area_is_that_of_trapezoids_over_the_share_of_cells():
    assert area([0, 1, 2], np.array([1.0, 0.5, 0.0])) == pytest.approx(0.5)
    assert area([0, 2, 3], np.array([1.0, 1.0, 0.0])) == pytest.approx(2 / 3 + 1 / 6)
    assert area([0, 4], np.array([0.25, 0.25])) == pytest.approx(0.25)
