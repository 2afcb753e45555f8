"""The account of all tensors when a model starts from files: a table whose numbers add up to the model's."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from torch import nn

STATUSES = ("loaded", "resampled", "fitted", "fresh", "dropped")
RANDOM = "no file: random"
EXAMPLES = 2


PARTS = {  # the longest prefix that fits names the part
    "vision.": "vision trunk",
    "vision.decoders.": "feedback decoders",
    "vision.prior": "prior",
    "vision.mask.": "prior",
    "vision.mean_token": "prior",
    "vision.head.": "head",
    "text.": "text encoder",
    "prior.": "prior",
    "fusion.": "fusion",
    "head.": "head",
    "neck.": "head",
    "auxiliary_head.": "head",
}


class Entry(NamedTuple):
    """The account of one tensor, or of some rows of one."""

    status: Literal["loaded", "resampled", "fitted", "fresh", "dropped"]
    source: str  # option and file, or the data of a fit
    name: str  # in the model, or in the file if it was dropped
    numbers: int
    remark: str = ""  # what was done to it, or why it was dropped
    tensors: int = 1  # 0 for rows of a tensor that another entry counts


def part_of(name: str) -> str:
    """The part of our model that a parameter belongs to."""
    return PARTS[max((prefix for prefix in PARTS if name.startswith(prefix)), key=len)]


def with_the_rest(model: nn.Module, entries: Sequence[Entry]) -> list[Entry]:
    """The entries, and one for every other tensor of the model, which kept its initialization."""
    named = {entry.name for entry in entries if entry.status != "dropped"}
    rest = [(name, value.numel()) for name, value in model.state_dict().items() if name not in named]
    return [*entries, *(Entry("fresh", RANDOM, name, numbers) for name, numbers in rest)]


def load_table(model: nn.Module, entries: Sequence[Entry]) -> str:
    """The table of all tensors that were read and of the whole model.

    Args:
        model: the model with the tensors of the entries.
        entries: results of the loaders in ``start_weights.py``; other tensors are random.
    """
    entries = with_the_rest(model, entries)
    kept = [entry for entry in entries if entry.status != "dropped"]
    state = model.state_dict()
    tensors, numbers = sum(entry.tensors for entry in kept), sum(entry.numbers for entry in kept)
    assert (tensors, numbers) == (len(state), sum(value.numel() for value in state.values())), (tensors, numbers)
    lines = [
        f"start weights: the model's {tensors:,} tensors, {numbers:,} numbers",
        f"    {'':9}  {'part':17}  {'tensors':>7}  {'numbers':>13}  which",
    ]
    for source in dict.fromkeys(entry.source for entry in entries):
        lines.append(f"  {source}")
        lines += map(_row, _groups(entry for entry in entries if entry.source == source))
    return "\n".join(lines)


def _groups(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Groups of entries that make one row: they have the same status, part of the model and remark."""
    groups: dict[tuple[int, str, str], list[Entry]] = {}
    for entry in entries:
        part = "" if entry.status == "dropped" else part_of(entry.name)
        groups.setdefault((STATUSES.index(entry.status), part, entry.remark), []).append(entry)
    return [group for _, group in sorted(groups.items(), key=lambda item: item[0][0])]


def _row(group: list[Entry]) -> str:
    first = group[0]
    part = "" if first.status == "dropped" else part_of(first.name)
    names = ", ".join(entry.name for entry in group[:EXAMPLES]) + (", ..." if len(group) > EXAMPLES else "")
    tensors, numbers = sum(entry.tensors for entry in group), sum(entry.numbers for entry in group)
    remark = f": {first.remark}" if first.remark else ""
    return f"    {first.status:9}  {part:17}  {tensors:>7,}  {numbers:>13,}  {names}{remark}"
