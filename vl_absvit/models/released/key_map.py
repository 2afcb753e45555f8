"""Map released parameter names to ours, with an account of all parameters."""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from torch import Tensor

from vl_absvit.errors import InputError
from vl_absvit.models.load_report import part_of


class Entry(NamedTuple):
    """The account of one tensor."""

    status: Literal["loaded", "ignored", "new"]
    key: str  # released name; our name for a new one
    part: str  # of our model; "-" for ignored ones
    parameters: int
    reason: str  # "" for tensors that are loaded unchanged


class Option(NamedTuple):
    """A setting that results depend on, and the reason for its value."""

    name: str
    value: Any  # as JSON
    why: str


HeadKind = Literal["vqa", "matching", "pretraining", "nlvr2", "snli"]
"""Kinds of heads in the vision-language release."""


class Conversion(NamedTuple):
    """A released model in the names of this project."""

    kind: Literal["classifier", "segmenter"] | HeadKind
    config: dict[str, Any]  # content of config.json
    state: dict[str, Tensor]  # content of model.safetensors
    preprocessing: dict[str, Any]  # content of preprocessor_config.json; a segmenter has none
    training: dict[str, Any]  # content of training.json
    options: list[Option]
    entries: list[Entry]


class KeyMap:
    """Renames in both directions.

    A template is the name of one parameter, or of many with ``{n}`` for a number and ``*`` for any rest.

    Args:
        ours_of: released template -> our template, one to one.
        ignored: released template -> reason for ignoring it.
    """

    def __init__(self, ours_of: Mapping[str, str], ignored: Mapping[str, str]) -> None:
        self._forward = [(_pattern(released), ours) for released, ours in ours_of.items()]
        self._backward = [(_pattern(ours), released) for released, ours in ours_of.items()]
        self._ignored = [(_pattern(released), why) for released, why in ignored.items()]

    def ours(self, released: str) -> str | None:
        """Our name of a released key; None if there is none."""
        return _rename(released, self._forward)

    def released(self, ours: str) -> str | None:
        """The released name of one of our keys; None if there is none."""
        return _rename(ours, self._backward)

    def reason_to_ignore(self, released: str) -> str | None:
        """The reason for ignoring a released key; None if it is used."""
        return next((why for pattern, why in self._ignored if pattern.fullmatch(released)), None)

    def translate(self, state: Mapping[str, Tensor], location: str) -> tuple[dict[str, Tensor], list[Entry]]:
        """A released state in our names, and the entries of all keys.

        Raises:
            InputError: a key is unknown, holds no real numbers, or gets the same name as another.
        """
        ours: dict[str, Tensor] = {}
        entries, unknown = [], []
        for key, value in state.items():
            why, name = self.reason_to_ignore(key), self.ours(key)
            if why is not None:
                entries.append(Entry("ignored", key, "-", value.numel(), why))
            elif name is None:
                unknown.append(key)
            elif not value.is_floating_point() or value.numel() == 0:
                raise InputError(f"{location}: expected real numbers for {key}, got {value.numel()} of {value.dtype}")
            elif name in ours:
                raise InputError(f"{location}: {key} and another key are both {name} here")
            else:
                ours[name] = value
                entries.append(Entry("loaded", key, part_of(name), value.numel(), ""))
        if unknown:
            raise InputError(
                f"{location}: {len(unknown)} of {len(state)} keys are no part of the released models, e.g. {unknown[0]}"
            )
        return ours, entries


def explain(entries: list[Entry], reasons: Mapping[str, str]) -> list[Entry]:
    """The entries. Those whose key matches a template get its reason."""
    patterns = [(_pattern(template), why) for template, why in reasons.items()]
    return [
        entry._replace(reason=next((why for pattern, why in patterns if pattern.fullmatch(entry.key)), entry.reason))
        for entry in entries
    ]


def check_complete(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], location: str) -> None:
    """Raise ``InputError`` unless a converted state has the names and shapes of its model."""
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys())
    if missing or extra:
        found = [f"{kind} {keys[0]} ({len(keys)} in all)" for kind, keys in (("no", missing), ("also", extra)) if keys]
        raise InputError(f"{location}: not all of a released model: it has {' and '.join(found)}")
    for name, value in state.items():
        if value.shape != expected[name].shape:
            shapes = [tuple(tensor.shape) for tensor in (expected[name], value)]
            raise InputError(f"{location}: expected the shape {shapes[0]} for {name}, got {shapes[1]}")


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\{n\}", "([0-9]{1,4})").replace(r"\*", "(.+)"))


def _rename(key: str, templates: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, template in templates:
        match = pattern.fullmatch(key)
        if match:
            return template.replace("{n}", "{}").replace("*", "{}").format(*match.groups())
    return None
