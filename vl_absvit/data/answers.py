"""Answers of VQAv2: normalisation, the answer vocabulary, and soft targets.

The normalisation is that of the official evaluator (github.com/GT-Vision-Lab/VQA), a Python 2 program. Its mistakes are
kept, named and tested. METER ran the same rules under Python 3, which treats some characters differently.
"""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vl_absvit.data.json_files import form_name, read_json, write_json
from vl_absvit.data.python2 import WHITESPACE, lower, split
from vl_absvit.data.vocabulary_files import checked_answers, read_answers
from vl_absvit.errors import InputError

Normaliser = Literal["vqa-official-1", "meter-1", "plain-1"]

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_NUMBER_WORDS = {"none": "0"} | {
    word: str(number) for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
}
_ARTICLES = {"a", "an", "the"}
# A contraction is recognised without one of its apostrophes: "couldnt've" and "couldn'tve" become "couldn't've".
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
    he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
    needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
    somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll
    that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
    weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll
    why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()
_WITH_APOSTROPHE = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTIONS
    for place, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}  # the official table has this one the wrong way round
# The official code passes a flag of value 32 as the number of replacements.
_MAX_PERIODS = 32


def _process(text: str, *, digit: str, lower: Callable[[str], str], split: Callable[[str], list[str]]) -> str:
    """Punctuation, then words: the rules that the official evaluator and METER share.

    Args:
        digit: pattern of one digit.
        lower: lower-casing.
        split: splitting at white space.
    """
    all_vanish = re.search(f"{digit},{digit}", text) is not None
    result = text
    for mark in _PUNCTUATION:
        vanishes = all_vanish or f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if vanishes else " ")
    result = re.sub(rf"\.(?!{digit})", "", result, count=_MAX_PERIODS)
    words = (_NUMBER_WORDS.get(word, word) for word in split(lower(result)))
    return " ".join(_WITH_APOSTROPHE.get(word, word) for word in words if word not in _ARTICLES)


def strip_answer(text: str) -> str:
    """The official evaluator's treatment of every answer: newlines and tabs become spaces, the ends are stripped."""
    return text.replace("\n", " ").replace("\t", " ").strip(WHITESPACE)


@functools.lru_cache(maxsize=1 << 17)
def normalise_answer(text: str) -> str:
    """The official evaluator's whole processing of one answer. It uses only ``strip_answer`` if all ten answers agree.

    "The Two.  cats" -> "2 cats"; "1,000 lb." -> "1000 lb"; "dont know" -> "don't know". "3.5", apostrophes and : $ % &
    stay. Contractions with a capital in the official table ("Im") never match, because the text is lower case.
    """
    return _process(strip_answer(text), digit="[0-9]", lower=lower, split=split)


@functools.lru_cache(maxsize=1 << 17)
def meter_normalise(text: str) -> str:
    """METER's rule for the vocabulary: no stripping first, and Python 3's digits and lower case."""
    return _process(text, digit=r"\d", lower=str.lower, split=str.split)


def plain_answer(text: str) -> str:
    """The rule for answers that are not VQAv2's: case and white space do not count, everything else does.

    "-5" is not "5", "C++" is not "C", and "A" is an answer; the official rule takes them for "5", "c" and nothing.
    """
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


NORMALISE: dict[Normaliser, Callable[[str], str]] = {
    "vqa-official-1": normalise_answer,
    "meter-1": meter_normalise,
    "plain-1": plain_answer,
}


def build_vocabulary(
    counts: Mapping[str, int], min_count: int = 9, order: Literal["frequency", "first_seen"] = "frequency"
) -> list[str]:
    """The answers that occur at least ``min_count`` times.

    Args:
        counts: how often each normalised answer is the most frequent one of a question, train and val together.
        order: ``frequency`` sorts by descending count, then by string; ``first_seen`` keeps the mapping's, as METER.
    """
    kept = [answer for answer, count in counts.items() if count >= min_count]
    return kept if order == "first_seen" else sorted(kept, key=lambda answer: (-counts[answer], answer))


SOFT_SCORE = "min(1, 3 x share of the question's answers that are this one)"


