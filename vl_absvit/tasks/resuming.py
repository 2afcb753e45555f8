"""How a run goes on from its own checkpoint, which holds weights, tokenizer, sizes and history.

The run's data is recognised by its content, wherever it is now.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vl_absvit.config import TaskConfig, TextConfig
from vl_absvit.data.json_files import read_json
from vl_absvit.errors import InputError
from vl_absvit.models.architecture import build_from_architecture
from vl_absvit.models.vl_model import VLAbSViT
from vl_absvit.tasks.base import new_run_from
from vl_absvit.tasks.fetching import AnyConfig, WithTexts
from vl_absvit.tasks.tokenizers import load_tokenizer
from vl_absvit.tasks.vl_checkpoint import TRAINING

log = logging.getLogger(__name__)


def without_start_weights(config: AnyConfig) -> AnyConfig:
    """The config of a run that goes on: no start weights are read."""
    return replace(config, vision=replace(config.vision, weights=None))


def without_sources(config: WithTexts, checkpoint: Path) -> WithTexts:
    """The config of a run that goes on: no start weights are read, and the tokenizer is the checkpoint's.

    Raises:
        InputError: the tokenizer that the config names is there and is another one.
    """
    _check_tokenizer(config.text, checkpoint)
    text = replace(config.text, model=None, tokenizer=str(checkpoint))
    return replace(without_start_weights(config), from_checkpoint=None, text=text)


def _check_tokenizer(text: TextConfig, checkpoint: Path) -> None:
    name = text.tokenizer or text.model
    assert name is not None, "a config names a text encoder or a tokenizer"
    if not Path(name).is_dir():
        return
    try:
        named = load_tokenizer(name).get_vocab()
    except InputError:  # whatever is there now, it is no tokenizer
        return
    if named != load_tokenizer(str(checkpoint)).get_vocab():
        raise InputError(
            f"tokenizer {name}: has another vocabulary than that of checkpoint {checkpoint}, which reads texts by its "
            "own alone; name the tokenizer of this run, or train another model with --run.output NEW"
        )


def model_as_saved(config: TaskConfig, checkpoint: Path) -> VLAbSViT:
    """The model that a checkpoint describes, ready to be filled with its weights."""
    path = checkpoint / "config.json"
    model = build_from_architecture(read_json(path, dict), str(path))
    model.vision.set_grad_checkpointing(config.vision.gradient_checkpointing)
    return model


def history(checkpoint: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``training.json`` of a run that goes on: that of its checkpoint.

    Args:
        data: description of the run's data; checkpoints of earlier versions lack its content.
    """
    path = checkpoint / TRAINING
    saved = read_json(path, dict) if path.is_file() else {}
    return {**saved, "content": data["content"]} if saved else dict(data)


def check_same_classes(
    saved: Sequence[str] | None, classes: Sequence[str], root: str, checkpoint: Path, option: str = "--from_checkpoint"
) -> None:
    """Make sure that a run goes on with the classes of its checkpoint, in their order.

    Args:
        saved: of the checkpoint.
        classes: of the data now.
        root, option: as ``check_same_data`` takes them.

    Raises:
        InputError: they are others.
    """
    if saved != classes:
        raise InputError(
            f"{root} has other classes than checkpoint {checkpoint}; bring back the data as it was to go on, or "
            f"{new_run_from(checkpoint, option)}"
        )


def check_same_data(data: Mapping[str, Any], root: str, checkpoint: Path, option: str = "--from_checkpoint") -> None:
    """Make sure that a run goes on with the data that its checkpoint was trained and selected on.

    Args:
        data: what the run trains on now, as ``training.json`` says it.
        root: where that is.
        option: that starts a run from a checkpoint.

    Raises:
        InputError: the data is another one; says which part.
    """
    path = checkpoint / TRAINING
    saved = read_json(path, dict) if path.is_file() else {}
    advice = new_run_from(checkpoint, option)
    if saved.get("dataset", data["dataset"]) != data["dataset"]:
        raise InputError(
            f"{root}: is {data['dataset']}, checkpoint {checkpoint} was trained on {saved['dataset']}; {advice}"
        )
    if "content" in saved:
        for part, content in data["content"].items():
            if saved["content"].get(part) != content:
                use = "selected" if part == data["selected_on"] else "trained"
                raise InputError(
                    f"{root}: its {part} has other content than that which checkpoint {checkpoint} was {use} on; "
                    f"bring back the data as it was to go on, or {advice}"
                )
        return
    sources, saved_sources = (
        sorted(file["sha256"] for file in description.get("sources", {}).values()) for description in (data, saved)
    )
    if saved and sources != saved_sources:
        raise InputError(
            f"{root}: was prepared from other files than the data that checkpoint {checkpoint} was trained on; "
            f"bring back the data as it was to go on, or {advice}"
        )
    log.warning(
        "%s: written by an earlier version, which did not tell what each split held; %s is taken to be the same",
        checkpoint,
        root,
    )
