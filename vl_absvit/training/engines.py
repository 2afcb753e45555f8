"""Differences between engines: DDP, FSDP2, and DeepSpeed's ZeRO.

DDP trains the task's model itself. FSDP2 and ZeRO train a copy and divide it among the processes. The task's model
stays whole in each process and takes over the copy's weights on request (``gather_weights``). Evaluation, looking ahead
and saving use the task's model. A checkpoint is therefore the same for every engine, and every engine can resume it.
"""

import copy
import logging
import math
import os
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from torch import Tensor, nn

from vl_absvit.config import OptimConfig, Precision
from vl_absvit.errors import ConfigError
from vl_absvit.precision import arithmetic

# Modules that FSDP2 gathers one after the other. Only their own forward pass may use their parameters.
GATHERED_ALONE = ("RobertaLayer", "StreamLayer")
REDUCE_AT_ONCE = 50_000_000  # gradients; DeepSpeed's own 500 million take more memory than the models here

# Settings of the engines, which the launcher passes on as environment variables: the needed value, the value if the
# launcher does not set it, and the reason.
_WHOLE_STATE = "what is kept elsewhere could not be saved whole"
_FROM_CONFIG = "the run's config says this"
_LAYERS = "the program knows which layers can be gathered alone"
_NEEDED = {
    DistributedType.FSDP: {
        "FSDP_VERSION": ("2", "1", "FSDP1 is not supported"),
        "FSDP_CPU_RAM_EFFICIENT_LOADING": ("false", "false", "every process builds the whole model"),
        "FSDP_OFFLOAD_PARAMS": ("false", "false", _WHOLE_STATE),
        "FSDP_AUTO_WRAP_POLICY": ("transformer_based_wrap", "no_wrap", _LAYERS),
        "FSDP_TRANSFORMER_CLS_TO_WRAP": ("", "", _LAYERS),
        "FSDP_ACTIVATION_CHECKPOINTING": ("false", "false", "it would draw other random numbers when it recomputes"),
    },
    DistributedType.DEEPSPEED: {
        "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": ("none", "none", _WHOLE_STATE),
        "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": ("none", "none", _WHOLE_STATE),
        "ACCELERATE_DEEPSPEED_CONFIG_FILE": ("none", "none", _FROM_CONFIG),
        "ACCELERATE_GRADIENT_CLIPPING": ("auto", "auto", _FROM_CONFIG),
    },
}
_ASKED_BY = {DistributedType.FSDP: "ACCELERATE_USE_FSDP", DistributedType.DEEPSPEED: "ACCELERATE_USE_DEEPSPEED"}


def asks_for_deepspeed() -> bool:
    """Whether the launcher was told to use DeepSpeed."""
    return _is_true(_ASKED_BY[DistributedType.DEEPSPEED])


def divides(accelerator: Accelerator) -> bool:
    """Whether the engine trains a copy of the model and divides it among the processes."""
    return accelerator.distributed_type in _NEEDED


def ddp_options() -> DistributedDataParallelKwargs:
    """Options of DDP: gradients live in its exchange buffers, and buffers, which never change, are not broadcast.

    ``static_graph`` does not work for steps of several passes, because the first passes exchange nothing. DDP need not
    search for unused parameters either, because every parameter has a gradient.
    """
    return DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)


def set_up_engine(accelerator: Accelerator) -> None:
    """Check that the requested engine is at work with the needed settings, and leave all precision to ``precision.py``.

    Raises ``ConfigError``.
    """
    engine = accelerator.distributed_type
    for asked, variable in _ASKED_BY.items():
        if _is_true(variable) and engine != asked:
            raise ConfigError(
                f"the launcher was told to use {asked.value}, but {engine.value} is what is at work here; "
                "FSDP needs GPUs, and both need a launcher's process group"
            )
    for variable, (needed, default, reason) in _NEEDED.get(engine, {}).items():
        setting = os.environ.get(variable, default).lower()
        if setting != needed:
            raise ConfigError(f"the launcher says {variable}={setting}, expected {needed or 'nothing'}: {reason}")
    if engine == DistributedType.FSDP:
        accelerator.state.fsdp_plugin.mixed_precision_policy = None
    if engine == DistributedType.DEEPSPEED:
        _set_up_deepspeed(accelerator)


