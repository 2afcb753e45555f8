"""The data sets that are known: modules whose ``SETS`` describes one or several by name.

Whatever lies here is known: a further data set is a module more.
"""

import pkgutil
from importlib import import_module
from typing import TypeVar

Set = TypeVar("Set")


def known(kind: type[Set]) -> dict[str, Set]:
    """The data sets of a kind, ``VQASet`` or ``CaptionSet``, by name."""
    modules = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return {
        name: described for module in modules for name, described in module.SETS.items() if isinstance(described, kind)
    }
