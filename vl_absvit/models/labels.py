"""Which row of an earlier head stands for each label of a new one: matched by their texts, never by their places."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

EXAMPLES = 3


class LabelMatch(NamedTuple):
    """The labels of a head beside those of the weights that it starts from."""

    rows: tuple[int | None, ...]  # for every label now, the row of the earlier one; None for a new label
    new: tuple[str, ...]
    dropped: tuple[str, ...]  # earlier labels that are no longer there
    before: int  # how many labels there were

    @property
    def is_identity(self) -> bool:
        """Whether nothing changed."""
        return self.rows == tuple(range(self.before))

    def describe(self, what: str) -> str:
        """One line; ``what`` is the plural of what the labels are."""
        kept = len(self.rows) - len(self.new)
        parts = [f"{kept:,} of {len(self.rows):,} {what} known to the start weights, their rows of the head kept"]
        for names, fate in ((self.new, "new, their rows random"), (self.dropped, "dropped")):
            examples = ", ".join(repr(name) for name in names[:EXAMPLES])
            rest = ", ..." if len(names) > EXAMPLES else ""
            parts.append(f"{len(names):,} {fate}" + (f" ({examples}{rest})" if names else ""))
        return "; ".join(parts)


def match_labels(before: Sequence[str], now: Sequence[str], normalise: Callable[[str], str] = str) -> LabelMatch:
    """Find each label among the earlier ones: by its very text, else by what ``normalise`` makes of both.

    Of several earlier labels that are alike once normalised, the first counts.
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
