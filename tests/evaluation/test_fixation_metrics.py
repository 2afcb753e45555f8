"""Maps against fixations, by hand and by brute force."""

import json

import numpy as np
import pytest
import scipy.io
from PIL import Image

from vl_absvit.errors import InputError
from vl_absvit.evaluation.fixation_metrics import (
    as_distribution,
    auc_judd,
    auc_shuffled,
    correlation,
    divergence,
    nss,
    similarity,
)

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


def test_the_hand_cases_of_the_reference_hold(real_data):
    hand = json.loads((real_data / "fixations/expected.json").read_text())["hand_cases"]
    usual = np.array(hand["map"])
    for case in hand["cases"][:4]:
        places = np.stack([case["x"], case["y"]], axis=-1)
        assert nss(usual, places) == pytest.approx(case["nss"], abs=1e-12)
        if "nss_binary_map" in case:
            assert nss(usual, np.unique(places, axis=0)) == pytest.approx(case["nss_binary_map"], abs=1e-12)


@pytest.mark.parametrize("model", ["model_judd.jpg", "model_ittikoch.jpg"])
def test_numbers_are_the_mit_benchmarks_on_its_demo(real_data, model):
    """The second map is 0 on 85 % of its pixels: without counting ties half it would get 0.28."""
    demo = real_data / "fixations/mit_benchmark_demo"
    expected = json.loads((demo.parent / "expected.json").read_text())["mit_benchmark_demo"][model]
    fixated = scipy.io.loadmat(demo / "fixation_locations.mat")["fixations"]
    places = np.argwhere(fixated)[:, ::-1] + 0.5
    saliency, density = (np.asarray(Image.open(demo / name), dtype=float) for name in (model, "fixation_map.jpg"))
    assert nss(saliency, places) == pytest.approx(expected["NSS"], abs=1e-9)
    assert auc_judd(saliency, places) == pytest.approx(expected["AUC_ties_half_against_unfixated"], abs=1e-9)
    assert correlation(saliency, density) == pytest.approx(expected["CC_with_fixation_map"], abs=1e-9)
    p, q = as_distribution(saliency), as_distribution(density)
    assert similarity(p, q) == pytest.approx(expected["SIM_with_fixation_map"], abs=1e-9)
    assert divergence(p, q) == pytest.approx(expected["KL_mit"], abs=1e-9)


@pytest.mark.parametrize("metric", [nss, auc_judd])
def test_a_fixation_beside_the_picture_is_refused(metric):
    for place in ((3, 0), (-0.1, 0), (0, 2)):
        with pytest.raises(InputError, match="a fixation is not on the picture of 3 x 2 pixels"):
            metric(MAP, np.array([place]))


def test_nothing_to_compare_is_refused_not_given_a_number():
    nowhere, everywhere = np.empty((0, 2)), np.argwhere(np.ones((3, 2)))
    for metric in (nss, auc_judd):
        with pytest.raises(InputError, match="there is no fixation"):
            metric(MAP, nowhere)
    with pytest.raises(InputError, match="there is no fixation"):
        auc_shuffled(MAP, everywhere, nowhere)
    with pytest.raises(InputError, match="every pixel is fixated"):
        auc_judd(MAP, everywhere)
    for maps in ((MAP * np.nan, MAP), (np.zeros_like(MAP), MAP * np.nan)):
        with pytest.raises(InputError, match="not finite"):
            correlation(*maps)
