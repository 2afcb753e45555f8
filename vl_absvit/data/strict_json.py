"""JSON text to values, stricter than the standard library, because files may be hostile.

These are refused: NaN and Infinity, numbers that overflow, repeated keys, half surrogate pairs, and nesting too deep
for Python.
"""

import gc
import json
import math
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Set
from typing import Any, NoReturn

MAX_CHARACTERS = 1_000_000
"""Longest caption or question. Tokenizers take 0.2 kB of memory and microseconds for every character."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits:.40} is too large")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        repeated, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {shown(repeated)} is given twice")
    return value


def _keeping(keep: Set[str]) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """A function that makes objects of the kept keys. Equal objects of one text, such as answers, share memory."""
    alike: dict[tuple[str, str], dict[str, Any]] = {}

    def kept(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = {}
        for key, item in _object(pairs).items():
            if key in keep:
                value[key] = item
        if len(value) == 1:
            ((key, item),) = value.items()
            return alike.setdefault((key, item), value) if type(item) is str else value
        return value

    return kept


def parse(text: str, keep: Set[str] | None = None) -> Any:
    """The value of a whole JSON text.

    Args:
        keep: keys of objects to keep; values of other keys are dropped, and equal objects may become one. None keeps
            all keys.

    Raises:
        ValueError: the text is not JSON, or holds something that is refused here. The message is the reason alone.
    """
    hook = _object if keep is None else _keeping(keep)
    was_collecting = gc.isenabled()
    gc.disable()  # the collector would walk through all values many times, and they have no cycles
    try:
        value = json.loads(text, object_pairs_hook=hook, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    finally:
        if was_collecting:
            gc.enable()
    _check_surrogates(text)
    return value


_HALF = re.compile(r"\\u(?:[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..\\u)[dD][c-fC-F]..)")


def _check_surrogates(text: str) -> None:
    r"""Refuse half a surrogate pair, because files and tables cannot hold it.

    Args:
        text: a JSON text, in which halves are always escapes: ``\ud83d``.

    Raises:
        ValueError: there is one.
    """
    if "\\ud" not in text and "\\uD" not in text:
        return
    if half := _HALF.search(text.replace(r"\\", "  ")):  # an escaped backslash begins no escape
        raise ValueError(f"half a surrogate pair, {half[0].lower()}, is no character")


def shown(value: object) -> str:
    """A value for an error message: a short ``repr`` that is quick for large and deep values, too."""
    return _SHOWN.repr(value)


_SHOWN = reprlib.Repr()
_SHOWN.maxlevel = 2
_SHOWN.maxlist = _SHOWN.maxdict = _SHOWN.maxtuple = 3
_SHOWN.maxstring = _SHOWN.maxlong = _SHOWN.maxother = 60
