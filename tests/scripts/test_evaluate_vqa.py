"""``scripts/evaluate_vqa.py``: the official val is val and minival together, and scores as if never divided."""

import json
import re

import pytest

from tests.lively_vqa import lively_task
from tests.run_script import run_script
from vl_absvit.data.records import read_questions
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2

SCRIPT = "scripts/evaluate_vqa.py"


def answer(finetuned, data, split, output):
    where = ("--checkpoint", finetuned / "vqa/checkpoints/best", "--data", data, "--split", split)
    return run_script(SCRIPT, *where, "--output", output, "--num-workers", 0)


def test_the_scoring_step_of_the_readme_works_as_written(finetuned, world, tmp_path, capsys):
    undivided = PrepareOptions(root=world / "demo/vqav2", min_count=1, minival_images=0)
    prepare_vqav2(undivided, tmp_path / "undivided", workers=1)
    assert answer(finetuned, tmp_path / "undivided", "val", tmp_path / "undivided.json") == 0
    assert answer(finetuned, world / "prepared", "val,minival", tmp_path / "val.json") == 0
    both = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("val", "undivided")]
    assert sorted(both[0], key=lambda each: each["question_id"]) == both[1] and len(both[1]) > 20
    printed = [line.split()[-2] for line in capsys.readouterr().out.splitlines() if re.match(r"│ all ", line)]
    raw = world / "demo/vqav2"
    official = ("--annotations", raw / "v2_mscoco_val2014_annotations.json")
    official += ("--questions", raw / "v2_OpenEnded_mscoco_val2014_questions.json")
    results = ("--results", tmp_path / "val.json", "--output", tmp_path / "scores.json")
    assert run_script("scripts/score_vqa.py", *official, *results) == 0
    assert printed == [f"{json.loads((tmp_path / 'scores.json').read_text())['overall']:.2f}"] * 2


def test_one_part_of_val_is_said_to_be_one(finetuned, world, tmp_path, capsys):
    assert answer(finetuned, world / "prepared", "minival", tmp_path / "minival.json") == 0
    assert "vl-absvit score-vqa wants those of --split val,minival" in capsys.readouterr().out


@pytest.mark.parametrize(("version", "name"), [("v2_", "vqav2"), ("", "vqa_v1")])
def test_the_result_says_which_data_set_it_is_of(finetuned, world, tmp_path, version, name):
    (tmp_path / "raw").mkdir()
    for path in (world / "demo/vqav2").iterdir():
        (tmp_path / "raw" / path.name.replace("v2_", version)).symlink_to(path)
    options = PrepareOptions(root=tmp_path / "raw", min_count=1, minival_images=1)
    prepare_vqav2(options, tmp_path / "data", workers=1)
    assert answer(finetuned, tmp_path / "data", "minival", tmp_path / "minival.json") == 0
    about = json.loads((tmp_path / "minival.about.json").read_text())
    assert about["dataset"] == name and about["splits"] == ["minival"]


@pytest.mark.parametrize(
    ("code", "split", "message"),
    [
        (2, "val,", "--split: expected the names of splits, each once, with commas between them, got 'val,'"),
        (2, "val,val", "--split: expected the names of splits, each once"),
        (1, "test,test-dev", "the splits test, test-dev cannot be read together: they share questions"),
        (1, "val,test", "the splits val, test cannot be read together: only some of them have answers"),
        (1, "val,mini", "there is no split 'mini'"),
    ],
)
def test_splits_that_do_not_go_together_are_one_line(evaluate, code, split, message):
    assert message in evaluate(code, split=split)


