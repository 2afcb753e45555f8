"""Sources are mixed in exact shares; each is read whole before it begins again; a step alone says its samples."""

from fractions import Fraction

import numpy as np
import pytest

from vl_absvit.data import mixing
from vl_absvit.data.mixing import Mixture, counts_of_steps, whole_weights
from vl_absvit.errors import ConfigError


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (57, 540, 86, 295), (1, 1000), (7,)])
@pytest.mark.parametrize("batch_size", [2, 8, 64])
def test_every_batch_is_full_and_every_source_has_its_share_at_any_time(weights, batch_size):
    counts = counts_of_steps(weights, batch_size, 200)
    assert (counts.sum(axis=1) == batch_size).all() and (counts >= 0).all()
    for steps in (1, 7, 50, 200):
        owed = [Fraction(weight * batch_size * steps, sum(weights)) for weight in weights]
        assert all(abs(have - should) <= 1 for have, should in zip(counts[:steps].sum(axis=0), owed, strict=True))
    # What is known of more steps begins with what is known of fewer.
    assert (counts_of_steps(weights, batch_size, 20) == counts[:20]).all()


def test_weights_become_whole_numbers_in_the_same_proportion():
    assert whole_weights([0.5, 0.25, 2]) == (2, 1, 8)
    first, second = whole_weights([0.1, 0.2])
    assert Fraction(first, second) == Fraction(0.1) / Fraction(0.2)


def test_each_source_is_read_whole_before_it_begins_again():
    mixture = Mixture([5, 12], [1.0, 1.0], seed=3)
    read: list[list[tuple[int, int]]] = [[], []]
    for epoch in range(6):
        rows, epochs = mixture.batches(4, epoch)
        assert rows.shape == epochs.shape == (4, 4)
        for batch, of in zip(rows, epochs, strict=True):
            assert sum(batch < 5) == 2
            for row, own_epoch in zip(batch.tolist(), of.tolist(), strict=True):
                read[row >= 5].append((own_epoch, row))
    for source, (first, size) in enumerate([(0, 5), (5, 12)]):
        for own_epoch in range(len(read[source]) // size):
            rows = [row for epoch, row in read[source] if epoch == own_epoch]
            assert sorted(rows) == list(range(first, first + size))
    orders = [[row for epoch, row in read[0] if epoch == own_epoch] for own_epoch in range(8)]
    assert len({tuple(order) for order in orders}) > 4
    assert mixture.repeats(4, 6) == pytest.approx([48 / 5, 48 / 12])


def test_an_epoch_is_the_same_whatever_was_asked_before_and_another_with_another_seed():
    expected = Mixture([9, 7], [None, None], seed=0).batches(4, 2)
    again = Mixture([9, 7], [None, None], seed=0)
    again.batches(4, 0)
    assert np.array_equal(again.batches(4, 2), expected)
    assert not np.array_equal(Mixture([9, 7], [None, None], seed=1).batches(4, 2), expected)


def test_without_weights_shares_are_those_of_the_samples():
    rows, _ = Mixture([30, 10], [None, None], seed=0).batches(8, 0)
    assert [(batch < 30).sum() for batch in rows] == [6] * 5


def test_too_few_samples_are_refused():
    with pytest.raises(ConfigError, match="optim.batch_size 8 is more than the 5 training samples"):
        Mixture([5], [None], 0).batches(8, 0)


def test_samples_of_a_few_groups_at_a_time_are_read_together_and_each_once(monkeypatch):
    monkeypatch.setattr(mixing, "GROUPS_AT_ONCE", 3)
    groups = np.random.default_rng(0).integers(8, size=64)
    mixture = Mixture([10, 64], [None, None], seed=5, groups=[None, groups])
    orders = [mixture._order(1, epoch) for epoch in range(20)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(64))
        places = [np.flatnonzero(groups[order] == group) for group in range(8)]
        being_read = [sum(of[0] <= place <= of[-1] for of in places) for place in range(64)]
        assert max(being_read) == 3  # from the first sample of a group to its last
    assert len({tuple(order.tolist()) for order in orders}) == 20
    assert len({int(groups[order[0]]) for order in orders}) > 4
    assert Mixture([10, 64], [None, None], seed=5)._order(0, 3).tolist() == mixture._order(0, 3).tolist()


def test_groups_that_are_all_read_at_a_time_change_nothing():
    groups = np.random.default_rng(0).integers(8, size=64)
    for epoch in range(3):
        expected = Mixture([64], [None], seed=5).batches(8, epoch)
        assert np.array_equal(Mixture([64], [None], seed=5, groups=[groups]).batches(8, epoch), expected)
