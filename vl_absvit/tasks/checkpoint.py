"""What the checkpoints of all vision-language tasks share: model, tokenizer, preprocessing, and their history."""

import logging
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import safe_open
from transformers import AutoTokenizer, PreTrainedTokenizerBase, RobertaTokenizer

from vl_absvit.config import RetrievalConfig, TextConfig, VQAConfig
from vl_absvit.data.identity import content_of, stream_content
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.data.records import read_manifest
from vl_absvit.data.transforms import ImageTransform, image_transform
from vl_absvit.data.whole_folder import fingerprint
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.hub import TEXTS, find, name_of
from vl_absvit.models.build import build_from_architecture, read_roberta_config
from vl_absvit.models.text_encoder import unfit
from vl_absvit.models.vl_model import VLAbSViT

log = logging.getLogger(__name__)

PREPROCESSING, TRAINING = "preprocessor_config.json", "training.json"
HEADS = {
    "vqa": "a VQA model",
    "matching": "a retrieval model",
    # Only the authors' release has these.
    "pretraining": "a pretrained model with heads for masked words and matching",
    "nlvr2": "an NLVR2 model",
    "snli": "an SNLI-VE model",
}

EXPECTED = "expected a folder such as RUN/checkpoints/best, or such a folder's name on the hub"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "sentencepiece.bpe.model")
MAX_SPARE = 128
"""Tokens that a text encoder may know beyond its tokenizer's: their tables are filled up to multiples of 8 to 128."""


class Preprocessing(NamedTuple):
    """How a checkpoint's inputs are made; saved as ``preprocessor_config.json``."""

    image_size: int
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    max_tokens: int

    def transform(self, augmentation: Literal["none", "randaugment"] = "none") -> ImageTransform:
        """Pictures to the tensors that the model sees."""
        return image_transform(self.image_size, self.image_mean, self.image_std, augmentation)

    @classmethod
    def load(cls, path: Path) -> "Preprocessing":
        """Read what was saved; anything else raises ``InputError``."""
        content = read_json(path, dict)
        if sorted(content) != sorted(cls._fields):
            raise InputError(f"{path}: expected {', '.join(cls._fields)}, got {', '.join(content) or 'nothing'}")
        for name in ("image_size", "max_tokens"):
            if type(content[name]) is not int or content[name] < 1:
                raise InputError(f"{path}: expected {name} to be a positive integer, got {content[name]!r:.60}")
        for name in ("image_mean", "image_std"):
            channels = content[name] if isinstance(content[name], list) else []
            if len(channels) != 3 or not all(type(channel) in (int, float) for channel in channels):
                raise InputError(f"{path}: expected {name} to be three numbers, got {content[name]!r:.60}")
            content[name] = tuple(channels)
        return cls(**content)


class VLCheckpoint(NamedTuple):
    """A model and everything that its inputs are made with."""

    model: VLAbSViT
    tokenizer: PreTrainedTokenizerBase
    preprocessing: Preprocessing
    training: dict[str, Any]  # what it was trained on, see ``describe_training``


def describe_data(config: VQAConfig | RetrievalConfig) -> dict[str, Any]:
    """What a run trains and selects on, by its content."""
    data, manifest = config.data, read_manifest(config.data.root)
    splits = list(data.train_splits) if data.stream is None else []
    content = content_of(data.root, [*splits, *([data.select_split] if data.select_split else [])])
    return {
        "dataset": manifest.get("dataset", manifest.get("kind")),
        "splits": list(data.train_splits),
        "selected_on": data.select_split,
        "sources": manifest.get("sources", {}),
        "content": content | ({} if data.stream is None else {"stream": stream_content(data.stream)}),
    }


def describe_training(config: VQAConfig | RetrievalConfig, data: dict[str, Any]) -> dict[str, Any]:
    """What a run trains on, and what its weights come from: the chain that makes a result zero-shot or not.

    Args:
        data: see ``describe_data``.
    """
    start = None if config.from_checkpoint is None else read_json(Path(config.from_checkpoint) / TRAINING, dict)
    return {
        "task": "vqa" if isinstance(config, VQAConfig) else "retrieval",
        **data,
        "vision_weights": None if config.from_checkpoint else origin_of(config.vision.weights),
        "text_model": None if config.from_checkpoint else origin_of(config.text.model),
        "started_from": origin_of(config.from_checkpoint),
        "start": start,
    }


