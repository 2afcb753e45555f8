"""``scripts/evidence.sh``, ``vars_evidence.sh``, ``evidence_robustness.sh`` and ``demo.sh`` with a stand-in for Python:
what runs, in which order, and what a stop leaves."""

import os
import re
import shlex
import signal
import subprocess
import time
from dataclasses import replace

import psutil
import pytest

from tests.run_script import ROOT
from vl_absvit.cli import parse_run_config
from vl_absvit.config import PretrainConfig
from vl_absvit.tasks.retrieval import RetrievalConfig
from vl_absvit.tasks.vqa import VQAConfig

STAND_IN = """#!/usr/bin/env bash
# Notes its words; a training leaves the log of a finished run, summary and evaluation a file, a world one picture.
if [[ $1 == -c ]]; then echo 0; exit; fi
echo "$*" >>"$CALLS"
if [[ "$*" == *"$FAILING"* ]]; then exit 1; fi
if [[ "$*" == *"$SLOW"* ]]; then sleep 30; fi
output=
while (($#)); do
  if [[ $1 == --run.output || $1 == --output ]]; then output=$2; kind=$1; fi
  shift
done
if [[ $kind == --run.output ]]; then
  mkdir -p "$output"
  echo "$ENDING" >"$output/console.log"
elif [[ $output == *-[0-9] ]]; then
  touch "$output/summary.json"
elif [[ $output == *corrupted.json || $output == *masks.json ]]; then
  touch "$output"
elif [[ $output == */world ]]; then
  mkdir -p "$output/single_objects/val/ring"
  touch "$output/single_objects/val/ring/0.png"
elif [[ $output == */masked ]]; then
  mkdir -p "$output"
  echo image,observer >"$output/fixations.csv"
elif [[ $output == */data ]]; then
  mkdir -p "$output/photo" "$output/sketch"
fi
"""


@pytest.fixture
def evidence(tmp_path):
    """Start the script with some options; returns the process, and the calls of programs it has made so far."""
    for name in ("python", "accelerate"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(STAND_IN)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "calls").touch()

    def start(*options, script="evidence", failing="@none@", slow="@none@", ending="done: last"):
        environment = os.environ | {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "CALLS": str(tmp_path / "calls"),
            **{"FAILING": failing, "SLOW": slow, "ENDING": ending, "SKIP_SETUP": "1"},
        }
        command = ["bash", str(ROOT / f"scripts/{script}.sh"), "--output", str(tmp_path / "out"), *options]
        return subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
        )

    def calls(part):
        return [line for line in (tmp_path / "calls").read_text().splitlines() if part in line]

    return start, calls


def finish(process, code=0):
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    return out, err


def test_main_rows_come_first_for_all_seeds_and_others_have_three(evidence, tmp_path):
    start, calls = evidence
    out, _ = finish(start("--seeds", "0 1 2 3"))
    begun = [tuple(line.split()[1:]) for line in out.splitlines() if re.fullmatch(r"== [a-z_0-9]+ \d", line)]
    finetuned = [line.split("--run.output ")[1].split("/out/")[1].split("/")[0] for line in calls("finetune_vqa.py")]
    assert sorted(finetuned) == sorted(map("-".join, begun))
    seeds_of = {}
    for name, seed in begun:
        seeds_of.setdefault(name, []).append(int(seed))
    main = ("vit", "perceiver_io", "mask_att", "absvit_paper", "absvit")
    assert {name for name, seeds in seeds_of.items() if seeds == [0, 1, 2, 3]} == set(main)
    assert len(seeds_of) == 21 and all(seeds == [0, 1, 2] for name, seeds in seeds_of.items() if name not in main)
    order = [(name not in main, seed) for name, seed in begun]
    assert order == sorted(order)
    assert len(calls("pretrain_vision.py")) == 4 + 2 * 3, "a trunk for each seed, and those that rows have of their own"
    summed_up = [line for line in calls("summarise_demo.py") if "--steering" in line]
    for lines in (calls("compare_priors.py"), summed_up):
        steered = {line.split("/vqa/")[0].split("/")[-1].rsplit("-", 1)[0] for line in lines}
        assert steered == set(seeds_of) - {"vit", "perceiver_io", "feedback", "mask_att"}


