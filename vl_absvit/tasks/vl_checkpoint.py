"""Checkpoints of vision-language tasks: model, tokenizer, preprocessing, and the history of trainings."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vl_absvit.config import VisionLanguageConfig
from vl_absvit.data.collate import pad_texts
from vl_absvit.data.corruptions import Corruption
from vl_absvit.data.identity import content_of, stream_content
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.data.records import read_manifest
from vl_absvit.data.texts import count_truncated, encode, prepare_tokenizer
from vl_absvit.data.transforms import Augmentation, ImageTransform, image_transform
from vl_absvit.data.whole_folder import fingerprint
from vl_absvit.errors import ConfigError, InputError, one_line
from vl_absvit.hub import name_of
from vl_absvit.models.architecture import build_from_architecture
from vl_absvit.models.heads import HEADS
from vl_absvit.models.text_encoder import KINDS, unfit
from vl_absvit.models.vl_model import VLAbSViT
from vl_absvit.tasks.folder_weights import check_size
from vl_absvit.tasks.tokenizers import load_tokenizer, save_tokenizer

PREPROCESSING, TRAINING = "preprocessor_config.json", "training.json"

EXPECTED = "expected a folder such as RUN/checkpoints/best, or such a folder's name on the hub"


class Preprocessing(NamedTuple):
    """The preprocessing of a checkpoint's inputs; saved as ``preprocessor_config.json``."""

    image_size: int
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    max_tokens: int

    def transform(self, augmentation: Augmentation = "none", corruption: Corruption | None = None) -> ImageTransform:
        """Pictures to the tensors that the model sees."""
        size, mean, std = self.image_size, self.image_mean, self.image_std
        return image_transform(size, mean, std, augmentation, corrupt=corruption)

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

    def described(self) -> list[tuple[str, str]]:
        """The parts beside the visual encoder, in words."""
        text, fusion = self.model.text.roberta.config, self.model.architecture["fusion"]
        sizes = f"{text.hidden_size} wide, {text.num_hidden_layers} layers, {text.num_attention_heads} heads"
        words = f"{len(self.tokenizer):,} tokens, texts of at most {self.preprocessing.max_tokens}"
        return [
            ("text", f"{KINDS[text.model_type].label}, {sizes}; {words}"),
            ("fusion", "co-attention, {width} wide, {num_layers} layers, {num_heads} heads".format(**fusion)),
        ]


@torch.no_grad()
def priors_of(checkpoint: VLCheckpoint, texts: Sequence[str]) -> Tensor:
    """Priors of P texts, through the text encoder and the prior projection [AbS 2.6], (P, D).

    Args:
        checkpoint: of a VQA or retrieval run.

    Raises:
        InputError: a text is longer than the model reads.
    """
    tokenizer, longest = checkpoint.tokenizer, checkpoint.preprocessing.max_tokens
    prepare_tokenizer(tokenizer)
    for text in texts:
        if count_truncated(pa.chunked_array([[text]]), tokenizer, longest):
            raise InputError(f"prior {text!r:.60}: the checkpoint reads at most {longest} tokens")
    token_ids, is_token = pad_texts(encode(texts, tokenizer, longest), tokenizer.pad_token_id)
    device = next(checkpoint.model.parameters()).device
    priors = checkpoint.model.encode_texts(token_ids.to(device), is_token.to(device)).prior
    assert priors is not None, "the model makes priors of texts"
    return priors


def describe_data(config: VisionLanguageConfig) -> dict[str, Any]:
    """A description of the data that a run trains and selects on, by its content."""
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


def describe_training(config: VisionLanguageConfig, task: str, data: dict[str, Any]) -> dict[str, Any]:
    """A description of a training: its data, and the chain of trainings before it, which decides what is zero-shot.

    Args:
        task: its kind.
        data: see ``describe_data``.
    """
    start = None if config.from_checkpoint is None else read_json(Path(config.from_checkpoint) / TRAINING, dict)
    return {
        "task": task,
        **data,
        "vision_weights": None if config.from_checkpoint else origin_of(config.vision.weights),
        "text_model": None if config.from_checkpoint else origin_of(config.text.model),
        "started_from": origin_of(config.from_checkpoint),
        "start": start,
    }


