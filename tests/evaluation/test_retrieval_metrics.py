"""Recalls by hand and against a naive version; ties and shortlists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vl_absvit.evaluation.retrieval_metrics import (
    listed_pairs,
    rank_of_first_match,
    retrieval_recalls,
    shortlist,
)


def naive_recalls(scores, image_of_caption, ks=(1, 5, 10)):
    """Sort every query's candidates with the wrong ones first among equals, and look for a match."""
    images, captions = scores.shape

    def hits(candidates, is_match, score, k):
        ordered = sorted(candidates, key=lambda c: (-score(c), is_match(c)))
        return any(is_match(c) for c in ordered[:k])

    recalls = {}
    for k in ks:
        ir = [
            hits(range(images), lambda i, c=c: image_of_caption[c] == i, lambda i, c=c: scores[i, c], k)
            for c in range(captions)
        ]
        tr = [
            hits(range(captions), lambda c, i=i: image_of_caption[c] == i, lambda c, i=i: scores[i, c], k)
            for i in range(images)
        ]
        recalls |= {f"ir_r{k}": 100 * sum(ir) / captions, f"tr_r{k}": 100 * sum(tr) / images}
    return recalls


def test_a_matrix_by_hand():
    # Captions 0, 1 are of image 0; 2, 3 of image 1.
    scores = np.array([[9.0, 1.0, 2.0, 3.0], [8.0, 7.0, 5.0, 1.0]])
    found = retrieval_recalls(scores, np.array([0, 0, 1, 1]), ks=(1, 2, 3))
    # Image 0 finds caption 0 at once; image 1 finds caption 2 third. Captions 0 and 2 find their image, 1 and 3 do not.
    assert found["tr_r1"] == 50 and found["tr_r2"] == 50 and found["tr_r3"] == 100
    assert found["ir_r1"] == 50 and found["ir_r2"] == 100


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**32 - 1), st.booleans())
def test_recalls_equal_a_naive_version(images, per_image, seed, with_ties):
    rng = np.random.default_rng(seed)
    image_of_caption = np.repeat(np.arange(images), per_image)
    scores = rng.normal(size=(images, len(image_of_caption)))
    if with_ties:
        scores = scores.round()
    assert retrieval_recalls(scores, image_of_caption) == pytest.approx(naive_recalls(scores, image_of_caption))


def test_a_model_that_says_nothing_finds_nothing():
    found = retrieval_recalls(np.zeros((20, 100)), np.repeat(np.arange(20), 5))
    assert set(found.values()) == {0.0}


def test_one_right_caption_among_five_is_enough():
    scores = np.zeros((3, 15))
    scores[np.arange(3), [4, 5, 14]] = 1  # one of its own captions per image
    found = retrieval_recalls(scores, np.repeat(np.arange(3), 5))
    assert found["tr_r1"] == 100 and found["ir_r1"] == 20


def test_a_shortlist_holds_the_best_and_of_equal_ones_the_earlier():
    similarity = np.array([[0.5, 0.9, 0.5, 0.1]])
    assert shortlist(similarity, 2).tolist() == [[True, True, False, False]]
    assert shortlist(similarity, 10).all()


@given(st.integers(2, 6), st.integers(1, 3), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_a_shortlist_of_the_gallery_equals_all_and_a_smaller_one_a_sort(images, per_image, size, seed):
    rng = np.random.default_rng(seed)
    image_of_caption = np.repeat(np.arange(images), per_image)
    scores, similarity = rng.normal(size=(2, images, len(image_of_caption))).round(1)
    found = retrieval_recalls(scores, image_of_caption, similarity, size)
    # Listed candidates come first, by score; the others follow, by similarity.
    tr_listed, ir_listed = shortlist(similarity, size), shortlist(similarity.T, size).T
    tr = naive_recalls(np.where(tr_listed, scores + 1000, similarity), image_of_caption)
    ir = naive_recalls(np.where(ir_listed, scores + 1000, similarity), image_of_caption)
    expected = {key: (tr if key.startswith("tr") else ir)[key] for key in found}
    assert found == pytest.approx(expected)
    if size >= len(image_of_caption):
        assert found == retrieval_recalls(scores, image_of_caption)


def test_pairs_outside_both_shortlists_are_never_read():
    rng = np.random.default_rng(0)
    similarity, image_of_caption = rng.normal(size=(6, 18)), np.repeat(np.arange(6), 3)
    scores = rng.normal(size=(6, 18))
    expected = retrieval_recalls(scores, image_of_caption, similarity, 2)
    scores[~listed_pairs(similarity, 2)] = np.nan
    assert retrieval_recalls(scores, image_of_caption, similarity, 2) == expected
    assert listed_pairs(similarity, None).all()


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        rank_of_first_match(np.array([[np.nan, 1.0]]), np.array([[True, False]]))
