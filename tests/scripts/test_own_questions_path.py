"""From a table of one's own to a score: every program on the way says which data set, and which accuracy, it is."""

import dataclasses
import json

import pytest

from tests.prepare.own.own_shop import write_lines, write_pictures
from tests.run_folders import metrics
from tests.run_script import run_script
from tests.tiny_vqa import tiny_vqa_config, write_config
from vl_absvit.evaluation.accuracy_rules import share_accuracy
from vl_absvit.tasks.model_card import model_card


@pytest.fixture(scope="module")
def shop(world, tmp_path_factory):
    """A shop's questions, prepared, and a run of two steps on them."""
    folder = tmp_path_factory.mktemp("shop")
    pictures = write_pictures(folder, 8)
    rows = [
        {"image": f"{n}.jpg", "question": f"What is thing {k}?", "answer": [["red"], ["red", "blue"]][k]}
        for n in range(8)
        for k in range(2)
    ]
    table = write_lines(folder / "questions.jsonl", rows)
    asked = ("--name", "shop", "--images", pictures, "--table", table, "--val-share", 0.25, "--output", folder / "data")
    assert run_script("data_prep/prepare_vqa.py", *asked, "--workers", 1) == 0
    config = tiny_vqa_config(world, folder / "run")
    data = dataclasses.replace(config.data, root=str(folder / "data"), select_split="val")
    optim = dataclasses.replace(config.optim, batch_size=6, epochs=1)
    file = write_config(dataclasses.replace(config, data=data, optim=optim), folder / "vqa.yaml")
    assert run_script("vl-absvit", "finetune-vqa", "--config", file) == 0
    return folder


def best(shop):
    return shop / "run/checkpoints/best"


def test_a_run_selects_by_the_accuracy_of_its_data_and_keeps_the_name(shop):
    selected = [line for line in metrics(shop / "run") if "select/share_accuracy" in line]
    assert selected and not any("select/accuracy" in line for line in metrics(shop / "run"))
    assert json.loads((best(shop) / "training.json").read_text())["dataset"] == "shop"
    card = model_card(best(shop), "mine")
    assert "shop, splits train" in card and "| share_accuracy |" in card and "| accuracy |" not in card
    assert run_script("vl-absvit", "finetune-vqa", "--config", shop / "vqa.yaml", "--run.resume", "true") == 0


def test_an_evaluation_says_that_its_accuracy_is_not_the_official_one(shop, tmp_path, capsys):
    where = ("--data", shop / "data", "--split", "val")
    options = ("--checkpoint", best(shop), *where, "--output", tmp_path / "p.json", "--num-workers", 0)
    assert run_script("vl-absvit", "evaluate-vqa", *options) == 0
    said, about = capsys.readouterr().out, json.loads((tmp_path / "p.about.json").read_text())
    assert "share accuracy (%)" in said and "not the official VQA accuracy" in said and "official val" not in said
    assert about["dataset"] == "shop" and "accuracy" not in about and "not the official" in about["accuracy_rule"]
    assert (
        run_script("vl-absvit", "score-vqa", *where, "--results", tmp_path / "p.json", "--output", tmp_path / "s.json")
        == 0
    )
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["overall"] == about["share_accuracy"] and scores["dataset"] == "shop"
    answers = {each["question_id"]: each["answer"] for each in json.loads((tmp_path / "p.json").read_text())}
    given = {question_id: ["red"] if question_id % 2 else ["red", "blue"] for question_id in answers}
    expected = [100 * share_accuracy(answer, given[question_id]) for question_id, answer in answers.items()]
    assert scores["overall"] == pytest.approx(sum(expected) / len(expected), abs=0.005) and len(expected) == 4


def test_an_export_scores_by_the_same_rule(shop, tmp_path):
    options = ("--data", shop / "data", "--split", "val", "--no-overlays", "--block", -1, "--num-workers", 0)
    assert (
        run_script("vl-absvit", "export-attention", "--checkpoint", best(shop), *options, "--output", tmp_path / "maps")
        == 0
    )
    entries = [json.loads(line) for line in (tmp_path / "maps/index.jsonl").read_text().splitlines()]
    assert [each["accuracy"] for each in entries] == [
        100 * share_accuracy(each["prediction"], each["answers"]) for each in entries
    ]
    assert "not the official" in (tmp_path / "maps/export.json").read_text()


def test_options_that_do_not_go_together_are_one_line(complaint, shop, tmp_path):
    usual = ("--results", "p.json", "--output", "s.json")
    assert "required: --split" in complaint(2, "vl-absvit", "score-vqa", "--data", shop / "data", *usual)
    assert "--data goes without" in complaint(2, "vl-absvit", "score-vqa", "--data", "d", "--validate", "test", *usual)
    asked = ("--images", shop / "pictures", "--table", shop / "questions.jsonl", "--output", tmp_path / "out")
    assert "--name vqav2: is a published" in complaint(2, "vl-absvit", "prepare-vqa", "--name", "vqav2", *asked)
