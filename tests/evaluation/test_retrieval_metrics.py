"""Recalls by hand and against a naive version; ties and shortlists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vl_absvit.evaluation.retrieval_metrics import (
    consecutive_folds,
    listed_pairs,
    measures,
    rank_of_first_match,
    retrieval_ranks,
    retrieval_recalls,
    shortlist,
    summed_scores,
)


def test_a_matrix_by_hand():
    # Captions 0, 1 are of image 0; 2, 3 of image 1.
    scores = np.array([[9.0, 1.0, 2.0, 3.0], [8.0, 7.0, 5.0, 1.0]])
    found = retrieval_recalls(scores, np.array([0, 0, 1, 1]), ks=(1, 2, 3))
    # Image 0 finds caption 0 at once; image 1 finds caption 2 third. Captions 0 and 2 find their image, 1 and 3 do not.
    assert found["tr_r1"] == 50 and found["tr_r2"] == 50 and found["tr_r3"] == 100
    assert found["ir_r1"] == 50 and found["ir_r2"] == 100


def test_a_model_that_says_nothing_finds_nothing():
    found = retrieval_recalls(np.zeros((20, 100)), np.repeat(np.arange(20), 5))
    assert set(found.values()) == {0.0}


def test_a_shortlist_holds_the_best_and_of_equal_ones_the_earlier():
    similarity = np.array([[0.5, 0.9, 0.5, 0.1]])
    assert shortlist(similarity, 2).tolist() == [[True, True, False, False]]
    assert shortlist(similarity, 10).all()


def test_a_sum_of_scores_ranks_by_the_product_of_what_both_hold_likely():
    pairs, similarity = np.array([[1.0, np.nan, 3.0]]), np.array([[0.07, 0.5, -0.14]])
    np.testing.assert_allclose(summed_scores(pairs, similarity), [[2, np.nan, 1]])


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


# Ranks, folds, and what tables report of them.


def naive_ranks(scores, image_of_caption, similarity, size, fold_of_image):
    """Sort a query's fold: shortlisted ones by score, then the others by similarity, wrong ones first among equals."""
    images, captions = scores.shape

    def rank(candidates, is_match, similar, score):
        listed = sorted(candidates, key=lambda c: (-similar(c), c))[: size or len(candidates)]
        rest = [c for c in candidates if c not in listed]
        ordered = sorted(listed, key=lambda c: (-score(c), is_match(c)))
        ordered += sorted(rest, key=lambda c: (-similar(c), is_match(c)))
        return next(place for place, c in enumerate(ordered) if is_match(c))

    def fold_of(c):
        return fold_of_image[image_of_caption[c]]

    ir = [
        rank([i for i in range(images) if fold_of_image[i] == fold_of(c)], lambda i, c=c: image_of_caption[c] == i,
             lambda i, c=c: similarity[i, c], lambda i, c=c: scores[i, c])
        for c in range(captions)
    ]  # fmt: skip
    tr = [
        rank([c for c in range(captions) if fold_of(c) == fold_of_image[i]], lambda c, i=i: image_of_caption[c] == i,
             lambda c, i=i: similarity[i, c], lambda c, i=i: scores[i, c])
        for i in range(images)
    ]  # fmt: skip
    return ir, tr


@given(
    st.integers(1, 7), st.integers(1, 3), st.one_of(st.none(), st.integers(1, 6)), st.integers(1, 3),
    st.integers(0, 2**32 - 1), st.booleans(),
)  # fmt: skip
def test_ranks_in_folds_and_behind_shortlists_equal_a_sort(images, per_image, size, folds, seed, with_ties):
    rng = np.random.default_rng(seed)
    image_of_caption = rng.permutation(np.repeat(np.arange(images), per_image))
    scores, similarity = rng.normal(size=(2, images, images * per_image))
    if with_ties:
        scores = scores.round()
    fold_of_image = consecutive_folds(images, min(folds, images))
    judged = np.where(listed_pairs(similarity, size, image_of_caption, fold_of_image), scores, np.nan)
    ranks = retrieval_ranks(judged, image_of_caption, similarity, size, fold_of_image)
    expected = naive_ranks(scores, image_of_caption, similarity, size, fold_of_image)
    assert (ranks.ir.tolist(), ranks.tr.tolist()) == expected


def test_folds_are_consecutive_whole_and_as_equal_as_can_be():
    assert consecutive_folds(5000, 5).tolist() == [k // 1000 for k in range(5000)]
    assert consecutive_folds(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert consecutive_folds(3, 1).tolist() == [0, 0, 0]


def test_measures_by_hand():
    # Captions 0, 1 are of image 0; 2, 3 of image 1. Ranks from 1: captions 1, 2, 1, 2; images 1, 3.
    scores = np.array([[9.0, 1.0, 2.0, 3.0], [8.0, 7.0, 5.0, 1.0]])
    measured = measures(retrieval_ranks(scores, np.array([0, 0, 1, 1])))
    assert (measured["ir_median_rank"], measured["ir_mean_rank"]) == (1.5, 1.5)
    assert (measured["tr_median_rank"], measured["tr_mean_rank"]) == (2.0, 2.0)
    assert measured["rsum"] == 50 + 100 + 100 + 50 + 100 + 100


def test_a_match_that_no_shortlist_has_stands_where_the_dual_encoder_puts_it():
    similarity = np.array([[0.9, 0.8, 0.1, 0.3]] * 4)
    scores = np.full((4, 4), 0.0)
    ranks = retrieval_ranks(scores, np.arange(4), similarity, size=2)
    # Image 2's caption is the last of all by similarity; image 3's is behind the two listed ones.
    assert ranks.tr.tolist()[2:] == [3, 2]
