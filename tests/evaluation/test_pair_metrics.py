"""Metrics of pretraining on pairs, each beside a version that is written out."""

import math

import numpy as np
import pytest

from vl_absvit.evaluation.pair_metrics import JudgedCaptions, auc, pair_scores


def auc_of_all_pairs(positive, negative):
    """The definition: every positive beside every negative, equal ones by halves."""
    wins = [1.0 if one > other else 0.5 if one == other else 0.0 for one in positive for other in negative]
    return 100 * sum(wins) / len(wins)


@pytest.mark.parametrize("levels", [2, 5, 10**9])
def test_auc_is_that_of_all_pairs_ties_by_halves(levels):
    generator = np.random.default_rng(levels)
    positive, negative = generator.integers(levels, size=23) + 0.5, generator.integers(levels, size=17) + 0.5
    assert auc(positive, negative) == pytest.approx(auc_of_all_pairs(positive, negative))
    assert auc(negative, positive) == pytest.approx(100 - auc(positive, negative))


def test_auc_by_hand():
    assert auc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 100
    assert auc(np.array([0.0]), np.array([0.0])) == 50
    assert auc(np.array([1.0, 0.0]), np.array([1.0, -1.0])) == pytest.approx(100 * (0.5 + 1 + 0 + 1) / 4)


JUDGED = JudgedCaptions(
    source=np.array([0, 0, 1]), hidden=np.array([2, 1, 1]), loss=np.array([2.0, 1.0, 3.0]), right=np.array([1, 1, 1]),
    right_without_prior=np.array([0.0, 1.0, 0.0]), right_with_other_prior=np.array([math.nan] * 3),
    true_score=np.array([0.5, -0.5, 0.0]), false_score=np.array([-1.0, 0.5, 0.0]),
)  # fmt: skip


def test_scores_by_hand():
    scores = pair_scores(JUDGED)
    assert scores == pytest.approx({
        "accuracy": (75 + 50) / 2, "mlm_accuracy": 75, "mlm_accuracy_without_prior": 25, "mlm_loss": 1.5,
        "perplexity": math.exp(1.5),
        "itm_accuracy": 100 * (1 + 2) / 6,  # equal logits do not say that a pair matches
        "itm_auc": 100 * (1 + 0.5 + 1 + 1 + 0 + 0 + 1 + 0 + 0.5) / 9,
    })  # fmt: skip
    assert pair_scores(JUDGED.of(1))["mlm_accuracy"] == 100
    without = JUDGED._replace(right_without_prior=JUDGED.right_with_other_prior)
    assert not any("prior" in name for name in pair_scores(without))


def test_captions_without_hidden_words_and_hopeless_losses_have_scores():
    empty = JUDGED._replace(hidden=np.zeros(3), right=np.zeros(3), loss=np.zeros(3))
    assert pair_scores(empty)["mlm_accuracy"] == 0 and pair_scores(empty)["perplexity"] == 1
    assert math.isfinite(pair_scores(JUDGED._replace(loss=np.full(3, 1e5)))["perplexity"])
