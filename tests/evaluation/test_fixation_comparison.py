"""Rows of maps and baselines beside fixations: the published numbers, brute force, and maps that are hard to score."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from vl_absvit.errors import InputError
from vl_absvit.evaluation.fixation_comparison import METRICS, Fixations, centre_of, score_picture, summarise
from vl_absvit.evaluation.fixation_metrics import density_of, nss
from vl_absvit.evaluation.map_on_picture import on_pixels, seen_pixels

SIZE = (12, 9)
WHOLE = (0, 0, *SIZE)


def looked(*places, observers=None, size=SIZE):
    return Fixations(np.array(places, dtype=float).reshape(-1, 2), observers, size)


def score(fixations, grid, box=WHOLE, others=(), **options):
    others = np.array(others, dtype=float).reshape(-1, 2)
    return score_picture(fixations, {"map": grid}, box, others=others, other_map=None, **options)


@pytest.fixture(scope="module")
def osie(real_data):
    """The excerpt: fixations of six pictures of 800 x 600 with 15 observers, and reference numbers."""
    folder = real_data / "fixations"
    pictures = [
        Fixations(
            np.concatenate([np.stack([person["x"], person["y"]], axis=-1) for person in record["observers"]]),
            np.concatenate([[number] * len(person["x"]) for number, person in enumerate(record["observers"])]),
            (800, 600),
        )
        for record in json.loads((folder / "osie/fixations.json").read_text())
    ]
    return pictures, json.loads((folder / "expected.json").read_text())


@pytest.fixture(scope="module")
def osie_rows(osie):
    """Rows of the first picture."""
    pictures, expected = osie
    maps = {"grid14": np.array(expected["grid14"]), "ramp": np.arange(800.0)[None]}
    return [
        score_picture(
            Fixations(picture.places, None, picture.size), maps, (0, 0, 800, 600), others=np.empty((0, 2)),
            other_map=None, sigma=24,
        ).rows
        for picture in pictures[:1]
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["grid14", "ramp", "centre"])
def test_numbers_are_those_of_the_reference_on_genuine_fixations(osie, osie_rows, name):
    _, expected = osie
    found = [rows[name]["nss"] for rows in osie_rows]
    assert found == pytest.approx(expected["maps"][name]["nss_per_image"][:1], abs=1e-9)
    first, reference = osie_rows[0][name], expected["human_density"]["against"][name]
    assert (first["cc"], first["sim"], first["kl"]) == pytest.approx(
        (reference["CC"], reference["SIM"], reference["KL_mit"]), abs=1e-9
    )


def test_what_is_done_with_the_first_fixation_moves_nss_as_in_the_reference(osie):
    pictures, expected = osie
    centre, reference = centre_of((800, 600)), expected["maps"]["centre"]
    for drop, value in (
        (False, reference["nss_mean_over_fixations"]),
        (True, reference["variants"]["first_fixation_dropped"]),
    ):
        parts = []
        for picture in pictures:
            is_first = np.append(True, np.diff(picture.observers) != 0)
            parts.append(picture.places[~is_first] if drop else picture.places)
        scores = [nss(centre, places) for places in parts]
        assert np.average(scores, weights=list(map(len, parts))) == pytest.approx(value, abs=1e-9)


def test_the_density_is_the_reference(osie):
    pictures, expected = osie
    density = density_of(pictures[0].places, (600, 800), 24)
    assert (density.sum(), density.max()) == pytest.approx(
        (expected["human_density"]["sum"], expected["human_density"]["max"]), rel=1e-12
    )


def brute_force(saliency, places, negatives, sigma):
    """Every metric by loops and by scipy's filter."""
    pixels = [(int(y), int(x)) for x, y in places]
    fixated = sorted(set(pixels))
    rest = [place for place in np.ndindex(saliency.shape) if place not in fixated]
    other = [(int(y), int(x)) for x, y in negatives]

    def auc(ours, theirs):
        won = [(saliency[a] > saliency[b]) + 0.5 * (saliency[a] == saliency[b]) for a in ours for b in theirs]
        return np.mean(won)

    counts = np.zeros(saliency.shape)
    for pixel in pixels:
        counts[pixel] += 1
    density = gaussian_filter(counts, sigma, mode="constant")
    p, q = saliency - min(saliency.min(), 0), density / density.sum()
    p = p / p.sum()
    rows, columns = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    centre = np.exp(-((rows - 4) ** 2 + (columns - 5.5) ** 2) / (2 * (0.25 * 9) ** 2))
    centre /= centre.sum()
    eps = 2.2204e-16
    return {
        "nss": np.mean([(saliency[pixel] - saliency.mean()) / saliency.std() for pixel in pixels]),
        "auc_judd": auc(fixated, rest),
        "auc_shuffled": auc(pixels, other),
        "cc": np.corrcoef(saliency.ravel(), density.ravel())[0, 1],
        "sim": np.minimum(p, q).sum(),
        "kl": sum(q[pixel] * np.log(eps + q[pixel] / (p[pixel] + eps)) for pixel in np.ndindex(q.shape)),
        "information_gain": np.mean([np.log2(p[pixel] + eps) - np.log2(centre[pixel] + eps) for pixel in pixels]),
    }


