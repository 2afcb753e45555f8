"""The card of a checkpoint folder: the model, its training, its metrics, and how to open it."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml
from safetensors import safe_open
from torch import nn

from vl_absvit.config import VisionLanguageConfig
from vl_absvit.data.json_files import read_json
from vl_absvit.errors import InputError, one_line
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.tasks.base import Task
from vl_absvit.tasks.registry import open_checkpoint, task_of_checkpoint
from vl_absvit.tasks.vl_checkpoint import chain_of

NOT_KNOWN = "not recorded"
SELECT = "select/"  # before the names of an evaluation's metrics in metrics.jsonl


def model_card(folder: Path, name: str, license_id: str | None = None) -> str:
    """The text of a ``README.md`` for a checkpoint folder, which is opened for it as its evaluation opens it.

    Args:
        folder: of a VQA, retrieval or pretraining run; its metrics are taken from the run folder around it, if any.
        name: by which the card's commands call the checkpoint.
        license_id: the hub's name of a licence, such as ``mit``; None states none.

    Raises:
        InputError: the folder is not whole.
    """
    checkpoint = open_checkpoint(folder)
    task = task_of_checkpoint(read_json(folder / "config.json", dict))
    run = folder.parents[1] if folder.parent.name == "checkpoints" else None
    config = _read_config(run)
    vision = checkpoint.model.vision
    parts = [
        f"---\n{yaml.safe_dump(_metadata(task, vision, license_id), sort_keys=False)}---",
        f"# {name}",
        f"{vision.label} for {_title_of(task)}, trained with vl_absvit. {_how_it_looks(vision)}",
        _table("The model", _describe_model(checkpoint, folder)),
        _table("Training", _describe_training(checkpoint, config)),
        _metrics(run, folder, config),
        _how_to_open(name, task),
        "The licence covers these weights only; pretrained weights and data sets named above have their own."
        if license_id
        else "Licence: not stated.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title_of(task: type[Task] | None) -> str:
    return task.about.title if task else "vision and language"  # only released models are of no task of ours


def _metadata(task: type[Task] | None, vision: VisualEncoder, license_id: str | None) -> dict[str, Any]:
    """The metadata of a card, which the hub reads."""
    kinds = vision.label.lower().replace("*", "-star").split(" on ")
    tags = ["vl_absvit", *kinds, _title_of(task).replace(" ", "-"), "top-down-attention"]
    pipeline = task.about.pipeline if task else None
    content = {"license": license_id, "library_name": "vl_absvit", "pipeline_tag": pipeline, "tags": tags}
    return {key: value for key, value in content.items() if value is not None}


def _how_it_looks(vision: VisualEncoder) -> str:
    variant = vision.variant
    if not variant.uses_prior and not variant.looks_twice:
        return "The image is looked at once, whatever is asked."
    selects = "a prior selects what matters" if variant.uses_prior else "all that was seen is fed back"
    again = ", and it is looked at a second time with that in mind" if variant.looks_twice else ""
    start = f", from block {vision.looks_again_from} on" if vision.looks_again_from else ""
    return f"The image is looked at once; {selects}{again}{start} (Shi, Darrell, Wang, CVPR 2023, arXiv:2303.13043)."


def _describe_model(checkpoint: Any, folder: Path) -> list[tuple[str, str]]:
    model, vision = checkpoint.model, checkpoint.model.vision
    rows = [("vision", f"{vision.label}, {vision.describe()}; images of {_image_size(vision)}")]
    rows += checkpoint.described()
    return [*rows, ("parameters", f"{_count(model):,}"), ("weights", _types_in(folder / "model.safetensors"))]


def _image_size(vision: VisualEncoder) -> str:
    return "{} x {} pixels".format(*vision.image_size)


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _types_in(file: Path) -> str:
    with safe_open(file, "pt") as weights:
        parts = [weights.get_slice(key) for key in weights.keys()]  # noqa: SIM118
        sizes = {part.get_dtype(): 0 for part in parts}
        for part in parts:
            sizes[part.get_dtype()] += math.prod(part.get_shape())
    return ", ".join(f"{count:,} numbers in {kind}" for kind, count in sizes.items())


def _describe_training(checkpoint: Any, config: dict[str, Any]) -> list[tuple[str, str]]:
    """The chain of trainings, the earliest first, and how the last one was run."""
    rows = []
    if not hasattr(checkpoint, "training"):
        data, weights = _get(config, "data", "root"), _get(config, "vision", "weights")
        rows += [("data", _short(data)), ("trunk from", _short(weights) if config else NOT_KNOWN)]
    else:
        for number, link in enumerate(chain_of(checkpoint.training), start=1):
            splits = "+".join(link.get("splits", [])) or NOT_KNOWN
            selected = link.get("selected_on") or "nothing"
            starts = [f"{part} from {_short(link[key])}" for part, key in STARTS.items() if link.get(key)]
            task = f"{number}. {link.get('task', NOT_KNOWN)}"
            rows += [(task, f"{link['dataset']}, splits {splits}, selected on {selected}")]
            rows += [("", "; ".join(starts))] if starts else []
    optim, precision = config.get("optim", {}), _get(config, "run", "precision")
    if optim:
        epochs = f"{optim.get('epochs')} epochs of batches of {optim.get('batch_size')}"
        rows += [("last run", f"{epochs}, {precision} forward passes")]
    return rows


STARTS = {"trunk": "vision_weights", "text encoder": "text_model", "all weights": "started_from"}
"""Entries of ``training.json`` that say where weights came from."""


def _short(name: str | None) -> str:
    """A name without the folders of the machine that it was used on."""
    if name is None:
        return "random weights"
    return "/".join(PurePath(name).parts[-3:]) if PurePath(name).is_absolute() else name


def _get(config: dict[str, Any], group: str, key: str) -> Any:
    return (config.get(group) or {}).get(key)


def _read_config(run: Path | None) -> dict[str, Any]:
    file = run and run / "config.yaml"
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) if file and file.is_file() else {}
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{file}: is not a run's config: {one_line(error)}") from error
    return content if isinstance(content, dict) else {}


def _metrics(run: Path | None, folder: Path, config: dict[str, Any]) -> str:
    """The evaluation that the checkpoint came out of, on the run's selection split."""
    file = run and run / "metrics.jsonl"
    if not file or not file.is_file() or folder.name not in ("best", "last"):
        return ""
    evaluations = [line for line in _lines(file) if any(key.startswith(SELECT) for key in line)]
    if not evaluations:
        return ""
    shown = evaluations[-1]
    if folder.name == "best":
        best = next(key for key in shown if key.startswith(SELECT))  # the first one selects
        shown = max(evaluations, key=lambda line: line.get(best, -math.inf))
    rows = [(key.removeprefix(SELECT), f"{value:.2f}") for key, value in shown.items() if key.startswith(SELECT)]
    split = _get(config, "data", "select_split")
    origin = (
        f"On {split}, which selected the checkpoint and is not what should be reported" if split else "As evaluated"
    )
    return f"{_table('Metrics', rows)}\n\n{origin}; after step {shown.get('step')}."


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: expected a JSON object a line: {error}") from error
    return [line for line in lines if isinstance(line, dict)]


def _how_to_open(name: str, task: type[Task] | None) -> str:
    lines = ["## How to open it", "", "```"]
    if task and task.about.command:
        lines += [task.about.command.format(name=name)]
    option = task.start_option if task else Task.start_option
    has_texts = task is None or issubclass(task.config_class, VisionLanguageConfig)
    if task is None or has_texts:
        lines.append(f"vl-absvit finetune-vqa --config CONFIG {option} {name}")
    elif option == Task.start_option:
        lines.append(f"vl-absvit train --task {task.kind} --config CONFIG {option} {name}")
    else:
        lines.append(f"vl-absvit finetune-vqa --config vqa_absvit_base {option} {name}")
    lines.append("```")
    if has_texts:
        lines += [
            "",
            "```python",
            "from vl_absvit.models import VLAbSViT",
            "",
            f'model = VLAbSViT.from_pretrained("{name}")',
            "```",
        ]
    return "\n".join(lines)


def _table(title: str, rows: Iterable[Sequence[str]]) -> str:
    cells = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([f"## {title}", "", "| | |", "| --- | --- |", *cells]) if cells else ""
