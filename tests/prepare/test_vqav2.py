"""``prepare_vqav2``: tables, vocabulary, splits, wrong input, bad images, interruption; METER's output as reference."""

import gzip
import json
import shutil

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.prepare.interruption import checked_images
from tests.prepare.raw_vqav2 import (
    annotation,
    annotations_file,
    image_path,
    question,
    questions_file,
    write_small_vqav2,
    write_split,
)
from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.data.records import read_manifest
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2


def prepare(raw, output, workers=1, **options):
    return prepare_vqav2(PrepareOptions(root=raw, **{"min_count": 1, **options}), output, workers)


def rows_of(output, split):
    return pq.read_table(output / f"{split}.parquet").to_pylist()


@pytest.fixture
def raw(tmp_path):
    return write_small_vqav2(tmp_path / "raw")


@pytest.fixture
def one_question(tmp_path):
    """Files of one train question, to be broken."""
    write_split(tmp_path / "raw", "train", [question(7000, 7)], [annotation(7000, 7)])
    return tmp_path / "raw"


def fails(raw, tmp_path, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        prepare(raw, tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def rewrite(path, key, change):
    content = json.loads(path.read_text())
    content[key] = change(content[key])
    path.write_text(json.dumps(content))


def test_tables_hold_the_questions_by_id_with_labels_and_scores(raw, tmp_path):
    rewrite(
        questions_file(raw, "train"), "questions", lambda questions: questions[::-1]
    )  # not in the annotations' order
    manifest = prepare(raw, tmp_path / "out")
    rows = rows_of(tmp_path / "out", "train")
    assert [row["question_id"] for row in rows] == [
        1000,
        1001,
        1002,
        2000,
        2001,
        2002,
        3000,
        3001,
        3002,
        4000,
        4001,
        4002,
    ]
    assert rows[0]["question"] == "Is thing 1000 red?" and rows[0]["image_id"] == 1
    # yes 8 times, no 8 times and "maybe" (normalised) 8 times in train and val: count, then string, decides the order.
    assert AnswerVocabulary.load(tmp_path / "out" / "answers.json").answers == ("maybe", "no", "yes")
    by_rest = {row["question_id"] % 3: (row["labels"], [round(s, 4) for s in row["scores"]]) for row in rows}
    assert by_rest == {0: ([2], [1.0]), 1: ([1, 2], [1.0, 0.9]), 2: ([0], [0.6])}
    assert rows[2]["answers"] == ["yes"] * 10 and rows_of(tmp_path / "out", "train")[1]["answers"][0] == "The Maybe."
    assert manifest["splits"]["train"] == {
        "questions": 12, "images": 4, "with_target": 12, "without_image": 0, "kept_for_training": 12, "annotated": True,
    }  # fmt: skip
    assert manifest["splits"]["test"]["annotated"] is False
    assert [row["question_id"] for row in rows_of(tmp_path / "out", "test-dev")] == [201000]


def test_minival_is_a_tenth_of_vals_images_and_shares_none_with_it(tmp_path):
    raw = write_small_vqav2(tmp_path / "raw", images=20, questions_per_image=2)
    manifest = prepare(raw, tmp_path / "out")
    minival, val = ({row["image_id"] for row in rows_of(tmp_path / "out", split)} for split in ("minival", "val"))
    assert len(minival) == manifest["minival"]["images"] == 2 and len(val) == 18
    assert minival | val == set(range(101, 121)) and not minival & val
    assert manifest["splits"]["minival"]["questions"] == 4
    prepare(raw, tmp_path / "other", seed=1)
    assert {row["image_id"] for row in rows_of(tmp_path / "other", "minival")} != minival
    assert prepare(raw, tmp_path / "five", minival_images=5)["splits"]["minival"]["images"] == 5


def test_rare_answers_are_no_labels_but_their_questions_stay(tmp_path):
    raw = tmp_path / "raw"
    common = [annotation(1000 + k, 1) for k in range(9)]
    rare = annotation(1009, 1, ["zebra"] * 10)
    write_split(raw, "train", [question(1000 + k, 1) for k in range(10)], [*common, rare])
    manifest = prepare(raw, tmp_path / "out", min_count=9)
    assert AnswerVocabulary.load(tmp_path / "out" / "answers.json").answers == ("yes",)
    assert rows_of(tmp_path / "out", "train")[9]["labels"] == []
    assert manifest["splits"]["train"]["questions"] == 10 and manifest["splits"]["train"]["with_target"] == 9


def test_a_given_vocabulary_is_taken_in_its_own_order(raw, tmp_path):
    (tmp_path / "list.json").write_text(json.dumps(["no", "zebra", "yes"]))
    prepare(raw, tmp_path / "out", vocabulary=tmp_path / "list.json")
    assert rows_of(tmp_path / "out", "train")[0]["labels"] == [0, 2]
    assert rows_of(tmp_path / "out", "train")[1]["labels"] == []
    assert AnswerVocabulary.load(tmp_path / "out" / "answers.json").answers == ("no", "zebra", "yes")


def test_a_vocabulary_of_the_other_rule_is_refused(raw, tmp_path):
    prepare(raw, tmp_path / "meter", meter_compatible=True)
    fails(raw, tmp_path, "normalised by meter-1", vocabulary=tmp_path / "meter" / "answers.json")


def no_image_is_decoded(monkeypatch):
    def refuse(*_):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("vl_absvit.prepare.prepare.check_images", refuse)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"yes": 0, "no": 2}', "v.json: expected the labels 0 to 1"),
        ('["Yes", "No"]', "v.json: none of its 2 answers, such as 'Yes', is one that the questions have, such as"),
        ('["ja", "nein"]', "is one that the questions have, such as 'no'"),
    ],
)
def test_a_wrong_vocabulary_costs_no_decoding(raw, tmp_path, monkeypatch, content, message):
    no_image_is_decoded(monkeypatch)
    (tmp_path / "v.json").write_text(content)
    fails(raw, tmp_path, message, vocabulary=tmp_path / "v.json")