def origin_of(source: str | None) -> str | None:
    """What weights come from, wherever they lie: their name on the hub, else the SHA-256 of their file."""
    name = name_of(source)
    if source is None or name != source or not Path(source).exists():
        return name
    file = Path(source) / "model.safetensors" if Path(source).is_dir() else Path(source)
    return f"sha256:{fingerprint(file)['sha256']}" if file.is_file() else Path(source).name


def datasets_trained_on(training: dict[str, Any]) -> list[str]:
    """Names of all data sets in the chain, the earliest first."""
    before = datasets_trained_on(training["start"]) if training.get("start") else []
    return [*before, training["dataset"]]


def save_parts(folder: Path, checkpoint: VLCheckpoint) -> None:
    """Write a checkpoint's parts into an existing folder."""
    checkpoint.model.save_weights(folder)
    backend = checkpoint.tokenizer.backend_tokenizer
    backend.no_truncation(), backend.no_padding()  # left by whatever was read last, and set by whatever is read next
    checkpoint.tokenizer.save_pretrained(folder)
    write_json(folder / PREPROCESSING, checkpoint.preprocessing._asdict(), indent=1)
    write_json(folder / TRAINING, checkpoint.training, indent=1)


def load_parts(folder: str | Path, head: str | None = None) -> VLCheckpoint:
    """Read a checkpoint folder whose head is of the kind ``head``, or of any; the model is in evaluation mode.

    Raises ``InputError`` where a part is missing, the weights do not fit, or the folder holds something else.
    """
    folder = Path(folder)
    needed = ("config.json", "model.safetensors", "tokenizer.json", PREPROCESSING, TRAINING)
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        _refuse_classifier(folder, "checkpoint")
        holds = "holds a model alone, as save_pretrained writes it; " if missing == list(needed[2:]) else ""
        raise InputError(f"checkpoint {folder}: {holds}there is no {', '.join(missing)}; {EXPECTED}")
    preprocessing = Preprocessing.load(folder / PREPROCESSING)
    training = _check_training(read_json(folder / TRAINING, dict), folder / TRAINING)
    architecture = read_json(folder / "config.json", dict)
    kind = _kind_of_head(architecture)
    if head is None:
        head = kind if kind in HEADS else "vqa"
    if kind in HEADS and kind != head:
        raise InputError(f"checkpoint {folder}: expected {HEADS[head]}, got {HEADS[kind]}")
    try:
        _check_size(architecture, folder)
        model = VLAbSViT.from_pretrained(folder)
    except ConfigError as error:
        raise InputError(f"{folder / 'config.json'}: {error}") from error
    except InputError:
        raise
    except Exception as error:  # as much as the libraries raise for a config.json that only looks like one
        reason = " ".join(str(error).split())
        raise InputError(f"checkpoint {folder} is not {HEADS[head]} of this architecture: {reason:.300}") from error
    size = model.architecture["vision"]["image_size"]
    if size != preprocessing.image_size:
        raise InputError(
            f"checkpoint {folder}: the model has {size} pixels a side, {PREPROCESSING} says {preprocessing.image_size}"
        )
    if preprocessing.max_tokens > model.text.max_tokens:
        raise InputError(
            f"checkpoint {folder}: the model has {model.text.max_tokens} positions for tokens, "
            f"{PREPROCESSING} says {preprocessing.max_tokens}"
        )
    tokenizer, known = load_tokenizer(str(folder)), model.text.roberta.config.vocab_size
    if (largest := max(tokenizer.get_vocab().values())) >= known:
        raise InputError(
            f"checkpoint {folder}: the tokenizer has the token id {largest}, the model knows {known} tokens"
        )
    if reason := unfit(tokenizer, architecture["text"]):
        raise InputError(f"checkpoint {folder}: {reason}")
    return VLCheckpoint(model.eval(), tokenizer, preprocessing, training)


def head_of(folder: str) -> str | None:
    """The kind of head that a checkpoint folder holds, one of ``HEADS``; None where it does not say."""
    kind = _kind_of_head(read_json(Path(folder) / "config.json", dict))
    return kind if kind in HEADS else None


def _kind_of_head(architecture: dict[str, Any]) -> Any:
    head = architecture.get("head", {})
    return head.get("kind") if isinstance(head, dict) else head


