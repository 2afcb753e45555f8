"""Check whether a config may go on with an existing run. Values that do not change the result may differ.

Places may differ: a run's start weights are in its checkpoint, and data is known by its content.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from vl_absvit.config import RENAMED, TaskConfig
from vl_absvit.errors import ConfigError
from vl_absvit.tasks.base import new_run_from
from vl_absvit.tasks.registry import task_of

FREE = (
    "run.output", "run.resume", "run.log_every", "run.trackers", "run.project", "run.name", "data.num_workers",
    "data.images",
)  # fmt: skip
"""Neither batches nor results depend on these."""
PLACES = ("data.root", "data.stream", "data.keep_frozen")
"""Places that may change if their content is the same."""
SOURCES = ("vision.weights", "vision.decoders", "from_checkpoint", "text.model", "text.tokenizer")
"""Places that may change or be gone. A resumed run reads none of them."""
DIVISION = ("optim.micro_batch_size", "vision.gradient_checkpointing", "run.compile")
"""How a step is computed. Its result changes only by rounding and, with other passes, by their random draws."""
MODEL = (
    "vision.model", "vision.patch_size", "vision.width", "vision.depth", "vision.num_heads",
    "vision.attention", "vision.vars_ratio", "vision.vars_generation",
    "text.model", "text.tokenizer", "text.width", "text.depth", "text.num_heads",
    "fusion.width", "fusion.num_layers", "fusion.num_heads", "pooling",
    "head.neck", "head.maps", "head.channels", "head.auxiliary_channels",
)  # fmt: skip
"""Keys of the architecture. The run's weights do not fit another one."""


def check_same_run(config: TaskConfig, written: Mapping[str, Any], folder: Path) -> list[str]:
    """Check that a config can go on with the run in ``folder``.

    Args:
        written: the config that the folder holds. Missing keys did not exist then (``earlier``), or have their default.

    Returns:
        The permitted differences in words.

    Raises:
        ConfigError: a difference changes the result; the message names the right option.
    """
    now = flatten(config_as_dict(config))
    before = {key: config.earlier.get(key, value) for key, value in defaults(type(config)).items()}
    before |= {RENAMED.get(key, key): value for key, value in flatten(written).items()}
    differing = {
        key: (before.get(key), now.get(key))
        for key in {**before, **now}
        if before.get(key) != now.get(key) and key not in FREE
    }
    refused = [key for key, values in differing.items() if not _may_differ(key, *values)]
    if refused:
        changes = ", ".join(f"{key} (was {before.get(key)!r}, now {now.get(key)!r})" for key in refused)
        raise ConfigError(f"{folder} was started with another config: {changes}; {_advice(config, refused, folder)}")
    return list(_remarks(differing))


def config_as_dict(config: TaskConfig) -> dict[str, Any]:
    """The whole config as plain YAML types. ``run.resume`` is left out: it belongs to a launch, not to the run."""
    content = json.loads(json.dumps(asdict(config)))
    del content["run"]["resume"]
    return content


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys and values of nested mappings."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def defaults(kind: type) -> dict[str, Any]:
    """Dotted keys and defaults of a config's class, as plain YAML types. Keys without a default are left out."""
    found, hints = {}, get_type_hints(kind)
    for field in fields(kind):
        if field.default_factory is not MISSING:
            found[field.name] = asdict(field.default_factory())
        elif is_dataclass(hints[field.name]):
            found[field.name] = defaults(hints[field.name])
        elif field.default is not MISSING:
            found[field.name] = field.default
    return flatten(json.loads(json.dumps(found)))


def _may_differ(key: str, before: Any, now: Any) -> bool:
    if key in PLACES:
        return None not in (before, now)
    if key in SOURCES:
        return before is not None and (now is not None or key != "text.model")
    return key in DIVISION


def _remarks(differing: Mapping[str, tuple[Any, Any]]) -> Iterator[str]:
    for key, (before, now) in differing.items():
        if key in SOURCES:
            yield f"{key} was {before}, now it is {now}: neither is read, what came of it is in the checkpoint"
        elif key in PLACES:
            yield f"{key} was {before}, now it is {now}: the same data by its content, or this stops"
        else:
            yield (
                f"{key} was {before}, now it is {now}: results are the same but for rounding and for what is drawn in "
                "every forward pass (dropout, stochastic depth, Mixup and CutMix)"
            )


def _advice(config: TaskConfig, refused: list[str], folder: Path) -> str:
    """Advice for the error message."""
    go_on = f"leave {'it as it was' if len(refused) == 1 else 'them as they were'} to go on"
    checkpoint = folder / "checkpoints" / "last"
    if "run.seed" in refused:
        return f"{go_on}; with another seed it is another run: --run.output NEW"
    if any(key in MODEL for key in refused) or not checkpoint.exists():
        return f"{go_on}; another model is another run: --run.output NEW"
    return f"{go_on}, or, to train on with the change, {new_run_from(checkpoint, task_of(config).start_option)}"