def test_a_minival_larger_than_val_costs_no_decoding(raw, tmp_path, monkeypatch):
    no_image_is_decoded(monkeypatch)
    fails(raw, tmp_path, "--minival-images 9: val has only 4 usable images", minival_images=9)


def test_a_count_that_no_answer_reaches_costs_no_decoding(raw, tmp_path, monkeypatch):
    no_image_is_decoded(monkeypatch)
    fails(raw, tmp_path, "no answer occurs 99 times, the most frequent one 8 times; lower --min-count", min_count=99)


def test_answers_that_can_never_be_a_target_are_counted(raw, tmp_path):
    (tmp_path / "v.txt").write_text("Yes\nno\nzebra\nyes\nthe maybe\n")
    warnings = prepare(raw, tmp_path / "out", vocabulary=tmp_path / "v.txt")["warnings"]
    assert (
        "3 of the vocabulary's 5 answers are no target: 2 are not in the form that answers are normalised to, e.g. "
        "'Yes' instead of 'yes'; 1 are no answer in train, minival, val, e.g. 'zebra'"
    ) in warnings
    assert not any("no target" in warning for warning in prepare(raw, tmp_path / "counted")["warnings"])


def test_meter_compatible_labels_and_scores_are_meters(golden, tmp_path):
    written = json.loads((golden / "data_prep" / "arrow_content.json").read_text())
    prepare(golden / "data_prep" / "root", tmp_path / "out", meter_compatible=True, min_count=9)
    ours = {
        row["question_id"]: row for split in ("train", "minival", "val") for row in rows_of(tmp_path / "out", split)
    }
    answers = AnswerVocabulary.load(tmp_path / "out" / "answers.json").answers
    with_label = set()
    for name in ("vqav2_train.arrow", "vqav2_val.arrow"):
        for image in written[name]["content"]:
            per_question = zip(
                *(image[k] for k in ("question_id", "answers", "answer_labels", "answer_scores")), strict=True
            )
            for question_id, texts, labels, scores in per_question:
                row = ours[question_id]
                assert row["labels"] == labels and row["scores"] == pytest.approx(scores)
                assert [answers[label] for label in labels] == texts and row["image_id"] == image["image_id"]
                with_label.add(question_id)
    assert with_label and with_label == {question_id for question_id, row in ours.items() if row["labels"]}