@pytest.mark.parametrize("factor", [1.0, 1e-9, 1e-200, -1e6])
def test_every_metric_equals_brute_force_also_on_tiny_and_negative_maps(factor):
    rng = np.random.default_rng(0)
    grid = rng.integers(0, 4, size=SIZE[::-1]) * factor
    places, others = rng.random((7, 2)) * SIZE, rng.random((9, 2)) * SIZE
    places[1] = places[0]
    found = score(looked(*places), grid, others=others, sigma=1.3).rows["map"]
    saliency = grid / abs(factor)
    assert found == pytest.approx(brute_force(saliency, places, others, 1.3), abs=1e-9)
    assert list(found) == list(METRICS)


def test_a_constant_map_tells_nothing_and_is_named():
    found = score(looked((1, 1), (5, 5)), np.full((3, 4), 0.7), others=[(2, 2)])
    row = found.rows["map"]
    assert (row["nss"], row["auc_judd"], row["auc_shuffled"], row["cc"]) == (0, 0.5, 0.5, 0) and found.constant == [
        "map"
    ]
    assert np.isfinite(list(row.values())).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_map_with_what_is_no_number_is_refused(value):
    with pytest.raises(InputError, match="a map holds values that are not finite"):
        score(looked((1, 1)), np.array([[1.0, value], [0, 0]]))


def test_one_fixation_is_enough_and_none_is_no_picture():
    assert np.isfinite(
        [v for k, v in score(looked((1, 1)), np.eye(3)).rows["map"].items() if k != "auc_shuffled"]
    ).all()
    assert score(looked(), np.eye(3)) is None
    assert np.isnan(score(looked((1, 1)), np.eye(3)).rows["map"]["auc_shuffled"])  # there is no other picture
    every = looked(*((x, y) for x in range(12) for y in range(9)))
    assert score(every, np.eye(3)) is None  # nothing is left to compare the fixated pixels with


def test_what_the_model_did_not_see_does_not_count():
    rng = np.random.default_rng(1)
    grid, places = rng.random((4, 4)), rng.random((30, 2)) * SIZE
    box = (2, 1, 10, 9)
    inside = [place for place in places if 2 <= place[0] < 10 and 1 <= place[1]]
    whole = score(looked(*places), grid, box)
    assert whole.fixations == len(inside) < 30
    cut = score_picture(
        looked(*(np.array(inside) - (2, 1)), size=(8, 8)), {"map": grid}, (0, 0, 8, 8), others=np.empty((0, 2)),
        other_map=None, sigma=0.03 * 12,
    )  # fmt: skip
    for metric in ("nss", "auc_judd", "cc", "sim", "kl"):
        assert whole.rows["map"][metric] == pytest.approx(cut.rows["map"][metric])


