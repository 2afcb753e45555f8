"""Normalisation by the official evaluator's rules; soft targets and label order against what METER itself wrote."""

import json
from pathlib import Path

import pytest

from vl_absvit.data.answers import AnswerVocabulary, build_vocabulary, meter_normalise, normalise_answer, soft_targets
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.errors import InputError

SHARED = Path(__file__).parents[2] / "../shared"


def shared(path):
    """A reference file, or a skip that says which is absent."""
    if not (SHARED / path).exists():
        pytest.skip(f"{path} is not here")
    return SHARED / path


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("The Two.  cats", "2 cats"),
        ("A an the", ""),
        ("None", "0"),
        ("TEN", "10"),
        ("twenty-one", "twenty 1"),
        ("dont know", "don't know"),
        ("couldnt've couldn'tve", "couldn't've couldn't've"),
        ("ow's'at 'ows'at 'ow'sat", "'ow's'at 'ow's'at 'ow's'at"),
        ("somebody'd", "somebodyd"),
        ("Im Ive", "im ive"),  # the official keys have a capital and never match
        ("well were", "well were"),
        ("let's", "let's"),
        ("it's 9:30, 50% & $5", "it's 9:30 50% & $5"),
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("3.5", "3.5"),
        (".5 5. U.S.A.", ".5 5 usa"),
        ("." * 40, "." * 8),  # at most 32 periods go
        ("1,000-lb", "1000lb"),  # one digit,digit and every mark goes without a space
        ("1, 2-3", "1 2 3"),
        ("1;,2", "1 2"),  # no digit,digit in the original, though a later step makes one
        ("x\t1,\n2", "x 1 2"),
        ("\u0663,\u0664-a", "\u0663 \u0664"),  # other scripts' digits are none
        ("5.\u0663", "5\u0663"),
        ("\u180eΟΔΟΣ\u180e", "οδοσ"),
        ("d’accord", "d’accord"),  # only the ASCII apostrophe counts
        ("", ""),
    ],
)
def test_official_normalisation_by_hand(raw, expected):
    assert normalise_answer(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("The Two.  cats", "2 cats"),
        ("\u0663,\u0664-a", "\u0663\u0664a"),
        ("5.\u0663", "5.\u0663"),
        ("ΟΔΟΣ", "οδος"),
        ("a\n-b", "b"),
        ("x\n-y z", "x y z"),
    ],
)
def test_meter_normalises_by_the_rules_of_python_3(raw, expected):
    assert meter_normalise(raw) == expected


def test_a_vocabulary_is_ordered_by_count_then_string():
    counts = {"rare": 8, "two": 9, "cat": 12, "bus": 12, "": 9}
    assert build_vocabulary(counts) == ["bus", "cat", "", "two"]
    assert build_vocabulary(counts, min_count=12, order="first_seen") == ["cat", "bus"]


def test_soft_targets_by_hand():
    answers = ["b"] * 2 + ["a"] * 4 + ["d"] + ["c"] * 3
    assert soft_targets(answers, {"a": 0, "b": 1, "c": 2, "d": 3}) == ([1, 0, 3, 2], [0.6, 1.0, 0.3, 0.9])
    assert soft_targets(["a"] * 10, {"a": 5}) == ([5], [1.0])
    assert soft_targets(answers, {"e": 0}) == ([], [])


def test_soft_targets_are_those_of_meter_on_real_questions():
    targets = read_json(shared("data/vqa-eval-gold/meter_soft_targets_excerpt2000.json"))["targets"]
    vocabulary = AnswerVocabulary.from_published(shared("data/answer-vocab/openvqa_answer_dict.json"), "meter-1")
    annotations = read_json(shared("data/vqav2-excerpt-2000/v2_mscoco_train2014_annotations.json"))["annotations"]
    assert len(annotations) == len(targets) == 2000
    for annotation in annotations:
        labels, scores = soft_targets([record["answer"] for record in annotation["answers"]], vocabulary.index)
        assert {"labels": labels, "scores": scores} == targets[str(annotation["question_id"])]


def test_a_saved_vocabulary_loads_equal(tmp_path):
    vocabulary = AnswerVocabulary(("yes", "no", "", "Σ"), 9, "vqa-official-1")
    vocabulary.save(tmp_path / "answers.json")
    loaded = AnswerVocabulary.load(tmp_path / "answers.json")
    assert loaded == vocabulary and loaded.index == {"yes": 0, "no": 1, "": 2, "Σ": 3} and len(loaded) == 4
    assert AnswerVocabulary.from_published(tmp_path / "answers.json") == vocabulary


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("answers", ["no", "yes"], "the answers were changed"),
        ("answers", ["yes", "yes"], "'yes' occurs more than once"),
        ("answers", ["yes", 1], "answer 1 is a number"),
        ("answers", [], "there are no answers"),
        ("size", 3, "says it holds 3 answers"),
        ("sha256", None, "the answers were changed"),
        ("format", 2, "expected vocabulary format 1, got 2"),
        ("normaliser", "mine", "normaliser 'mine' is not one of"),
        ("min_count", "9", "expected min_count to be an integer"),
    ],
)
def test_a_vocabulary_that_was_edited_is_refused(tmp_path, key, value, message):
    path = tmp_path / "answers.json"
    AnswerVocabulary(("yes", "no"), 9, "meter-1").save(path)
    write_json(path, read_json(path) | {key: value})
    with pytest.raises(InputError, match=message):
        AnswerVocabulary.load(path)


def test_another_files_form_is_refused_as_vocabulary(tmp_path):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({"annotations": []}))
    with pytest.raises(InputError, match="it has no 'format'"):
        AnswerVocabulary.load(path)
