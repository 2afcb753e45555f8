"""Texts to token ids."""

import os
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from vl_absvit.errors import InputError

_AT_ONCE = 10_000
"""Texts per call of the tokenizer, which needs kilobytes of memory for each."""


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a tokenizer can pad, and make it usable in loader processes.

    Raises:
        InputError: it has no pad token.
    """
    if tokenizer.pad_token_id is None:
        raise InputError("the tokenizer has no pad token")
    # Loader processes are forked after the tokenizer's first use. Its threads do not survive that.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> list[list[int]]:
    """Token ids of each text, special tokens included, cut at ``max_tokens``."""
    encoded = []
    for start in range(0, len(texts), _AT_ONCE):
        part = list(texts[start : start + _AT_ONCE])
        encoded += tokenizer(part, truncation=True, max_length=max_tokens)["input_ids"]
    return encoded


def encode_one(text: str, tokenizer: PreTrainedTokenizerBase, max_tokens: int, kind: str) -> tuple[list[int], bool]:
    """Token ids of a text that somebody typed, without white space around it, and whether it was cut.

    Args:
        kind: "question" or another word for it, for messages.

    Raises:
        InputError: it is empty, or no text; the message is the reason alone.
    """
    text = text.strip()
    if not text:
        raise InputError(f"the {kind} is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the {kind} cannot be written in UTF-8: {error.reason}") from error
    longer, cut = (encode([text], tokenizer, length)[0] for length in (max_tokens + 1, max_tokens))
    return cut, len(longer) > len(cut)


def count_truncated(texts: pa.ChunkedArray, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> int:
    """Number of texts longer than ``max_tokens``, special tokens included.

    A byte-level tokenizer makes at most one token per byte, so only texts of many bytes are tokenised.
    """
    special = tokenizer.num_special_tokens_to_add()
    candidates = texts.filter(pc.greater(pc.binary_length(texts), max_tokens - special))
    count = 0
    for start in range(0, len(candidates), _AT_ONCE):
        encoded = encode(candidates.slice(start, _AT_ONCE).to_pylist(), tokenizer, max_tokens + 1)
        count += sum(len(token_ids) > max_tokens for token_ids in encoded)
    return count
