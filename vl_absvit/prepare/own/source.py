"""What all sources of one's own tables have: their columns, and the rows that are refused."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from vl_absvit.prepare.own.columns import Columns
from vl_absvit.prepare.own.options import TableOptions
from vl_absvit.prepare.own.refusals import FILE, Refusals
from vl_absvit.prepare.prepare import Source


class OwnSource(Source):
    """Rows of one's own tables. ``read`` sets the number of all rows."""

    roles: ClassVar[Mapping[str, Sequence[str]]]
    """Role -> usual names of its column."""
    without_header: ClassVar[Mapping[str, Sequence[str]]]
    """The same in a table without a header; other roles have no column there."""

    def __init__(self, options: TableOptions) -> None:
        self._refusals, self._rows = Refusals(), 0
        by_number: dict[str, Sequence[str]] = {role: () for role in self.roles}
        by_number.update(self.without_header)
        self._columns = Columns(by_number if options.no_header else self.roles, options.columns)

    def warnings(self) -> list[str]:
        """A line about the refused rows, if there are any."""
        return [f"{self._refusals.words(self._rows)}; all are in {FILE}"] if self._refusals else []

    def account(self) -> dict[str, Any]:
        """What the manifest says about columns and rows."""
        return {
            "columns": self._columns.taken(),
            "rows": self._rows,
            "refused_rows": self._refusals.counts(),
        }


def train_first(splits: Iterable[str]) -> list[str]:
    """Splits in the order in which they are written: ``train``, then the others by name."""
    return sorted(splits, key=lambda split: (split != "train", split))
