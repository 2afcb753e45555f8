"""JSON text to values, more strictly than the standard library does it: nothing is lost, nothing is made up.

Files come from elsewhere. What is refused here: NaN and Infinity, numbers that overflow, a key that is given twice,
half a surrogate pair, nesting beyond what Python can walk.
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
"""Longest text to be read or asked about: tokenizers take 0.2 kB of memory and microseconds for every character."""


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
    """What makes objects of the keys asked for; those of one text, as people's answers, are alike, and then one."""
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
    """The value that a whole JSON text stands for.

    Args:
        keep: keys of objects that are asked for; what stands under others is read, and forgotten. None keeps all.
            Equal objects may then be one.

    Raises:
        ValueError: it is not JSON, or one of the things refused here; the message is the reason alone.
    """
    hook = _object if keep is None else _keeping(keep)
    was_collecting = gc.isenabled()
    gc.disable()  # values have no cycles, and the collector would walk through all of them again and again
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
    r"""Refuse half a surrogate pair, which no file and no table can hold.

    Args:
        text: a JSON text, in which halves can only be escapes: ``\ud83d``.

    Raises:
        ValueError: there is one.
    """
    if "\\ud" not in text and "\\uD" not in text:
        return
    if half := _HALF.search(text.replace(r"\\", "  ")):  # a backslash that is escaped itself begins nothing
        raise ValueError(f"half a surrogate pair, {half[0].lower()}, is no character")


def shown(value: object) -> str:
    """A value in an error message: as ``repr``, but short and quickly made, however large and deep the value is."""
    return _SHOWN.repr(value)


_SHOWN = reprlib.Repr()
_SHOWN.maxlevel = 2
_SHOWN.maxlist = _SHOWN.maxdict = _SHOWN.maxtuple = 3
_SHOWN.maxstring = _SHOWN.maxlong = _SHOWN.maxother = 60
