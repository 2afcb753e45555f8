"""``scripts/leave_one_out.sh``: with a stand-in for Python what runs, and a whole protocol in the small."""

import json
import shlex

import pytest

from tests.run_script import run_script
from tests.scripts.test_evidence import evidence, finish  # noqa: F401
from vl_absvit.cli import parse_run_config
from vl_absvit.config import PretrainConfig


@pytest.fixture
def domains(tmp_path):
    """A folder that looks like prepared domains."""
    for target in ("ink", "oil", "pen"):
        (tmp_path / "domains" / target).mkdir(parents=True)
    (tmp_path / "domains/manifest.json").write_text("{}")
    return tmp_path / "domains"


def test_every_domain_is_left_out_for_every_seed_and_judged_once(evidence, domains, tmp_path):  # noqa: F811
    start, calls = evidence
    words = ("--data", str(domains), "--seeds", "0 1", "--", "--vision.top_down", "none")
    _, err = finish(start(*words, script="leave_one_out"), code=1)
    assert "error: 6 runs failed" in err, "the stand-in writes no results"
    trainings = [shlex.split(line.replace("[train]", "'[train]'"))[1:] for line in calls("pretrain_vision.py")]
    configs = [parse_run_config(PretrainConfig, words) for words in trainings]
    assert sorted((config.run.seed, config.data.root) for config in configs) == [
        (seed, str(domains / target)) for seed in (0, 1) for target in ("ink", "oil", "pen")
    ]
    for config in configs:
        assert (config.data.train_splits, config.data.select_split, config.vision.top_down) == (
            ("train",),
            "val",
            "none",
        )
        assert str(domains) in config.data.root and config.data.root.split("/")[-1] == config.run.output.split("/")[-1]
    judged = [shlex.split(line) for line in calls("evaluate_vision.py")]
    for words in judged:
        checkpoint, data = (words[words.index(name) + 1].split("/") for name in ("--checkpoint", "--data"))
        assert checkpoint[-2:] == ["checkpoints", "best"] and checkpoint[-3] == data[-2] and data[-1] == "test"
    assert len(judged) == 6 and not calls("make_demo.py") and len(calls("tabulate_domains.py")) == 1


def test_other_options_in_the_same_folder_are_refused_and_other_names_are_not(evidence, domains):  # noqa: F811
    start, calls = evidence
    words = ("--data", str(domains), "--seeds", "0")
    finish(start(*words, script="leave_one_out"), code=1)
    _, err = finish(start(*words, "--", "--optim.epochs", "1", script="leave_one_out"), code=1)
    assert "absvit-0 holds results of other data, another config or options" in err
    finish(start(*words, "--name", "vit", "--", "--optim.epochs", "1", script="leave_one_out"), code=1)
    assert len(calls("pretrain_vision.py")) == 6


@pytest.mark.parametrize(
    "options", [["--seeds"], ["--seeds", "a"], ["--name", "a-b"], ["--rows", "vit"], ["--config", "none"]]
)
def test_a_wrong_command_is_one_line(evidence, options):  # noqa: F811
    start, calls = evidence
    _, err = finish(start(*options, script="leave_one_out"), code=2)
    assert len(err.splitlines()) == 1 and not calls("")


def test_a_folder_without_domains_is_one_line(evidence, tmp_path):  # noqa: F811
    start, calls = evidence
    _, err = finish(start("--data", str(tmp_path), script="leave_one_out"), code=1)
    assert "holds no domains; vl-absvit prepare-domains makes such a folder" in err and not calls("pretrain")


def test_styles_are_drawn_prepared_learned_and_told_on_a_style_that_was_never_seen(tmp_path):
    """What the script does, once, with a smaller model: a table that the runs stand behind."""
    tiny = ("--vision.width", 16, "--vision.depth", 2, "--vision.num_heads", 2, "--optim.epochs", 1)
    assert run_script("vl-absvit", "make-demo", "--output", tmp_path / "world", "--styles", 90) == 0
    words = ("--root", tmp_path / "world", "--output", tmp_path / "data", "--workers", 1)
    assert run_script("vl-absvit", "prepare-domains", *words) == 0
    for target in ("cartoon", "painting", "photo", "sketch"):
        run, data = tmp_path / "runs/absvit-0" / target, tmp_path / "data" / target
        words = ("--config", "demo/domains", "--data.root", data, "--run.output", run, *tiny)
        assert run_script("vl-absvit", "pretrain-vision", *words) == 0
        words = ("--checkpoint", run / "checkpoints/best", "--data", data / "test", "--num-workers", 0)
        assert run_script("vl-absvit", "evaluate-vision", *words, "--output", run / "test.json") == 0
    words = (tmp_path / "runs", "--data", tmp_path / "data", "--output", tmp_path / "table")
    assert run_script("vl-absvit", "tabulate-domains", *words) == 0
    scores = json.loads((tmp_path / "table.json").read_text())["rows"]["absvit"]["scores"]
    assert set(scores) == {"cartoon", "painting", "photo", "sketch", "mean"}