def test_gzipped_files_are_read_as_they_are(raw, tmp_path):
    expected = prepare(raw, tmp_path / "plain")["splits"]
    for path in list(raw.glob("*.json")):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert prepare(raw, tmp_path / "out")["splits"] == expected


def test_val_without_annotations_is_treated_like_test_and_warned_about(raw, tmp_path):
    annotations_file(raw, "val").unlink()
    manifest = prepare(raw, tmp_path / "out")
    assert any("val: there are no annotations" in warning for warning in manifest["warnings"])
    assert "minival" not in manifest["splits"] and "labels" not in rows_of(tmp_path / "out", "val")[0]


def test_test_questions_alone_need_no_vocabulary(tmp_path):
    write_split(tmp_path / "raw", "test", [question(1, 5)])
    assert prepare(tmp_path / "raw", tmp_path / "out")["vocabulary"] is None
    assert not (tmp_path / "out" / "answers.json").exists()


def test_deviations_from_the_official_counts_are_warned_about(raw, tmp_path):
    warnings = prepare(raw, tmp_path / "out")["warnings"]
    assert "train: 12 questions are usable, the official split has 443,757" in warnings


# Wrong input: one line that names the file and the question.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda qs: [*qs, qs[0]], "train2014_questions.json: the question 7000 occurs twice"),
        (lambda qs: [*qs, question(7001, 7)], "train2014_annotations.json: question 7001 has no annotation"),
        (lambda qs: [question(7001, 7)], "annotations.json: question 7001 has no annotation"),
        (lambda qs: [question(7000, 8)], "question 7000 is about another image than in the questions"),
        (lambda qs: [question(7000, 7, " \n")], "questions.json: question 7000 is empty"),
        (lambda qs: [question("7000", 7)], "record 1 of 'questions': expected question_id to be an integer"),
        (lambda qs: [question(7000, -1)], "expected image_id to be an integer of at least 0, got -1"),
        (lambda qs: [question(7000, 7, None)], "expected question to be a string, got null"),
        (lambda qs: [{"question_id": 7000, "image_id": 7}], "record 1 of 'questions': there is no 'question'"),
        (lambda qs: ["why?"], "record 1 of 'questions': expected an object, got a string"),
        (lambda qs: [], "with at least one record, found none"),
        (lambda qs: {"7000": "why?"}, "with at least one record, found none"),
    ],
)
def test_wrong_questions_are_refused(one_question, tmp_path, change, message):
    rewrite(questions_file(one_question, "train"), "questions", change)
    fails(one_question, tmp_path, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: [*a, annotation(7001, 7)], "questions.json: question 7001 is annotated but is not there"),
        (lambda a: [*a, *a], "annotations.json: the annotation of question 7000 occurs twice"),
        (lambda a: [annotation(7000, 7, ["yes"] * 9)], "annotation of question 7000: expected 10 answers, got 9"),
        (lambda a: [a[0] | {"answers": "yes"}], "question 7000: expected answers to be a list, got a string"),
        (lambda a: [a[0] | {"answers": ["yes"] * 10}], "question 7000: expected answers of the form"),
        (
            lambda a: [a[0] | {"answers": [{"answer": 2}] * 10}],
            "question 7000: expected answer to be a string, got a num",
        ),
        (lambda a: [a[0] | {"answer_type": None}], "question 7000: expected answer_type to be a string, got null"),
    ],
)
def test_wrong_annotations_are_refused(one_question, tmp_path, change, message):
    rewrite(annotations_file(one_question, "train"), "annotations", change)
    fails(one_question, tmp_path, message)


