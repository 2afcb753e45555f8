"""An export is read back as it was written, and whatever is wrong with one is named with its place."""

import json
import shutil

import numpy as np
import pytest

from tests.damage import cut_short, emptied, removed, replaced
from tests.exported import CAPTION, ENTRY, add_caption, add_question, blob, draw_picture
from vl_absvit.errors import InputError
from vl_absvit.looking.export_reader import read_exported, read_index


def read(folder):
    return [read_exported(folder, entry) for entry in read_index(folder)]


def test_a_question_is_read_back_as_it_was_written(tmp_path):
    maps = {"prior_mask": blob(3, 5, 1, 1), "cross": np.zeros((2, 2), dtype=np.float32)}
    add_question(tmp_path, "10", maps, box=[16.0, 0.0, 80.0, 64.0])
    [question] = read(tmp_path)
    assert question.id == "10" and question.image == tmp_path / "pictures/1.png" and question.image.is_file()
    assert question.answers == tuple(ENTRY["answers"]) and question.box == (16.0, 0.0, 80.0, 64.0)
    for name in ("question_id", "image_id", "question", "prediction", "confidence", "answer_type", "accuracy"):
        assert getattr(question, name) == ENTRY[name]
    assert list(question.maps) == ["prior_mask", "cross"]
    assert all(np.array_equal(question.maps[name], grid) for name, grid in maps.items())


def test_a_question_of_ones_own_has_nothing_but_its_answer(tmp_path):
    unknown = dict.fromkeys(("question_id", "image_id", "answers", "answer_type", "accuracy"))
    add_question(tmp_path, "own", **unknown)
    [question] = read(tmp_path)
    assert all(getattr(question, name) is None for name in unknown)


def test_a_caption_is_read_back_as_it_was_written(tmp_path):
    add_caption(tmp_path, "20")
    add_caption(tmp_path, "own", caption_id=None, image_id=None)
    caption, own = read(tmp_path)
    assert caption.image == tmp_path / "pictures/1.png" and list(caption.maps) == [
        "prior_mask",
        "bottom_up",
        "top_down",
    ]
    assert {
        name: getattr(caption, name) for name in ("caption_id", "caption", "match", "score")
    }.items() <= CAPTION.items()
    assert own.caption_id is own.image_id is None and len(read_index(tmp_path, "caption")) == 2
    with pytest.raises(InputError, match="index.jsonl: expected an export of questions, got one of captions"):
        read_index(tmp_path, "question")


def test_a_picture_that_was_moved_with_the_export_or_is_told_is_found(tmp_path):
    old, export = tmp_path / "old/raw/val2014/1.png", tmp_path / "new/maps"
    export.mkdir(parents=True)
    draw_picture(old)
    add_question(export, "1", image=str(old), image_from_here="../raw/val2014/1.png")
    assert read(export)[0].image == old
    draw_picture(tmp_path / "new/raw/val2014/1.png", (10, 10))  # another picture
    assert read(export)[0].image == old
    moved = (tmp_path / "old/raw").replace(tmp_path / "pictures")
    draw_picture(tmp_path / "new/raw/val2014/1.png")
    assert read(export)[0].image == tmp_path / "new/raw/val2014/1.png"
    shutil.rmtree(tmp_path / "new/raw")
    with pytest.raises(InputError, match=f"there is no picture {old}; if it was moved, say where with --images DIR"):
        read(export)
    [entry] = read_index(export)
    for told in (moved, moved / "val2014"):
        assert read_exported(export, entry, told).image == moved / "val2014/1.png"
    with pytest.raises(InputError, match=f"there is no picture {old} in {tmp_path}"):
        read_exported(export, entry, tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("caption", 3, "expected a string under 'caption', got 3"),
        ("match", 1.5, "expected a number from 0 to 1 under 'match', got 1.5"),
        ("match", True, "expected a number from 0 to 1 under 'match', got True"),
        ("score", None, "expected a number under 'score', got None"),
    ],
)
def test_a_wrong_field_of_a_caption_is_named(tmp_path, field, value, message):
    add_caption(tmp_path, "20", **{field: value})
    with pytest.raises(InputError) as error:
        read(tmp_path)
    assert f"{tmp_path / 'index.jsonl'}:1: {message}" in str(error.value)


def test_questions_among_captions_are_refused(tmp_path):
    add_caption(tmp_path, "1")
    add_question(tmp_path, "2")
    with pytest.raises(
        InputError, match="index.jsonl:2: expected an integer or null under 'caption_id', got no such key"
    ):
        read(tmp_path)


def test_questions_keep_their_order_and_blank_lines_count_for_nothing(tmp_path):
    for id in ("3", "1", "2"):
        add_question(tmp_path, id)
        with (tmp_path / "index.jsonl").open("a") as index:
            index.write("\n")
    assert [question.id for question in read(tmp_path)] == ["3", "1", "2"]