def origin_of(source: str | None) -> str | None:
    """The origin of weights: their name on the hub, else the SHA-256 of their file."""
    if source is None:
        return None
    name = name_of(source)
    if name != source or not Path(source).exists():
        return name
    file = Path(source) / "model.safetensors" if Path(source).is_dir() else Path(source)
    return f"sha256:{fingerprint(file)['sha256']}" if file.is_file() else Path(source).name


def datasets_trained_on(training: dict[str, Any]) -> list[str]:
    """Names of all data sets in the chain, the earliest first."""
    return [link["dataset"] for link in chain_of(training)]


def chain_of(training: dict[str, Any]) -> list[dict[str, Any]]:
    """All trainings behind a checkpoint, the earliest first."""
    return [*(chain_of(training["start"]) if training.get("start") else []), training]


def save_parts(folder: Path, checkpoint: VLCheckpoint) -> None:
    """Write a checkpoint's parts into an existing folder."""
    checkpoint.model.save_weights(folder)
    save_tokenizer(folder, checkpoint.tokenizer)
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
        _refuse_others(folder, "checkpoint", "a VQA or retrieval model" if head is None else HEADS[head].title)
        holds = "holds a model alone, as save_pretrained writes it; " if missing == list(needed[2:]) else ""
        raise InputError(f"checkpoint {folder}: {holds}there is no {', '.join(missing)}; {EXPECTED}")
    preprocessing = Preprocessing.load(folder / PREPROCESSING)
    training = _check_training(read_json(folder / TRAINING, dict), folder / TRAINING)
    architecture = read_json(folder / "config.json", dict)
    kind = kind_of_head(architecture)
    if head is None:
        head = kind if kind in HEADS else "vqa"
    if kind in HEADS and kind != head:
        raise InputError(f"checkpoint {folder}: expected {HEADS[head].title}, got {HEADS[kind].title}")
    try:
        check_size(folder, partial(build_from_architecture, architecture, str(folder / "config.json")))
        model = VLAbSViT.from_pretrained(folder)
    except ConfigError as error:
        raise InputError(f"{folder / 'config.json'}: {error}") from error
    except InputError:
        raise
    except Exception as error:  # as much as the libraries raise for a config.json that only looks like one
        reason = one_line(error)
        raise InputError(
            f"checkpoint {folder} is not {HEADS[head].title} of this architecture: {reason:.300}"
        ) from error
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
    if difference := unfit(tokenizer, architecture["text"]):
        raise InputError(f"checkpoint {folder}: {difference}")
    return VLCheckpoint(model.eval(), tokenizer, preprocessing, training)


def head_of(folder: str) -> str | None:
    """The kind of head that a checkpoint folder holds, one of ``HEADS``; None where it does not say."""
    kind = kind_of_head(read_json(Path(folder) / "config.json", dict))
    return kind if kind in HEADS else None


def kind_of_head(architecture: Mapping[str, Any]) -> Any:
    """The kind of head that the ``config.json`` of a model states, if any."""
    head = architecture.get("head", {})
    return head.get("kind") if isinstance(head, dict) else head


def check_start(folder: str) -> None:
    """Raise ``InputError`` where the checkpoint to start from is none of a VQA or retrieval run."""
    missing = [name for name in ("config.json", TRAINING) if not (Path(folder) / name).is_file()]
    if missing:
        raise InputError(f"from_checkpoint {folder}: there is no {', '.join(missing)}; {EXPECTED}")
    _refuse_others(Path(folder), "from_checkpoint", "a VQA or retrieval model", "; vision.weights takes it")


def _refuse_others(folder: Path, option: str, expected: str, advice: str = "") -> None:
    """Refuse a checkpoint of a task without texts."""
    config = folder / "config.json"
    content = read_json(config, dict) if config.is_file() else {}
    for key, found in (("classes", "an image classifier"), ("segmenter", "a segmenter")):
        if key in content:
            raise InputError(f"{option} {folder}: expected {expected}, got {found}{advice}")


def _check_training(training: dict, path: Path) -> dict:
    """Check a chain of descriptions that ``describe_training`` wrote."""
    link: Any = training
    while link is not None:
        if not isinstance(link, dict) or not isinstance(link.get("dataset"), str) or "start" not in link:
            raise InputError(f"{path}: expected the data set and the start of every training, got {link!r:.60}")
        link = link["start"]
    return training
