"""``scripts/pairs_evidence.sh`` with a stand-in for Python: what runs, and that rows have one budget."""

import shlex

import pytest

from tests.scripts.test_evidence import evidence, finish  # noqa: F401
from vl_absvit.cli import parse_run_config
from vl_absvit.config import VisionLanguageConfig
from vl_absvit.tasks.registry import choose_task

SCENES, PICTURES, EPOCHS = 400, 600, 2
SAMPLES = {"vqa": 6 * SCENES, "retrieval": 5 * 0.275 * SCENES, "finetuned": 5 * 0.1 * SCENES, "nlvr2": 1.6 * PICTURES,
           "snli_ve": 6 * PICTURES / 4, "pairs": PICTURES}  # fmt: skip
"""In an epoch of each training."""
OPTIONS = ("--seeds", "0 1", "--scenes", str(SCENES), "--pictures", str(PICTURES), "--epochs", str(EPOCHS))


def looks(config: VisionLanguageConfig) -> float:
    """Of a sample in training: passages of a picture through all blocks."""
    again = 1 - config.vision.looks_again_from / config.vision.depth
    if config.task == "vqa":
        return 1 / config.data.samples_per_image + again
    if config.task == "retrieval":
        return 1 + again * (1 + config.negatives + config.negative_images + 1)  # and a hard caption to be told apart
    return {"nlvr2": 2 * (1 + again), "snli_ve": 1 + again, "pairs": 1 + 2 * again}[config.task]


def test_both_rows_have_one_budget_from_one_trunk(request):
    start, calls = request.getfixturevalue("evidence")
    finish(start(*OPTIONS, script="pairs_evidence"))
    configs = {}
    for line in calls("scripts/train.py"):
        words = shlex.split(line.replace("[]", "'[]'"))[1:]
        config = parse_run_config(choose_task(None, words[words.index("--config") + 1]).config_class, words)
        configs[tuple(config.run.output.split("/")[-2:])] = config
    tasks = {"vqa", "nlvr2", "snli_ve", "retrieval", "finetuned"}
    for seed in (0, 1):
        of_row = {
            name: {task: config for (run, task), config in configs.items() if run == f"{name}-{seed}"}
            for name in ("without", "with")
        }
        assert of_row["without"].keys() == tasks and of_row["with"].keys() == tasks | {"pairs"}
        spent = {
            name: sum(config.optim.epochs * SAMPLES[task] * looks(config) for task, config in row.items())
            for name, row in of_row.items()
        }
        assert 0.95 * spent["without"] < spent["with"] <= spent["without"]
        trunk = of_row["with"]["pairs"].vision.weights
        assert f"shared-{seed}/pretrained" in trunk and of_row["with"]["pairs"].from_checkpoint is None
        for task in tasks - {"finetuned"}:
            with_, without = of_row["with"][task], of_row["without"][task]
            assert (with_.optim.epochs, without.optim.epochs) == (EPOCHS, 2 * EPOCHS)
            assert with_.from_checkpoint.endswith(f"with-{seed}/pairs/checkpoints/best")
            assert (without.from_checkpoint, without.vision.weights) == (None, trunk)
            if task != "retrieval":
                rates = [
                    (each.optim.learning_rates.text, each.optim.learning_rates.fusion) for each in (with_, without)
                ]
                assert rates == [(5e-4, 5e-4), (2e-3, 2e-3)]
        for row in of_row.values():
            assert {
                (each.vision.depth, each.text, each.fusion, each.prior, each.run.seed) for each in row.values()
            } == {(4, row["vqa"].text, row["vqa"].fusion, row["vqa"].prior, seed)}
            assert row["finetuned"].data.root.endswith("flickr30k") and row["retrieval"].data.root.endswith("coco")
            assert row["finetuned"].from_checkpoint.endswith("/retrieval/checkpoints/best")
            assert "test" not in row["finetuned"].data.train_splits
    assert len(calls("evaluate_statements.py")) == 8 and len(calls("evaluate_retrieval.py")) == 8
    assert all("--blind" in line for line in calls("evaluate_statements.py"))
    assert all("--exclude" in line for line in calls("prepare_pairs.py")) and len(calls("prepare_pairs.py")) == 2
    assert len(calls("--steering")) == 4 and "--rows without with" in calls("tabulate_pairs.py")[0]
    before = len(calls(""))
    finish(start(*OPTIONS, script="pairs_evidence"))
    assert [line.split()[0] for line in calls("")[before:]] == ["scripts/tabulate_pairs.py"]


@pytest.mark.parametrize("options", [["--pictures", "0"], ["--rows", "with"], ["--seeds"]])
def test_a_wrong_command_is_one_line(request, options):
    start, calls = request.getfixturevalue("evidence")
    _, err = finish(start(*options, script="pairs_evidence"), code=2)
    assert len(err.splitlines()) == 1 and not calls("")
