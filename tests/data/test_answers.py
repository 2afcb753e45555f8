"""Normalisation by the official evaluator's rules; soft targets and label order against what METER itself wrote."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vl_absvit.data.answers import (
    AnswerVocabulary,
    build_vocabulary,
    meter_normalise,
    normalise_answer,
    soft_targets,
)
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.errors import InputError

SHARED = Path(__file__).parents[2] / "../shared"
quick = settings(database=None, deadline=None, max_examples=200)


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


@quick
@given(st.text(st.characters(exclude_categories=())))
def test_normalised_answers_hold_no_marks_and_single_spaces(text):
    for result in (normalise_answer(text), meter_normalise(text)):
        assert not set(result) & set(';/[]"{}()=+\\_-><@`,?!\n\t')
        assert result == " ".join(result.split(" ")).strip(" ") and "  " not in result


@quick
@given(
    st.lists(
        st.sampled_from(["a", "the", "none", "dont", "hed've", "somebody'd", "'ow'sat", "Cat", "7"]) | st.text("abT' ")
    )
)
def test_normalising_plain_words_twice_changes_nothing(words):
    once = normalise_answer(" ".join(words))
    assert normalise_answer(once) == once


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


def test_labels_and_scores_are_those_of_meters_own_writer():
    content = read_json(shared("golden/data_prep/arrow_content.json"))
    annotations = {
        split: read_json(shared(f"golden/data_prep/root/v2_mscoco_{split}2014_annotations.json"))["annotations"]
        for split in ("train", "val")
    }
    counts = Counter(meter_normalise(a["multiple_choice_answer"]) for split in annotations.values() for a in split)
    answers = build_vocabulary(counts, order="first_seen")
    index = {answer: label for label, answer in enumerate(answers)}
    for split, own in annotations.items():
        targets = {a["question_id"]: soft_targets([record["answer"] for record in a["answers"]], index) for a in own}
        written = {
            question: (labels, scores)
            for row in content[f"vqav2_{split}.arrow"]["content"]
            for question, labels, scores in zip(
                row["question_id"], row["answer_labels"], row["answer_scores"], strict=True
            )
        }
        assert {question: target for question, target in targets.items() if target[0]} == written


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


@pytest.mark.parametrize(
    "content",
    [["no", "yes"], {"yes": 1, "no": 0}, [{"yes": 1, "no": 0}, {"0": "no", "1": "yes"}]],
)
def test_published_forms_give_the_same_vocabulary(tmp_path, content):
    (tmp_path / "v.json").write_text(json.dumps(content))
    assert AnswerVocabulary.from_published(tmp_path / "v.json").answers == ("no", "yes")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"yes": 1, "no": 2}, "expected the labels 0 to 1"),
        ({"yes": 0.0}, "expected an integer label for the answer 'yes'"),
        ([{"question_id": 1, "answer": "yes"}], "answer 0 is an object"),
        ("yes", "got a string"),
        ({}, "there are no answers"),
    ],
)
def test_what_is_no_vocabulary_is_refused(tmp_path, content, message):
    (tmp_path / "v.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        AnswerVocabulary.from_published(tmp_path / "v.json")


def test_the_published_vocabularies_hold_the_same_3129_answers():
    lists = [
        AnswerVocabulary.from_published(shared(f"data/answer-vocab/{name}.json"))
        for name in ("lxmert_trainval_label2ans", "lxmert_trainval_ans2label", "openvqa_answer_dict")
    ]
    assert lists[0] == lists[1] and len(lists[0]) == 3129
    assert set(lists[0].answers) == set(lists[2].answers) and lists[0].sha256 != lists[2].sha256
