"""Cases that several sides work on in turn: what each took, and how the sides stand to the naive one.

A side runs in parts, such as ``forward`` and ``backward``, each measured as a stage of its own. Shapes: R rounds.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.measure import MATMUL, PRECISIONS, Measurements, Spread, Stage, Turns, matmul, spread, take_turns

NAIVE, OURS, COMPILED = "naive", "ours", "compiled"
OPTIMIZER = "optimizer"  # a part that costs the same however many questions there are


class Case(NamedTuple):
    """Work of one size."""

    name: str
    questions: int  # texts about each image
    sides: Mapping[str, Callable[[Stage], object]]  # the naive one first
    agreement: Mapping[str, float]  # how far the sides' results differ
    activation_bytes: Mapping[str, int] = {}  # that each side keeps for the backward pass, where there is one


class Key(NamedTuple):
    """What a stage belongs to."""

    case: str
    side: str
    part: str


def measure_cases(cases: Sequence[Case], turns: Turns) -> dict[str, Any]:
    """Everything about one precision."""
    sides = [_keyed(run, case.name, name) for case in cases for name, run in case.sides.items()]
    product = matmul(turns.device, PRECISIONS[turns.precision])
    measured = take_turns([product, *sides], turns.device, turns.repeats, turns.advance)
    return summarise(cases, measured)


def _keyed(run: Callable[[Stage], object], case: str, side: str) -> Callable[[Stage], None]:
    """The side, whose parts are stages of their own; the first round counts, which cannot be done in compiled code."""
    rounds = itertools.count()

    def take_turn(stage: Stage) -> None:
        if next(rounds) or side != COMPILED:
            run(lambda part: stage(Key(case, side, part)))

    return take_turn


def summarise(cases: Iterable[Case], measured: Measurements) -> dict[str, Any]:
    """Seconds, ratios, operations and memory of every side of every case.

    Args:
        measured: the stage ``matmul``, and one for each ``Key``; a compiled side, whose operations cannot be counted,
            has the same as our own.
    """
    seconds = {key: np.array(values) for key, values in measured.seconds.items()}
    rate = spread(measured.flops[MATMUL] / seconds[MATMUL])
    result: dict[str, Any] = {"matmul_flop_per_second": rate._asdict(), "cases": {}}
    for case in cases:
        keys = {side: [key for key in seconds if key[:2] == (case.name, side)] for side in case.sides}
        totals = {
            side: np.sum([seconds[key] for key in of_side], axis=0) for side, of_side in keys.items()
        }  # (R,) each
        sides = {
            side: _cost(sum(_flops(key, measured) for key in of_side), totals[side], rate)
            | {
                "ratio": spread(totals[NAIVE] / totals[side])._asdict(),
                "peak_bytes": max(measured.peak_bytes.get(key, 0) for key in of_side) or None,
                "activation_bytes": case.activation_bytes.get(side),
                "parts": {key.part: _cost(_flops(key, measured), seconds[key], rate) for key in of_side},
            }
            for side, of_side in keys.items()
        }
        result["cases"][case.name] = {
            "questions": case.questions,
            "agreement": dict(case.agreement),
            "floor": sides[NAIVE]["flop"] / sides[OURS]["flop"],
            "sides": sides,
        }
    result["extra_question"] = _extra_questions(result["cases"].values())
    return result


def _flops(key: Key, measured: Measurements) -> int:
    return measured.flops[key._replace(side=OURS) if key.side == COMPILED else key]


def _cost(flops: int, seconds: np.ndarray, rate: Spread) -> dict[str, Any]:
    share = flops / float(np.median(seconds)) / rate.median
    return {"seconds": spread(seconds)._asdict(), "flop": flops, "share_of_matmul_rate": share}


def _extra_questions(cases: Iterable[dict]) -> dict[str, dict[str, float]]:
    """What another question on an image costs of what the first did, by side, in seconds and in operations.

    The optimizer, which works once per step, is left out. Empty unless one case has one question per image and another
    more.
    """
    by_number = {case["questions"]: case["sides"] for case in cases}
    most = max(by_number)
    if most == 1 or 1 not in by_number:
        return {}

    def per_question(side: str, cost: Callable[[dict], float]) -> float:
        first, all_of_them = (
            sum(cost(part) for name, part in by_number[number][side]["parts"].items() if name != OPTIMIZER)
            for number in (1, most)
        )
        return (all_of_them - first) / (most - 1) / first

    return {
        side: {
            "seconds": per_question(side, lambda part: part["seconds"]["median"]),
            "flop": per_question(side, lambda part: part["flop"]),
        }
        for side in by_number[1]
    }


def compare_with_fp32(results: dict[str, dict[str, Any]]) -> None:
    """Add to every side how it stands to the naive side in fp32, and the floor of that, if that was measured."""
    if "fp32" not in results:
        return
    fp32 = results["fp32"]
    for result in results.values():
        faster = result["matmul_flop_per_second"]["median"] / fp32["matmul_flop_per_second"]["median"]
        for name, case in result["cases"].items():
            naive = fp32["cases"][name]["sides"][NAIVE]["seconds"]["median"]
            case["floor_to_fp32_naive"] = case["floor"] * faster
            for side in case["sides"].values():
                side["ratio_to_fp32_naive"] = naive / side["seconds"]["median"]
