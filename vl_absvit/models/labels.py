"""Match the labels of a new head with the rows of an earlier one, by their texts and never by their places."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

EXAMPLES = 3


class LabelMatch(NamedTuple):
    """The labels of a head, matched with those of its start weights."""

    rows: tuple[int | None, ...]  # the earlier row of every label; None for a new label
    new: tuple[str, ...]
    dropped: tuple[str, ...]  # earlier labels that do not exist any more
    before: int  # number of earlier labels

    @property
    def is_identity(self) -> bool:
        """Whether nothing changed."""
        return self.rows == tuple(range(self.before))

    def describe(self, plural: str) -> str:
        """One line; ``plural`` is the name of the labels, such as "answers"."""
        kept = len(self.rows) - len(self.new)
        parts = [f"{kept:,} of {len(self.rows):,} {plural} known to the start weights, their rows of the head kept"]
        for names, fate in ((self.new, "new, their rows random"), (self.dropped, "dropped")):
            examples = ", ".join(repr(name) for name in names[:EXAMPLES])
            rest = ", ..." if len(names) > EXAMPLES else ""
            parts.append(f"{len(names):,} {fate}" + (f" ({examples}{rest})" if names else ""))
        return "; ".join(parts)


def match_labels(before: Sequence[str], now: Sequence[str], normalise: Callable[[str], str] = str) -> LabelMatch:
    """Find each label among the earlier ones, by its text, or else by the normalised text.

    The first of several earlier labels with the same normalised text counts.
    """
    row_of = {label: row for row, label in enumerate(before)}
    alike = {normalise(label): row for row, label in reversed(list(enumerate(before)))}
    rows = tuple(row_of.get(label, alike.get(normalise(label))) for label in now)
    used = set(rows)
    return LabelMatch(
        rows,
        new=tuple(label for label, row in zip(now, rows, strict=True) if row is None),
        dropped=tuple(label for row, label in enumerate(before) if row not in used),
        before=len(before),
    )
