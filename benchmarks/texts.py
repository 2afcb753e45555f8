"""Made-up questions as strings, and a tokenizer of RoBERTa's kind that was trained on them."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerBase, RobertaTokenizer

from benchmarks.measure import Stage
from benchmarks.samples import question_lengths
from vl_absvit.data.texts import encode, prepare_tokenizer

WORDS, TOKENS = 3000, 2000  # fewer tokens than words: rare ones are several tokens, as in English
TEXTS_PER_BATCH = 64
MOST_TOKENS = 50
ON_THE_FLY, AHEAD = "tokenised on the fly", "tokenised ahead"


def made_up_questions(number: int, seed: int = 0) -> list[str]:
    """As many words as real ones have, most of them frequent."""
    generator = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlu"))
    words = ["".join(generator.choice(letters, length)) for length in generator.integers(2, 9, WORDS)]
    rank = np.minimum(generator.zipf(1.3, (number, MOST_TOKENS)), WORDS) - 1
    lengths = question_lengths(number, generator) - 2  # without <s> and </s>
    return [
        f"{' '.join(words[each] for each in row[:length])}?".capitalize()
        for row, length in zip(rank, lengths, strict=True)
    ]


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerBase:
    """Byte-level BPE, as RoBERTa's."""
    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(texts, vocab_size=TOKENS, special_tokens=special, show_progress=False)
    tokenizer = RobertaTokenizer(tokenizer_object=trained._tokenizer)
    prepare_tokenizer(tokenizer)
    return tokenizer


def text_side(texts: list[str]) -> Callable[[Stage], None]:
    """A side that turns all texts into token ids, batch after batch, and one that reads ids that are there already."""
    tokenizer = train_tokenizer(texts)
    ready = pa.chunked_array([pa.array(encode(texts, tokenizer, MOST_TOKENS), pa.list_(pa.int32()))])
    starts = range(0, len(texts), TEXTS_PER_BATCH)

    def take_turn(stage: Stage) -> None:
        with stage(ON_THE_FLY):
            for start in starts:
                encode(texts[start : start + TEXTS_PER_BATCH], tokenizer, MOST_TOKENS)
        with stage(AHEAD):
            for start in starts:
                ready.slice(start, TEXTS_PER_BATCH).to_pylist()

    return take_turn
