"""The forward pass of training, compiled by PyTorch (``run.compile``)."""

from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator
from torch import nn

from vl_absvit.errors import ConfigError
from vl_absvit.training.engines import divides


def compile_forward(model: nn.Module, accelerator: Accelerator) -> None:
    """Compile all further calls of ``model``. Its parameters keep their names.

    Shapes that change from batch to batch (texts, distinct images) become dynamic at their first change. Random numbers
    are drawn as without compilation, because looking ahead is not compiled and has to draw the same ones.

    Raises:
        ConfigError: the engine divides the model.
    """
    if divides(accelerator):
        raise ConfigError(f"run.compile is for one process and for DDP, not for {accelerator.distributed_type.value}")
    model.compile(options={"fallback_random": True})


def uncompiled(model: nn.Module) -> AbstractContextManager:
    """Inside, a compiled model runs uncompiled. Evaluations use this, because compiling breaks them into pieces."""
    return nullcontext() if model._compiled_call_impl is None else torch.compiler.set_stance("force_eager")
