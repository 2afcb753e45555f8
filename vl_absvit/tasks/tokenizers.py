"""The tokenizer of a run. It has to be the one that the run's text encoder was trained with."""

import logging
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase, RobertaTokenizer

from vl_absvit.config import TextConfig
from vl_absvit.data.json_files import read_json
from vl_absvit.errors import ConfigError, InputError, first_line
from vl_absvit.hub import TEXTS, find
from vl_absvit.models.architecture import read_text_config
from vl_absvit.models.text_encoder import unfit

log = logging.getLogger(__name__)

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "sentencepiece.bpe.model")
MAX_SPARE = 128
"""Tokens that a text encoder may know beyond its tokenizer's: their tables are filled up to multiples of 8 to 128."""


def check_same_tokenizer(folder: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ``InputError`` where the checkpoint to start from reads texts with another vocabulary."""
    if load_tokenizer(folder).get_vocab() != tokenizer.get_vocab():
        raise InputError(
            f"from_checkpoint {folder}: its tokenizer has another vocabulary than text.tokenizer, so its weights read "
            "other words"
        )
    text = read_json(Path(folder) / "config.json", dict).get("text")
    if isinstance(text, dict) and (reason := unfit(tokenizer, text)):
        raise InputError(f"from_checkpoint {folder}: {reason}")


def tokenizer_of(text: TextConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of a run, which has to be the text encoder's.

    Raises:
        InputError: there is none.
        ConfigError: ``text.model`` is no RoBERTa or BERT, or was trained with another tokenizer.
    """
    name = text.tokenizer or text.model
    assert name is not None, "a config names a text encoder or a tokenizer"
    tokenizer = load_tokenizer(name)
    if text.model is None:
        return tokenizer
    encoder, pair = read_text_config(text.model), f"text.tokenizer {name}"
    own = _own_tokenizer(text.model) if text.tokenizer not in (None, text.model) else tokenizer
    if own is None:
        spare = encoder.vocab_size - len(tokenizer)
        if not 0 <= spare < MAX_SPARE:
            raise ConfigError(
                f"{pair} has {len(tokenizer):,} tokens, the text encoder of text.model {text.model} "
                f"{encoder.vocab_size:,}: they do not belong together"
            )
    elif difference := _difference(tokenizer.get_vocab(), own.get_vocab()):
        raise ConfigError(
            f"{pair} has another vocabulary than the tokenizer in text.model {text.model}, which that was trained "
            f"with: {difference}; without text.tokenizer its own is taken"
        )
    token_ids = tokenizer("a")["input_ids"]
    for name, place, expected in (("<s>", 0, encoder.bos_token_id), ("</s>", -1, encoder.eos_token_id)):
        if expected is not None and token_ids[place] != expected:
            raise ConfigError(
                f"{pair} puts token {token_ids[place]} at the {'end' if place else 'beginning'} of a text, where "
                f"text.model {text.model} expects {name}, token {expected}"
            )
    return tokenizer


def _own_tokenizer(model: str) -> PreTrainedTokenizerBase | None:
    """The tokenizer beside a text encoder, if there is one that can be read."""
    if Path(model).is_dir() and not any((Path(model) / name).exists() for name in TOKENIZER_FILES):
        return None
    try:
        return load_tokenizer(model)
    except InputError as error:
        log.warning("text.model %s: its own tokenizer is not compared with text.tokenizer: %s", model, error)
        return None


def _difference(found: dict[str, int], expected: dict[str, int]) -> str | None:
    """An example of a token that two vocabularies number differently; None if they are the same."""
    for token in sorted(found.keys() | expected.keys(), key=lambda token: expected.get(token, len(expected))):
        if found.get(token) != expected.get(token):
            here, there = (f"token {ids[token]}" if token in ids else "unknown" for ids in (found, expected))
            return f"{len(found):,} against {len(expected):,} tokens, {token!r:.60} is {here} here and {there} there"
    return None


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub name.

    A folder that holds RoBERTa's original ``vocab.json`` and ``merges.txt`` alone does not say what it is; it is read
    as RoBERTa's.

    Raises:
        InputError: there is no tokenizer, it is damaged, it needs a program, which is never run, or it knows no words.
            Transformers makes such a one where files are missing.
    """
    folder = find(name, "tokenizer", only=TEXTS, is_text=True).path
    telling = ("tokenizer.json", "tokenizer_config.json", "config.json")
    is_original = (folder / "vocab.json").is_file() and not any((folder / file).is_file() for file in telling)
    try:
        tokenizer = (RobertaTokenizer if is_original else AutoTokenizer).from_pretrained(
            str(folder), trust_remote_code=False
        )
    except Exception as error:  # the tokenizers library raises nothing more specific
        lacking = "no tokenizer there" if folder.is_dir() else "no such folder"
        raise InputError(f"tokenizer {name}: {lacking}: {first_line(error)}") from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise InputError(
            f"tokenizer {name}: nothing but special tokens there; expected tokenizer.json, or vocab.json and merges.txt"
        )
    try:
        tokenizer("Is it?", truncation=True, max_length=8)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        raise InputError(f"tokenizer {name}: cannot read a question: {first_line(error)}") from error
    return tokenizer


def save_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a tokenizer into an existing folder, without the length that its last text was cut or filled up to.

    Transformers keeps that length in ``tokenizer.json`` and ignores it when reading. Other readers of the file obey it
    (``findings/tokenizer_json_keeps_the_last_call.sh``).
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation(), backend.no_padding()
    tokenizer.save_pretrained(folder)