@pytest.mark.parametrize("content", [b"", b"[]", b"[1, 2]", b"{}", b'{"questions": 3}', b'"questions"'])
def test_json_of_another_form_is_refused(one_question, tmp_path, content):
    questions_file(one_question, "train").write_bytes(content)
    fails(one_question, tmp_path, "train2014_questions.json: expected")


def test_a_file_that_is_there_plain_and_gzipped_is_refused(one_question, tmp_path):
    path = questions_file(one_question, "train")
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    fails(one_question, tmp_path, "is there a second time")


def test_folders_without_what_is_needed_are_refused(one_question, tmp_path):
    fails(tmp_path / "nowhere", tmp_path, "nowhere: no such folder")
    fails(tmp_path, tmp_path, "expected at least one v2_OpenEnded_mscoco_<subset>_questions.json")
    annotations_file(one_question, "train").rename(tmp_path / "moved")
    fails(one_question, tmp_path, "there is no v2_mscoco_train2014_annotations.json")
    (tmp_path / "moved").rename(annotations_file(one_question, "train"))
    questions_file(one_question, "train").rename(questions_file(one_question, "test"))
    fails(one_question, tmp_path, "there is no v2_OpenEnded_mscoco_train2014_questions.json")


def test_splits_that_share_a_question_or_an_image_are_refused(one_question, tmp_path):
    write_split(one_question, "val", [question(7000, 8)], [annotation(7000, 8)])
    fails(one_question, tmp_path, "question 7000 is both in train and in val")
    write_split(one_question, "val", [question(8000, 7)], [annotation(8000, 7)])
    fails(one_question, tmp_path, "question 8000 is about image 7, which is also in train2014")


@pytest.mark.parametrize("options", [{"min_count": 0}, {"minival_images": -1}])
def test_options_out_of_range_are_config_errors(tmp_path, options):
    with pytest.raises(ConfigError):
        PrepareOptions(root=tmp_path, **options)


# Images.


def test_missing_images_stop_the_preparation_unless_they_are_allowed(raw, tmp_path):
    image_path(raw, "train", 2).unlink()
    fails(raw, tmp_path, r"1 images are missing, the first is .*000000000002.jpg \(image 2\)")
    manifest = prepare(raw, tmp_path / "out", allow_missing_images=True)
    assert manifest["missing_images"] == 1
    assert manifest["splits"]["train"]["questions"] == 12 and manifest["splits"]["train"]["without_image"] == 3
    assert manifest["splits"]["train"]["kept_for_training"] == 9
    files = {row["image_id"]: row["file"] for row in pq.read_table(tmp_path / "out" / "images.parquet").to_pylist()}
    assert files[2] is None and files[1] == "train2014/COCO_train2014_000000000001.jpg"


def test_bad_images_are_left_out_with_their_questions_and_a_reason(raw, tmp_path):
    Image.effect_noise((64, 64), 50).save(image_path(raw, "train", 2))
    image_path(raw, "train", 2).write_bytes(image_path(raw, "train", 2).read_bytes()[:-400])
    image_path(raw, "val", 101).write_bytes(b"GIF, or so it says")
    Image.new("RGB", (1, 300)).save(image_path(raw, "test", 202))
    manifest = prepare(raw, tmp_path / "out")
    reasons = {image["image_id"]: image["reason"] for image in manifest["skipped_images"]}
    assert reasons.keys() == {2, 101, 202}
    assert (
        "truncated" in reasons[2]
        and reasons[101].startswith("not an image")
        and reasons[202].startswith("1 x 300 pixels")
    )
    assert {row["image_id"] for row in rows_of(tmp_path / "out", "train")} == {1, 3, 4}
    assert manifest["skipped_questions"] == {
        "train": {reasons[2]: 3}, "val": {reasons[101]: 3}, "test": {reasons[202]: 3},
    }  # fmt: skip
    warning = next(warning for warning in manifest["warnings"] if "cannot be used" in warning)
    assert warning.startswith("3 images") and "3 of test, 3 of train, 3 of val" in warning


