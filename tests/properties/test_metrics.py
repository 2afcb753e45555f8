"""Rank correlation, pointing and recall against other definitions, and what must not change them."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from tests.properties.profile import steady
from vl_absvit.evaluation.attention_agreement import spearman
from vl_absvit.evaluation.pointing import points_at
from vl_absvit.evaluation.retrieval_metrics import retrieval_recalls
from vl_absvit.looking.geometry import cell_centres

numbers = st.floats(-1e6, 1e6, width=32) | st.integers(-3, 3).map(float)
KS = (1, 2, 5, 10)


@st.composite
def pairs_of_maps(draw):
    length = draw(st.integers(2, 40))
    return draw(arrays(np.float64, length, elements=numbers)), draw(arrays(np.float64, length, elements=numbers))


@steady
@given(pairs_of_maps())
def test_rank_correlation_is_that_of_scipy(maps):
    a, b = maps
    assume(len(set(a)) > 1 and len(set(b)) > 1)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-9)


@steady
@given(pairs_of_maps())
def test_rank_correlation_is_symmetric_and_knows_the_order_only(maps):
    a, b = maps
    stretched = np.sign(a) * np.abs(a) ** 3
    assume(len(set(stretched)) == len(set(a)))
    value = spearman(a, b)
    assert spearman(b, a) == value == spearman(stretched, b)
    if value is not None:
        assert -1 <= value <= 1 and spearman(-a, b) == pytest.approx(-value)


@st.composite
def maps_with_boxes(draw):
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    cells = draw(arrays(np.float64, (rows, columns), elements=st.integers(0, 3).map(float)))
    corner = st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(1, 60), st.integers(1, 60))
    boxes = [(x, y, x + width, y + height) for x, y, width, height in draw(st.lists(corner, min_size=1, max_size=3))]
    return cells, boxes


@steady
@given(maps_with_boxes())
def test_pointing_is_that_of_a_naive_version(example):
    cells, boxes = example
    rows, columns = cells.shape
    strongest = max(max(row) for row in cells.tolist())
    naive = True
    for row in range(rows):
        for column in range(columns):
            x, y = 100 * (column + 0.5) / columns, 100 * (row + 0.5) / rows
            is_inside = any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in boxes)
            naive = naive and bool(is_inside or cells[row, column] < strongest)
    assert points_at(cells, cell_centres((0, 0, 100, 100), rows, columns), boxes) is naive


@steady
@given(maps_with_boxes(), st.floats(0.1, 9), st.floats(-9, 9))
def test_pointing_knows_which_cell_is_strongest_only_and_more_objects_never_hurt(example, factor, shift):
    cells, boxes = example
    centres = cell_centres((0, 0, 100, 100), *cells.shape)
    hit = points_at(cells, centres, boxes)
    assert points_at(factor * cells + shift, centres, boxes) is hit
    assert points_at(cells, centres, [*boxes, (0, 0, 100, 100)])
    assert not hit or points_at(cells, centres, [*boxes, (200, 200, 201, 201)])


@st.composite
def galleries(draw):
    """Scores with ties and, in any order, captions of which every image has one."""
    images = draw(st.integers(1, 6))
    extra = draw(st.lists(st.integers(0, images - 1), max_size=8))
    image_of_caption = np.array(draw(st.permutations([*range(images), *extra])))
    scores = draw(arrays(np.float64, (images, len(image_of_caption)), elements=st.integers(-3, 3).map(float)))
    return scores, image_of_caption


@steady
@given(galleries(), st.randoms(use_true_random=False))
def test_recalls_do_not_depend_on_the_order_of_images_and_captions(gallery, random):
    scores, image_of_caption = gallery
    images, captions = (random.sample(range(length), length) for length in scores.shape)
    turned = np.argsort(images)[image_of_caption[captions]]
    assert retrieval_recalls(scores[images][:, captions], turned, ks=KS) == pytest.approx(
        retrieval_recalls(scores, image_of_caption, ks=KS)
    )


@steady
@given(galleries())
def test_recalls_know_the_order_of_scores_only_grow_with_k_and_reach_all(gallery):
    scores, image_of_caption = gallery
    found = retrieval_recalls(scores, image_of_caption, ks=KS)
    assert retrieval_recalls(scores**3 + 7, image_of_caption, ks=KS) == found
    for way in ("ir", "tr"):
        recalls = [found[f"{way}_r{k}"] for k in KS]
        assert recalls == sorted(recalls) and 0 <= recalls[0] <= recalls[-1] <= 100
    everything = retrieval_recalls(scores, image_of_caption, ks=(scores.size + 1,))
    assert set(everything.values()) == {100.0}


@steady
@given(galleries(), st.integers(0, 2**32 - 1))
def test_ties_count_against_the_model_however_they_would_be_broken(gallery, seed):
    scores, image_of_caption = gallery
    broken = scores + np.random.default_rng(seed).uniform(-0.1, 0.1, scores.shape)
    with_ties = retrieval_recalls(scores, image_of_caption, ks=KS)
    assert all(retrieval_recalls(broken, image_of_caption, ks=KS)[name] >= with_ties[name] for name in with_ties)