@functools.lru_cache(maxsize=1024)
def soft_score(count: int, answers: int) -> float:
    """``SOFT_SCORE`` of an answer that ``count`` of ``answers`` people gave.

    With ten people it is the official accuracy: 0.3, 0.6, 0.9 and 1, the mean over the subsets that leave one of them
    out. A single answer scores 1, and so does each of three that differ; one of five scores 0.6.
    """
    return min(3 * count, answers) / answers


def soft_targets(answers: Sequence[str], index: Mapping[str, int]) -> tuple[list[int], list[float]]:
    """Labels and soft scores of one question, in order of first occurrence. Both are empty if no answer is known.

    Args:
        answers: the question's answers, ten in VQAv2, normalised like the vocabulary (METER looks up raw answers).
        index: answer -> label.
    """
    counts: dict[int, int] = {}
    for answer in answers:
        if (label := index.get(answer)) is not None:
            counts[label] = counts.get(label, 0) + 1
    return list(counts), [soft_score(count, len(answers)) for count in counts.values()]


@dataclass(frozen=True)
class AnswerVocabulary:
    """The answers that a model chooses from, in the order of its labels."""

    answers: tuple[str, ...]
    min_count: int
    normaliser: Normaliser

    def __len__(self) -> int:
        return len(self.answers)

    @functools.cached_property
    def index(self) -> Mapping[str, int]:
        """Answer -> label."""
        return {answer: label for label, answer in enumerate(self.answers)}

    @functools.cached_property
    def sha256(self) -> str:
        """Fingerprint of the answers and their order."""
        return hashlib.sha256("\n".join(self.answers).encode("utf-8", "surrogatepass")).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write ``answers.json``, whole or not at all."""
        content = {
            "format": 1,
            "size": len(self),
            "min_count": self.min_count,
            "normaliser": self.normaliser,
            "answers": list(self.answers),
            "sha256": self.sha256,
        }
        write_json(path, content, indent=1)

    @classmethod
    def load(cls, path: str | Path) -> "AnswerVocabulary":
        """Read ``answers.json`` as written by ``save``.

        Raises:
            InputError: the file is missing or has another form, or its size or hash do not fit its answers.
        """
        content = read_json(path, dict)
        keys = ("format", "size", "min_count", "normaliser", "answers", "sha256")
        missing = [key for key in keys if key not in content]
        if missing:
            raise InputError(f"{path}: expected an answer vocabulary, but it has no {missing[0]!r}")
        if content["format"] != 1:
            raise InputError(f"{path}: expected vocabulary format 1, got {content['format']!r}")
        if content["normaliser"] not in list(NORMALISE):
            raise InputError(f"{path}: normaliser {content['normaliser']!r} is not one of {list(NORMALISE)}")
        if type(content["min_count"]) is not int:
            raise InputError(f"{path}: expected min_count to be an integer, got {form_name(content['min_count'])}")
        vocabulary = cls(checked_answers(content["answers"], path), content["min_count"], content["normaliser"])
        if content["size"] != len(vocabulary):
            raise InputError(f"{path}: says it holds {content['size']!r} answers, but it holds {len(vocabulary)}")
        if content["sha256"] != vocabulary.sha256:
            expected = f"{content['sha256']!r:.80}"
            raise InputError(f"{path}: the answers were changed: their sha256 is {vocabulary.sha256}, not {expected}")
        return vocabulary

    @classmethod
    def from_published(cls, path: str | Path, normaliser: Normaliser = "vqa-official-1") -> "AnswerVocabulary":
        """Read a published vocabulary in any form of ``vocabulary_files``, or our own ``answers.json``.

        ``min_count`` of a published one is 1, because it does not say how often its answers occur.

        Args:
            normaliser: how a question's answers are normalised before they are looked up in a published vocabulary.

        Raises:
            InputError: the file has none of these forms.
        """
        if _is_our_own(path):
            return cls.load(path)
        return cls(read_answers(path), min_count=1, normaliser=normaliser)


def _is_our_own(path: str | Path) -> bool:
    try:
        content = read_json(path)
    except InputError:  # another form; or a fault that its reader will name
        return False
    return isinstance(content, dict) and isinstance(content.get("answers"), list)
