"""Pretraining, finetuning and evaluation as commands: from the demo world to predictions, one line for each fault."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.run_script import run_script
from tests.tiny_vqa import tiny_pretrain_config, write_config


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def evaluate(finetuned, world, output, split="val", **changes) -> int:
    arguments = {
        "--checkpoint": finetuned / "vqa/checkpoints/best",
        "--data": world / "prepared",
        "--split": split,
        "--output": output,
        "--num-workers": 0,
    } | changes
    return run_script("scripts/evaluate_vqa.py", *(word for pair in arguments.items() for word in pair))


def test_a_run_leaves_everything_in_its_folder(finetuned):
    run = finetuned / "vqa"
    assert {path.name for path in run.iterdir()} == {
        "config.yaml", "environment.json", "metrics.jsonl", "console.log", "checkpoints", "trackers",
    }  # fmt: skip
    assert list((run / "trackers").glob("events.out.tfevents.*"))
    assert {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json", "answers.json"} <= {
        path.name for path in (run / "checkpoints/best").iterdir()
    }


def test_the_log_says_once_what_became_of_every_start_weight(finetuned):
    log = (finetuned / "vqa/console.log").read_text()
    assert log.count("start weights: the model's ") == 1
    source = f"  vision.weights {finetuned / 'pretrained/checkpoints/best/model.safetensors'}\n"
    table = log[log.index(source) :]
    assert (
        table.index("    loaded     vision trunk ") < table.index("    dropped ") < table.index("  no file: random\n")
    )
    assert "vision.head.weight, vision.head.bias, ...: this model has none" in table


def test_the_losses_go_down(finetuned):
    for run, term in (("pretrained", "classification"), ("vqa", "vqa")):
        values = [line[term] for line in metrics(finetuned / run) if term in line]
        assert values[-1] < values[0], run


def test_a_finished_run_can_be_resumed_and_is_left_as_it_is(finetuned):
    before = (finetuned / "vqa/checkpoints/last/model.safetensors").read_bytes()
    assert run_script("scripts/finetune_vqa.py", "--config", finetuned / "vqa/config.yaml", "--run.resume", "true") == 0
    assert (finetuned / "vqa/checkpoints/last/model.safetensors").read_bytes() == before


def test_predictions_hold_every_question_once_and_are_scored(finetuned, world, tmp_path, capsys):
    assert evaluate(finetuned, world, tmp_path / "new/val.json") == 0
    predictions = json.loads((tmp_path / "new/val.json").read_text())
    manifest = json.loads((world / "prepared/manifest.json").read_text())
    assert (
        len({each["question_id"] for each in predictions}) == len(predictions) == manifest["splits"]["val"]["questions"]
    )
    assert {"question_id", "answer"} == set(predictions[0])
    output = capsys.readouterr().out
    assert "accuracy (%)" in output and "yes/no" in output


def test_a_pretrained_encoder_is_not_a_vqa_checkpoint(finetuned, world, tmp_path, capsys):
    changes = {"--checkpoint": finetuned / "pretrained/checkpoints/best"}
    assert evaluate(finetuned, world, tmp_path / "out.json", **changes) == 1
    assert "pretrained/checkpoints/best: expected a VQA model, got an image classifier" in capsys.readouterr().err


@pytest.mark.slow
def test_a_bad_image_stops_a_run_with_loader_processes_in_one_line(fork_server, world, tmp_path):
    folder = tmp_path / "objects"
    for split in ("train", "val"):
        for source in sorted((world / "demo/single_objects" / split).iterdir())[:2]:
            (folder / split / source.name).mkdir(parents=True)
            for number in range(8):
                (folder / split / source.name / f"{number}.png").write_bytes(next(source.iterdir()).read_bytes())
    (folder / "train" / sorted(p.name for p in (folder / "train").iterdir())[0] / "3.png").write_bytes(b"no image")
    config = tiny_pretrain_config(world, tmp_path / "run")
    config = replace(config, data=replace(config.data, root=str(folder), num_workers=1))
    path = write_config(config, tmp_path / "pretrain.yaml")
    outcome = fork_server.run("scripts/pretrain_vision.py", "--config", path)
    assert outcome.codes == [1] and "Traceback" not in outcome.output
    assert "3.png: not an image" in outcome.output.strip().splitlines()[-1]
