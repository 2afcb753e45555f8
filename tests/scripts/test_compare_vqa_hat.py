"""``scripts/compare_vqa_hat.py``: planted maps in, known correlations out; gaps and mix-ups end in one line."""

import json

import numpy as np
import pytest

from tests.exported import add_question
from tests.prepare.raw_vqa_hat import HEIGHT, WIDTH, blob, image_path, prepare, write_map, write_small_hat
from tests.run_script import run_script

PEOPLE = [10, 11, 20, 21, 30, 31]


def export(folder, question_id, maps, name=None, **fields):
    image_id = question_id // 10
    usual = {
        "question_id": question_id, "image_id": image_id, "question": f"What is thing {question_id}?",
        "image_size": [WIDTH, HEIGHT], "box": [0, 0, WIDTH, HEIGHT], "image": f"{image_id}.png",
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    add_question(folder, name or str(question_id), maps, **usual | fields)


def planted(question_id):
    own = blob(10 * question_id + 1).astype(np.float32)
    return {"bottom_up": np.ones((4, 4)), "prior_mask": own, "cross": -own}


@pytest.fixture
def raw(tmp_path):
    """One person each but for question 10."""
    raw = write_small_hat(tmp_path / "raw")
    for path in (raw / "maps").glob("*_[23].png"):
        if not path.name.startswith("10_"):
            path.unlink()
    return raw


@pytest.fixture
def folders(raw, tmp_path):
    """A prepared VQA-HAT and an export of what its people looked at."""
    prepare(raw, tmp_path / "hat")
    for question_id in PEOPLE:
        export(tmp_path / "maps", question_id, planted(question_id))
    return tmp_path


def run(folder, *options):
    places = ("--maps", folder / "maps", "--hat", folder / "hat", "--output", folder / "out/scores.json")
    return run_script("scripts/compare_vqa_hat.py", *places, *options)


def scores_of(folder, *options):
    assert run(folder, *options) == 0
    return json.loads((folder / "out/scores.json").read_text())


@pytest.fixture
def complaint(folders, capfd):
    """The one line of a comparison that must fail with code 1."""

    def fail(*options, code=1):
        capfd.readouterr()
        assert run(folders, *options) == code
        line = capfd.readouterr().err.splitlines()[-1]
        assert line.startswith("error: ") and not (folders / "out/scores.json").exists()
        return line

    return fail


def test_planted_maps_give_the_correlations_they_were_planted_for(folders):
    scores = scores_of(folders)
    rows = scores["rows"]
    assert scores["map"] == "prior_mask" and scores["questions"] == 6
    assert list(rows) == ["inter_human", "bottom_up", "prior_mask", "cross", "centre", "shuffled", "uniform_noise"]
    assert rows["cross"]["rank_correlation"] == pytest.approx(-scores["rank_correlation"])
    assert rows["inter_human"]["questions"] == 1 and rows["inter_human"]["standard_error"] is None
    # Five questions agree wholly with their only person, one with the first of three.
    assert 5 / 6 < scores["rank_correlation"] <= 1 and scores["standard_error"] > 0
    assert scores["bottom_up"] == 0 and scores["counts"]["constant_model_maps"]["bottom_up"] == 6
    for name in ("inter_human", "centre", "shuffled", "bottom_up", "uniform_noise"):
        assert scores[name] == rows[name]["rank_correlation"]
    assert scores["off_centre"]["rows"]["prior_mask"]["questions"] == scores["off_centre"]["questions"]
    assert scores["counts"]["human_maps"] == 8 and scores["counts"]["shuffled_from_same_image"] == 6
    assert set(scores["definitions"]) >= {"centre", "off_centre", "shuffled", "interval"}


def test_named_maps_alone_are_compared(folders):
    scores = scores_of(folders, "--map", "cross")
    assert scores["map"] == "cross" and "prior_mask" not in scores["rows"] and scores["bottom_up"] is None


def test_what_was_not_compared_is_counted(raw, tmp_path, capsys):
    write_map(raw, "21_1", np.full((HEIGHT, WIDTH), 3, dtype=np.uint8))
    image_path(raw, 3).unlink()
    prepare(raw, tmp_path / "hat", allow_missing_images=True)
    for question_id in (10, 11, 20, 12):
        export(tmp_path / "maps", question_id, planted(question_id))
    add_question(tmp_path / "maps", "mine", question_id=None, image_id=None)
    counts = scores_of(tmp_path)["counts"]
    assert counts["constant_human_maps_at_preparation"] == 1 and counts["questions_without_image"] == 2
    assert counts["exported_without_human_map"] == 2
    assert "2 exported without human map" in capsys.readouterr().out


def test_a_gap_in_the_export_is_counted_and_refused(raw, tmp_path, capfd):
    prepare(raw, tmp_path / "hat")
    for question_id in (10, 30):
        export(tmp_path / "maps", question_id, planted(question_id))
    assert run(tmp_path) == 1
    assert "4 of the 6 questions with human maps were not exported, e.g. 11; export all" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"image_id": 7}, "about image 7 of 12 x 8 pixels, in"),
        ({"question": "Why?"}, "question 10 is 'Why?' about image 1"),
        ({"image_size": [WIDTH, HEIGHT + 1]}, "of 12 x 9 pixels, in"),
    ],
)
def test_a_question_that_is_another_one_in_the_export_is_refused(raw, tmp_path, capfd, fields, found):
    """Ids of VQA v2 mean other questions about other images than the same numbers in VQA v1."""
    prepare(raw, tmp_path / "hat")
    for question_id in PEOPLE:
        export(tmp_path / "maps", question_id, planted(question_id), **(fields if question_id == 10 else {}))
    assert run(tmp_path) == 1
    assert found in capfd.readouterr().err


def test_a_question_that_was_exported_twice_is_refused(folders, complaint):
    export(folders / "maps", 10, planted(10), name="again")
    assert "question 10 was exported more than once" in complaint()


def test_maps_that_only_some_questions_have_are_refused(folders, complaint):
    line = complaint("--map", "top_down")
    assert "10.npz: expected the maps top_down, got bottom_up, prior_mask, cross" in line
    where = {"box": np.array([0.0, 0, WIDTH, HEIGHT]), "image_size": np.array([WIDTH, HEIGHT])}
    np.savez(folders / "maps/20.npz", **planted(20), top_down=np.ones((2, 2)), **where)
    assert "20.npz: expected the maps bottom_up, prior_mask, cross, got" in complaint()
    assert run(folders, "--map", "cross", "prior_mask") == 0


def test_a_question_whose_human_maps_are_gone_is_refused(folders, raw, complaint):
    (raw / "maps/20_1.png").unlink()
    prepare(raw, folders / "other")
    (folders / "other/human_maps.parquet").replace(folders / "hat/human_maps.parquet")
    assert "1 questions have no human map, e.g. 20" in complaint()


def test_folders_that_are_something_else_are_refused(folders, complaint):
    assert "no prepared data here" in complaint("--hat", folders)
    assert "index.jsonl: no such file" in complaint("--maps", folders)


def test_a_usage_error_is_exit_code_2(folders, complaint):
    assert "--mapz" in complaint("--mapz", "x", code=2)
