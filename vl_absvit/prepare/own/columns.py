"""Which column holds what: by the usual names, or as the command line says."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vl_absvit.data.strict_json import shown
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.own.values import is_missing

IMAGE = (
    "image", "image_path", "image_file", "image_name", "img", "img_path", "filename", "file_name", "filepath",
    "file_path", "file", "path", "image_id", "img_id",
)  # fmt: skip
"""Usual names of the column of pictures. Where a row has several, the first of these counts."""


class Columns:
    """Finds the cell of a role, such as the image, in a row, and knows which columns were taken.

    Args:
        usual: role -> usual names of its column; where a row has several, the first one counts.
        given: ``role=column`` each; these roles have no usual names.

    Raises:
        ConfigError: ``given`` has another form, or names a role that does not exist.
    """

    def __init__(self, usual: Mapping[str, Sequence[str]], given: Sequence[str]) -> None:
        self._names = {role: [_plain(name) for name in names] for role, names in usual.items()}
        for each in given:
            role, equals, column = each.partition("=")
            if not (equals and column.strip() and role in usual):
                raise ConfigError(
                    f"--columns: expected ROLE=COLUMN with one of the roles {', '.join(usual)}, got {shown(each)}"
                )
            self._names[role] = [_plain(column)]
        self._taken: Counter[tuple[str, str]] = Counter()
        self._seen: dict[str, dict[str, None]] = {}

    def cells(self, row: Mapping[str, Any], file: str) -> dict[str, Any]:
        """Role -> value, for those roles whose column is in the row and not empty.

        Args:
            file: the row's table.
        """
        plain = {_plain(column): value for column, value in row.items()}
        self._seen.setdefault(file, {}).update(dict.fromkeys(plain))
        found = {}
        for role, names in self._names.items():
            name = next((name for name in names if not is_missing(plain.get(name))), None)
            if name is not None:
                found[role] = plain[name]
                self._taken[role, name] += 1
        return found

    def check(self, *needed: str) -> None:
        """Make sure that every table that was read has a column for these roles.

        Raises:
            InputError: one has none.
        """
        for file, seen in self._seen.items():
            for role in needed:
                names = self._names[role]
                if seen.keys().isdisjoint(names):
                    raise InputError(
                        f"{file}: has no column for the {role}, {' or '.join(names)}; it has {', '.join(seen)}; "
                        f"--columns {role}=COLUMN says which it is, --no-header that the first row names none"
                    )

    def taken(self) -> dict[str, dict[str, int]]:
        """Role -> column -> number of rows whose value was taken from it."""
        by_role: dict[str, dict[str, int]] = {}
        for (role, name), number in self._taken.items():
            by_role.setdefault(role, {})[name] = number
        return by_role


def _plain(name: str) -> str:
    return str(name).strip().lower().replace(" ", "_").replace("-", "_")
