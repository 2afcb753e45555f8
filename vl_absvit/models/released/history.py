"""A model's training history from METER's configuration. It decides whether a result is zero-shot."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, NamedTuple


class _Trained(NamedTuple):
    dataset: str  # our name
    splits: list[str]  # METER's training splits
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
    """Content of ``training.json``: a chain with a link for the model that this one started from and for each data set.

    Args:
        config: METER's configuration of the run.
        task: task of the run.
    """
    names = config.get("datasets")
    names = [str(name) for name in names] if isinstance(names, list) and names else ["unknown"]
    last: dict[str, Any] | None = None
    load_path = config.get("load_path")
    if load_path:
        last = _link(task="unknown", trained=_Trained(f"unknown, {PurePath(str(load_path)).name}", [], None))
    for name in names:
        together = f" of {', '.join(names)} together" if len(names) > 1 else ""
        last = _link(task + together, DATASETS.get(name, _Trained(name, [], None)), last)
    assert last is not None, "there is at least one data set"
    vit_path = config.get("vit_path")
    last["vision_weights"] = PurePath(str(vit_path)).name if vit_path else None
    last["text_model"] = str(config.get("tokenizer"))
    return last


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
