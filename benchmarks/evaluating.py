"""Forward passes of both sides in evaluation."""

from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from benchmarks.agreement import check_outputs
from benchmarks.contest import COMPILED, NAIVE, OURS, Case
from benchmarks.measure import Stage
from vl_absvit.models.looks import TwoLooks
from vl_absvit.models.top_down import have_signal

Forward = Callable[[], Tensor]


def evaluation_case(
    name: str, questions: int, sides: Mapping[str, Forward], precision: str, told: Mapping[str, float]
) -> Case:
    """Forward passes of all sides, compared with each other.

    Args:
        questions: texts about each image.
        sides: naive, ours, and compiled if asked for; each gives its outputs.
        told: what else there is to say beside the differences.

    Raises:
        RuntimeError: outputs differ.
    """
    outputs = {side: _array(forward()) for side, forward in sides.items()}  # warms up, too: folds and compiles
    agreement = check_outputs(outputs[NAIVE], outputs[OURS], precision)
    if COMPILED in outputs:
        check_outputs(outputs[COMPILED], outputs[OURS], precision)
    return Case(name, questions, {side: _timed(forward) for side, forward in sides.items()}, agreement | dict(told))


def share_with_signal(looks: TwoLooks) -> float:
    """Share of the tokens that any text asks for; the others' top-down input is known to be 0."""
    assert looks.signals, "there are two looks"
    return float(have_signal(looks.signals[0]).float().mean())


def _timed(forward: Forward) -> Callable[[Stage], None]:
    def run(stage: Stage) -> None:
        with stage("forward"):
            forward()

    return run


def _array(outputs: Tensor) -> np.ndarray:
    return outputs.float().cpu().numpy()
