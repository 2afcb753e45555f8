"""The vocabulary of prepared questions: read or counted, and checked against their answers."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from vl_absvit.data.answers import (
    NORMALISE,
    AnswerVocabulary,
    Normaliser,
    build_vocabulary,
    meter_normalise,
    normalise_answer,
    plain_answer,
)
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError


class Rule(NamedTuple):
    """How answers become labels, by the official evaluator's rule, METER's or the plain one."""

    normaliser: Normaliser
    normalise: Callable[[str], str]  # applied to answers that are counted
    order: Literal["frequency", "first_seen"]  # of the vocabulary, see ``build_vocabulary``
    lookup: Callable[[str], str]  # applied to a question's answers before they are looked up

    def read(self, path: Path) -> AnswerVocabulary:
        """Read a published vocabulary, or our own.

        Raises:
            InputError: it cannot be read, or was normalised by the other rule.
        """
        vocabulary = AnswerVocabulary.from_published(path, self.normaliser)
        if vocabulary.normaliser != self.normaliser:
            raise InputError(
                f"{path}: was normalised by {vocabulary.normaliser}, this run goes by {self.normaliser}; "
                "give --meter-compatible if and only if it was given then"
            )
        return vocabulary

    def counts(self, answers: Iterable[tuple[str, int]]) -> Counter[str]:
        """Counts of normalised answers, in order of first occurrence."""
        counts: Counter[str] = Counter()
        for answer, count in answers:
            counts[self.normalise(answer)] += count
        return counts

    def frequent(self, counts: Mapping[str, int], min_count: int, root: Path) -> AnswerVocabulary | None:
        """The vocabulary of the frequent answers; None if there are no answers.

        Args:
            counts: as ``counts`` returns them.
            root: folder of the raw data, for the message.

        Raises:
            InputError: no answer is frequent enough.
        """
        if not counts:
            return None
        answers = build_vocabulary(counts, min_count, self.order)
        if not answers:
            raise InputError(
                f"{root}: no answer occurs {min_count} times, the most frequent one {max(counts.values())} times; "
                "lower --min-count"
            )
        return AnswerVocabulary(tuple(answers), min_count, self.normaliser)


RULES = {
    False: Rule("vqa-official-1", normalise_answer, "frequency", normalise_answer),
    True: Rule("meter-1", meter_normalise, "first_seen", str),
}
"""Whether METER's rule applies -> the rule."""
OWN = Rule("plain-1", plain_answer, "frequency", plain_answer)
"""The rule for data of one's own, where questions have not ten answers each."""


def rule_of(vocabulary: AnswerVocabulary) -> Rule:
    """The rule for data of one's own that has the answers of a given vocabulary: all are normalised as these were."""
    normalise = NORMALISE[vocabulary.normaliser]
    return Rule(vocabulary.normaliser, normalise, "frequency", normalise)


def check_any_occurs(vocabulary: AnswerVocabulary, counts: Mapping[str, int], path: Path) -> None:
    """Refuse a vocabulary that shares no answer with those that are counted.

    Args:
        counts: counts of these answers, normalised: of VQAv2's questions, the most frequent answer to each.
        path: file of the vocabulary, for the message.

    Raises:
        InputError: it shares none; the message names a frequent answer and one of the vocabulary.
    """
    if vocabulary.index.keys().isdisjoint(counts):
        frequent = max(counts, key=counts.__getitem__)
        raise InputError(
            f"{path}: none of its {len(vocabulary):,} answers, such as {shown(vocabulary.answers[0])}, is one that the "
            f"questions have, such as {shown(frequent)}"
        )


def never_targets(vocabulary: AnswerVocabulary, annotated: Mapping[str, pa.Table], rule: Rule) -> list[str]:
    """A warning about answers of the vocabulary that are no question's target, with the reasons.

    Args:
        annotated: split -> its table.
    """
    labels = (pc.list_flatten(table.column("labels")) for table in annotated.values())
    occurring = set().union(*(pc.unique(column).to_pylist() for column in labels))
    never = [answer for label, answer in enumerate(vocabulary.answers) if label not in occurring]
    otherwise = [answer for answer in never if rule.lookup(answer) != answer]
    absent = [answer for answer in never if rule.lookup(answer) == answer]
    reasons = []
    if otherwise:
        example = f"{shown(otherwise[0])} instead of {shown(rule.lookup(otherwise[0]))}"
        reasons.append(f"{len(otherwise):,} are not in the form that answers are normalised to, e.g. {example}")
    if absent:
        reasons.append(f"{len(absent):,} are no answer in {', '.join(annotated)}, e.g. {shown(absent[0])}")
    if not never:
        return []
    return [f"{len(never):,} of the vocabulary's {len(vocabulary):,} answers are no target: {'; '.join(reasons)}"]
