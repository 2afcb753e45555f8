"""A run that stops on the way or cannot go on says why in one line, and what was there before is still whole."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.damage import cut_short, emptied, removed, replaced
from tests.run_folders import assert_same_end
from tests.run_script import ROOT, run_script
from tests.tiny_vqa import tiny_vqa_config, write_config
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.training.checkpoint import check_whole, find_checkpoint


@pytest.mark.parametrize("damage, message", [(cut_short, "cannot be decoded"), (removed, "No such file or directory")])
def test_an_image_that_changed_after_preparation_stops_the_run(finetune, world, tmp_path, damage, message):
    raw = shutil.copytree(world / "demo/vqav2", tmp_path / "vqav2")
    prepared = shutil.copytree(world / "prepared", tmp_path / "prepared")
    manifest = json.loads((prepared / "manifest.json").read_text())
    (prepared / "manifest.json").write_text(json.dumps(manifest | {"root": str(raw)}))
    damage("train2014/COCO_train2014_000000000001.jpg")(raw)
    line = finetune(1, data__root=prepared)
    assert f"{raw}/train2014/COCO_train2014_000000000001.jpg (image 1): {message}" in line


@contextmanager
def files_of_at_most(size: int):
    """A disk on which no file can grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_while_saving_leaves_the_checkpoint_before_to_go_on_from(
    world, finetuned, tmp_path, complaint, monkeypatch
):
    config = tiny_vqa_config(world, tmp_path / "run", dropout=0.1)
    path = write_config(config, tmp_path / "vqa.yaml")
    save, saved = VQATask.save, []

    def save_until_the_disk_is_full(task, folder):
        saved.append(folder)
        with files_of_at_most(2**40 if len(saved) < 3 else 100_000):
            save(task, folder)

    monkeypatch.setattr(VQATask, "save", save_until_the_disk_is_full)
    line = complaint(1, "scripts/finetune_vqa.py", "--config", path)
    assert "cannot save checkpoint" in line and "File too large" in line and "the one before it is untouched" in line
    check_whole(tmp_path / "run/checkpoints/last")
    assert not list(tmp_path.rglob("*.new"))
    monkeypatch.setattr(VQATask, "save", save)
    assert run_script("scripts/finetune_vqa.py", "--config", path, "--run.resume", "true") == 0
    whole = replace(config, run=replace(config.run, output=str(tmp_path / "whole")))
    assert run_script("scripts/finetune_vqa.py", "--config", write_config(whole, tmp_path / "whole.yaml")) == 0
    weights = [tmp_path / name / "checkpoints/last/model.safetensors" for name in ("run", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def gone_back(finetuned: Path, run: Path) -> Path:
    """A copy of the finished run as it was before its second half."""
    shutil.copytree(finetuned / "vqa", run)
    shutil.rmtree(run / "checkpoints/last")
    (run / "checkpoints/last.previous").rename(run / "checkpoints/last")
    return run


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own of 16 MB, in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)  # the run's log may still be open


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_after_room_is_made_on_a_full_disk_the_run_goes_on(finetuned, small_disk, complaint, share):
    run, ballast = gone_back(finetuned, small_disk / "run"), small_disk / "ballast"
    needed = sum(file.stat().st_size for file in (run / "checkpoints/last").iterdir())
    state = os.statvfs(small_disk)
    ballast.write_bytes(bytes(state.f_bavail * state.f_bsize - int(share * needed)))
    arguments = ("--config", finetuned / "vqa/config.yaml", "--run.output", run, "--run.resume", "true")
    line = complaint(1, "scripts/finetune_vqa.py", *arguments, "--run.trackers", "[]")
    assert str(run) in line and "No space left on device" in line
    check_whole(run / "checkpoints/last")
    assert not list(run.rglob("*.new")) and not list(run.rglob(".*"))
    ballast.unlink()
    assert run_script("scripts/finetune_vqa.py", *arguments) == 0
    assert_same_end(run, finetuned / "vqa")


def processes_below(launcher: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize("is_asked", [True, False])
def test_two_processes_end_when_their_launcher_is_asked_to_stop_or_one_of_them_is_killed(world, tmp_path, is_asked):
    config = tiny_vqa_config(world, tmp_path / "run")
    optim, data = replace(config.optim, epochs=10_000), replace(config.data, num_workers=1)
    config = replace(config, optim=optim, data=data)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "vl_absvit", "finetune-vqa"] if is_asked else [ROOT / "scripts/finetune_vqa.py"]
    command += ["--config", write_config(config, tmp_path / "vqa.yaml")]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    last = tmp_path / "run/checkpoints/last"
    with (tmp_path / "output.log").open("w") as log:
        launcher = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        while not last.exists() and launcher.poll() is None:
            time.sleep(0.05)
        processes = processes_below(launcher.pid)
        assert len(processes) == 2, (tmp_path / "output.log").read_text()
        if is_asked:
            launcher.terminate()
        else:
            os.kill(processes[1], signal.SIGKILL)
        assert launcher.wait(60) == 1  # what this launcher makes of both
    assert not any(Path(f"/proc/{process}").exists() for process in processes)
    assert find_checkpoint(last)[0] is not None
    if is_asked:
        check_whole(last)
        step = json.loads((last / "training_state.json").read_text())["step"]
        assert step == json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])["step"]
        assert f"asked to stop by a signal: saved step {step} of 50000 " in (tmp_path / "output.log").read_text()


