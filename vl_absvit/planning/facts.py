"""What memory and time depend on and a config does not say: sizes of the data, of the head and of the text encoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from transformers import RobertaConfig

from vl_absvit.config import PretrainConfig, RetrievalConfig, VQAConfig
from vl_absvit.data.class_folders import class_names, image_files
from vl_absvit.data.records import CAPTIONS, VQAV2, check_kind, read_manifest, read_vocabulary, split_files
from vl_absvit.data.texts import prepare_tokenizer
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.models.build import read_roberta_config
from vl_absvit.models.text_encoder import longest_text
from vl_absvit.tasks.base import RunnableConfig
from vl_absvit.tasks.checkpoint import load_tokenizer

PUBLISHED = {"roberta-base": (768, 12, 12), "roberta-large": (1024, 24, 16)}
"""Width, layers and attention heads [Liu et al., "RoBERTa", 2019]."""
VQAV2_ANSWERS, IMAGENET_CLASSES = 3129, 1000


@dataclass(frozen=True)
class Words:
    """What a text encoder from scratch takes from its tokenizer; it stands in for one."""

    size: int
    pad_token_id: int | None
    bos_token_id: int | None
    eos_token_id: int | None

    def __len__(self) -> int:
        return self.size


class Facts(NamedTuple):
    """Sizes, and which of them are assumed."""

    samples: int | None  # of the training splits; None where they are not known
    labels: int | None  # answers or classes that the head tells apart; None for retrieval
    text: RobertaConfig | Words | None  # the text encoder, or its words where it starts from scratch
    assumed: tuple[str, ...]  # in words


def find_facts(config: RunnableConfig, samples: int | None = None) -> Facts:
    """Read from the prepared data, the tokenizer and the text encoder's folder what is there; assume what is published.

    Args:
        samples: of the training splits, in place of those in the prepared data.

    Raises:
        InputError: the data is there and is not what the config trains on.
        ConfigError: the sizes of the text encoder can neither be read nor are they known.
    """
    assumed = []
    labels, found = _data_sizes(config)
    if labels is None and not isinstance(config, RetrievalConfig):
        is_vqa = isinstance(config, VQAConfig)
        labels = VQAV2_ANSWERS if is_vqa else IMAGENET_CLASSES
        whose = "answers, VQAv2's" if is_vqa else "classes, ImageNet's"
        assumed.append(f"{labels:,} {whose}: there is no data in {config.data.root}")
    text: RobertaConfig | Words | None = None
    if not isinstance(config, PretrainConfig):
        model, tokenizer = config.text.model, config.text.tokenizer
        if model is not None:
            text, name = _sizes(model, config.text.max_tokens), model
        else:
            assert tokenizer is not None, "a config names a text encoder or a tokenizer"
            text, name = _words(tokenizer), tokenizer
        if not Path(name).is_dir():
            assumed.append(f"the published sizes of {name}: it is no folder, and nothing is fetched")
    return Facts(found if samples is None else samples, labels, text, tuple(assumed))


def _data_sizes(config: RunnableConfig) -> tuple[int | None, int | None]:
    """Labels and training samples, as far as there is data."""
    root, splits = Path(config.data.root), config.data.train_splits
    if not root.is_dir():
        return None, None
    if isinstance(config, PretrainConfig):
        classes = class_names(root / splits[0])
        return len(classes), sum(len(image_files(root / split / name)) for split in splits for name in classes)
    check_kind(root, VQAV2 if isinstance(config, VQAConfig) else CAPTIONS)
    split_files(root, splits)  # complains of a split that is not there
    counts = [read_manifest(root)["splits"][split] for split in splits]
    try:
        if isinstance(config, VQAConfig):
            return len(read_vocabulary(root)), sum(count["kept_for_training"] for count in counts)
        return None, sum(count["captions"] - count["without_image"] for count in counts)
    except (KeyError, TypeError) as error:
        raise InputError(f"{root / 'manifest.json'}: the counts of {', '.join(splits)} are not there") from error


def _words(name: str) -> Words:
    """What a text encoder from scratch needs to know of its tokenizer, which has to be able to pad."""
    if not Path(name).is_dir():
        roberta = _published_sizes("text.tokenizer", name)
        return Words(roberta.vocab_size, roberta.pad_token_id, roberta.bos_token_id, roberta.eos_token_id)
    tokenizer = load_tokenizer(name)
    prepare_tokenizer(tokenizer)
    return Words(len(tokenizer), tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)


def _sizes(name: str, max_tokens: int) -> RobertaConfig:
    """Sizes of a pretrained text encoder."""
    roberta = read_roberta_config(name) if Path(name).is_dir() else _published_sizes("text.model", name)
    if max_tokens > (longest := longest_text(roberta)):
        raise ConfigError(f"text.max_tokens {max_tokens} is more than the {longest} positions of {name}")
    return roberta


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
