"""Whole words are hidden by the rule: their number, all their tokens, how they hide, the same ones by their key."""

from types import SimpleNamespace

import numpy as np
import pytest

from vl_absvit.data.masking import WordMasker
from vl_absvit.errors import InputError

MASK, SPECIAL = 99, (0, 1, 2, 99)


def tokenizer(**changes):
    vocabulary = {f"t{token}": token for token in range(100)}
    facts = {"mask_token_id": MASK, "is_fast": True, "all_special_ids": list(SPECIAL), "get_vocab": lambda: vocabulary}
    return SimpleNamespace(**facts | changes)


def text(words: int) -> tuple[list[int], list[int | None]]:
    """Ids and words: word k has 1 + k % 3 tokens; special tokens around."""
    numbers = [k for k in range(words) for _ in range(1 + k % 3)]
    return [0, *(10 + place % 80 for place in range(len(numbers))), 2], [None, *numbers, None]


@pytest.mark.parametrize("words", [1, 2, 5, 11, 20])
def test_as_many_words_hide_as_the_rule_says_and_at_least_one(words):
    ids, of_word = text(words)
    masker, numbers = WordMasker(tokenizer(), 0.15), []
    for key in range(2_000):
        hidden = masker.hide(ids, of_word, [0, 1, key])
        chosen = {of_word[position] for position in hidden.positions}
        assert None not in chosen and hidden.positions == sorted(hidden.positions)
        # All tokens of a word, or none of them.
        assert [position for position, word in enumerate(of_word) if word in chosen] == hidden.positions
        assert hidden.answers == [ids[position] for position in hidden.positions]
        untouched = set(range(len(ids))) - set(hidden.positions)
        assert all(hidden.token_ids[position] == ids[position] for position in untouched)
        numbers.append(len(chosen))
    share = 0.15 * words
    assert set(numbers) <= {max(1, int(share)), max(1, int(share + 1))}
    # The mean of max(1, floor(share + u)): share itself from one word on, else one.
    assert np.mean(numbers) == pytest.approx(max(1, share), abs=0.04)


def test_how_words_hide_is_drawn_once_for_all_of_their_tokens():
    ids, of_word = [0, *range(10, 16), 2], [None, 0, 0, 0, 1, 1, 1, None]
    masker, ways = WordMasker(tokenizer(), 0.15), []
    for key in range(4_000):
        hidden = masker.hide(ids, of_word, [0, key])
        now = [hidden.token_ids[position] for position in hidden.positions]
        assert len(now) == 3
        ways.append("mask" if now == [MASK] * 3 else "kept" if now == hidden.answers else "replaced")
        if ways[-1] == "replaced":
            assert MASK not in now and not set(now) & set(SPECIAL)
    shares = [ways.count(way) / len(ways) for way in ("mask", "replaced", "kept")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


def test_the_key_alone_decides():
    ids, of_word = text(20)
    one, other = WordMasker(tokenizer(), 0.15), WordMasker(tokenizer(), 0.15)
    other.hide(ids, of_word, [5])
    drawn = [one.hide(ids, of_word, [0, epoch, 7]) for epoch in range(20)]
    assert [other.hide(ids, of_word, [0, epoch, 7]) for epoch in range(20)] == drawn
    assert len({tuple(hidden.positions) for hidden in drawn}) > 10


def test_a_text_without_words_hides_none():
    assert WordMasker(tokenizer(), 0.15).hide([0, 2], [None, None], [0]).positions == []


def test_a_tokenizer_without_a_mask_is_refused():
    with pytest.raises(InputError, match="has no mask token"):
        WordMasker(tokenizer(mask_token_id=None), 0.15)
    with pytest.raises(InputError, match="does not tell which tokens are one word"):
        WordMasker(tokenizer(is_fast=False), 0.15)