def test_every_row_is_a_valid_run_and_they_differ(evidence):
    start, calls = evidence
    finish(start("--seeds", "0"))

    def configs(config_class, script, rows=""):
        commands = [shlex.split(line.replace("[]", "'[]'"))[1:] for line in calls(script) if rows in line]
        return [parse_run_config(config_class, command) for command in commands]

    answering = configs(VQAConfig, "finetune_vqa.py")
    ranking = {each.run.output: each for each in configs(RetrievalConfig, "finetune_retrieval.py")}
    pairs = [(each, ranking[each.run.output.removesuffix("vqa") + "retrieval"]) for each in answering]
    kinds = {
        str([(each.vision, each.prior, each.loss, each.optim) for each in map(without_start, pair)]) for pair in pairs
    }
    assert len(kinds) == len(pairs) == len(ranking) == 21
    (answers, ranks), (answers_open, ranks_open) = (
        pair for name in ("calibrated_mean", "captions_open") for pair in pairs if f"/{name}-0/" in pair[0].run.output
    )
    assert answers_open.vision == answers.vision and answers_open.prior == ranks_open.prior == ranks.prior
    assert (ranks.vision.mask, ranks_open.vision.mask, ranks_open.vision.gain) == ("calibrated", "cosine", 10)
    demo = {
        "vqa": parse_run_config(VQAConfig, ["--config", "demo/vqa"]),
        "retrieval": parse_run_config(RetrievalConfig, ["--config", "demo/retrieval"]),
    }
    for ours, shipped in ((answers_open, demo["vqa"]), (ranks_open, demo["retrieval"])):
        assert (without_start(ours).vision, ours.prior, ours.loss) == (
            without_start(shipped).vision,
            shipped.prior,
            shipped.loss,
        )
    (absvit,) = (pair for pair in pairs if "/absvit-0/" in pair[0].run.output)
    assert {(each.prior.pool, each.vision.mask, each.vision.gain) for each in absvit} == {("lse", "calibrated", 80)}
    (paper,) = (each for each in answering if "/absvit_paper-0/" in each.run.output)
    for each in (paper, *configs(RetrievalConfig, "finetune_retrieval.py", "/absvit_paper-0/")):
        assert (each.vision.mask, each.vision.gain, each.vision.decoders) == ("cosine", 10, "random")
        assert each.loss.reconstruction > 0 and each.optim.learning_rates.feedback > 0
    for name, attention in (("deit_star", "softmax"), ("vars_d", "vars_d")):
        (pretraining,) = (each for each in trainings(calls) if f"/{name}-0/" in each.run.output)
        (each,) = (each for each in answering if f"/{name}-0/" in each.run.output)
        assert each.vision.weights == f"{pretraining.run.output}/checkpoints/best" and each.vision.top_down == "absvit"
        for vision in (each.vision, pretraining.vision):
            assert (vision.model, vision.attention) == ("absvit_deit_star_tiny", attention)


def without_start(config):
    """A config without where its weights come from."""
    return replace(config, vision=replace(config.vision, weights=None))


def test_what_is_finished_is_not_made_again_and_what_failed_is(evidence, tmp_path):
    start, calls = evidence
    _, err = finish(start("--seeds", "0", failing="mask_att-0/retrieval "), code=1)
    assert "error: 1 of 21 runs failed" in err
    assert len(calls("tabulate_evidence.py")) == 1, "the tables are of the others"
    before = len(calls(""))
    finish(start("--seeds", "0"))
    again = calls("")[before:]
    assert [line.split()[0] for line in again] == [
        f"scripts/{name}.py"
        for name in (
            "finetune_retrieval", "evaluate_retrieval", "evaluate_vqa", "export_attention", "compare_vqa_hat",
            "summarise_demo", "tabulate_evidence",
        )
    ]  # fmt: skip


