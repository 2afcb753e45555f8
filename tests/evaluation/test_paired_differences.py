"""Paired differences: by hand, as scipy's paired t-test, and where there is little to pair."""

import pytest
from scipy.stats import ttest_rel

from vl_absvit.evaluation.paired_differences import paired_difference


def test_a_difference_by_hand():
    # Differences 1, 2, 3: mean 2, deviation 1, standard error 1 / sqrt(3), t of two degrees of freedom 4.303.
    found = paired_difference({0: 11.0, 1: 22.0, 2: 33.0}, {0: 10.0, 1: 20.0, 2: 30.0})
    assert found.by_seed == {0: 1.0, 1: 2.0, 2: 3.0}
    assert found.mean == 2.0 and found.standard_error == pytest.approx(3**-0.5)
    assert found.interval == pytest.approx((2 - 4.302653 * 3**-0.5, 2 + 4.302653 * 3**-0.5))
    assert not found.excludes_zero, "-0.48 to 4.48"


def test_the_interval_is_that_of_the_paired_t_test():
    ours, theirs = [93.1, 92.4, 94.0, 93.3, 92.8], [91.0, 91.9, 92.2, 90.1, 91.5]
    found = paired_difference(dict(enumerate(ours)), dict(enumerate(theirs)))
    test = ttest_rel(ours, theirs)
    assert found.interval == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found.excludes_zero and test.pvalue < 0.05


def test_what_differs_from_seed_to_seed_in_both_is_not_in_the_error():
    spread = {0: 50.0, 1: 90.0, 2: 70.0}
    found = paired_difference({seed: score + 1 + seed / 10 for seed, score in spread.items()}, spread)
    assert found.excludes_zero and found.standard_error < 0.1


def test_only_seeds_that_both_have_count_whatever_their_order():
    found = paired_difference({4: 1.0, 2: 5.0, 0: 9.0}, {0: 8.0, 1: 0.0, 2: 3.0, 3: 0.0})
    assert found.by_seed == {0: 1.0, 2: 2.0} and found.mean == 1.5


def test_one_seed_has_no_error_and_says_nothing_of_an_order():
    found = paired_difference({3: 50.0}, {3: 10.0})
    assert found.mean == 40.0 and found.standard_error is None and found.interval is None and not found.excludes_zero


def test_without_a_common_seed_there_is_no_difference():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None and paired_difference({}, {}) is None


def test_equal_scores_do_not_exclude_zero_and_a_constant_lead_does():
    same = {0: 0.1, 1: 0.7, 2: 0.3}
    assert not paired_difference(same, same).excludes_zero
    assert paired_difference({0: 3.0, 1: 5.0}, {0: 1.0, 1: 3.0}).interval == (2.0, 2.0)
