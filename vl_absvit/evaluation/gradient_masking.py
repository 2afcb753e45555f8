"""Does a model withstand attacks, or are its gradients of no use to them?

Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of Security", ICML 2018, arXiv:1802.00420, section 3.
"""

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

from vl_absvit.evaluation.attack_plan import Attack

MARGIN = 1.0  # percent; what random starts and few pictures move by themselves


class AttackRow(NamedTuple):
    """What an attack leaves of a model's accuracy."""

    attack: Attack
    source: str | None  # the checkpoint whose gradients it follows; None for the judged one's own
    top1: float  # percent

    @property
    def words(self) -> str:
        """The attack, for people."""
        return self.attack.words + ("" if self.source is None else f", by the gradients of {self.source}")


def masking_signs(clean: float, rows: Sequence[AttackRow]) -> list[str]:
    """What speaks for masked gradients: an attack that helps, a stronger one that leaves more.

    A larger radius or more steps make an attack stronger; so do the model's own gradients instead of another's.

    Args:
        clean: top-1 accuracy without an attack, in percent.
    """
    return [
        f"its gradients may be masked: {strong} leaves {more:.2f} %, {weak} {less:.2f} %"
        for weak, less, strong, more in _pairs(clean, rows)
        if more > less + MARGIN
    ]


def _pairs(clean: float, rows: Sequence[AttackRow]) -> Iterator[tuple[str, float, str, float]]:
    """Words and accuracy of a weaker attack, and of a stronger one."""
    for row in rows:
        yield "no attack", clean, row.words, row.top1
    for weak, strong in permutations(rows, 2):
        if _is_stronger(strong, weak):
            yield weak.words, weak.top1, strong.words, strong.top1


def _is_stronger(one: AttackRow, other: AttackRow) -> bool:
    if one.source != other.source:
        return one.source is None and one.attack == other.attack
    kinds = [row.attack._replace(eps=0.0, step=0.0, steps=0) for row in (one, other)]
    if kinds[0] != kinds[1]:
        return False
    sizes = [(row.attack.eps, row.attack.steps) for row in (one, other)]
    return sizes[0] != sizes[1] and all(more >= less for more, less in zip(*sizes, strict=True))