def test_a_folder_of_bad_images_is_an_error(one_question, tmp_path):
    image_path(one_question, "train", 7).write_bytes(b"")
    fails(one_question, tmp_path, "none of the images can be used; .*000000000007.jpg: empty file")


def test_sizes_are_those_of_the_upright_image(one_question, tmp_path):
    picture = Image.new("RGB", (30, 10))
    picture.getexif()[0x0112] = 6  # rotate by a quarter
    picture.save(image_path(one_question, "train", 7), exif=picture.getexif())
    prepare(one_question, tmp_path / "out")
    (row,) = pq.read_table(tmp_path / "out" / "images.parquet").to_pylist()
    assert (row["width"], row["height"]) == (10, 30)


def test_embedded_images_are_the_files_bytes(raw, tmp_path):
    prepare(raw, tmp_path / "out", embed_images=True)
    rows = pq.read_table(tmp_path / "out" / "images-00000.parquet").to_pylist()
    assert [row["image_id"] for row in rows] == [1, 2, 3, 4, 101, 102, 103, 104, 201, 202, 203, 204]
    assert rows[5]["bytes"] == image_path(raw, "val", 102).read_bytes()


def test_several_processes_find_what_one_finds(raw, tmp_path):
    for image_id in range(5, 60):
        shutil.copy(image_path(raw, "train", 1), image_path(raw, "train", image_id))
    image_path(raw, "train", 40).write_bytes(b"")
    write = [question(i * 1000, i) for i in range(1, 60)]
    questions_file(raw, "train").write_text(json.dumps({"questions": write}))
    annotations = [annotation(i * 1000, i) for i in range(1, 60)]
    annotations_file(raw, "train").write_text(json.dumps({"annotations": annotations}))
    assert prepare(raw, tmp_path / "two", workers=2) == prepare(raw, tmp_path / "one", workers=1)


# Again, and after an interruption.


def test_a_finished_preparation_is_left_alone(raw, tmp_path):
    first = prepare(raw, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert prepare(raw, tmp_path / "out") == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    assert sorted(path.name for path in before) == sorted(
        ["answers.json", "images.parquet", "manifest.json", *(f"{split}.parquet" for split in first["splits"])]
    )


def test_a_finished_preparation_of_something_else_is_refused(raw, tmp_path):
    prepare(raw, tmp_path / "out")
    with pytest.raises(InputError, match="other options: min_count was 1, now it is 2"):
        prepare(raw, tmp_path / "out", min_count=2)
    rewrite(questions_file(raw, "test"), "questions", lambda questions: questions[:-1])
    with pytest.raises(InputError, match="other sources: v2_OpenEnded_mscoco_test2015_questions.json was"):
        prepare(raw, tmp_path / "out")


def test_a_folder_that_is_not_ours_is_not_written_over(raw, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(InputError, match="exists and is not prepared data"):
        prepare(raw, tmp_path / "out")
    (tmp_path / "new.partial").mkdir()
    with pytest.raises(InputError, match="not an interrupted preparation"):
        prepare(raw, tmp_path / "new")


def test_an_interrupted_preparation_checks_no_image_twice(raw, tmp_path):
    assert checked_images(lambda: prepare(raw, tmp_path / "out"), stop_after=5) == [1, 2, 3, 4, 101]
    assert not (tmp_path / "out").exists()
    assert checked_images(lambda: prepare(raw, tmp_path / "out")) == [101, 102, 103, 104, 201, 202, 203, 204]
    assert not (tmp_path / "out.partial").exists()
    assert read_manifest(tmp_path / "out") == prepare(raw, tmp_path / "whole")