def check_precision(precision: str) -> None:
    """Raise ``ConfigError`` if the launcher names another mixed precision than ``run.precision``."""
    setting = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if setting not in ("no", precision):
        raise ConfigError(
            f"the launcher says mixed precision {setting}, but run.precision is {precision}; "
            "leave mixed_precision out there, run.precision is what counts"
        )


def check_accumulation() -> None:
    """Raise ``ConfigError`` if the launcher sets the number of forward passes of a step. The config sets it."""
    setting = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if setting != "1":
        raise ConfigError(
            f"the launcher says gradient_accumulation_steps {setting}; leave it out there, optim.batch_size and "
            "optim.micro_batch_size say into how many forward passes a step is divided"
        )


def model_to_train(accelerator: Accelerator, whole: nn.Module, precision: Precision) -> nn.Module:
    """The task's model itself, or a copy of it if the engine divides its model."""
    if not divides(accelerator):
        return whole
    model = copy.deepcopy(whole)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        forward = model.forward

        def in_our_precision(*args: Any, **kwargs: Any) -> Any:
            # DeepSpeed ends any other autocast than its own. Under its own, it would exchange gradients in bf16.
            with arithmetic(precision, accelerator.device):
                return forward(*args, **kwargs)

        model.forward = in_our_precision
    return model


def prepare(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, optim: OptimConfig
) -> tuple[nn.Module, AcceleratedOptimizer]:
    """Hand model and optimizer to the engine. The groups of ``optimizer`` still hold the learning rates."""
    if accelerator.distributed_type == DistributedType.FSDP:
        present = {type(module).__name__ for module in model.modules()}
        alone = [name for name in GATHERED_ALONE if name in present]
        model._no_split_modules = alone  # type: ignore[assignment]  # torch's stubs know parts and tensors alone
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        passes = accelerator.gradient_accumulation_steps
        settings = accelerator.state.deepspeed_plugin.deepspeed_config
        settings["train_micro_batch_size_per_gpu"] = optim.batch_size // (accelerator.num_processes * passes)
        settings["gradient_accumulation_steps"] = passes
        settings["gradient_clipping"] = optim.max_grad_norm or 0.0
        settings["zero_optimization"]["reduce_bucket_size"] = REDUCE_AT_ONCE
        # ZeRO-3's own linear layer rounds bf16 twice: before and after adding the bias.
        settings["zero_optimization"]["memory_efficient_linear"] = False
    return accelerator.prepare(model, optimizer)


def clip_gradients(accelerator: Accelerator, model: nn.Module, max_norm: float | None) -> Tensor:
    """Clip the gradients to a global norm and return the norm before. DeepSpeed clips in its own step."""
    norm = accelerator.clip_grad_norm_(model.parameters(), max_norm or math.inf)
    return _gathered(norm) if isinstance(norm, Tensor) else torch.tensor(float(norm), device=accelerator.device)


@torch.no_grad()
def gather_weights(accelerator: Accelerator, model: nn.Module, whole: nn.Module) -> None:
    """Copy the trained weights into ``whole`` if the engine trains a copy. All processes call this."""
    if not divides(accelerator):
        return
    trained = accelerator.unwrap_model(model)
    for parameter, target in zip(trained.parameters(), whole.parameters(), strict=True):
        target.copy_(_gathered(parameter))
    for buffer, copied in zip(trained.buffers(), whole.buffers(), strict=True):
        copied.copy_(buffer)


@torch.no_grad()
def gather_optimizer_state(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, dict[str, Tensor]]:
    """Parameter name -> the optimizer's entries for it, whole and on the CPU.

    All processes call this. Only the main process gets tensors.
    """
    states: dict[str, dict[str, Tensor]] = {}
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        _link_states(model)
    for name, parameter in accelerator.unwrap_model(model).named_parameters():
        whole = _optimizer_state_of(parameter, accelerator, optimizer)
        if accelerator.is_main_process and whole:
            states[name] = {entry: value.detach().cpu().contiguous() for entry, value in whole.items()}
    return states


