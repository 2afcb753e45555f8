"""Rows that are refused: each with its place and the reason, in a file; counted, in a line."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from vl_absvit.data.files import write_text

FILE = "refused.jsonl"


class Place(NamedTuple):
    """Where a row is."""

    file: str
    unit: str  # "line", "record" or "row"
    number: int  # from 1 on

    def __str__(self) -> str:
        return f"{self.file}: {self.unit} {self.number:,}"


class Fault(Exception):
    """What is wrong with one row, for which the row is refused.

    Attributes:
        reason: the same words for every row that has this fault.
        found: what is there instead, if that says more, fit to be printed.
    """

    def __init__(self, reason: str, found: str = "") -> None:
        super().__init__(reason, found)
        self.reason, self.found = reason, found


class Refusals:
    """The refused rows of all tables, in the order of reading."""

    def __init__(self) -> None:
        self._rows: list[tuple[Place, Fault]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, place: Place, fault: Fault) -> None:
        self._rows.append((place, fault))

    def counts(self) -> dict[str, int]:
        """Reason -> number of rows, the most frequent reason first."""
        return dict(Counter(fault.reason for _, fault in self._rows).most_common())

    def write(self, folder: Path) -> None:
        """Write all of them as JSON Lines; nothing where there are none."""
        if self._rows:
            lines = (json.dumps(_record(place, fault)) for place, fault in self._rows)
            write_text(folder / FILE, "".join(f"{line}\n" for line in lines))

    def words(self, rows: int) -> str:
        """One line: the reasons, how often, and the first row of each.

        Args:
            rows: number of all rows.
        """
        first: dict[str, tuple[Place, Fault]] = {}
        for place, fault in self._rows:
            first.setdefault(fault.reason, (place, fault))
        reasons = []
        for reason, number in self.counts().items():
            place, fault = first[reason]
            found = f", {fault.found}" if fault.found else ""
            reasons.append(f"{number:,} x {reason} ({place}{found})")
        return f"{len(self):,} of {rows:,} rows are refused: {'; '.join(reasons)}"


def _record(place: Place, fault: Fault) -> dict[str, Any]:
    record = {"file": place.file, place.unit: place.number, "reason": fault.reason}
    return record | ({"found": fault.found} if fault.found else {})
