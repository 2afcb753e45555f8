"""Facts beside the config that may change a result: versions, commit, hardware, command."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "vl_absvit",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "datasets",
    "accelerate",
    "deepspeed",
    "safetensors",
    "numpy",
)
# A change of one of these may change rounding.
_DECISIVE = ("commit", "python", "processes", "engine", "threads", "gpus")


def environment() -> dict[str, Any]:
    """The environment of this process, in JSON's types."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": command(),
        "folder": os.getcwd(),
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "engine": _engine(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }


def command() -> list[str]:
    """The words that started this process; ``vl-absvit`` and the program that it runs stand in one word there."""
    first, *rest = sys.argv
    return [*(first.split() if first.startswith("vl-absvit ") else [first]), *rest]


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Differences between two environments that may change a result, in words."""
    pairs = {key: (before.get(key), now.get(key)) for key in _DECISIVE}
    versions = (before.get("packages") or {}, now.get("packages") or {})
    pairs |= {name: (versions[0].get(name), versions[1].get(name)) for name in PACKAGES}
    return [f"{key} was {old}, now it is {new}" for key, (old, new) in pairs.items() if old != new]


def _engine() -> str | None:
    """The engine that the launcher requests; None for DDP or one process."""
    engines = {"FSDP": "ACCELERATE_USE_FSDP", "DeepSpeed": "ACCELERATE_USE_DEEPSPEED"}
    return next((name for name, key in engines.items() if os.environ.get(key, "false").lower() == "true"), None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checkout's commit, or None outside one: an installed package may lie in a checkout of something else."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
