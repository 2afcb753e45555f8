"""The forward pass of training, compiled by PyTorch (``run.compile``)."""

from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator
from torch import nn

from vl_absvit.errors import ConfigError
from vl_absvit.training.engines import divides


def compile_forward(model: nn.Module, accelerator: Accelerator) -> None:
    """Compile calls of ``model`` from now on; its parameters keep their names.

    Shapes that change from batch to batch (texts, distinct images) are left open as soon as they do. Random numbers
    are drawn as if nothing were compiled: what looks ahead is not, and has to draw the same.

    Raises:
        ConfigError: the engine divides the model.
    """
    if divides(accelerator):
        raise ConfigError(f"run.compile is for one process and for DDP, not for {accelerator.distributed_type.value}")
    model.compile(options={"fallback_random": True})


def uncompiled(model: nn.Module) -> AbstractContextManager:
    """Inside, calls of a compiled model run as they were written: evaluations, which break into pieces."""
    return nullcontext() if model._compiled_call_impl is None else torch.compiler.set_stance("force_eager")
