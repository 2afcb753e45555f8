"""Sizes on which memory and time depend beside the config: of the data, of the head and of the text encoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from transformers import RobertaConfig

from vl_absvit.config import DataConfig, TextConfig
from vl_absvit.data.records import check_kind, read_manifest, split_files
from vl_absvit.data.texts import prepare_tokenizer
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.models.architecture import read_text_config
from vl_absvit.models.text_encoder import TextModelConfig, longest_text
from vl_absvit.tasks.tokenizers import load_tokenizer

PUBLISHED = {"roberta-base": (768, 12, 12), "roberta-large": (1024, 24, 16)}
"""Width, layers and attention heads [Liu et al., "RoBERTa", 2019]."""


@dataclass(frozen=True)
class Words:
    """The facts about its tokenizer that a text encoder from scratch needs; stands in for a tokenizer."""

    vocab_size: int
    pad_token_id: int | None
    bos_token_id: int | None
    eos_token_id: int | None

    def __len__(self) -> int:
        return self.vocab_size


class Facts(NamedTuple):
    """Sizes, and which of them are assumed."""

    samples: int | None  # of the training splits; None where they are not known
    labels: int | None  # that the head tells apart; None where it tells none
    text: TextModelConfig | Words | None  # the text encoder, or its words where it starts from scratch
    assumed: tuple[str, ...]  # in words
    first_look: int | None = None  # numbers that are kept of it (``data.keep_frozen``); None where nothing is kept


def sum_of_counts(data: DataConfig, kind: str, counted: str, *less: str) -> int:
    """Sum over the training splits of a count in the manifest of prepared data, less some other counts.

    Raises:
        InputError: the data is of another kind, a split is not there, or nothing is counted.
    """
    root, splits = Path(data.root), data.train_splits
    check_kind(root, kind)
    split_files(root, splits)  # complains of a split that is not there
    counts = [read_manifest(root)["splits"][split] for split in splits]
    try:
        return sum(count[counted] - sum(count[name] for name in less) for count in counts)
    except (KeyError, TypeError) as error:
        raise InputError(f"{root / 'manifest.json'}: the counts of {', '.join(splits)} are not there") from error


def text_sizes(text: TextConfig) -> tuple[TextModelConfig | Words, tuple[str, ...]]:
    """The text encoder, or the words of one from scratch, and the assumptions behind them."""
    if text.model is not None:
        found, name = _sizes(text.model, text.max_tokens), text.model
    else:
        assert text.tokenizer is not None, "a config names a text encoder or a tokenizer"
        found, name = _words(text.tokenizer), text.tokenizer
    is_assumed = not Path(name).is_dir()
    assumed = f"the published sizes of {name}: it is no folder, and nothing is fetched"
    return found, (assumed,) if is_assumed else ()


def _words(name: str) -> Words:
    """The facts about a tokenizer, which has to be able to pad."""
    if not Path(name).is_dir():
        roberta = _published_sizes("text.tokenizer", name)
        return Words(roberta.vocab_size, roberta.pad_token_id, roberta.bos_token_id, roberta.eos_token_id)
    tokenizer = load_tokenizer(name)
    prepare_tokenizer(tokenizer)
    return Words(len(tokenizer), tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)


def _sizes(name: str, max_tokens: int) -> TextModelConfig:
    """Sizes of a pretrained text encoder."""
    encoder = read_text_config(name) if Path(name).is_dir() else _published_sizes("text.model", name)
    if max_tokens > (longest := longest_text(encoder)):
        raise ConfigError(f"text.max_tokens {max_tokens} is more than the {longest} positions of {name}")
    return encoder


def _published_sizes(key: str, name: str) -> RobertaConfig:
    sizes = PUBLISHED.get(name.partition("@")[0].removeprefix("FacebookAI/"))
    if sizes is None:
        raise ConfigError(f"{key} {name}: no such folder; sizes are known of {', '.join(PUBLISHED)} alone")
    width, layers, heads = sizes
    return RobertaConfig(
        vocab_size=50265, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * width, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5,
        pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