def test_observers_are_judged_by_the_density_of_the_others():
    observers = np.array([0, 0, 1, 2])
    fixations = looked((2, 2), (3, 3), (2, 3), (9, 8), observers=observers)
    row = score(fixations, np.eye(3), sigma=1.5).rows["inter_observer"]
    by_hand = []
    for person in range(3):
        own = fixations.places[observers == person]
        others = density_of(fixations.places[observers != person], SIZE[::-1], 1.5)
        by_hand.append(brute_force(others, own, own, 1.5))
    for metric in ("nss", "auc_judd", "cc", "sim", "kl", "information_gain"):
        assert row[metric] == pytest.approx(np.mean([scores[metric] for scores in by_hand]), rel=1e-6)
    alone = score(fixations._replace(observers=np.zeros(4)), np.eye(3)).rows["inter_observer"]
    assert np.isnan(list(alone.values())).all()


def test_a_map_is_bilinear_between_the_centres_of_its_cells():
    grid = np.random.default_rng(0).random((3, 4))
    found = on_pixels(grid, (0, 0, 12, 9), (12, 9))
    np.testing.assert_allclose(found, zoom(grid, 3, order=1, grid_mode=True, mode="nearest"))
    assert on_pixels(grid, (0, 0, 4, 3), (4, 3)) == pytest.approx(grid)
    assert on_pixels(np.array([[2.0]]), (0.5, 0, 3.5, 3), (4, 3)).tolist() == [[2.0] * 3] * 3
    assert seen_pixels((0.5, -0.4, 3.4, 3.4), (4, 3)) == (0, 0, 3, 3)
    with pytest.raises(InputError, match="is not a part of a picture of 4 x 3"):
        on_pixels(grid, (0, 0, 6, 3), (4, 3))


def test_means_are_over_pictures_and_for_nss_also_over_fixations():
    one, two = score(looked((0, 0)), np.eye(3)), score(looked((0, 0), (1, 8), (8, 1)), np.eye(3))
    summary = summarise([one, two], "map")
    nss = [picture.rows["map"]["nss"] for picture in (one, two)]
    row = summary["rows"]["map"]
    assert row["nss"]["mean"] == summary["nss"] == pytest.approx(np.mean(nss)) and row["nss"]["number"] == 2
    assert row["nss_over_fixations"] == pytest.approx((nss[0] + 3 * nss[1]) / 4)
    assert row["auc_shuffled"] == {"mean": None, "standard_error": None, "interval": None, "number": 0}
    assert summary["counts"] == {"pictures": 2, "fixations": 4, "constant_maps": {}}


def test_a_pixel_may_count_once_however_often_it_was_fixated():
    grid = np.random.default_rng(2).random((9, 12))
    places, people = [(1.2, 3.4), (1.7, 3.9), (5.5, 2.0), (5.5, 2.1)], np.array([0, 0, 1, 0])
    one = score(looked(*places, observers=people), grid, once_per_pixel=True)
    z = (grid - grid.mean()) / grid.std()
    assert one.rows["map"]["nss"] == pytest.approx((z[3, 1] + z[2, 5]) / 2)
    usual, other = score(looked(*places, observers=people), grid), score(looked((0, 0)), grid, once_per_pixel=True)
    for metric in METRICS[1:]:
        assert one.rows["map"][metric] == pytest.approx(usual.rows["map"][metric], nan_ok=True)
    assert one.rows["inter_observer"]["nss"] != usual.rows["inter_observer"]["nss"]
    summary = summarise([one, other], "map")
    assert summary["rows"]["map"]["nss_over_fixations"] == pytest.approx((z[3, 1] + z[2, 5] + z[0, 0]) / 3)
    assert summary["counts"]["fixations"] == 5