def test_a_picture_outside_of_the_export_is_found_from_the_current_folder(tmp_path, monkeypatch):
    add_question(tmp_path, "1")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pictures").rename(tmp_path / "elsewhere/pictures")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read(tmp_path)[0].image.is_file()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("question", None, "expected a string under 'question', got None"),
        ("question_id", "10", "expected an integer or null under 'question_id', got '10'"),
        ("question_id", True, "expected an integer or null under 'question_id', got True"),
        ("confidence", 1.5, "expected a number from 0 to 1 under 'confidence', got 1.5"),
        ("confidence", float("nan"), "NaN is not JSON"),
        ("confidence", 10**400, "expected a number from 0 to 1 under 'confidence', got 1000"),
        ("box", [0, 0, 10**400, 64], "expected four numbers x0 < x1, y0 < y1"),
        ("accuracy", -1, "expected a number from 0 to 100 or null"),
        ("answers", [], "expected a list of strings, not empty, or null"),
        ("answers", [{"answer": "red"}], "expected a list of strings, not empty, or null"),
        ("image_size", [96, 0], "expected two positive integers"),
        ("box", [0, 0, 0, 64], "expected four numbers x0 < x1, y0 < y1"),
        ("box", [0, 0, float("inf"), 64], "Infinity is not JSON"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path, field, value, message):
    add_question(tmp_path, "1")
    line = (tmp_path / "index.jsonl").read_text()
    (tmp_path / "index.jsonl").write_text(line + json.dumps(json.loads(line) | {"id": "2", field: value}))
    with pytest.raises(InputError) as error:
        read(tmp_path)
    assert f"{tmp_path / 'index.jsonl'}:2: " in str(error.value) and message in str(error.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (removed("index.jsonl"), "index.jsonl: no such file; see vl-absvit export-attention"),
        (emptied("index.jsonl"), "index.jsonl: expected a line per question, caption or picture, got none"),
        (replaced("index.jsonl", "{"), "index.jsonl:1: expected JSON"),
        (replaced("index.jsonl", "[1]"), "index.jsonl:1: expected an object, got a list"),
        (replaced("index.jsonl", '{"id": "1"}'), "expected an integer or null under 'image_id', got no such key"),
        (removed("1.npz"), "1.npz: no such file"),
        (emptied("1.npz"), "1.npz: expected an archive of maps"),
        (cut_short("1.npz"), "1.npz: expected an archive of maps"),
        (replaced("1.npz", "maps"), "1.npz: expected an archive of maps"),
        (removed("pictures/1.png"), "question 1: there is no picture pictures/1.png"),
    ],
)
def test_a_damaged_export_costs_one_clear_line(tmp_path, damage, message):
    add_question(tmp_path, "1")
    damage(tmp_path)
    with pytest.raises(InputError) as error:
        read(tmp_path)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("cross", np.array([[0.0, np.nan]]), "cross is not made of finite numbers"),
        ("cross", np.array([["a"]]), "cross is not made of finite numbers"),
        ("cross", np.array([[{}]], dtype=object), "expected an archive of maps"),
        ("cross", np.zeros((2, 2, 2)), "expected a grid (h, w) under cross, got the shape (2, 2, 2)"),
        ("cross", np.zeros((0, 3)), "expected a grid (h, w) under cross, got the shape (0, 3)"),
        ("box", np.array([0.0, 0.0, 96.0, 64.0]), "expected the box [16.0, 0.0, 80.0, 64.0] of index.jsonl"),
        ("image_size", np.array([64, 96]), "expected the image_size [96, 64] of index.jsonl, got [64, 96]"),
    ],
)
def test_an_archive_that_does_not_fit_is_refused(tmp_path, name, array, message):
    add_question(tmp_path, "1", box=[16.0, 0.0, 80.0, 64.0])
    with np.load(tmp_path / "1.npz") as archive:
        arrays = dict(archive)
    np.savez(tmp_path / "1.npz", **arrays | {name: array})
    with pytest.raises(InputError) as error:
        read(tmp_path)
    assert message in str(error.value) and str(tmp_path / "1.npz") in str(error.value)


def test_an_id_that_comes_twice_is_refused(tmp_path):
    add_question(tmp_path, "1")
    add_question(tmp_path, "1")
    with pytest.raises(InputError, match="index.jsonl:2: the id '1' is also that of .*index.jsonl:1"):
        read(tmp_path)


def test_an_archive_without_maps_is_refused(tmp_path):
    add_question(tmp_path, "1", {})
    with pytest.raises(InputError, match="1.npz: expected at least one map, got none"):
        read(tmp_path)
