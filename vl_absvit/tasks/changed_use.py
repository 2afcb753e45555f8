"""Differences between how a checkpoint's weights were trained and how a run that starts from them uses them.

Neither the number of heads nor the strength of the feedback shows in the shapes of weights: they load either way.
"""

import logging
from collections.abc import Mapping, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vl_absvit.config import VisionConfig
from vl_absvit.data.json_files import read_json
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.models.trunks.registry import find_trunk

log = logging.getLogger(__name__)

HEADS = {("vision", "num_heads"): "vision.num_heads", ("fusion", "num_heads"): "fusion.num_heads",
         ("text", "num_attention_heads"): "text.num_heads"}  # fmt: skip
"""Numbers of attention heads. With another number, the same rows of queries and keys belong to other heads."""
STEERING = ("top_down", "modulation", "gain", "mask", "looks_again_from")
VARS = ("vars_penalty", "vars_steps", "vars_generation")
USES = {("vision", name): f"vision.{name}" for name in (*STEERING, *VARS, "image_statistics")} | {
    ("sentence",): "prior.sentence", ("pool",): "prior.pool",
    ("segmenter", "head", "positions"): "head.positions",
    ("text", "hidden_act"): "text.model's hidden_act", ("text", "layer_norm_eps"): "text.model's layer_norm_eps",
}  # fmt: skip
"""Settings that a run may change. Changes are logged."""
OF_TRUNK = {("vision", name) for name in VARS}
"""Those that belong to the trunk's weights, whatever steers it and whatever task it does."""
EARLIER: dict[tuple[str, ...], Any] = {("vision", "looks_again_from"): 0} | dict.fromkeys(OF_TRUNK, "the default")
"""What held before there was such a setting, or where none is given."""


def log_changed_use(folder: str | None, now: Mapping[str, Any]) -> None:
    """Log what ``check_use`` finds where a run starts from a checkpoint."""
    if folder is not None and (changed := check_use(read_json(Path(folder) / "config.json", dict), now, folder)):
        log.info(changed)


def log_changed_trunk(folder: str, vision: VisionConfig) -> None:
    """Log what ``check_use`` finds of the trunk where ``vision.weights`` is a checkpoint folder of this project."""
    try:
        saved = read_json(Path(folder) / "config.json", dict)
    except InputError:  # a file of weights alone, or of another program
        return
    if changed := check_use(saved, {"vision": asdict(vision)}, folder, "vision.weights", OF_TRUNK):
        log.info(changed)


def check_use(
    saved: Mapping[str, Any],
    now: Mapping[str, Any],
    folder: str,
    option: str = "from_checkpoint",
    settings: Set[tuple[str, ...]] = USES.keys(),
) -> str | None:
    """Words on what a start changes in the use of the weights; None where it changes nothing.

    Args:
        saved: ``config.json`` of the checkpoint; what it lacks is not compared, unless it is known what held then.
        now: the architecture of the model that starts from it.
        folder: of the checkpoint, named in errors.
        option: that names the folder.
        settings: of ``USES``, those that are compared.

    Raises:
        ConfigError: the weights would be read with another number of heads.
    """
    for path, name in HEADS.items():
        before, after = (_value(_with_heads(architecture), path) for architecture in (saved, now))
        if None not in (before, after) and before != after:
            raise ConfigError(
                f"{name} is {after}, but the weights of {option} {folder} were trained with {before!s:.20} heads"
            )
    pairs = {
        path: [_value(each, path, EARLIER.get(path)) for each in (saved, now)] for path in USES if path in settings
    }
    changed = [
        f"{USES[path]} was {before}, now it is {after}"
        for path, (before, after) in pairs.items()
        if None not in (before, after) and before != after
    ]
    return f"{option} {folder} was trained otherwise: {'; '.join(changed)}" if changed else None


def _value(architecture: Any, path: tuple[str, ...], otherwise: Any = None) -> Any:
    for name in path:
        architecture = architecture.get(name) if isinstance(architecture, Mapping) else None
    return otherwise if architecture is None else architecture


def _with_heads(architecture: Mapping[str, Any]) -> Mapping[str, Any]:
    """The architecture with the heads of the named vision model where it leaves them to that."""
    name = _value(architecture, ("vision", "model"))
    trunk = find_trunk(name) if isinstance(name, str) else None
    if _value(architecture, ("vision", "num_heads")) is not None or trunk is None:
        return architecture
    return {**architecture, "vision": {**architecture["vision"], "num_heads": trunk.sizes["num_heads"]}}
