"""The configs that come with the package, found by name: ``vqa_absvit_base``, ``demo/vqa``."""

import difflib
import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_ENGINES = "accelerate/"  # configs of launchers, not of runs


def configs_folder() -> Path:
    """Their folder: in an installed package, or beside the package in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def shipped_configs() -> dict[str, Path]:
    """Every run's config by name, in order."""
    folder = configs_folder()
    files = {file.relative_to(folder).with_suffix("").as_posix(): file for file in sorted(folder.rglob("*.yaml"))}
    return {name: file for name, file in files.items() if not name.startswith(_ENGINES)}


def find_config(name: str) -> Path:
    """The file of ``--config``: a file on disk, or the shipped config of that name. Other names stay paths."""
    exists = os.path.exists(name) and not os.path.isdir(name)
    return Path(name) if exists else shipped_configs().get(name.removesuffix(".yaml"), Path(name))


def nearest_configs(name: str) -> list[str]:
    """Names of the three shipped configs that are most like a name."""
    return difflib.get_close_matches(Path(name).stem, shipped_configs(), n=3, cutoff=0)
