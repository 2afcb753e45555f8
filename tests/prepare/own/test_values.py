"""Cells become texts and lists of texts; numbers and truth keep their usual spelling; what is no text is refused."""

import math

import pytest

from vl_absvit.prepare.own.refusals import Fault
from vl_absvit.prepare.own.values import is_missing, text_of, texts_of


def test_empty_cells_are_missing():
    assert all(map(is_missing, (None, "", " \t", [], math.nan)))
    assert not any(map(is_missing, ("0", 0, False, [""], "nan")))


@pytest.mark.parametrize(
    ("value", "text"), [(" a ", "a"), (3, "3"), (3.0, "3"), (-2.5, "-2.5"), (True, "true"), (False, "false")]
)
def test_cells_as_text(value, text):
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("red", ["red"]),
        ("[a] dog", ["[a] dog"]),
        (2, ["2"]),
        (["yes", 2, True], ["yes", "2", "true"]),
        ([{"answer": "yes", "answer_confidence": "maybe"}, {"answer": 3}], ["yes", "3"]),
        ('["a, b", "c"]', ["a, b", "c"]),
        ("['it\\'s', \"a 'b'\", 2, True]", ["it's", "a 'b'", "2", "true"]),  # as pandas writes a list
    ],
)
def test_one_or_several_texts(value, texts):
    assert texts_of(value, "answer") == texts


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("['yes' 'no']", "a list that is not JSON"),  # as NumPy prints it; Python would read one text, "yesno"
        ("[unknown]", "a list that is not JSON"),
        ('["a", "b"', "a list that is not JSON"),
        ("[" * 5000 + "]" * 5000, "a list that is not JSON"),
        (["a", ""], "an empty item in a list"),
        ([["a"]], "a cell that is neither text nor a number"),
        ([{"text": "a"}], "a cell that is neither text nor a number"),
        ({"yes": 1.0}, "a cell that is neither text nor a number"),
        ("a\0b", "a NUL character"),
        ("a" * 1_000_001, "a text of more than 1,000,000 characters"),
    ],
)
def test_other_cells_are_refused(value, reason):
    with pytest.raises(Fault) as caught:
        texts_of(value, "answer")
    assert caught.value.reason == reason and len(caught.value.found) < 100
