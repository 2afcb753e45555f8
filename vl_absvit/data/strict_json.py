"""JSON text to values, more strictly than the standard library does it: nothing is lost, nothing is made up.

Files come from elsewhere. What is refused here: NaN and Infinity, numbers that overflow, a key that is given twice,
half a surrogate pair, nesting beyond what Python can walk.
"""

import json
import math
import reprlib
from collections import Counter
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


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite)
"""Decodes all that ``parse`` does, but lets half surrogate pairs through."""


def parse(text: str) -> Any:
    """The value that a whole JSON text stands for.

    Raises:
        ValueError: it is not JSON, or one of the things refused here; the message is the reason alone.
    """
    try:
        value = DECODER.decode(text)
        check_surrogates(text, value)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def check_surrogates(text: str, value: Any) -> None:
    r"""Refuse half a surrogate pair, which no file and no table can hold.

    Args:
        text: the JSON text, in which halves can only be escapes: ``\ud83d``.
        value: what it stands for.

    Raises:
        ValueError: there is one.
    """
    if "\\ud" not in text and "\\uD" not in text:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise ValueError(f"half a surrogate pair, {half}, is no character") from error


def shown(value: object) -> str:
    """A value in an error message: as ``repr``, but short and quickly made, however large and deep the value is."""
    return _SHOWN.repr(value)


_SHOWN = reprlib.Repr()
_SHOWN.maxlevel = 2
_SHOWN.maxlist = _SHOWN.maxdict = _SHOWN.maxtuple = 3
_SHOWN.maxstring = _SHOWN.maxlong = _SHOWN.maxother = 60
