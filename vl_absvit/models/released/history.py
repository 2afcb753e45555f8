"""What METER's configuration tells of how a model was trained: the chain that makes a result zero-shot or not."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, NamedTuple


class _Trained(NamedTuple):
    dataset: str  # our name
    splits: list[str]  # METER's own choice for training
    selected_on: str | None


DATASETS = {
    "vqa": _Trained("vqav2", ["train", "val"], "val"),
    "coco": _Trained("coco", ["train", "restval"], "test"),
    "f30k": _Trained("flickr30k", ["train", "val"], "test"),
    "vg": _Trained("visual_genome", ["all"], None),
    "sbu": _Trained("sbu_captions", ["all"], None),
    "gcc": _Trained("conceptual_captions", ["train"], "val"),
    "nlvr2": _Trained("nlvr2", ["train"], None),
    "snli": _Trained("snli_ve", ["train"], None),
}


def describe_history(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Content of ``training.json``: one link per data set, the model that this one started from before them.

    Args:
        config: METER's configuration of the run.
        task: what the model was trained for.
    """
    names = config.get("datasets")
    names = [str(name) for name in names] if isinstance(names, list) and names else ["unknown"]
    start = None
    load_path = config.get("load_path")
    if load_path:
        start = _link(task="unknown", trained=_Trained(f"unknown, {PurePath(str(load_path)).name}", [], None))
    for name in names:
        together = f" of {', '.join(names)} together" if len(names) > 1 else ""
        start = _link(task + together, DATASETS.get(name, _Trained(name, [], None)), start)
    vit_path = config.get("vit_path")
    start["vision_weights"] = PurePath(str(vit_path)).name if vit_path else None
    start["text_model"] = str(config.get("tokenizer"))
    return start


def _link(task: str, trained: _Trained, start: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "task": task,
        "dataset": trained.dataset,
        "splits": list(trained.splits),
        "selected_on": trained.selected_on,
        "sources": {},
        "vision_weights": None,
        "text_model": None,
        "start": start,
    }
