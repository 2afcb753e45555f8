"""Modules whose parameters hold nothing until weights are read: no random numbers are drawn that would be replaced."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

_INITIALISERS = {
    "add_", "clamp_", "constant_", "copy_", "erfinv_", "fill_", "kaiming_normal_", "kaiming_uniform_", "mul_",
    "normal_", "ones_", "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zero_", "zeros_",
}  # fmt: skip
"""Of tensors and of ``torch.nn.init``; transformers has its own under the same names."""


class NoValues(TorchFunctionMode):
    """In it, initialisers leave tensors alone that have no values, on which PyTorch spends a quarter of a second."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", None) in _INITIALISERS:
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


@contextmanager
def empty_parameters() -> Iterator[None]:
    """In it, parameters of new modules have a shape and no values (``meta``); buffers are made as ever."""
    hook = register_module_parameter_registration_hook(_without_values)  # type: ignore[arg-type]  # returns are missing
    try:
        with NoValues():
            yield
    finally:
        hook.remove()


def _without_values(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
    """What is registered instead; None keeps what was given."""
    if parameter is None or parameter.is_meta:
        return None
    return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)


def fill(module: nn.Module, weights: Path) -> None:
    """Give a module with ``empty_parameters`` the weights of a safetensors file, each in the precision of the module.

    Raises:
        OSError, SafetensorError: the file cannot be read.
        RuntimeError: weights are missing, unknown, or of other shapes.
    """
    wanted = {name: value.dtype for name, value in module.state_dict().items()}
    found = load_file(weights)
    # Copied, for the file may be replaced while the module lives.
    state = {name: value.to(wanted.get(name, value.dtype), copy=True) for name, value in found.items()}
    module.load_state_dict(state, assign=True)