def _check_size(architecture: dict[str, Any], folder: Path) -> None:
    """Refuse a description of a model far larger than its weights, before memory is taken for it."""
    with torch.device("meta"):
        model = build_from_architecture(architecture, str(folder / "config.json"))
    described = sum(tensor.numel() for tensor in model.state_dict().values())
    with safe_open(folder / "model.safetensors", "pt") as weights:
        held = sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    if described > 2 * held:
        raise InputError(
            f"{folder / 'model.safetensors'}: does not fit the architecture in config.json beside it: "
            f"it holds {held:,} numbers, the model has {described:,}"
        )


def check_start(folder: str) -> None:
    """Raise ``InputError`` where the checkpoint to start from is none of a VQA or retrieval run."""
    missing = [name for name in ("config.json", TRAINING) if not (Path(folder) / name).is_file()]
    if missing:
        raise InputError(f"from_checkpoint {folder}: there is no {', '.join(missing)}; {EXPECTED}")
    _refuse_classifier(Path(folder), "from_checkpoint", "; vision.weights takes it")


def _refuse_classifier(folder: Path, option: str, advice: str = "") -> None:
    config = folder / "config.json"
    if config.is_file() and "classes" in read_json(config, dict):
        raise InputError(f"{option} {folder}: expected a VQA or retrieval model, got an image classifier{advice}")


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
    """The tokenizer that a run reads texts with, which has to be the text encoder's.

    Raises:
        InputError: there is none.
        ConfigError: ``text.model`` is no RoBERTa, or was trained with another tokenizer.
    """
    tokenizer = load_tokenizer(text.tokenizer or text.model)
    if text.model is None:
        return tokenizer
    roberta, pair = read_roberta_config(text.model), f"text.tokenizer {text.tokenizer or text.model}"
    own = _own_tokenizer(text.model) if text.tokenizer not in (None, text.model) else tokenizer
    if own is None:
        spare = roberta.vocab_size - len(tokenizer)
        if not 0 <= spare < MAX_SPARE:
            raise ConfigError(
                f"{pair} has {len(tokenizer):,} tokens, the text encoder of text.model {text.model} "
                f"{roberta.vocab_size:,}: they do not belong together"
            )
    elif difference := _difference(tokenizer.get_vocab(), own.get_vocab()):
        raise ConfigError(
            f"{pair} has another vocabulary than the tokenizer in text.model {text.model}, which that was trained "
            f"with: {difference}; without text.tokenizer its own is taken"
        )
    token_ids = tokenizer("a")["input_ids"]
    for name, place, expected in (("<s>", 0, roberta.bos_token_id), ("</s>", -1, roberta.eos_token_id)):
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


def _difference(mine: dict[str, int], expected: dict[str, int]) -> str | None:
    """An example of a token that two vocabularies number differently; None if they are the same."""
    for token in sorted(mine.keys() | expected.keys(), key=lambda token: expected.get(token, len(expected))):
        if mine.get(token) != expected.get(token):
            here, there = (f"token {ids[token]}" if token in ids else "unknown" for ids in (mine, expected))
            return f"{len(mine):,} against {len(expected):,} tokens, {token!r:.60} is {here} here and {there} there"
    return None


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub name.

    A folder that holds RoBERTa's original ``vocab.json`` and ``merges.txt`` alone does not say what it is; it is read
    as RoBERTa's.

    Raises:
        InputError: there is none, it is damaged, it comes as a program, which is never run, or it knows no words:
            transformers makes such a one where files are missing.
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
        raise InputError(f"tokenizer {name}: {lacking}: {_first_line(error)}") from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise InputError(
            f"tokenizer {name}: nothing but special tokens there; expected tokenizer.json, or vocab.json and merges.txt"
        )
    try:
        tokenizer("Is it?", truncation=True, max_length=8)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        raise InputError(f"tokenizer {name}: cannot read a question: {_first_line(error)}") from error
    return tokenizer


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _check_training(training: dict, path: Path) -> dict:
    """What ``describe_training`` wrote, all the way down the chain."""
    link = training
    while link is not None:
        if not isinstance(link, dict) or not isinstance(link.get("dataset"), str) or "start" not in link:
            raise InputError(f"{path}: expected the data set and the start of every training, got {link!r:.60}")
        link = link["start"]
    return training
