"""Cells of tables as texts and lists of texts."""

import ast
import json
import math
import re
from typing import Any

from vl_absvit.data.json_files import form_name
from vl_absvit.data.strict_json import MAX_CHARACTERS, parse, shown
from vl_absvit.prepare.own.refusals import Fault

_ITEM = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[-+.\w]+)"""
_PYTHON_LIST = re.compile(rf"\[\s*{_ITEM}(?:\s*,\s*{_ITEM})*\s*,?\s*\]", re.DOTALL)
"""A list as Python prints it. Commas are between all items: Python itself would join ``'yes' 'no'`` to one."""

_LIKE_A_LIST = re.compile(r"""\[\s*["'].*|\[.*\]""", re.DOTALL)
"""Text that is meant as a list, though it may be cut: not the caption "[a] dog"."""


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: no value, NaN, an empty list, or text without a letter."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or value == [] or (isinstance(value, float) and math.isnan(value))


def text_of(value: Any) -> str:
    """The text in a cell, without surrounding white space. 3.0 is "3", true is "true".

    Raises:
        Fault: it is neither text nor a number, is too long, or holds a NUL character.
    """
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        value = int(value) if value.is_integer() else value
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        raise Fault("a cell that is neither text nor a number", form_name(value))
    if len(value) > MAX_CHARACTERS:
        raise Fault(f"a text of more than {MAX_CHARACTERS:,} characters", f"{len(value):,} characters")
    if "\0" in value:
        raise Fault("a NUL character", shown(value))
    return value.strip()


def texts_of(value: Any, key: str) -> list[str]:
    """The texts in a cell that holds one or a list of them: a value, a list, or a list as text, in JSON or Python.

    Args:
        key: items may be objects that hold their text under it.

    Raises:
        Fault: an item is empty, or no text as ``text_of`` says.
    """
    if isinstance(value, str) and _LIKE_A_LIST.fullmatch(value.strip()):
        value = _list_in(value.strip())
    items = value if isinstance(value, list) else [value]
    texts = [text_of(item.get(key) if isinstance(item, dict) else item) for item in items]
    if not all(texts):
        raise Fault("an empty item in a list")
    return texts


def _list_in(text: str) -> list[Any]:
    if len(text) > MAX_CHARACTERS:
        raise Fault(f"a text of more than {MAX_CHARACTERS:,} characters", f"{len(text):,} characters")
    try:
        return parse(text)
    except ValueError as error:
        if _PYTHON_LIST.fullmatch(text):
            try:
                return ast.literal_eval(text)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                pass
        raise Fault("a list that is not JSON", shown(text)) from error
