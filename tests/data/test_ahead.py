"""Items that a thread makes ahead: the same ones in the same order, errors where they belong, no thread left behind."""

import threading
import time

import pytest

from vl_absvit.data.ahead import ahead


def test_items_come_in_their_order_from_another_thread():
    makers = set()

    def items():
        for number in range(20):
            makers.add(threading.current_thread())
            yield number

    assert list(ahead(items(), 2)) == list(range(20))
    assert makers and threading.current_thread() not in makers


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise KeyError("broken")

    found = ahead(items(), 2)
    assert next(found) == 1
    with pytest.raises(KeyError, match="broken"):
        next(found)


def test_no_more_is_made_than_may_be_ahead_and_closing_ends_the_thread():
    made = []

    def items():
        for number in range(1000):
            made.append(number)
            yield number

    before, found = threading.active_count(), ahead(items(), 3)
    assert next(found) == 0
    time.sleep(0.05)
    assert len(made) <= 5  # asked for, three made ahead, and one in hand
    found.close()
    assert threading.active_count() == before
