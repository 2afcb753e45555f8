"""Sentences about two drawn pictures, in NLVR2's official form.

A set has four pairs of pictures and four sentences, each true of two pairs; for each sentence there is another one that
is true of the other two. So every sentence and every pair occurs as often with True as with False, and neither the text
nor the pictures tell anything alone.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vl_absvit.data.files import write_text
from vl_absvit.demo.language import ATTRIBUTES, PLURALS, Scene, matching, phrase, pick
from vl_absvit.demo.made_whole import Track
from vl_absvit.demo.scene import PLAIN, draw, generator, sample_scene

SPLITS = {"train": ("train", 10), "dev": ("val", 80), "test1": ("test", 40)}
"""Split -> that of its scenes, and of how many captioned pictures there is one set."""
LEAST_SETS = 2
PAIRS = 4
COUPLES = 2
"""Couples of opposite sentences of a set."""
_TRIES = 200  # sentences about a set before other pictures are drawn
_FORMS = (("shape",), ("shape",), ("colour",), ("colour",), ("colour", "shape"), ("texture", "shape"))
_COUNTS = {1: "There is one {} in the two pictures together.", 2: "There are two {} in the two pictures together.",
           3: "There are three {} in the two pictures together."}  # fmt: skip


class Claim(NamedTuple):
    """A sentence about two pictures."""

    text: str
    holds: Callable[[Scene, Scene], bool]  # of the left and the right one


class Judged(NamedTuple):
    """A sentence of a set."""

    text: str
    labels: tuple[bool, ...]  # whether it is true, of each pair


class PairSet(NamedTuple):
    """Pictures and the sentences about them."""

    pairs: Sequence[tuple[Scene, Scene]]
    sentences: Sequence[Judged]


def write_nlvr2(folder: Path, seed: int, pictures: int, pool: Executor, track: Track) -> dict[str, int]:
    """Images and ``nlvr2/data/{train,dev,test1}.json``, for as many captioned pictures. Returns counts."""
    (folder / "nlvr2/data").mkdir(parents=True)
    counts: dict[str, int] = {}
    for split, (_, share) in SPLITS.items():
        sets = max(LEAST_SETS, pictures // share)
        for number in range(sets):
            (folder / _folder(split, number)).mkdir(parents=True, exist_ok=True)
        work = pool.map(partial(_make_set, folder, split, seed), range(sets), chunksize=4)
        lines = [line for of_set in track(work, sets, f"nlvr2/{split}") for line in of_set]
        write_text(folder / f"nlvr2/data/{split}.json", "".join(f"{json.dumps(line)}\n" for line in lines))
        counts |= {f"nlvr2/{split}/images": 2 * PAIRS * sets, f"nlvr2/{split}/statements": len(lines)}
    return counts


def sample_set(rng: np.random.Generator, split: str) -> PairSet:
    """A set of pairs of scenes of a split, with couples of sentences that are true of the opposite pairs."""
    while True:
        pairs = [(sample_scene(rng, split), sample_scene(rng, split)) for _ in range(PAIRS)]
        waiting: dict[tuple[bool, ...], str] = {}
        sentences: list[Judged] = []
        for _ in range(_TRIES):
            claim = make_claim(rng)
            labels = tuple(claim.holds(*pair) for pair in pairs)
            if sum(labels) != PAIRS // 2 or claim.text in [*waiting.values(), *(each.text for each in sentences)]:
                continue
            opposite = tuple(not label for label in labels)
            if opposite in waiting:
                sentences += [Judged(waiting.pop(opposite), opposite), Judged(claim.text, labels)]
            else:
                waiting.setdefault(labels, claim.text)
            if len(sentences) == 2 * COUPLES:
                return PairSet(pairs, sentences)


def make_claim(rng: np.random.Generator) -> Claim:
    """A sentence that may be true or false of two pictures."""
    form = pick(rng, _FORMS)
    words = {name: pick(rng, ATTRIBUTES[name]) for name in form}
    thing, kind = phrase(words), pick(rng, list(_KINDS))
    things = phrase(words | {"shape": PLURALS[words["shape"]]}) if "shape" in words else f"{thing}s"
    text, holds = _KINDS[kind](rng, thing, things)
    return Claim(text, lambda left, right: holds(len(matching(left, words)), len(matching(right, words))))


Counted = tuple[str, Callable[[int, int], bool]]
"""A sentence, and when it is true, by how many things that it names are in the left and in the right picture."""


def _in_both(rng: np.random.Generator, thing: str, things: str) -> Counted:
    return f"There is a {thing} in both pictures.", lambda left, right: min(left, right) > 0


def _in_one(rng: np.random.Generator, thing: str, things: str) -> Counted:
    return f"There is a {thing} in only one of the pictures.", lambda left, right: (left > 0) != (right > 0)


def _in_neither(rng: np.random.Generator, thing: str, things: str) -> Counted:
    return f"There is no {thing} in the two pictures.", lambda left, right: left + right == 0


def _on_a_side(rng: np.random.Generator, thing: str, things: str) -> Counted:
    if rng.random() < 0.5:
        return f"There is a {thing} in the left picture.", lambda left, right: left > 0
    return f"There is a {thing} in the right picture.", lambda left, right: right > 0


def _more(rng: np.random.Generator, thing: str, things: str) -> Counted:
    if rng.random() < 0.5:
        return f"There are more {things} in the left picture.", lambda left, right: left > right
    return f"There are more {things} in the right picture.", lambda left, right: right > left


def _together(rng: np.random.Generator, thing: str, things: str) -> Counted:
    number = pick(rng, list(_COUNTS))
    text = _COUNTS[number].format(thing if number == 1 else things)
    return text, lambda left, right: left + right == number


_KINDS: dict[str, Callable[[np.random.Generator, str, str], Counted]] = {
    "both": _in_both, "one": _in_one, "neither": _in_neither, "side": _on_a_side, "more": _more, "together": _together,
}  # fmt: skip


def _make_set(folder: Path, split: str, seed: int, number: int) -> list[dict]:
    """Draw the pictures of a set; returns its lines."""
    rng = generator(seed, f"nlvr2_{split}", number)
    made = sample_set(rng, SPLITS[split][0])
    for pair, scenes in enumerate(made.pairs):
        for side, scene in enumerate(scenes):
            file = folder / _folder(split, number) / f"{split}-{number}-{pair}-img{side}.png"
            draw(scene, PLAIN, rng).save(file, compress_level=1)
    return list(_lines(split, number, made.sentences))


def _lines(split: str, number: int, sentences: Sequence[Judged]) -> Iterator[dict]:
    for pair in range(PAIRS):
        name = f"{split}-{number}-{pair}"
        urls = {f"{side}_url": f"https://drawn.example/{name}-{side}.png" for side in ("left", "right")}
        for place, (text, labels) in enumerate(sentences):
            label = str(labels[pair])
            line = {
                "validation": {"1": label},
                "sentence": text,
                **urls,
                "writer": "0",
                "label": label,
                "synset": "shape",
                "query": f"shapes{number}",
                "identifier": f"{name}-{place}",
            }
            if split == "train":
                yield line | {"directory": _folder(split, number).rpartition("/")[2]}
            else:
                yield line | {"extra_validations": {str(person): label for person in range(2, 6)}}


def _folder(split: str, number: int) -> str:
    """The official place of a set's images."""
    return f"images/train/{number % 100}" if split == "train" else split
