"""Counting the texts that are cut, against tokenising them all."""

import pyarrow as pa
import pytest

from tests.data.character_tokenizer import character_tokenizer
from vl_absvit.data import texts
from vl_absvit.data.texts import count_truncated, encode, prepare_tokenizer
from vl_absvit.errors import InputError

TEXTS = ["", "a", "abcde", "abcdef", "abcdefg", "äöüäöü", "äöü", "漢字漢字漢字", "a" * 500]


@pytest.fixture(scope="module")
def tokenizer():
    return character_tokenizer()


@pytest.mark.parametrize("at_once", [1, 2, 9, 100])
@pytest.mark.parametrize("max_tokens", [3, 7, 8, 9, 501, 502])
def test_texts_that_are_cut_are_counted_however_they_are_divided(tokenizer, monkeypatch, at_once, max_tokens):
    monkeypatch.setattr(texts, "_AT_ONCE", at_once)
    cut = sum(len(text) + 2 > max_tokens for text in TEXTS)
    assert count_truncated(pa.chunked_array([TEXTS[:4], TEXTS[4:]]), tokenizer, max_tokens) == cut
    encoded = encode(TEXTS, tokenizer, max_tokens)
    assert [len(token_ids) for token_ids in encoded] == [min(len(text) + 2, max_tokens) for text in TEXTS]
    assert encoded[1] == [0, ord("a"), 2]


def test_a_tokenizer_that_cannot_pad_is_refused():
    tokenizer = character_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(InputError, match="no pad token"):
        prepare_tokenizer(tokenizer)
