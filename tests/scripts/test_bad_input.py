"""Whatever a user gets wrong is one line on stderr and an exit code: options, configs, prepared and raw data."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.damage import answers_in_another_order, copied, cut_short, emptied, removed, replaced
from tests.prepare.raw_vqav2 import annotation, image_path, question, questions_file, write_split
from tests.run_script import ROOT
from tests.tiny_vqa import tiny_pretrain_config, tiny_vqa_config, write_config

# Options and configs: exit code 2.


@pytest.mark.parametrize(
    "options, message",
    [
        ({"config": "absent.yaml"}, "config absent.yaml: No such file or directory"),
        ({"vision__image_size": 33}, "vision.image_size 33 is not a multiple of the patch size 16"),
        ({"optim__batch_size": 1000}, "optim.batch_size 1000 is more than the 60 training samples"),
        ({"optim__micro_batch_size": 5}, "optim.batch_size 12 does not divide into 1 processes x 5 samples"),
        ({"data__select_split": "train"}, "data.select_split 'train' is also trained on"),
        ({"text__model": "nowhere"}, "text.model nowhere: no text encoder there"),
    ],
)
def test_a_config_that_cannot_be_meant_is_exit_code_2(finetune, options, message):
    assert message in finetune(2, **options)


def test_a_config_file_is_named_with_the_key_that_is_wrong_in_it(world, tmp_path, complaint):
    config = write_config(tiny_vqa_config(world, tmp_path / "run"), tmp_path / "vqa.yaml")
    config.write_text(config.read_text().replace("epochs: 2", "epochs: two"))
    line = complaint(2, "scripts/finetune_vqa.py", "--config", config, "--optim.batch_size", 6)
    assert line.startswith(f"{config}: \"optim.epochs\": Expected a <class 'int'>. Got value: two")


def test_an_output_folder_that_is_a_file_is_left_alone(world, tmp_path, complaint):
    config = write_config(tiny_vqa_config(world, tmp_path / "vqa.yaml"), tmp_path / "vqa.yaml")
    before = config.read_bytes()
    assert "vqa.yaml is a file, expected a folder" in complaint(2, "scripts/finetune_vqa.py", "--config", config)
    assert config.read_bytes() == before


@pytest.mark.parametrize(
    "script, arguments, message",
    [
        (
            "scripts/evaluate_vqa.py",
            [],
            "the following arguments are required: --checkpoint, --data, --split, --output",
        ),
        ("scripts/score_vqa.py", ["--anotations", "a.json"], "did you mean --annotations?"),
        ("scripts/summarise_demo.py", ["--batch-size", "many"], "argument --batch-size: invalid int value: 'many'"),
        (
            "data_prep/prepare_vqav2.py",
            ["--root", "a", "--output", "b", "--vocabulry", "c"],
            "unrecognized arguments: --vocabulry c; did you mean --vocabulary?",
        ),
        ("data_prep/make_demo.py", ["--output", "a", "--scenes", "0"], "expected --scenes >= 1"),
    ],
)
def test_a_wrong_option_of_any_script_is_one_line(complaint, script, arguments, message):
    assert message in complaint(2, script, *arguments)


def test_nothing_else_is_on_stderr_of_a_real_process(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/finetune_vqa.py"), "--run.ouput", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: command line: there is no option --run.ouput; did you mean --run.output?\n"


# Folders and files that a run starts from: exit code 1.


@pytest.mark.parametrize(
    "options, message",
    [
        ({"data__root": "nowhere"}, "nowhere: no prepared data here (manifest.json is missing)"),
        ({"data__train_splits": "[trian]"}, "there is no split 'trian'; it has train, minival, val, test, test-dev"),
        ({"data__train_splits": "[test]"}, "test has no answers to train on"),
        ({"data__select_split": "test"}, "the split test has no answers"),
        ({"text__tokenizer": "nowhere"}, "tokenizer nowhere: no such folder, and not to be had by that name: "),
        ({"vision__weights": "nowhere"}, "vision.weights: no such file: nowhere"),
        ({"vision__weights": str(ROOT)}, f"vision.weights: no such file: {ROOT}/model.safetensors"),
        ({"vision__weights": __file__}, "test_bad_input.py: not a safetensors file: "),
    ],
)
def test_a_missing_folder_or_file_is_exit_code_1(finetune, options, message):
    assert message in finetune(1, **options)


def moved_images(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"root": "/nowhere", "root_from_here": "gone"}))


@pytest.mark.parametrize(
    "damage, message",
    [
        (cut_short("train.parquet"), "train.parquet: cannot be read as the table that was prepared: Parquet magic"),
        (emptied("images.parquet"), "images.parquet: cannot be read as the table that was prepared: Parquet file size"),
        (removed("train.parquet"), "train.parquet is missing"),
        (removed("images.parquet"), "images.parquet is missing"),
        (copied("images.parquet", "train.parquet"), "train.parquet: expected a table with the column 'question_id'"),
        (copied("train.parquet", "images.parquet"), "images.parquet: expected a table with the column 'file'"),
        (removed("answers.json"), "answers.json: no such file"),
        (replaced("answers.json", '["yes"]'), "answers.json: expected an object at the top level, got a list"),
        (answers_in_another_order, "answers.json: not the vocabulary that the labels beside it were made with"),
        (replaced("manifest.json", "{nonsense"), "manifest.json: expected JSON in UTF-8"),
        (replaced("manifest.json", '{"format": 1, "root": 3, "splits": {}}'), "expected the raw data's folder under"),
        (replaced("manifest.json", '{"format": 1, "root": "x", "splits": 5}'), "and an object under 'splits'"),
        (
            replaced("manifest.json", '{"format": 1, "root": "x", "splits": {"train": null}}'),
            "expected counts of the split 'train', got null",
        ),
        (moved_images, "/prepared/gone, which does not exist nor /nowhere, which does not exist; say where"),
    ],
)
def test_prepared_data_of_another_form_is_named(finetune, prepared, damage, message):
    damage(prepared)
    line = finetune(1, data__root=prepared)
    assert message in line and str(prepared) in line


# Raw data.


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda raw: questions_file(raw, "train").write_text("[]"), 'questions.json: expected an object {"questions"'),
        (lambda raw: image_path(raw, "train", 7).write_bytes(b"<html>"), "none of the images can be used"),
        (lambda raw: shutil.rmtree(raw), "raw: no such folder"),
    ],
)
def test_raw_data_of_another_form_is_named_and_nothing_is_written(tmp_path, complaint, damage, message):
    raw = tmp_path / "raw"
    write_split(raw, "train", [question(7000, 7), question(7001, 7)], [annotation(7000, 7), annotation(7001, 7)])
    damage(raw)
    files = ("--root", raw, "--output", tmp_path / "out", "--min-count", 1, "--workers", 1)
    assert message in complaint(1, "data_prep/prepare_vqav2.py", *files)
    assert not (tmp_path / "out").exists()


# Pretraining.


@pytest.mark.parametrize(
    "options, code, message",
    [
        (["--data.root", "nowhere"], 1, "nowhere/train: no such folder; expected one folder per class in it"),
        (["--data.root", str(ROOT / "configs"), "--data.train_splits", "[demo]"], 1, "configs/demo: "),
        (["--vision.weights", "nowhere"], 1, "vision.weights: no such file: nowhere"),
        (["--mosaic", "3"], 2, "vision.image_size 32 does not divide into a mosaic of 3 x 3"),
        (["--pooling", "max"], 2, "command line: \"pooling\": Expected a typing.Literal['token', 'avg']"),
    ],
)
def test_a_pretraining_that_cannot_start_is_one_line(world, tmp_path, complaint, options, code, message):
    config = write_config(tiny_pretrain_config(world, tmp_path / "run"), tmp_path / "pretrain.yaml")
    assert message in complaint(code, "scripts/pretrain_vision.py", "--config", config, *options)
    assert not (tmp_path / "run/checkpoints").exists()