@pytest.mark.parametrize("script, seed, trunks", [("evidence", "--seeds", 3), ("demo", "--seed", 1)])
def test_a_training_that_a_signal_ended_early_is_not_taken_for_a_finished_one(evidence, script, seed, trunks, tmp_path):
    start, calls = evidence
    _, err = finish(start(seed, "0", script=script, ending="asked to stop by a signal"), code=1)
    if script == "evidence":
        log = tmp_path / "out/shared-0/log"
        assert f"seed 0 has no trunk; {log} says why" in err
        err = log.read_text()
    assert "has been stopped before its end" in err
    assert not calls("finetune") and not (calls("evaluate"))
    finish(start(seed, "0", script=script))
    assert len(calls("pretrain_vision.py")) == 1 + trunks and calls("finetune_retrieval.py")


def test_nothing_goes_on_after_the_script_was_stopped(evidence, tmp_path):
    start, calls = evidence
    process = start("--seeds", "0", slow="finetune_vqa.py")
    deadline = time.monotonic() + 30
    while not calls("finetune_vqa.py"):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    finish(process, code=143)
    assert not [each for each in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(each.info["cmdline"])]
    assert len(calls("finetune_vqa.py")) <= os.cpu_count() + 1


def test_another_budget_in_the_same_folder_is_refused_and_more_seeds_are_not(evidence):
    start, calls = evidence
    finish(start("--seeds", "0"))
    _, err = finish(start("--seeds", "0", "--epochs", "3"), code=1)
    assert "shared-0 holds results of another budget, other configs or options" in err
    finish(start("--seeds", "0 1"))
    assert len([line for line in calls("pretrain_vision.py") if "/shared-" in line.split("--run.output ")[1]]) == 2


@pytest.mark.parametrize("options", [["--seeds"], ["--seeds", "a"], ["--epochs", "0"], ["--rows", "vit"]])
def test_a_wrong_command_is_one_line(evidence, options):
    start, calls = evidence
    _, err = finish(start(*options), code=2)
    assert len(err.splitlines()) == 1 and not calls("")


def trainings(calls) -> list[PretrainConfig]:
    """The configs of all pretrainings that were called."""
    commands = [shlex.split(line.replace("[]", "'[]'"))[1:] for line in calls("pretrain_vision.py")]
    return [parse_run_config(PretrainConfig, command) for command in commands]


def test_the_kinds_of_attention_come_first_and_every_row_is_another_model_of_one_recipe(evidence, tmp_path):
    start, calls = evidence
    finish(start("--seeds", "0 1", "--epochs", "2", script="vars_evidence"))
    configs = trainings(calls)
    assert len(calls("make_demo.py")) == 2 and len(configs) == 24 == len(calls("--corrupt all"))
    assert {config.vision.attention for config in configs[:9]} == {
        "softmax", "performer", "vars_s", "vars_d", "vars_sd",
    }  # fmt: skip
    of_seed_0 = [config for config in configs if config.run.seed == 0]
    assert len({str(config.vision) for config in of_seed_0}) == 12
    assert {(config.vision.model, config.vision.width, config.mosaic, config.optim.epochs) for config in configs} == {
        ("absvit_deit_star_tiny", 64, 1, 2)
    }
    assert len({str(replace(config.optim)) for config in configs}) == 1
    (table,) = calls("tabulate_vars.py")
    assert "--rows softmax performer vars_s vars_d vars_sd steps_1" in table


def test_main_rows_alone_and_what_is_finished_is_not_made_again(evidence):
    start, calls = evidence
    _, err = finish(start("--seeds", "0", "--rows", "main", script="vars_evidence", failing="vars_s-0/corr"), code=1)
    assert "error: 1 of 5 runs failed" in err and len(calls("draw_steps.py")) == 5
    before = len(calls(""))
    finish(start("--seeds", "0", "--rows", "main", script="vars_evidence"))
    assert [line.split()[0] for line in calls("")[before:]] == [
        "scripts/evaluate_vision.py", "scripts/tabulate_vars.py",
    ]  # fmt: skip
    _, err = finish(start("--seeds", "0", "--epochs", "3", script="vars_evidence"), code=1)
    assert "softmax-0 holds results of another budget, other configs or options" in err


