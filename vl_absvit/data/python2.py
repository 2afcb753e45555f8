"""White space, lower case, sums and rounding as in Python 2.7 (Unicode 5.2), where the official VQA evaluator runs.

White space and lower case agree with Python 2.7.18 for every code point.
"""

import re
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal

WHITESPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""White space of Unicode 5.2. In later versions U+180E, the Mongolian vowel separator, is none."""

# Capitals that got into Unicode, or got a small letter, after version 5.2.
_LATER_CAPITALS = re.compile(
    "[\u037f\u0526-\u052f\u10c7-\u10cd\u13a0-\u13f5\u1c80-\u1cbf\u2c2f\u2cf2\ua660\ua698-\ua69b\ua78d-\ua7ff"
    "\U00010428-\U0010ffff]"
)


def split(text: str) -> list[str]:
    """The words between white space."""
    return text.replace("\u180e", " ").split()


def lower(text: str) -> str:
    """Lower case of each character on its own: a word's last sigma is no special case, and dotted I becomes i."""
    return text.lower() if text.isascii() else "".join(map(_lower_character, text))


def _lower_character(character: str) -> str:
    if character == "\u0130":
        return "i"
    return character if _LATER_CAPITALS.match(character) else character.lower()


def sum_in_order(values: Iterable[float]) -> float:
    """Add floating-point numbers from left to right. From Python 3.12 on, ``sum`` compensates rounding errors."""
    total = 0.0
    for value in values:
        total += value
    return total


def round_half_up(value: float, digits: int) -> float:
    """Round the exact binary value, ties away from zero: 3.125 -> 3.13. But 2.675 -> 2.67: its binary value is less."""
    return float(Decimal(value).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP))
