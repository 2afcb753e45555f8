"""The expected values were printed by Python 2.7.18."""

import pytest

from vl_absvit.data.python2 import WHITESPACE, lower, round_half_up, split, sum_in_order


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(3.125, 3.13), (0.125, 0.13), (2.675, 2.67), (1.005, 1.0), (83.375, 83.38), (50.0, 50.0), (100 * 2 / 3, 66.67)],
)
def test_rounding_takes_true_ties_away_from_zero_and_only_those(value, rounded):
    assert round_half_up(value, 2) == rounded


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Red CAR", "red car"),
        ("ΟΔΟΣ", "οδοσ"),  # Python 3 ends it with another sigma
        ("İZMİR", "izmir"),  # Python 3 adds a combining dot
        ("Straße ÄÖÜ Ǆ Ⴀ 𐐀 ẞ", "straße äöü ǆ ⴀ 𐐨 ß"),
        ("Ꭰ Ა Ԧ Ɥ 𐒰", "Ꭰ Ა Ԧ Ɥ 𐒰"),  # capitals that Unicode 5.2 has no small letter for
    ],
)
def test_lower_case_is_that_of_unicode_5_2(text, expected):
    assert lower(text) == expected


def test_the_mongolian_vowel_separator_is_white_space_and_the_zero_width_space_is_not():
    assert split("a\u180eb\u00a0c\u200bd") == ["a", "b", "c\u200bd"]
    assert "\u180e\x1c\u2003a\u180e".strip(WHITESPACE) == "a"


def test_sums_round_after_every_addition():
    assert sum_in_order([1e16, 1.0, 1.0]) == 1e16
    assert sum_in_order([0.1] * 10) == 0.9999999999999999
