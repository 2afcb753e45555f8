"""NLVR2 and SNLI-VE from raw files to scores, by their commands; two processes judge as one."""

import json

import pytest

from tests.prepare import raw_nlvr2
from tests.run_folders import metrics
from tests.run_script import run_script
from tests.tiny_statements import CONFIGS, prepared, tiny_statement_config
from tests.tiny_vqa import world, write_config  # noqa: F401
from vl_absvit.training.checkpoint import check_whole

COMMANDS = {"nlvr2": "finetune_nlvr2", "snli_ve": "finetune_snli_ve"}


@pytest.fixture(scope="module", params=CONFIGS)
def trained(request, world, tmp_path_factory):  # noqa: F811
    """Kind, prepared folder and run folder of a training by its command."""
    base = tmp_path_factory.mktemp(request.param)
    config = tiny_statement_config(request.param, world, base, base / "run")
    assert run_script(f"scripts/{COMMANDS[request.param]}.py", "--config", write_config(config, base / "c.yaml")) == 0
    return request.param, prepared(request.param, base), base / "run"


def judge(trained, output, *options):
    _, data, run = trained
    words = ["--checkpoint", run / "checkpoints/last", "--data", data, "--split", "dev", "--output", output]
    return run_script("scripts/evaluate_statements.py", *words, "--batch-size", 3, "--num-workers", 0, *options)


def test_predictions_score_as_training_did_and_stand_beside_constants(trained, tmp_path, capfd):
    kind, data, run = trained
    check_whole(run / "checkpoints/last")
    assert judge(trained, tmp_path / "dev.csv", "--blind") == 0
    about = json.loads((tmp_path / "dev.about.json").read_text())
    last = [line for line in metrics(run) if "select/accuracy" in line][-1]
    measured = {name.removeprefix("select/"): value for name, value in last.items() if name.startswith("select/")}
    assert {name: about[name] for name in measured} == pytest.approx(measured)
    constants = {"nlvr2": ["always False", "always True"]}.get(kind, [f"always {word}" for word in labels()])
    assert [*about["others"]] == ["without images", *constants] and about["dataset"] == kind
    assert about["trained_on"] == [kind] and about["trained_without_images"] is False
    capfd.readouterr()
    words = ["--data", data, "--split", "dev", "--predictions", tmp_path / "dev.csv", "--output", tmp_path / "s.json"]
    assert run_script("scripts/score_statements.py", *words) == 0
    scores = json.loads((tmp_path / "s.json").read_text())
    assert {name: scores[name] for name in measured} == pytest.approx(measured)
    assert f"statements of {kind} dev" in capfd.readouterr().out
    label = {"nlvr2": "True", "snli_ve": "neutral"}[kind]
    names = [line.rpartition(",")[0] for line in (tmp_path / "dev.csv").read_text().splitlines()]
    (tmp_path / "constant.csv").write_text("".join(f"{name},{label}\n" for name in names))
    assert run_script("scripts/score_statements.py", *words[:5], tmp_path / "constant.csv") == 0
    assert f"every statement is judged to be {label}: the model tells nothing apart" in capfd.readouterr().out


def labels():
    return ["contradiction", "neutral", "entailment"]


def test_two_processes_judge_as_one(trained, tmp_path, fork_server):
    assert judge(trained, tmp_path / "one.csv") == 0
    _, data, run = trained
    words = ["--checkpoint", run / "checkpoints/last", "--data", data, "--split", "dev", "--num-workers", 0]
    command = [*map(str, words), "--output", str(tmp_path / "two.csv")]
    done = fork_server.run("scripts/evaluate_statements.py", *command, processes=2)
    assert done.codes == [0, 0], done.output
    assert (tmp_path / "two.csv").read_text() == (tmp_path / "one.csv").read_text()


def test_a_split_with_missing_images_is_not_judged(trained, tmp_path, capfd):
    kind, _, run = trained
    if kind != "nlvr2":
        pytest.skip("one kind is enough")
    raw = raw_nlvr2.write_small_nlvr2(tmp_path / "raw")
    (raw / "dev/dev-1-1-img1.png").unlink()
    raw_nlvr2.prepare(raw, tmp_path / "out", allow_missing_images=True)
    words = ["--checkpoint", run / "checkpoints/last", "--data", tmp_path / "out", "--split", "dev"]
    assert run_script("scripts/evaluate_statements.py", *words, "--output", tmp_path / "p.csv") == 1
    assert "2 of 8 statements of dev have no image" in capfd.readouterr().err and not (tmp_path / "p.csv").exists()


def test_another_s_checkpoint_and_another_s_data_are_refused(trained, tmp_path, capfd):
    kind, _, run = trained
    other = {"nlvr2": "snli_ve", "snli_ve": "nlvr2"}[kind]
    words = ["--data", prepared(other, tmp_path), "--split", "dev", "--output", tmp_path / "p.csv"]
    assert run_script("scripts/evaluate_statements.py", "--checkpoint", run / "checkpoints/last", *words) == 1
    assert f"expected prepared data of the kind {kind}, got '{other}'" in capfd.readouterr().err