@torch.no_grad()
def fill_optimizer_state(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    states: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Fill the optimizer of a prepared model with the result of ``gather_optimizer_state``, for any engine."""
    named = dict(accelerator.unwrap_model(model).named_parameters())
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        _fill_deepspeed(model, optimizer, named, states, accelerator)
        return
    names = {parameter: name for name, parameter in named.items()}
    ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    content = optimizer.state_dict()
    content["state"] = {
        index: {entry: _divided(value, parameter) for entry, value in states[names[parameter]].items()}
        for index, parameter in enumerate(ordered)
        if names[parameter] in states
    }
    optimizer.load_state_dict(content)


def _is_true(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() == "true"


def _gathered(tensor: Tensor) -> Tensor:
    """The whole tensor. FSDP2 (as a ``DTensor``) or ZeRO-3 may have divided it."""
    if hasattr(tensor, "full_tensor"):
        return tensor.full_tensor()
    if hasattr(tensor, "ds_id"):
        from deepspeed.runtime.zero import GatheredParameters

        with GatheredParameters([tensor]):
            return tensor.detach().clone()
    return tensor


def _divided(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """This process's part of a whole optimizer entry if FSDP2 divides ``parameter``, else the entry."""
    if value.ndim == 0 or not hasattr(parameter, "full_tensor"):
        return value
    divided: Any = parameter  # a DTensor
    whole = divided.from_local(value.to(divided.device), divided.device_mesh)
    return whole.redistribute(placements=divided.placements)


def _optimizer_state_of(
    parameter: nn.Parameter, accelerator: Accelerator, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """The optimizer's whole entries for a parameter. All processes call this in the same order of parameters."""
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        return {entry: _gathered(value) for entry, value in optimizer.state.get(parameter, {}).items()}
    if not parameter.requires_grad:
        return {}
    from deepspeed.utils import safe_get_full_optimizer_state

    # ZeRO's optimizer holds flat parts of many parameters. All have the same entries and the same number of steps.
    flat: Mapping[str, Tensor] = next(iter(optimizer.state.values()), {})
    return {
        entry: value.clone() if value.ndim == 0 else safe_get_full_optimizer_state(parameter, entry)
        for entry, value in flat.items()
    }


def _set_up_deepspeed(accelerator: Accelerator) -> None:
    from transformers.integrations import unset_hf_deepspeed_config

    plugin = accelerator.state.deepspeed_plugin
    if plugin.zero_stage not in (1, 2, 3):
        raise ConfigError(f"the launcher says zero_stage {plugin.zero_stage}, expected 1, 2 or 3; 0 is DDP")
    plugin.deepspeed_config["bf16"] = {"enabled": False}
    unset_hf_deepspeed_config()  # under ZeRO-3, transformers would divide parts of models when it builds them
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)


def _link_states(engine: nn.Module) -> None:
    """Link each parameter to its optimizer entries under ZeRO-1 and 2.

    DeepSpeed itself does this only once, when the first of several parameter groups has entries.
    """
    zero: Any = engine.optimizer  # DeepSpeed's
    if hasattr(zero, "_lazy_init_hp_params_optimizer_state"):
        zero._hp_optimizer_states_linked = False
        zero._lazy_init_hp_params_optimizer_state()


def _fill_deepspeed(
    engine: nn.Module,
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    states: Mapping[str, Mapping[str, Tensor]],
    accelerator: Accelerator,
) -> None:
    """Make the state of ZeRO's optimizer as its first step would, then fill it parameter by parameter."""
    from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

    zero: Any = engine.optimizer  # DeepSpeed's
    is_stage_3 = accelerator.state.deepspeed_plugin.zero_stage == 3
    example = next(iter(states.values()))
    for flat in zero.fp32_partitioned_groups_flat if is_stage_3 else zero.single_partition_of_fp32_groups:
        optimizer.state[flat] = {
            entry: value.to(flat.device, copy=True) if value.ndim == 0 else torch.zeros_like(flat)
            for entry, value in example.items()
        }
    _link_states(engine)
    for name, entries in states.items():
        for entry, value in entries.items():
            if value.ndim == 0:
                continue
            value = value.to(accelerator.device)
            parameter: Any = parameters[name]  # with DeepSpeed's attributes
            if is_stage_3:
                size = parameter.ds_tensor.numel()  # of every process's part; the last part is padded
                filled_up = F.pad(value.flatten(), (0, size * accelerator.num_processes - value.numel()))
                part = filled_up.split(size)[accelerator.process_index]
                safe_set_local_optimizer_state(parameter, part, entry)
            else:
                safe_set_full_optimizer_state(parameter, value, entry)
