"""Questions about a scene of the demo world, and ten human answers to each.

A question is asked only where the scene answers it without doubt: "the star" needs exactly one star. Answers are
balanced so that the wording alone gives little away. Everything is a pure function of a numpy ``Generator``.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from vl_absvit.demo.scene import CELL, COLOURS, SHAPES, SIZES, TEXTURES, Thing

Option = TypeVar("Option")
Scene = Sequence[Thing]
ATTRIBUTES = {"colour": tuple(COLOURS), "shape": SHAPES, "texture": TEXTURES, "size": tuple(SIZES)}
QUESTION_TYPES = (
    "what color is the", "what is the color of the", "which color has the", "what shape is the",
    "what is the shape of the", "which shape has the", "what is the", "what pattern", "how many",
    "is there a", "do you see a", "is the",
)  # fmt: skip
PLURALS = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}


class Question(NamedTuple):
    kind: str  # one of KINDS
    text: str
    answer: str
    answer_type: str  # "other", "yes/no" or "number"
    boxes: list[list[int]]  # of the objects that the question names, (x0, y0, x1, y1) in pixels; may be empty

    @property
    def question_type(self) -> str:
        """The longest of the known openings, as in VQAv2."""
        fitting = [start for start in QUESTION_TYPES if self.text.lower().startswith(start + " ")]
        return max(fitting, key=len, default="none of the above")


class HumanAnswer(NamedTuple):
    answer: str
    confidence: str  # "yes", "maybe" or "no"


def ask(scene: Scene, rng: np.random.Generator, count: int) -> list[Question]:
    """Different questions about one scene, their kinds drawn by ``KINDS``; fewer if the scene has no more."""
    makers, shares = list(KINDS.values()), np.array([kind.share for kind in KINDS.values()])
    questions: dict[str, Question] = {}
    for pick in rng.choice(len(makers), size=10 * count, p=shares / shares.sum()):
        question = makers[pick].make(scene, rng)
        if question is not None:
            questions.setdefault(question.text, question)
        if len(questions) == count:
            break
    return list(questions.values())


def pick(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    """One of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def phrase(words: dict[str, str]) -> str:
    """A noun phrase without article: {"size": "small", "colour": "red"} -> "small red object"."""
    adjectives = [words[name] for name in ("size", "texture", "colour") if name in words]
    return " ".join([*adjectives, words.get("shape", "object")])


def matching(scene: Scene, words: dict[str, str]) -> list[Thing]:
    """The objects that a description fits."""
    return [thing for thing in scene if all(getattr(thing, name) == value for name, value in words.items())]


def refer(
    scene: Scene, rng: np.random.Generator, forms: Sequence[tuple[str, ...]], among: Scene | None = None
) -> tuple[str, Thing] | None:
    """A phrase that fits exactly one object, by one of the given sets of attributes; None where there is none.

    Args:
        among: the objects that it may be; all of the scene if None.
    """
    form = pick(rng, forms)
    unique = [thing for thing in (scene if among is None else among) if len(matching(scene, _words(thing, form))) == 1]
    if not unique:
        return None
    thing = pick(rng, unique)
    return phrase(_words(thing, form)), thing


def _words(thing: Thing, form: Sequence[str]) -> dict[str, str]:
    return {name: getattr(thing, name) for name in form}


def _attribute(name: str, forms: Sequence[tuple[str, ...]], templates: Sequence[str]) -> Callable:
    """A maker of questions for one attribute of one object."""

    def make(scene: Scene, rng: np.random.Generator) -> Question | None:
        found = refer(scene, rng, forms)
        if found is None:
            return None
        words, thing = found
        return Question(name, pick(rng, templates).format(words), getattr(thing, name), "other", [thing.box])

    return make


def _texture(scene: Scene, rng: np.random.Generator) -> Question | None:
    """The texture of one object; every texture is asked for as often as the others, though most objects are solid."""
    wanted = rng.choice(TEXTURES, p=_TEXTURE_SHARE)
    found = refer(scene, rng, _ANY, [thing for thing in scene if thing.texture == wanted])
    if found is None:
        return None
    words, thing = found
    return Question("texture", pick(rng, _TEXTURE).format(words), thing.texture, "other", [thing.box])


