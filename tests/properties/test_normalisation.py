"""Answer normalisation: once is enough, and what does not matter does not matter."""

import string

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.properties.profile import steady
from vl_absvit.data.answers import meter_normalise, normalise_answer

MARKS = ';/[]"{}()=+\\_-><@`,?!'
anything = st.text(st.characters(exclude_categories=()), max_size=40)
likely = st.lists(
    st.sampled_from(["none", "the", "dont", "hed've", "ows'at", "twas", "1,000", "3.5", "U.S.", "a/b", "x - y", "TEN"])
    | st.text(string.ascii_letters + string.digits + MARKS + ".' :$%&", max_size=6)
).map(" ".join)


@steady
@given(anything | likely)
def test_twice_is_once_unless_there_are_more_periods_than_one_pass_removes(text):
    assume(text.count(".") <= 32)
    for normalise in (normalise_answer, meter_normalise):
        assert normalise(normalise(text)) == normalise(text)
    assert normalise_answer("." * 33) == "." and normalise_answer(".") == ""


@steady
@given(likely)
def test_capitals_and_surrounding_white_space_do_not_matter(text):
    assert normalise_answer(text.upper()) == normalise_answer(text.lower()) == normalise_answer(text)
    assert normalise_answer(f"\n\t {text} \n") == normalise_answer(text)


def naive_marks(text: str) -> str:
    """Marks and periods of an answer character by character, as the official evaluator's rules read."""
    pairs = list(zip(text, text[1:], strict=False))
    digits = string.digits
    between = any(a in digits and b == "," and c in digits for a, b, c in zip(text, text[1:], text[2:], strict=False))
    out = ""
    for character in text:
        if character not in MARKS:
            out += character
        elif not between and (character, " ") not in pairs and (" ", character) not in pairs:
            out += " "
    kept = [
        character
        for place, character in enumerate(out)
        if character != "." or out[place + 1 : place + 2] in list(digits)
    ]
    return " ".join("".join(kept).split())


@steady
@given(st.text("bcxyz0159 " + MARKS + ".':$%&", max_size=30))
def test_marks_and_periods_go_as_in_a_naive_version(text):
    """Without words that mean anything, no more is done to an answer."""
    text = text.strip()
    assume(not any(word.startswith("'") for word in text.split()))
    assert normalise_answer(text) == naive_marks(text)


@steady
@given(st.lists(st.sampled_from(["a", "an", "the", "two", "cats", "cant", "zero"])))
def test_words_go_one_by_one(words):
    meaning = {"a": [], "an": [], "the": [], "two": ["2"], "cant": ["can't"], "zero": ["0"]}
    assert normalise_answer(" ".join(words)) == " ".join(new for word in words for new in meaning.get(word, [word]))