def test_missing_images_are_counted_with_what_becomes_of_their_questions(evaluate, world, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for path in (world / "demo/vqav2").iterdir():
        (raw / path.name).symlink_to(path) if path.is_file() else (raw / path.name).mkdir()
    for path in (world / "demo/vqav2").glob("*2014/*.jpg"):
        (raw / path.parent.name / path.name).symlink_to(path)
    gone = sorted((raw / "val2014").iterdir())[0]
    gone.unlink()
    options = PrepareOptions(root=raw, min_count=1, minival_images=1, allow_missing_images=True)
    manifest = prepare_vqav2(options, tmp_path / "data", workers=1)
    missing = sum(manifest["splits"][split]["without_image"] for split in ("val", "minival"))
    total = len(read_questions(tmp_path / "data", ["val", "minival"]))
    message = evaluate(1, data=tmp_path / "data", split="val,minival")
    assert f"{missing:,} of {total:,} questions of val,minival have no image, which was missing when they" in message
    assert "nothing is evaluated" in message and message.endswith("prepare again, into another folder")


def test_the_result_says_what_the_pictures_were_attacked_with(finetuned, world, tmp_path, capsys):
    where = ("--checkpoint", finetuned / "vqa/checkpoints/best", "--data", world / "prepared", "--split", "minival")
    attack = ("--attack", "pgd", "--eps", 16, "--steps", 2)
    options = ("--output", tmp_path / "o.json", "--num-workers", 0)
    assert run_script(SCRIPT, *where, *options, *attack) == 0
    words = "PGD, 2 steps of 8/255 in the linf ball of 16/255, a random start"
    assert json.loads((tmp_path / "o.about.json").read_text())["attack"] == words
    assert f"about pictures changed to mislead it: {words}" in capsys.readouterr().out


def test_an_attack_needs_the_right_answers_or_a_target(evaluate, finetuned, world, tmp_path):
    assert "--attack moves away from the right answers, but test has no answers" in evaluate(
        1, split="test", attack="pgd"
    )
    where = ("--checkpoint", finetuned / "vqa/checkpoints/best", "--data", world / "prepared", "--split", "test")
    options = ("--output", tmp_path / "o.json", "--num-workers", 0, "--attack", "fgsm", "--targeted")
    assert run_script(SCRIPT, *where, *options) == 0


def test_a_target_needs_no_answers_of_the_checkpoints_vocabulary(finetuned, world, tmp_path, complaint):
    options = PrepareOptions(root=world / "demo/vqav2", min_count=4, minival_images=1)
    prepare_vqav2(options, tmp_path / "data", workers=1)
    where = ("--checkpoint", finetuned / "vqa/checkpoints/best", "--data", tmp_path / "data", "--split", "minival")
    where += ("--num-workers", 0, "--attack", "pgd", "--steps", 1, "--restarts", 2, "--output", tmp_path / "o.json")
    assert "minival has another answer vocabulary than the checkpoint; --targeted" in complaint(1, SCRIPT, *where)
    assert run_script(SCRIPT, *where, "--targeted") == 0


def test_answers_about_corrupted_pictures_say_so(finetuned, world, tmp_path, capsys):
    pytest.importorskip("imagecorruptions", exc_type=ImportError)
    where = ("--checkpoint", finetuned / "vqa/checkpoints/best", "--data", world / "prepared", "--split", "minival")
    options = ("--output", tmp_path / "o.json", "--num-workers", 0, "--corrupt", "fog", "--severity", 5)
    assert run_script(SCRIPT, *where, *options) == 0
    assert json.loads((tmp_path / "o.about.json").read_text())["corruption"] == "fog of severity 5"
    assert "about corrupted pictures: fog of severity 5" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_attack_and_corrupt_as_one_does(world, tmp_path, fork_server):
    """One question a pass: nothing rounds otherwise, so that all answers must be the same."""
    pytest.importorskip("imagecorruptions", exc_type=ImportError)
    (tmp_path / "model").mkdir()
    lively_task(world, tmp_path).save(tmp_path / "model")
    where = ("--checkpoint", tmp_path / "model", "--data", world / "prepared", "--split", "minival")
    where += ("--batch-size", 1, "--num-workers", 0, "--output")
    options = ("--attack", "pgd", "--eps", 32, "--steps", 2, "--restarts", 2, "--corrupt", "gaussian_noise")
    assert run_script(SCRIPT, *where, tmp_path / "clean.json") == 0
    assert run_script(SCRIPT, *where, tmp_path / "one.json", *options) == 0
    outcome = fork_server.run(SCRIPT, *where, tmp_path / "two.json", *options, processes=2)
    assert outcome.codes == [0, 0], outcome.output
    clean, one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("clean", "one", "two"))
    assert one == two and one != clean
    one, two = (json.loads((tmp_path / f"{name}.about.json").read_text()) for name in ("one", "two"))
    assert one | {"predictions": None} == two | {"predictions": None}
    assert "the worst of 2 random starts" in one["attack"] and one["corruption"] == "gaussian_noise of severity 3"
