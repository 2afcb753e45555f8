"""The optimizer's parameter groups and its learning-rate schedule."""

import math
from collections.abc import Collection, Mapping
from typing import Literal

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from vl_absvit.config import OptimConfig
from vl_absvit.errors import ConfigError
from vl_absvit.tasks.base import owner_of


def param_groups(
    model: nn.Module,
    lr_of: Mapping[str, float],
    weight_decay: float,
    undecayed: Collection[str] = (),
    decayed_vectors: Collection[str] = (),
) -> list[dict]:
    """At most two groups (decayed, exempt) for each submodule path in ``lr_of``. Every trainable parameter is in one.

    If paths nest, the longest path owns a parameter. Parameters of fewer than two dimensions (norms, biases,
    temperatures) are exempt from weight decay unless ``decayed_vectors`` names them, and so are those named in
    ``undecayed``. A parameter without an owner raises ``ConfigError``, and so does a path without parameters whose rate
    is not 0.
    """
    owned: dict[str, list[tuple[str, nn.Parameter]]] = {path: [] for path in lr_of}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        owner = owner_of(name, lr_of)
        if owner is None:
            raise ConfigError(f"no learning rate covers the parameter {name}; there are rates for {', '.join(lr_of)}")
        owned[owner].append((name, parameter))
    groups = []
    for path, parameters in owned.items():
        lr = lr_of[path]
        if not (math.isfinite(lr) and lr >= 0):
            raise ConfigError(f"the learning rate of {path} must be finite and at least 0, got {lr}")
        if not parameters and lr > 0:
            raise ConfigError(f"the learning rate of {path} has no trainable parameter")
        is_decayed = {
            name: name not in undecayed and (parameter.ndim >= 2 or name in decayed_vectors)
            for name, parameter in parameters
        }
        decayed = [parameter for name, parameter in parameters if is_decayed[name]]
        exempt = [parameter for name, parameter in parameters if not is_decayed[name]]
        for suffix, members, decay in (("decay", decayed, weight_decay), ("no_decay", exempt, 0.0)):
            if members:
                groups.append(
                    {"name": f"{path}/{suffix}", "params": members, "lr": lr, "peak_lr": lr, "weight_decay": decay}
                )
    if not groups:
        raise ConfigError(f"every learning rate is 0 ({', '.join(lr_of)}): there is nothing to train")
    return groups


def describe_groups(groups: list[dict]) -> str:
    """The groups as a table for the log: name, peak rate, weight decay, number of tensors and of parameters."""
    table = Table("group", "peak lr", "weight decay", "tensors", "parameters", title="optimizer groups")
    for column in table.columns[1:]:
        column.justify = "right"
    for group in groups:
        size = sum(parameter.numel() for parameter in group["params"])
        table.add_row(
            group["name"], f"{group['peak_lr']:g}", f"{group['weight_decay']:g}", str(len(group["params"])), f"{size:,}"
        )
    console = Console(width=100, file=None, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()


def build_optimizer(model: nn.Module, lr_of: Mapping[str, float], config: OptimConfig) -> torch.optim.AdamW:
    """Fused AdamW over ``param_groups``."""
    undecayed = () if config.decay_positions else _positions(model)
    vectors = _vectors(model) if config.decay_vectors else ()
    groups = param_groups(model, lr_of, config.weight_decay, undecayed, vectors)
    return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=True)


def _positions(model: nn.Module) -> set[str]:
    """Names of the parameters that trunks exempt from decay by timm's ``no_weight_decay``: positions, CLS token."""
    exempting = ((path, getattr(module, "no_weight_decay", None)) for path, module in model.named_modules())
    return {
        f"{path}.{name}" if path else name for path, names_of in exempting if callable(names_of) for name in names_of()
    }


def _vectors(model: nn.Module) -> set[str]:
    """Names of the parameters of fewer than two dimensions that are no layer norm's."""
    norms = {id(each) for module in model.modules() if isinstance(module, nn.LayerNorm) for each in module.parameters()}
    return {name for name, each in model.named_parameters() if each.ndim < 2 and id(each) not in norms}


def lr_factor(
    step: int,
    total_steps: int,
    warmup_fraction: float,
    schedule: Literal["linear", "linear_throughout", "cosine"] = "linear",
    first: float = 0.0,
    last: float = 0.0,
) -> float:
    """Share of the peak rate at step ``step`` (0 is the first): linear from ``first`` to 1, then down to ``last``.

    ``linear_throughout`` falls from step 0 on, and the warm-up multiplies it (mmsegmentation before 1.0).
    """
    warmup_steps = int(total_steps * warmup_fraction)
    warmup = first + (1 - first) * step / warmup_steps if step < warmup_steps else 1.0
    if schedule == "linear_throughout":
        return warmup * (last + (1 - last) * max(0.0, 1 - step / total_steps))
    if step < warmup_steps:
        return warmup
    left = max(0.0, (total_steps - step) / (total_steps - warmup_steps))
    return last + (1 - last) * (left if schedule == "linear" else math.sin(math.pi / 2 * left) ** 2)


def timm_factor(epoch: int, epochs: int, warmup_epochs: int, first: float = 0.0, last: float = 0.0) -> float:
    """Share of the peak rate by timm's cosine scheduler: linear from ``first`` over the warm-up's epochs, then the
    cosine from 1 in epoch 0 to ``last`` in epoch ``epochs``. The peak itself lies within the warm-up."""
    if epoch < warmup_epochs:
        return first + (1 - first) * epoch / warmup_epochs
    return last + (1 - last) * math.cos(math.pi / 2 * epoch / epochs) ** 2


def rate_factor(step: int, steps_per_epoch: int, config: OptimConfig) -> float:
    """Share of the peak rates at optimizer step ``step`` (0 is the first) of a run."""
    shares = config.first_share, config.last_share
    if config.schedule == "timm" or config.schedule == "timm_late":
        epoch, warmup_epochs = step // steps_per_epoch, round(config.epochs * config.warmup_fraction)
        if config.schedule == "timm_late":
            epoch = max(0, epoch - 1)
        return timm_factor(epoch, config.epochs, warmup_epochs, *shares)
    return lr_factor(step, config.epochs * steps_per_epoch, config.warmup_fraction, config.schedule, *shares)
