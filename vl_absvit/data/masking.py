"""Hide whole words of a text for a model to guess.

As BERT with whole words (Devlin et al., 2019), on the words that the tokenizer itself tells apart: with RoBERTa's, the
bytes of a character stay together, and punctuation, "'t" and numbers are words of their own. The share is of real
words, whatever the padding, and every text with a word has at least one hidden. n words of a text.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from vl_absvit.errors import InputError

MASKED, REPLACED = 0.8, 0.1
"""Shares of hidden words that become ``<mask>``, and random tokens; the rest stays as it is."""


class Hidden(NamedTuple):
    """A text with hidden words."""

    token_ids: list[int]
    positions: list[int]  # of the tokens to guess, ascending
    answers: list[int]  # their true ids


class WordMasker:
    """Draws hidden words.

    Args:
        tokenizer: has a mask token.
        share: of a text's words, in (0, 1).

    Raises:
        InputError: the tokenizer has no mask token, or does not tell words apart.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, share: float) -> None:
        if tokenizer.mask_token_id is None:
            raise InputError("the tokenizer has no mask token, which stands in for the words to guess")
        if not tokenizer.is_fast:
            raise InputError("the tokenizer does not tell which tokens are one word; expected a fast one")
        special = {*tokenizer.all_special_ids}
        self._ordinary = np.array(sorted(token for token in tokenizer.get_vocab().values() if token not in special))
        self._mask, self._share = tokenizer.mask_token_id, share

    def hide(self, token_ids: Sequence[int], words: Sequence[int | None], key: Sequence[int]) -> Hidden:
        """Hide max(1, floor(share * n + u)) of n words, u uniform in [0, 1). One draw decides how all of a word hide.

        Args:
            token_ids: of a text, special tokens included.
            words: number of the word that each token is part of; None for special tokens.
            key: decides the draw, such as seed, epoch and caption id.
        """
        generator = np.random.default_rng(list(key))
        tokens_of: dict[int, list[int]] = {}
        for position, word in enumerate(words):
            if word is not None:
                tokens_of.setdefault(word, []).append(position)
        if not tokens_of:
            return Hidden(list(token_ids), [], [])
        number = max(1, int(self._share * len(tokens_of) + generator.random()))
        chosen = generator.choice(len(tokens_of), number, replace=False)
        of_word, hidden, positions = list(tokens_of.values()), list(token_ids), []
        for word, how in zip(chosen.tolist(), generator.random(number).tolist(), strict=True):
            positions += of_word[word]
            for position in of_word[word]:
                if how < MASKED:
                    hidden[position] = self._mask
                elif how < MASKED + REPLACED:
                    hidden[position] = int(generator.choice(self._ordinary))
        positions.sort()
        return Hidden(hidden, positions, [token_ids[position] for position in positions])