@pytest.mark.parametrize(
    "options", [["--rows", "some"], ["--seeds", "a"], ["--scenes", "0"], ["--what", "1"], ["--rows"]]
)
def test_a_wrong_command_for_the_kinds_of_attention_is_one_line(evidence, options):
    start, calls = evidence
    _, err = finish(start(*options, script="vars_evidence"), code=2)
    assert len(err.splitlines()) == 1 and not calls("")


# scripts/evidence_robustness.sh


def test_rows_of_robustness_are_learned_first_and_attacked_by_the_next_seed(evidence):
    start, calls = evidence
    words = ("--seeds", "0 1", "--epochs", "2", "--domain-epochs", "3", "--styles", "9")
    finish(start(*words, script="evidence_robustness"))
    configs = trainings(calls)
    learned, moved = (
        [config for config in configs if ("domains" in config.run.output) == is_moved] for is_moved in (False, True)
    )
    kinds = {(config.vision.attention, config.vision.top_down) for config in learned}
    assert kinds == {(attention, look) for attention in ("softmax", "vars_d") for look in ("none", "absvit")}
    assert len(learned) == 8 and len(moved) == 16 and configs[:8] == learned, "for every row and seed two styles"
    for config in learned:
        assert (config.vision.image_size, config.mosaic, config.optim.epochs, config.vision.gain) == (96, 1, 2, 1)
    of = {config.run.output: config for config in learned}
    for config in moved:
        run, style = config.run.output.split("/domains/")
        assert config.vision.weights == f"{run}/train/checkpoints/best"
        before = of[f"{run}/train"]
        assert replace(before.vision, patch_size=16) == replace(config.vision, weights=None)
        assert (before.run.seed, before.loss) == (
            config.run.seed,
            replace(config.loss, reconstruction=before.loss.reconstruction),
        )
        assert config.data.root.endswith(f"/data/{style}") and config.data.select_split == "val"
        assert config.optim.epochs == 3
    attacks = [shlex.split(line) for line in calls("--attack pgd")]
    sources = {(words[words.index("--checkpoint") + 1], words[words.index("--transfer-from") + 1]) for words in attacks}
    names = {tuple(path.split("/")[-4] for path in pair) for pair in sources}
    assert len(attacks) == 8 and ("vit-0", "vit-1") in names and ("absvit_vars_d-1", "absvit_vars_d-0") in names
    assert len(calls("--corrupt all")) == len(calls("compare_masks.py")) == 8
    assert len(calls("make_demo.py")) == 4 and len(calls("tabulate_robustness.py")) == 1


def test_a_single_seed_is_attacked_by_itself_alone_and_a_failed_row_does_not_stop_others(evidence):
    start, calls = evidence
    words = ("--seeds", "0")
    _, err = finish(start(*words, script="evidence_robustness", failing="vars_d-0/masks.json"), code=1)
    assert "error: 2 of 4 runs failed" in err and "--transfer-from" not in " ".join(calls("--attack pgd"))
    before = len(calls(""))
    finish(start(*words, script="evidence_robustness"))
    again = [line.split()[0] for line in calls("")[before:]]
    made = ("compare_fixations", "compare_masks", "evaluate_maps", "export_attention")
    assert sorted(again) == [f"scripts/{name}.py" for name in made for _ in range(2)] + [
        "scripts/tabulate_robustness.py"
    ]
    _, err = finish(start("--seeds", "0", "--epochs", "3", script="evidence_robustness"), code=1)
    assert "vit-0 holds results of another budget, other configs or options" in err


@pytest.mark.parametrize("options", [["--seeds", "a"], ["--styles", "0"], ["--domain-epochs", "x"], ["--rows", "vit"]])
def test_a_wrong_command_for_robustness_is_one_line(evidence, options):
    start, calls = evidence
    _, err = finish(start(*options, script="evidence_robustness"), code=2)
    assert len(err.splitlines()) == 1 and not calls("")
