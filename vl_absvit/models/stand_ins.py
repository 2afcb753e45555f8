"""Empty classes in place of those that ordinary PyTorch files name beside tensors. None of their code ever runs.

A training run's command line is an ``argparse.Namespace``. Lightning writes the classes of its callbacks as keys, and
its own objects in the states of callbacks and loops. Both may contain paths.
"""

from collections.abc import Iterable
from typing import Any

LIGHTNING = ("lightning", "pytorch_lightning", "lightning_fabric", "lightning_utilities")
PATHS = ("PosixPath", "WindowsPath")
OTHERS = ("argparse.Namespace", *(f"{module}.{path}" for module in ("pathlib", "pathlib._local") for path in PATHS))
"""In Python 3.13, paths are classes of ``pathlib._local``."""


class _Nothing:
    """An object that accepts any arguments and state and keeps nothing."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Dict:
    """A class whose objects are plain dicts."""

    def __new__(cls, *arguments: Any) -> Any:
        return {}


def stand_ins(names: Iterable[tuple[str, str]]) -> list[Any]:
    """Replacements of the known classes among (module, name), for ``torch.serialization.safe_globals``.

    Objects become empty. Lightning's ``AttributeDict``, which holds hyperparameters, becomes a dict.
    """
    return [
        type(name, (_Dict if name == "AttributeDict" else _Nothing,), {"__module__": module})
        for module, name in names
        if module.split(".")[0] in LIGHTNING or f"{module}.{name}" in OTHERS
    ]
