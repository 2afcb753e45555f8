"""A checkpoint goes to a hub and comes back: whole, by revision, with its card; and what is not whole does not go."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from safetensors.torch import load_file, save_file

from tests.hub_stand_in import TOKEN, StandIn, stand_in
from tests.run_script import ROOT, run_script
from tests.tiny_vqa import tiny_pretrain_config, tiny_vqa_config, write_config

PUSH, EVALUATE = "scripts/push_to_hub.py", "scripts/evaluate_vqa.py"
NAME = "lab/absvit-vqa"


class Told(NamedTuple):
    """What a command left on its exit."""

    code: int
    out: str
    err: str


class Session(NamedTuple):
    """A hub, what commands did with it, and the folder that they worked in."""

    hub: StandIn
    told: dict[str, Told]
    folder: Path


@pytest.fixture(scope="module")
def session(world, finetuned, tmp_path_factory) -> Session:
    """Commands that upload and read, all in one process, for the hub's library reads its environment once."""
    folder = tmp_path_factory.mktemp("hub")
    best = finetuned / "vqa/checkpoints/best"
    changed = shutil.copytree(best, folder / "changed")
    weights = load_file(changed / "model.safetensors")
    weights["head.3.bias"][3] += 1000  # always the same answer
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})

    def evaluate(checkpoint: object, name: str) -> list[object]:
        files = ["--data", world / "prepared", "--split", "val", "--output", folder / name, "--num-workers", 0]
        return [{}, EVALUATE, "--checkpoint", checkpoint, *files]

    config = write_config(tiny_vqa_config(world, folder / "run"), folder / "vqa.yaml")
    pretraining = tiny_pretrain_config(world, folder / "encoder")
    pretraining = replace(pretraining, optim=replace(pretraining.optim, epochs=1, batch_size=180))
    pretraining = write_config(pretraining, folder / "pretrain.yaml")
    commands = {
        "push": [{}, PUSH, "--checkpoint", best, "--repo", NAME, "--license", "mit"],
        "push v2": [{}, PUSH, "--checkpoint", changed, "--repo", NAME, "--revision", "v2"],
        "push state": [
            {},
            PUSH,
            "--checkpoint",
            best.with_name("last"),
            "--repo",
            "lab/on",
            "--private",
            "--training-state",
        ],
        "no login": [{"HF_TOKEN": "hf_of_another"}, PUSH, "--checkpoint", best, "--repo", "lab/refused"],
        "too late": [{}, PUSH, "--checkpoint", best, "--repo", NAME, "--private"],
        "folder": evaluate(best, "folder.json"),
        "main": evaluate(NAME, "main.json"),
        "v2": evaluate(f"{NAME}@v2", "v2.json"),
        "no revision": evaluate(f"{NAME}@v3", "v3.json"),
        "no repository": evaluate("lab/nothing", "nothing.json"),
        "push encoder": [{}, PUSH, "--checkpoint", finetuned / "pretrained/checkpoints/best", "--repo", "lab/encoder"],
        "trunk": [{}, "scripts/pretrain_vision.py", "--config", pretraining, "--vision.weights", "hf-hub:lab/encoder"],
        "start": [{}, "scripts/finetune_vqa.py", "--config", config, "--from_checkpoint", NAME, "--optim.epochs", 1],
    }
    with stand_in() as hub:
        environment = os.environ | {
            "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_HUB_CACHE": str(folder / "home/hub"),
            "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        (folder / "work").mkdir()
        asked = json.dumps([[each[0], *map(str, each[1:])] for each in commands.values()])
        ran = subprocess.run(
            [sys.executable, "-m", "tests.hub_commands", asked],
            env=environment, cwd=folder / "work", capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return Session(
        hub, {name: Told(*told) for name, told in zip(commands, json.loads(ran.stdout), strict=True)}, folder
    )


def answers(session: Session, name: str) -> dict[int, str]:
    assert session.told[name].code == 0, session.told[name].err
    return {each["question_id"]: each["answer"] for each in json.loads((session.folder / f"{name}.json").read_text())}


def test_a_checkpoint_from_the_hub_answers_as_its_folder_does(session):
    assert session.told["push"].code == 0, session.told["push"].err
    assert answers(session, "main") == answers(session, "folder")
    commit = session.hub.repositories[NAME].branches["main"]
    assert f"by {NAME}@{commit}" in session.told["main"].out and f"{NAME}@{commit}" in session.told["push"].out


def test_a_revision_is_another_checkpoint(session):
    assert len(set(answers(session, "v2").values())) == 1
    assert session.told["v2"].out.count(session.hub.repositories[NAME].branches["v2"]) == 1


def test_the_whole_folder_is_there_as_it_was_with_a_card(session, finetuned):
    best, repository = finetuned / "vqa/checkpoints/best", session.hub.repositories[NAME]
    files = repository.commits[repository.branches["main"]]
    assert set(files) == {file.name for file in best.iterdir()} | {"README.md"}
    changed = {name for name, content in files.items() if name == "README.md" or content != (best / name).read_bytes()}
    assert changed <= {"README.md", "manifest.json"} and repository.large == {"model.safetensors"}
    card = files["README.md"].decode()
    number = len(json.loads((best / "answers.json").read_text())["answers"])
    for words in (
        "license: mit", "library_name: vl_absvit", "pipeline_tag: visual-question-answering", f"| answers | {number} |",
        "vqav2, splits train, selected on minival", "| accuracy |", f"--checkpoint {NAME} --", "fp32 forward passes",
    ):  # fmt: skip
        assert words in card
    assert "More Information Needed" not in card


def test_the_training_state_goes_when_asked_for_and_into_a_private_repository(session):
    repository = session.hub.repositories["lab/on"]
    assert session.told["push state"].code == 0 and repository.private
    assert "training_state.safetensors" in repository.commits[repository.branches["main"]]


def test_what_the_hub_refuses_is_one_line(session):
    lines = {name: told.err.splitlines()[-1] for name, told in session.told.items() if told.code}
    assert {name: session.told[name].code for name in lines} == dict.fromkeys(
        ("no login", "too late", "no revision", "no repository"), 1
    )
    url = session.hub.url
    assert lines["no login"].startswith(f"error: cannot upload to {url}/lab/refused: not allowed (401); log in by")
    assert lines["too late"] == f"error: {url}/{NAME} is public; nothing was uploaded"
    missing = "no such folder, and not to be had by that name: "
    assert lines["no revision"] == f"error: --checkpoint {NAME}@v3: {missing}{url}/{NAME} has no revision v3"
    assert lines["no repository"].startswith(f"error: --checkpoint lab/nothing: {missing}there is no {url}/lab/nothing")


def test_a_run_starts_from_the_hub_and_says_from_which_commit(session):
    assert session.told["start"].code == 0, session.told["start"].err
    training = json.loads((session.folder / "run/checkpoints/last/training.json").read_text())
    assert training["started_from"] == f"{NAME}@{session.hub.repositories[NAME].branches['main']}"
    assert training["start"]["dataset"] == "vqav2"
    assert "from_checkpoint: lab/absvit-vqa\n" in (session.folder / "run/config.yaml").read_text()


def test_a_trunk_comes_from_the_hub(session):
    assert session.told["trunk"].code == 0, session.told["trunk"].err
    training = json.loads((session.folder / "encoder/checkpoints/last/training.json").read_text())
    assert training["vision_weights"] == f"lab/encoder@{session.hub.repositories['lab/encoder'].branches['main']}"


def test_no_pickle_and_nothing_else_was_asked_for(session):
    fetched = [path for path in session.hub.asked if "/resolve/" in path]
    assert fetched and all(path.endswith((".json", ".safetensors", ".txt")) for path in fetched)


def test_the_folder_can_be_written_instead(finetuned, tmp_path, complaint):
    for name in ("vqa", "pretrained"):
        best = finetuned / name / "checkpoints/best"
        assert run_script(PUSH, "--checkpoint", best, "--output", tmp_path / name) == 0
        assert {file.name for file in (tmp_path / name).iterdir()} == {file.name for file in best.iterdir()} | {
            "README.md"
        }
    assert "| top1 |" in (tmp_path / "pretrained/README.md").read_text()
    line = complaint(1, PUSH, "--checkpoint", finetuned / "vqa/checkpoints/best", "--output", tmp_path / "vqa")
    assert "already there; expected a new or empty folder" in line


def test_what_is_not_whole_is_not_uploaded(finetuned, tmp_path, complaint):
    folder = shutil.copytree(finetuned / "vqa/checkpoints/best", tmp_path / "part")
    (folder / "answers.json").unlink()
    assert "answers.json: no such file" in complaint(1, PUSH, "--checkpoint", folder, "--repo", NAME)
    (folder / "tokenizer.json").unlink()
    assert "there is no tokenizer.json" in complaint(1, PUSH, "--checkpoint", folder, "--repo", NAME)
    best = finetuned / "vqa/checkpoints/best"
    assert "HF_HUB_OFFLINE forbids it" in complaint(1, PUSH, "--checkpoint", best, "--repo", NAME)
    assert "such as lab/absvit-vqa, got 'absvit'" in complaint(2, PUSH, "--checkpoint", best, "--repo", "absvit")
    assert "expected one of them" in complaint(2, PUSH, "--checkpoint", best)
    assert "training_state.safetensors" in complaint(1, PUSH, "--checkpoint", best, "--repo", NAME, "--training-state")
