"""Every task on tensors that claim to be on a GPU: nothing is on the wrong device, and the host waits when it must."""

import pytest
import torch

from benchmarks.every_task import DROPPING, EXPLAINED, READS, SELECTIONS, Trial
from benchmarks.waits import fake_cuda, run_backward
from vl_absvit.precision import always_fp32, arithmetic
from vl_absvit.tasks.registry import TASKS
from vl_absvit.variants import VARIANTS

CUDA = torch.device("cuda", 0)
ALL_PARTS = "absvit"  # the encoder that has every part; the others are slow tests


def asks_for_a_driver() -> bool:
    """Whether this PyTorch wants a GPU's driver even for tensors that only claim to be on one; 2.9 does."""
    try:
        with fake_cuda():
            return torch.zeros(1, device=CUDA)[0].device != CUDA
    except torch.AcceleratorError:
        return True


on_no_gpu = pytest.mark.skipif(asks_for_a_driver(), reason="this PyTorch has no CUDA tensors without a GPU's driver")


def cases(kinds=TASKS):
    """Every one of some tasks, and every encoder."""
    others = [pytest.param("vqa", each, marks=pytest.mark.slow) for each in VARIANTS if each != ALL_PARTS]
    return [*((kind, ALL_PARTS) for kind in kinds), *others]


@on_no_gpu
def test_in_a_step_of_one_pass_the_host_waits_once():
    check_step("retrieval", ALL_PARTS, passes=1, precision="fp32")


@on_no_gpu
@pytest.mark.slow
@pytest.mark.parametrize("kind, top_down", cases())
def test_in_a_step_of_several_passes_the_host_waits_once(kind, top_down):
    check_step(kind, top_down, passes=2, precision="bf16")


def check_step(kind, top_down, passes, precision):
    with fake_cuda() as waits:
        trial = Trial(kind, top_down, CUDA, passes=passes, precision=precision)
        waits.clear()
        trial.step()
    assert waits.total() == 1 and "loop.py" in next(iter(waits)), waits


@on_no_gpu
@pytest.mark.parametrize("kind, top_down", cases(SELECTIONS))
def test_in_an_evaluation_the_host_waits_for_what_it_reads(kind, top_down):
    with fake_cuda() as waits:
        trial = Trial(kind, top_down, CUDA)
        trial.evaluate()
        waits.clear()
        trial.evaluate()
    assert waits.total() <= READS.get(kind, 1), waits


@on_no_gpu
@pytest.mark.parametrize("kind", EXPLAINED)
def test_maps_are_made_without_waiting(kind):
    with fake_cuda() as waits:
        trial = Trial(kind, ALL_PARTS, CUDA)
        trial.maps()
        waits.clear()
        explanation = trial.maps()
        assert explanation.maps and all(grid.is_cuda for grid in explanation.maps.values())
    assert not waits, waits


def test_bf16_is_bf16_there():
    with fake_cuda(), torch.autocast("cuda", torch.bfloat16):
        assert (torch.zeros(3, 3, device=CUDA) @ torch.zeros(3, 3, device=CUDA)).dtype == torch.bfloat16


@pytest.fixture
def products():
    """Settings of PyTorch that a test may change."""
    owners = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [owner.allow_tf32 for owner in owners]
    yield owners
    for owner, value in zip(owners, before, strict=True):
        owner.allow_tf32 = value


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_fp32_means_fp32_on_a_gpu(products, precision):
    for owner in products:
        owner.allow_tf32 = precision == "fp32"
    with fake_cuda():
        arithmetic(precision, CUDA)
    assert [owner.allow_tf32 for owner in products] == [precision == "bf16"] * 2


def test_what_is_compared_takes_no_tf32(products):
    matmul, _ = products
    matmul.allow_tf32, seen = True, always_fp32(lambda _: matmul.allow_tf32)
    with fake_cuda():
        assert seen(torch.zeros(1, device=CUDA)) is False
    assert matmul.allow_tf32 is True


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_dropout_draws_the_same_with_and_without_gradient(precision):
    trial = Trial("vqa", ALL_PARTS, torch.device("cpu"), precision=precision, size=DROPPING)
    assert trial.ahead_differs_by() == 0, "or looking ahead would see other states than the pass that follows"


def test_tensors_of_two_devices_do_not_mix():
    with fake_cuda(), pytest.raises(RuntimeError, match="device"):
        torch.zeros(3, device=CUDA) + torch.zeros(3)


@on_no_gpu
def test_every_kind_of_wait_is_seen():
    with fake_cuda() as waits:
        there, here = torch.zeros(3, device=CUDA), torch.zeros(3)
        for wait in (
            lambda: there.tolist(),
            lambda: there[0].item(),
            lambda: bool(there.any()),
            lambda: there.cpu(),
            lambda: there.nonzero(),
            lambda: there[there > 0],
            lambda: there[[0, 2]],
            lambda: here.to(CUDA),
            lambda: torch.tensor([1, 2], device=CUDA),
            lambda: there.to("cpu", non_blocking=True),
        ):
            waits.clear()
            wait()
            assert waits.total() == 1
        waits.clear()
        here.to(CUDA, non_blocking=True), torch.full((2,), 1.0, device=CUDA), there[torch.arange(2, device=CUDA)]
        here.tolist(), here.nonzero(), here[0].item()
        assert not waits


def test_gradients_are_those_of_pytorch():
    """The fake side has a backward pass of its own, since PyTorch's wants a device."""
    layers = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.LayerNorm(6), torch.nn.GELU(), torch.nn.Linear(6, 3))
    x = torch.randn(5, 4, requires_grad=True)

    def gradients():
        first, rest = layers(x).split([1, 2], dim=1)
        loss = (first * rest).sum() + rest.softmax(dim=1).square().sum()
        return torch.autograd.grad(loss, [x, *layers.parameters()])

    expected = gradients()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.autograd, "_engine_run_backward", run_backward)
        torch.testing.assert_close(gradients(), expected)
