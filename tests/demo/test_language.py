"""Questions, answers and captions of the demo world: true by a second route, balanced, different."""

import re
from collections import Counter, defaultdict

import pytest

from vl_absvit.demo.captions import describe, words_of
from vl_absvit.demo.language import ATTRIBUTES, KINDS, PLURALS, ask, human_answers, matching
from vl_absvit.demo.scene import generator, sample_scene


@pytest.fixture(scope="module")
def scenes():
    """Three hundred scenes, each with six questions."""
    made = []
    for number in range(300):
        rng = generator(7, "test", number)
        scene = sample_scene(rng)
        made.append((scene, ask(scene, rng, 6)))
    return made


def described(text, scene):
    """The objects that the attribute words of ``text`` describe, by brute force."""
    singular = {plural: shape for shape, plural in PLURALS.items()}
    words = [singular.get(word, word) for word in words_of(text)]
    wanted = {name: word for name, values in ATTRIBUTES.items() for word in words if word in values}
    return matching(scene, wanted)


def true_answer(text, scene):
    """The answer read off the scene by a second, independent route; None for a question it cannot parse."""
    low = text.lower().rstrip("?")
    if found := re.fullmatch(r"is the (.+?) (?:to the )?(left of|right of|above|below|under) the (.+)", low):
        (first,), (second,) = described(found[1], scene), described(found[3], scene)
        true = {"left of": first.x < second.x, "right of": first.x > second.x, "above": first.y < second.y}
        true["below"] = true["under"] = first.y > second.y
        return "yes" if true[found[2]] else "no"
    if found := re.fullmatch(r"what (color|shape) is the object (left of|right of|above|below) the (.+)", low):
        (anchor,) = described(found[3], scene)
        side = {"left of": lambda t: anchor.x - t.x, "right of": lambda t: t.x - anchor.x,
                "above": lambda t: anchor.y - t.y, "below": lambda t: t.y - anchor.y}[found[2]]  # fmt: skip
        thing = max(scene, key=side)
        return thing.colour if found[1] == "color" else thing.shape
    if low.startswith("how many"):
        return str(len(described(low, scene)))
    if low.startswith(("is there", "do you see")):
        return "yes" if described(low, scene) else "no"
    if low.endswith(("small or large", "solid, striped or dotted")):
        noun, name = re.sub("small or large|solid, striped or dotted", "", low), "size" if "large" in low else "texture"
        (thing,) = described(noun, scene)
        return getattr(thing, name)
    if found := re.fullmatch(r"is the (.+) (?:a )?(\w+)", low):
        (thing,) = described(found[1].removesuffix(" a"), scene)
        return "yes" if found[2] in vars(thing).values() else "no"
    (thing,) = described(low, scene)
    for word, name in (("color", "colour"), ("pattern", "texture"), ("size", "size")):
        if word in low:
            return getattr(thing, name)
    return thing.shape


def test_every_answer_is_true(scenes):
    for scene, questions in scenes:
        for question in questions:
            assert question.answer == true_answer(question.text, scene), (question, scene)


def test_boxes_are_those_of_the_objects_in_the_scene(scenes):
    for scene, questions in scenes:
        boxes = [thing.box for thing in scene]
        for question in questions:
            assert all(box in boxes for box in question.boxes)
            if question.answer_type == "other":
                assert question.boxes
            if question.answer_type == "number" and question.boxes:
                assert len(question.boxes) == int(question.answer)


def test_answers_are_balanced_and_types_have_their_shares(scenes):
    questions = [question for _, asked in scenes for question in asked]
    assert len(questions) == 6 * len(scenes)
    share = {kind: count / len(questions) for kind, count in Counter(q.answer_type for q in questions).items()}
    assert share["other"] == pytest.approx(0.5, abs=0.06)
    assert share["yes/no"] == pytest.approx(0.4, abs=0.06)
    assert share["number"] == pytest.approx(0.09, abs=0.04)
    per_type = defaultdict(Counter)
    for question in questions:
        per_type[question.question_type][question.answer] += 1
    best_constant = sum(answers.most_common(1)[0][1] for answers in per_type.values()) / len(questions)
    assert best_constant < 0.4
    truths = Counter(q.answer for q in questions if q.answer_type == "yes/no")
    assert truths["yes"] / truths.total() == pytest.approx(0.5, abs=0.06)
    assert "none of the above" not in per_type


def test_every_kind_is_common_enough_to_be_learned(scenes):
    counts = Counter(question.kind for _, asked in scenes for question in asked)
    assert counts.keys() == KINDS.keys()
    assert min(counts.values()) > 0.015 * counts.total() and counts["related"] > 0.04 * counts.total()


def test_kinds_are_told_by_their_words(scenes):
    openings = {
        "beside": r"What (color|shape) is the object (left of|right of|above|below) the ", "count": "How many ",
        "texture": r"What pattern |Is the .+ solid, striped or dotted", "existence": "(Is there|Do you see) a ",
        "related": r"Is the .+ ((to the )?(left|right) of|above|below|under) the ", "has": "Is the ",
        "colour": r"(What|Which) .*color", "shape": r"(What|Which) ",
    }  # fmt: skip
    for question in (question for _, asked in scenes for question in asked):
        assert next(kind for kind, words in openings.items() if re.match(words, question.text)) == question.kind


def test_textures_and_relations_cannot_be_guessed(scenes):
    answers, where = defaultdict(Counter), defaultdict(Counter)
    for question in (question for _, asked in scenes for question in asked):
        answers[question.kind][question.answer] += 1
        if question.kind == "related":
            where[re.search("left|right|above|below|under", question.text)[0]][question.answer] += 1
    for kind, chance in (("texture", 1 / 3), ("related", 1 / 2)):
        assert max(answers[kind].values()) / answers[kind].total() == pytest.approx(chance, abs=0.12)
    assert max(answers["beside"].values()) < 0.25 * answers["beside"].total()
    assert sum(max(of.values()) for of in where.values()) / sum(of.total() for of in where.values()) < 0.66


def test_questions_of_a_scene_differ(scenes):
    assert all(len({question.text for question in asked}) == len(asked) for _, asked in scenes)


@pytest.mark.parametrize("truth", ["red", "cross", "2", "0", "yes", "striped"])
def test_at_least_six_of_ten_annotators_agree_and_some_do_not(truth):
    answers = [human_answers(truth, generator(0, truth, n)) for n in range(60)]
    agreeing = [sum(given.answer == truth for given in ten) for ten in answers]
    assert all(len(ten) == 10 for ten in answers) and min(agreeing) >= 6
    assert min(agreeing) < 10 == max(agreeing)
    assert {given.confidence for ten in answers for given in ten} == {"yes", "maybe", "no"}
    assert all(given.answer for ten in answers for given in ten)


def test_captions_differ_and_tell_the_truth(scenes):
    for number, (scene, _) in enumerate(scenes[:100]):
        captions = describe(scene, generator(0, "caption", number))
        assert len(set(captions)) == 5
        for caption in captions:
            nouns = re.findall(r"a ((?:\w+ )*?(?:circle|square|triangle|star|cross|ring))\b", caption.lower())
            assert all(described(noun, scene) for noun in nouns), (caption, scene)
