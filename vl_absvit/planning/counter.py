"""Memory and operations of a run's training steps, counted on fake tensors."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vl_absvit.config import Precision, TaskConfig
from vl_absvit.planning.simulation import cuda_kernels, one_of
from vl_absvit.planning.step import build_model, look_ahead, make_batch, run_pass
from vl_absvit.planning.tally import Rehearsed, Tally
from vl_absvit.tasks.facts import Facts

Device = Literal["cpu", "cuda"]
CPU = torch.device("cpu")


class States(NamedTuple):
    """Bytes that a process holds all the time, whatever the batch; weights and states are fp32."""

    weights: int  # parameters and buffers
    moments: int  # AdamW's two
    buckets: int  # in which the gradients of several processes lie, to be exchanged

    @property
    def total(self) -> int:
        return sum(self)


class Step(NamedTuple):
    """One optimizer step of a process."""

    peak_bytes: int  # the most that is there beside the states: gradients, activations, inputs, workspace
    flops: int


class Counter:
    """Counts training steps of one config.

    Args:
        config: the run's configuration.
        facts: what it does not say.
        device: whose kernels for attention and dropout are counted.
        processes: that train together, data-parallel, each with the whole model.
    """

    def __init__(self, config: TaskConfig, facts: Facts, device: Device, processes: int = 1) -> None:
        self._config, self._facts, self._processes = config, facts, processes
        self._kernels = cuda_kernels if device == "cuda" else nullcontext
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        with torch.device("meta"):
            model = build_model(config, facts)
        with self._mode:
            self._model = model.to_empty(device="cpu")

    @property
    def states(self) -> States:
        """Bytes that are allocated all the time."""
        tensors = [*self._model.parameters(), *self._model.buffers()]
        gradients = self.gradient_bytes
        # With several processes gradients are views of these, which are there all the time; else they come and go.
        return States(sum(t.nbytes for t in tensors), 2 * gradients, gradients if self._processes > 1 else 0)

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the gradients of all trainable parameters."""
        return sum(p.nbytes for p in self._model.parameters() if p.requires_grad)

    def count(self, samples: int, passes: int, *, precision: Precision, checkpointing: bool) -> Step:
        """One optimizer step.

        Args:
            samples: of a micro-batch of the process.
            passes: forward and backward passes, each of a micro-batch.
            precision: in place of the config's.
            checkpointing: recompute activations of the vision blocks, in place of the config's.
        """
        config, model = replace(self._config, run=replace(self._config.run, precision=precision)), self._model
        model.vision.set_grad_checkpointing(checkpointing)
        processes = one_of(self._processes) if self._processes > 1 else nullcontext()
        resident = [*model.parameters(), *model.buffers()]
        if self._processes > 1:
            with self._mode:
                resident += self._give_gradients()
        with self._mode, processes, self._kernels(), Tally(resident) as tally:
            batches = [make_batch(config, self._facts, samples, CPU) for _ in range(passes)]
            ahead: Sequence[Any] = [None]
            if passes > 1:
                ahead = look_ahead(config, self._facts, _rehearsed(model, tally, passes), batches)
                if self._processes == 1:  # all passes but the first find gradients
                    self._give_gradients()
            before = tally.flops
            run_pass(config, self._facts, model, batches[0], ahead[0])
            flops = before + passes * (tally.flops - before)
            model.zero_grad()
        return Step(tally.peak, flops)

    def _give_gradients(self) -> list[Tensor]:
        """Gradients of all trainable parameters, without content."""
        for parameter in self._model.parameters():
            parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
        return [parameter.grad for parameter in self._model.parameters() if parameter.grad is not None]


def _rehearsed(model: nn.Module, tally: Tally, calls: int) -> Any:
    """The model for looking ahead. Its long computations get ``calls`` calls with inputs of the same shapes."""

    def rehearsed(owner: Any, *names: str) -> dict[str, Rehearsed]:
        return {name: Rehearsed(getattr(owner, name), tally, calls) for name in names if hasattr(owner, name)}

    vision = _InPart(model.vision, rehearsed(model.vision, "look_once", "look_again"))
    return _InPart(model, {"vision": vision} | rehearsed(model, "encode_texts"))


class _InPart:
    """An object with other things under some of its names."""

    def __init__(self, owner: Any, others: dict[str, Any]) -> None:
        self._owner = owner
        self.__dict__.update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._owner, name)
