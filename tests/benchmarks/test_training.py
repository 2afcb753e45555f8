"""Training steps of both sides: they learn the same, in parts that are measured one by one."""

import copy
from contextlib import nullcontext

import pytest
import torch

from benchmarks.contest import NAIVE, OURS
from benchmarks.measure import FlopCounter
from benchmarks.samples import Workload
from benchmarks.train_vqa import make_trainees
from benchmarks.training import in_precision, make_optimizers, make_step, nowhere, training_case
from tests.benchmarks.test_naive import VARIANTS, make_model
from vl_absvit.tasks.vqa import VQAConfig, VQATask

CPU = torch.device("cpu")
WORK = Workload(images=2, per_image=2, resolution=32)


@pytest.fixture(scope="module")
def task() -> VQATask:
    torch.manual_seed(0)
    model = make_model(*VARIANTS[0], {"kind": "vqa", "num_answers": 3129}, vocabulary=50265)
    return VQATask.without_data(VQAConfig(**nowhere()), model)


def test_the_optimizers_of_both_sides_take_the_same_step(task):
    before, after = copy.deepcopy(task.model.state_dict()), {}
    for side in (NAIVE, OURS):
        own = VQATask.without_data(task.config, copy.deepcopy(task.model).eval())
        trainee = make_trainees(own, WORK, False, "fp32")[OURS]  # so that gradients are the same to the last digit
        parts = []
        step = make_step(trainee, own.model, make_optimizers(own, [side])[side], 1.0, one_by_one=side == NAIVE)
        step(lambda part, parts=parts: nullcontext(parts.append(part)))
        assert parts == ["batch", "forward", "backward", "optimizer"]
        assert all(parameter.grad is None for parameter in own.model.parameters())
        after[side] = own.model.state_dict()
    assert sum(not after[OURS][name].equal(weight) for name, weight in before.items()) > 0.9 * len(before)
    for name, weight in after[OURS].items():
        step = (weight - before[name]).abs().max()
        assert (after[NAIVE][name] - weight).abs().max() <= 1e-3 * step + 1e-7, name


def test_a_case_compares_drops_and_counts_every_part(task):
    trainees = make_trainees(task, WORK, False, "fp32")
    case = training_case("one", 2, task, trainees, make_optimizers(task, trainees), "fp32")
    assert task.model.training and case.agreement["largest_gradient_difference"] < 1e-4
    assert case.activation_bytes[OURS] < 0.8 * case.activation_bytes[NAIVE]
    flops = {}
    for side, step in case.sides.items():
        counter = FlopCounter()
        step(counter.stage)
        flops[side] = counter.flops
    assert flops[OURS]["batch"] == flops[OURS]["optimizer"] == 0
    assert (
        flops[OURS]["forward"] < 0.7 * flops[NAIVE]["forward"]
        and flops[OURS]["backward"] < 0.7 * flops[NAIVE]["backward"]
    )


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_bf16_computes_under_autocast_and_gives_fp32(precision, dtype):
    weight, inside = torch.randn(3, 3), []

    def forward(x: torch.Tensor) -> torch.Tensor:
        inside.append(x @ weight)
        return inside[0]

    assert in_precision(forward, precision, CPU)(torch.randn(2, 3)).dtype == torch.float32
    assert inside[0].dtype == dtype