def _beside(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Colour or shape of the only object on one side of a named one."""
    name, axis, sign = pick(rng, [("left of", "x", -1), ("right of", "x", 1), ("above", "y", -1), ("below", "y", 1)])
    beyond = {thing: _beyond(scene, thing, axis, sign) for thing in scene}
    found = refer(scene, rng, [("shape",), ("colour", "shape")], [thing for thing in scene if len(beyond[thing]) == 1])
    if found is None:
        return None
    words, anchor = found
    (thing,) = beyond[anchor]
    word, answer = pick(rng, [("color", thing.colour), ("shape", thing.shape)])
    text = f"What {word} is the object {name} the {words}?"
    return Question("beside", text, answer, "other", [thing.box, anchor.box])


def _beyond(scene: Scene, anchor: Thing, axis: str, sign: int) -> list[Thing]:
    """The objects whose column or row lies on one side of the anchor's."""
    return [thing for thing in scene if sign * (getattr(thing, axis) - getattr(anchor, axis)) > CELL // 2]


def _exists(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Existence; a missing object differs as little as possible from one that is there."""
    form = pick(rng, [("colour", "shape")] * 4 + [("shape",), ("colour",), ("texture", "shape")])
    is_there = rng.random() < 0.5
    if is_there:
        words = _words(pick(rng, scene), form)
    elif len(form) == 1:
        missing = [value for value in ATTRIBUTES[form[0]] if not matching(scene, {form[0]: value})]
        words = {form[0]: pick(rng, missing)}
    else:
        mixed = [_words(a, form[:1]) | _words(b, form[1:]) for a in scene for b in scene]
        absent = [words for words in mixed if not matching(scene, words)]
        words = pick(rng, absent or [_absent(scene, rng, form)])
    templates = ["Is there a {}?", "Is there a {} in the picture?", "Is there a {} here?", "Do you see a {}?"]
    boxes = [thing.box for thing in matching(scene, words)]
    text = pick(rng, templates).format(phrase(words))
    return Question("existence", text, "yes" if is_there else "no", "yes/no", boxes)


def _absent(scene: Scene, rng: np.random.Generator, form: Sequence[str]) -> dict[str, str]:
    """A description of the given form that fits no object."""
    while True:
        words = {name: pick(rng, ATTRIBUTES[name]) for name in form}
        if not matching(scene, words):
            return words


def _has(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Whether a named object has a colour or shape; the wrong value often belongs to another object."""
    name, forms = pick(rng, [("colour", [("shape",), ("shape",), ("texture", "shape")])] * 3
                       + [("shape", [("colour",), ("texture", "colour")])] * 2)  # fmt: skip
    found = refer(scene, rng, forms)
    if found is None:
        return None
    words, thing = found
    value = getattr(thing, name)
    if is_true := rng.random() < 0.5:
        asked = value
    else:
        others = [getattr(other, name) for other in scene if getattr(other, name) != value]
        asked = pick(rng, others if others and rng.random() < 0.7 else [v for v in ATTRIBUTES[name] if v != value])
    asked = f"a {asked}" if name == "shape" else asked
    return Question("has", f"Is the {words} {asked}?", "yes" if is_true else "no", "yes/no", [thing.box])


def _related(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Whether one named object lies left or right of, above or below another named one."""
    forms = [("shape",), ("colour", "shape")]
    first, second = refer(scene, rng, forms), refer(scene, rng, forms)
    if first is None or second is None or first[1] is second[1]:
        return None
    (words, thing), (other_words, other) = first, second
    dx, dy = thing.x - other.x, thing.y - other.y
    if abs(abs(dx) - abs(dy)) < 8 or max(abs(dx), abs(dy)) < 20:
        return None
    if abs(dx) > abs(dy):
        sides = [pick(rng, ["left of", "to the left of"]), pick(rng, ["right of", "to the right of"])]
        is_second = dx > 0
    else:
        sides, is_second = ["above", pick(rng, ["below", "under"])], dy > 0
    is_true = rng.random() < 0.5
    side = sides[is_second == is_true]
    text = f"Is the {words} {side} the {other_words}?"
    return Question("related", text, "yes" if is_true else "no", "yes/no", [thing.box, other.box])


_COUNT_WEIGHT = (1.0, 1.0, 1.3, 2.0, 0.0, 0.0)
"""How eagerly a count of 0 to 5 is asked where the scene offers it; counts above 3 are too rare to learn from."""


def _count(scene: Scene, rng: np.random.Generator) -> Question:
    """How many objects have a colour or a shape."""
    name = pick(rng, ["colour", "shape"])
    values = ATTRIBUTES[name]
    present = [value for value in values if matching(scene, {name: value})]
    absent = [value for value in values if value not in present]
    options = present + absent[:: max(1, len(absent) - 1)]
    weight = np.array([_COUNT_WEIGHT[len(matching(scene, {name: value}))] for value in options])
    value = options[int(rng.choice(len(options), p=weight / weight.sum()))]
    things = matching(scene, {name: value})
    plural = PLURALS[value] if name == "shape" else f"{value} objects"
    ending = pick(rng, ["are there", "are in the picture", "do you see", "can you count"])
    text = f"How many {plural} {ending}?"
    return Question("count", text, str(len(things)), "number", [thing.box for thing in things])


_COLOUR = ["What color is the {}?", "What color is the {} in the picture?", "What is the color of the {}?",
           "Which color has the {}?"]  # fmt: skip
_SHAPE = ["What shape is the {}?", "What is the shape of the {}?", "What is the {}?", "Which shape has the {}?"]

_TEXTURE = ["What pattern is on the {}?", "What pattern has the {}?", "Is the {} solid, striped or dotted?"]
_ANY = [("shape",), ("colour",), ("colour", "shape")]
_TEXTURE_SHARE = (0.2, 0.4, 0.4)
"""How often each texture is sought: two in five scenes hold nothing striped, and as many nothing dotted."""


class Kind(NamedTuple):
    make: Callable[[Scene, np.random.Generator], Question | None]
    share: float  # how often it is tried, relative to the others


KINDS = {
    "colour": Kind(_attribute("colour", [("shape",), ("shape",), ("shape",), ("texture", "shape")], _COLOUR), 24),
    "shape": Kind(_attribute("shape", [("colour",), ("colour",), ("colour",), ("texture", "colour")], _SHAPE), 20),
    "texture": Kind(_texture, 12),
    "beside": Kind(_beside, 5),
    "existence": Kind(_exists, 18),
    "has": Kind(_has, 11),
    "related": Kind(_related, 12),
    "count": Kind(_count, 9),
}
"""The kinds of questions; those that often find nothing to ask are tried more often."""


_OTHER_WORDS = {
    "red": ["dark red", "crimson", "orange"], "green": ["dark green", "lime", "teal"],
    "blue": ["dark blue", "navy", "purple"], "yellow": ["gold", "bright yellow", "orange"],
    "purple": ["violet", "magenta", "pink"], "cyan": ["light blue", "turquoise", "teal"],
    "white": ["light gray", "silver", "off white"], "circle": ["round", "disc", "ball"],
    "square": ["box", "block", "rectangle"], "triangle": ["pyramid", "cone"], "star": ["a star", "starfish"],
    "cross": ["plus", "plus sign", "x"], "ring": ["donut", "hoop", "circle"], "solid": ["plain", "none"],
    "striped": ["stripes", "lines", "zebra"], "dotted": ["dots", "spotted", "polka dot"],
    "small": ["little", "tiny", "medium"], "large": ["big", "huge", "medium"],
    "yes": ["no", "i think so"], "no": ["yes", "nope"],
}  # fmt: skip
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")


def human_answers(truth: str, rng: np.random.Generator) -> list[HumanAnswer]:
    """Ten annotators: at least six give the very answer, the others a synonym, a typo or a mistake."""
    dissenters = int(rng.choice(5, p=[0.42, 0.25, 0.17, 0.1, 0.06]))
    given = []
    for order in rng.permutation(10):
        agrees = order >= dissenters
        sureness = [0.92, 0.07, 0.01] if agrees else [0.5, 0.35, 0.15]
        confidence = str(rng.choice(["yes", "maybe", "no"], p=sureness))
        given.append(HumanAnswer(truth if agrees else _variant(truth, rng), confidence))
    return given


def _variant(truth: str, rng: np.random.Generator) -> str:
    """The answer of a dissenting annotator; never ``truth`` itself."""
    if truth.isdigit():
        near = [str(number) for number in (int(truth) - 1, int(truth) + 1) if number >= 0]
        return pick(rng, [_NUMBERS[int(truth)], _NUMBERS[int(truth)].capitalize(), *near])
    if truth in ("yes", "no"):
        return pick(rng, _OTHER_WORDS[truth][:1] * 3 + _OTHER_WORDS[truth][1:] + [truth.capitalize()])
    cut = int(rng.integers(1, len(truth)))
    slips = [truth[:cut] + truth[cut + 1 :], truth.capitalize(), f"{truth}.", PLURALS.get(truth, f"very {truth}")]
    return pick(rng, _OTHER_WORDS[truth]) if rng.random() < 0.6 else pick(rng, slips)
