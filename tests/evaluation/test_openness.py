"""How far masks are open, by hand."""

import numpy as np
import pytest

from vl_absvit.evaluation.openness import openness


def test_shut_masks_open_patches_and_the_largest_value_by_hand():
    masks = [np.zeros((2, 2)), np.array([[0.5, 0.0], [0.0, 0.0]]), np.array([[0.2, 0.9], [0.1, 0.0]])]
    found = openness(masks)
    assert found.shut == pytest.approx(100 / 3), "one of three"
    assert found.open == pytest.approx(100 * 4 / 12), "1 and 3 of 4 patches"
    assert found.largest == 0.5


def test_no_masks_have_no_openness():
    assert openness([]) is None