def one_bit_flipped(run):
    path = run / "checkpoints/last/model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage, reason",
    [
        (one_bit_flipped, "model.safetensors is not what was saved"),
        (removed("checkpoints/last/manifest.json"), "manifest.json: No such file"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_line_and_the_one_before_leads_to_the_same_end(
    finetuned, tmp_path, capfd, damage, reason
):
    run = Path(shutil.copytree(finetuned / "vqa", tmp_path / "run"))
    damage(run)
    arguments = ("--config", finetuned / "vqa/config.yaml", "--run.output", run, "--run.resume", "true")
    assert run_script("scripts/finetune_vqa.py", *arguments) == 0
    lines = capfd.readouterr().err.splitlines()
    (passed_over,) = [line for line in lines if line.startswith("passed over: ")]
    assert f"{run}/checkpoints/last" in passed_over and reason in passed_over
    assert f"going on from {run}/checkpoints/last.previous at step 5 of 10" in lines
    assert_same_end(run, finetuned / "vqa")


def both_checkpoints_damaged(run):
    for name in ("last", "last.previous"):
        emptied(f"checkpoints/{name}/model.safetensors")(run)


@pytest.mark.parametrize(
    "damage, options, code, message",
    [
        (None, ["--vision.width", 32], 2, "was started with another config: vision.width (was 16, now 32)"),
        (both_checkpoints_damaged, [], 1, "no whole checkpoint to go on from: "),
        (replaced("config.yaml", "["), [], 1, "config.yaml is not a run's config: "),
        (removed("config.yaml"), [], 1, "config.yaml is not a run's config: No such file or directory"),
        (replaced("environment.json", "["), [], 1, "environment.json: expected JSON: "),
        (replaced("metrics.jsonl", "[1]\n"), [], 1, "metrics.jsonl: line 1 is not one of ours"),
    ],
)
def test_a_run_that_cannot_go_on_is_left_as_it_is(finetuned, tmp_path, complaint, damage, options, code, message):
    run = Path(shutil.copytree(finetuned / "vqa", tmp_path / "run"))
    if damage:
        damage(run)
    before = {file: file.read_bytes() for file in run.rglob("checkpoints/*/*")}
    arguments = ("--config", finetuned / "vqa/config.yaml", "--run.output", run, "--run.resume", "true")
    assert message in complaint(code, "scripts/finetune_vqa.py", *arguments, *options)
    assert before == {file: file.read_bytes() for file in run.rglob("checkpoints/*/*")}


def test_predictions_that_cannot_be_written_are_noticed_before_the_work(evaluate, tmp_path, monkeypatch):
    monkeypatch.setattr("vl_absvit.tasks.vqa.predict_answers", None)  # nothing may be computed
    (tmp_path / "file").write_text("")
    assert "file: File exists" in evaluate(1, output=tmp_path / "file/predictions.json")
    assert f"{tmp_path}: cannot be written: it is a folder" in evaluate(1, output=tmp_path)


def test_a_test_split_without_a_vocabulary_of_its_own_is_answered(world, finetuned, prepared, tmp_path, capsys):
    manifest = json.loads((prepared / "manifest.json").read_text())
    (prepared / "manifest.json").write_text(json.dumps(manifest | {"vocabulary": None}))
    (prepared / "answers.json").unlink()
    arguments = ("--checkpoint", finetuned / "vqa/checkpoints/best", "--data", prepared, "--split", "test")
    output = ("--output", tmp_path / "predictions.json", "--num-workers", 0)
    assert run_script("scripts/evaluate_vqa.py", *arguments, *output) == 0
    assert "test has no answers to score against" in capsys.readouterr().out
