"""Empty classes that stand in for those which honest PyTorch files name beside tensors: nothing of theirs is ever run.

A training run's command line is an ``argparse.Namespace``. Lightning writes the classes of its callbacks as keys, and
objects of its own in what callbacks and loops remember. A path is what some put into either.
"""

from collections.abc import Iterable
from typing import Any

LIGHTNING = ("lightning", "pytorch_lightning", "lightning_fabric", "lightning_utilities")
PATHS = ("PosixPath", "WindowsPath")
OTHERS = ("argparse.Namespace", *(f"{module}.{path}" for module in ("pathlib", "pathlib._local") for path in PATHS))
"""Python 3.13 writes paths as ``pathlib._local``'s."""


class _Nothing:
    """An object that takes whatever is put into it and keeps nothing."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Dict:
    """What becomes a plain dict."""

    def __new__(cls, *arguments: Any) -> Any:
        return {}


def stand_ins(names: Iterable[tuple[str, str]]) -> list[Any]:
    """For ``torch.serialization.safe_globals``: what may stand for those classes, (module, name), that are known.

    An object of a class becomes an empty one, but Lightning's ``AttributeDict``, which holds hyperparameters, a dict.
    """
    return [
        type(name, (_Dict if name == "AttributeDict" else _Nothing,), {"__module__": module})
        for module, name in names
        if module.split(".")[0] in LIGHTNING or f"{module}.{name}" in OTHERS
    ]
