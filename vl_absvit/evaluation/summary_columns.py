"""Columns of tables that are made of summaries of ``summarise_demo.py``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vl_absvit.data.json_files import read_json
from vl_absvit.errors import InputError
from vl_absvit.evaluation.controllability import read_steering
from vl_absvit.evaluation.score_tables import Column

SUMMARY = "summary.json"
"""Is written last."""


class Reading(NamedTuple):
    """A column, and where a run's summary has its score; None where the run has no such thing."""

    title: str
    digits: int
    read: Callable[[dict[str, Any]], float | None]


def last_look(scores: Mapping[str, Any], first: str, second: str) -> float | None:
    """The second look's score, or the first one's in a model that looks once."""
    return scores.get(second, scores.get(first))


def mask(run: dict[str, Any]) -> dict[str, float]:
    """How far the prior masks of questions that name objects are open; nothing where there is no such mask."""
    return (run.get("prior_mask") or {}).get("asked") or {}


def steered(run: dict[str, Any], score: str) -> float | None:
    """A score of the second look at pictures of two things; None where no strength steers one."""
    return None if run["steering"] is None else run["steering"][score]


VQA = {"vqa": Reading("VQA accuracy", 1, lambda run: run["vqa_accuracy"])}
RETRIEVED = {
    "dual_ir_r1": Reading("IR R@1, dual encoder", 1, lambda run: run["retrieval"][0]["ir_r1"]),
    "dual_tr_r1": Reading("TR R@1, dual encoder", 1, lambda run: run["retrieval"][0]["tr_r1"]),
    "ir_r1": Reading("IR R@1, whole model", 1, lambda run: run["retrieval"][1]["ir_r1"]),
    "tr_r1": Reading("TR R@1, whole model", 1, lambda run: run["retrieval"][1]["tr_r1"]),
}
LOOKED = {
    "pointing_mask": Reading("pointing, prior mask", 1, lambda run: run.get("prior_mask_pointing")),
    "mask_shut": Reading("mask shut, % of questions", 1, lambda run: mask(run).get("shut")),
    "mask_open": Reading("mask open, % of patches", 1, lambda run: mask(run).get("open")),
    "pointing_tokens": Reading(
        "pointing, tokens of the last look", 1, lambda run: last_look(run, "bottom_up_pointing", "top_down_pointing")
    ),
    "steered_half": Reading("steering, asked half", 1, lambda run: steered(run, "asked_half")),
    "steered_both": Reading("steering, both halves", 1, lambda run: steered(run, "both_halves")),
    "agreement_mask": Reading("human agreement, prior mask", 3, lambda run: run["agreement"].get("prior_mask")),
    "agreement_tokens": Reading(
        "human agreement, tokens of the last look", 3, lambda run: last_look(run["agreement"], "bottom_up", "top_down")
    ),
    "agreement_cls": Reading(
        "human agreement, CLS of the last look",
        3,
        lambda run: last_look(run["agreement"], "bottom_up_cls", "top_down_cls"),
    ),
    "agreement_cross": Reading("human agreement, cross-attention", 3, lambda run: run["agreement"]["cross"]),
}


def columns(readings: Mapping[str, Reading]) -> dict[str, Column]:
    """The columns by name."""
    return {name: Column(each.title, each.digits) for name, each in readings.items()}


def read_summary(folder: Path, readings: Mapping[str, Reading]) -> dict[str, float | None]:
    """Every column's score of one run.

    Raises:
        InputError: the summary lacks what a column needs.
    """
    path = folder / SUMMARY
    run, steering = read_json(path, dict), folder / "steering/scores.json"
    if run.get("steering") is None:  # as in summaries of an earlier version
        run["steering"] = read_steering(steering) if steering.exists() else None
    try:
        return {name: reading.read(run) for name, reading in readings.items()}
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected a summary of summarise_demo.py with agreement and two retrieval results: {error!r}"
        ) from error
