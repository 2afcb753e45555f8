"""Maps against fixations, by hand and by brute force."""

import numpy as np
import pytest

from vl_absvit.errors import InputError
from vl_absvit.evaluation.fixation_metrics import auc_judd, nss

MAP = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 6.0]])  # mean 1, deviation sqrt(5)


def test_nss_by_hand():
    assert nss(MAP, np.array([[2.9, 1.0]])) == pytest.approx(5**0.5)
    assert nss(MAP, np.array([[2.0, 1.0], [0.0, 0.0]])) == pytest.approx((5 - 1) / 2 / 5**0.5)
    assert nss(np.ones((2, 3)), np.array([[0, 0]])) == 0


def test_auc_by_hand():
    assert auc_judd(MAP, np.array([[2, 1]])) == 1
    assert auc_judd(MAP, np.array([[0, 0]])) == pytest.approx((0.5 * 4 + 0) / 5)
    assert auc_judd(np.ones((2, 3)), np.array([[0, 0]])) == 0.5


def test_auc_is_the_share_of_pairs_that_are_in_order():
    chance = np.random.default_rng(0)
    saliency = chance.integers(0, 5, (6, 7)).astype(float)
    fixations = chance.random((9, 2)) * (7, 6)
    places = {(int(y), int(x)) for x, y in fixations}
    others = [place for place in np.ndindex(6, 7) if place not in places]
    won = [(saliency[a] > saliency[b]) + 0.5 * (saliency[a] == saliency[b]) for a in places for b in others]
    assert auc_judd(saliency, fixations) == pytest.approx(np.mean(won))


@pytest.mark.parametrize("metric", [nss, auc_judd])
def test_a_fixation_beside_the_picture_is_refused(metric):
    for place in ((3, 0), (-0.1, 0), (0, 2)):
        with pytest.raises(InputError, match="a fixation is not on the picture of 3 x 2 pixels"):
            metric(MAP, np.array([place]))
