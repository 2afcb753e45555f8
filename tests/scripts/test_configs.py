"""Every file of configs/ is a valid run, opens with how to run it, and survives being written and read again."""

import functools
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from vl_absvit.cli import parse_run_config
from vl_absvit.config import AugmentationConfig, TaskConfig
from vl_absvit.config.shipped import shipped_configs
from vl_absvit.models.architecture import build_random_classifier
from vl_absvit.tasks.registry import TASKS
from vl_absvit.training.optim import lr_factor, rate_factor
from vl_absvit.training.run_dir import config_as_dict

ROOT = Path(__file__).parents[2]
STATED = r"(?:scripts/(\w+)\.py|vl-absvit (\S+)) (?:--task (\w+) )?--config (?:configs/)?"
PROGRAMS = {"finetune_vqa": "vqa", "finetune_retrieval": "retrieval", "pretrain_vision": "pretraining",
            "finetune_nlvr2": "nlvr2", "finetune_snli_ve": "snli_ve", "pretrain_pairs": "pairs",
            "finetune_segmentation": "segmentation"}  # fmt: skip
BATCHES = {"nlvr2": 256, "snli": 64, "pairs": 4096, "segmentation": 16}  # METER's and UPerNet's; 512 elsewhere


def class_of(file: Path) -> type[TaskConfig]:
    """Of the task that a config's own command trains, by the name of the program or of the task."""
    door, command, kind = re.search(STATED, file.read_text()).groups()
    return TASKS[kind or PROGRAMS[door or command.replace("-", "_")]].config_class


CONFIGS = {f"{name}.yaml": class_of(file) for name, file in shipped_configs().items()}


@functools.cache
def parse(name: str, *overrides: str) -> TaskConfig:
    return parse_run_config(CONFIGS[name], ["--config", str(ROOT / "configs" / name), *overrides])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_what_it_says_after_a_round_trip(name, tmp_path):
    config = parse(name)
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(config_as_dict(config)))
    assert parse_run_config(CONFIGS[name], ["--config", str(again)]) == config


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_opens_with_its_command_its_needs_and_what_it_should_give(name):
    text = (ROOT / "configs" / name).read_text()
    opening = "\n".join(line for line in text.split("\n\n")[0].splitlines() if line.startswith("#"))
    assert re.search(rf"{STATED}{name.removesuffix('.yaml')}\b", opening) and "Needs:" in opening
    assert "Expected:" in opening or "Writes:" in opening


@pytest.mark.parametrize("name", [name for name in CONFIGS if "_base" in name])
@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
def test_the_batch_of_a_base_config_divides_on_the_usual_numbers_of_gpus(name, gpus):
    optim = parse(name).optim
    assert (
        optim.batch_size == BATCHES.get(name.split("_")[0], 512)
        and optim.batch_size % (gpus * (optim.micro_batch_size or 1)) == 0
    )


def test_the_demo_stages_fit_together():
    pretrain, vqa, retrieval = (parse(f"demo/{stage}.yaml") for stage in ("pretrain", "vqa", "retrieval"))
    assert vqa.vision.weights == f"{pretrain.run.output}/checkpoints/best"
    sizes = ("model", "patch_size", "width", "depth", "num_heads")
    assert [getattr(pretrain.vision, name) for name in sizes] == [getattr(vqa.vision, name) for name in sizes]
    assert retrieval.from_checkpoint == f"{vqa.run.output}/checkpoints/best"
    assert (retrieval.text, retrieval.fusion) == (vqa.text, vqa.fusion)
    assert retrieval.prior == vqa.prior
    alike = replace(retrieval.vision, weights=vqa.vision.weights, mask="calibrated", gain=vqa.vision.gain)
    assert alike == vqa.vision and (retrieval.vision.mask, retrieval.vision.gain) == ("cosine", 10)


PRETRAININGS = [f"pretrain_absvit_{size}.yaml" for size in ("tiny", "small", "base")]


@pytest.mark.parametrize("name", PRETRAININGS)
def test_imagenet_is_pretrained_on_by_the_papers_recipe(name):
    config = parse(name)
    optim, loss = config.optim, config.loss
    assert (optim.epochs, optim.batch_size, optim.weight_decay, optim.schedule) == (300, 512, 0.05, "cosine")
    assert {getattr(optim.learning_rates, part) for part in ("vision", "head", "feedback", "prior")} == {5e-4}
    assert (loss.reconstruction, loss.prior, config.vision.gain) == (0.1, 0.0, 1.0)
    assert config.augmentation == AugmentationConfig(
        auto_augment="rand-m9-mstd0.5-inc1", color_jitter=0.4, random_erasing=0.25, mixup=0.8, cutmix=1.0,
        label_smoothing=0.1,
    )  # fmt: skip
    images = 1_281_167
    epoch_steps = images // optim.batch_size
    rates = [lr_factor(5 * epoch_steps + step, 300 * epoch_steps, optim.warmup_fraction, "cosine") for step in (-1, 0)]
    assert rates == [1 - 1 / (5 * epoch_steps), 1]


@pytest.mark.parametrize("name", PRETRAININGS)
@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
def test_images_pair_up_for_mixup_on_the_usual_numbers_of_gpus(name, gpus):
    optim = parse(name).optim
    assert optim.batch_size % (gpus * optim.micro_batch_size) == 0 and optim.micro_batch_size % 2 == 0


def test_the_imagenet_configs_differ_in_size_alone():
    configs = [config_as_dict(parse(name)) for name in PRETRAININGS]
    for config in configs:
        size = config["vision"].pop("model").split("_")[1]
        assert config["run"].pop("output") == f"runs/pretrain_absvit_{size}"
    assert configs[0] == configs[1] == configs[2]


@pytest.mark.parametrize("name, width", list(zip(PRETRAININGS, (192, 384, 768), strict=True)))
def test_an_imagenet_config_makes_a_classifier_of_its_size(name, width):
    with torch.device("meta"):
        model = build_random_classifier(parse(name).vision, 1000, pooling="token", norm_follows=False)
    assert model.vision.head.weight.shape == (1000, width) and len(model.vision.decoders) == 12
    assert model.vision.prior.shape == (width,)


VARS = [f"pretrain_vars_{trunk}_tiny.yaml" for trunk in ("rvt", "deit", "gfnet")]
OTHERS = [*VARS, "pretrain_gfnet_tiny.yaml", "pretrain_absvit_fan_tiny.yaml"]
IMAGES = 1_281_167


def rates_of(config) -> list[float]:
    """The trunk's learning rate at the first step of every epoch."""
    steps, peak = IMAGES // config.optim.batch_size, config.optim.learning_rates.vision
    return [peak * rate_factor(epoch * steps, steps, config.optim) for epoch in range(config.optim.epochs)]


def test_the_configs_of_vars_differ_in_the_trunk_alone():
    configs = [config_as_dict(parse(name)) for name in VARS]
    for config in configs:
        del config["vision"]["model"], config["run"]["output"]
    assert configs[0] == configs[1] == configs[2]


@pytest.mark.parametrize("name", [*VARS, "pretrain_gfnet_tiny.yaml"])
def test_vars_and_gfnet_are_trained_by_their_releases_recipe(name):
    config, is_vars = parse(name), name in VARS
    optim, vision = config.optim, config.vision
    assert (optim.epochs, optim.batch_size, optim.weight_decay, optim.max_grad_norm) == (
        300, 1024, 0.05, None if is_vars else 1.0,
    )  # fmt: skip
    rates = rates_of(config)
    # Two epochs at the first rate, and the peak, 5e-4 x 1024 / 512, nearly reached in the seventh.
    assert rates[:3] == pytest.approx([1e-6, 1e-6, 1e-6 + (1e-3 - 1e-6) / 5]) and rates.index(max(rates)) == 6
    assert max(rates) == pytest.approx(1e-3, rel=1e-3) and rates[-1] == pytest.approx(1e-5, rel=2e-2)
    drawn = config.augmentation
    assert (drawn.random_erasing, drawn.mixup, drawn.cutmix) == (0.25 if is_vars else 0.0, 0.8, 1.0)
    assert drawn.repeats == (3 if is_vars else 1)
    if is_vars:
        with torch.device("meta"):
            model = build_random_classifier(vision, 10, pooling="avg", norm_follows=False)
        attention = model.vision.all_blocks[-1].attn
        assert (attention.lam, attention.steps, vision.drop_path) == (0.3, 5, 0.1)
        assert attention.rand_matrix.shape[2] == 2 * attention.rand_matrix.shape[1]


@pytest.mark.parametrize(
    "size, batch, drop_path, erasing",
    [("tiny", 4096, 0.0, 0.25), ("small", 1024, 0.2, 0.25), ("base", 2048, 0.35, 0.3)],
)
def test_fan_is_trained_by_its_releases_recipe_and_its_larger_sizes_by_the_stated_variants(
    size, batch, drop_path, erasing
):
    text = (ROOT / "configs/pretrain_absvit_fan_tiny.yaml").read_text().replace("\n#", "")
    stated = re.search(rf"FAN-{size[0].upper()}: ((?:--\S+ \S+ ?)+)", text) if size != "tiny" else None
    config = parse("pretrain_absvit_fan_tiny.yaml", *(stated[1].rstrip(". ").split() if stated else ()))
    assert config.vision.model == f"absvit_fan_{size}" and config.optim.micro_batch_size == batch // 32
    assert (config.optim.batch_size, config.vision.drop_path, config.augmentation.random_erasing) == (
        batch, drop_path, erasing,
    )  # fmt: skip
    rates = rates_of(config)
    assert rates[:2] == pytest.approx([1e-6, 1e-6 + (2e-3 - 1e-6) / 5]) and rates.index(max(rates)) == 5


@pytest.mark.parametrize("name", OTHERS)
def test_a_recipe_of_another_trunk_makes_a_classifier_that_trains(name):
    config = parse(name)
    with torch.device("meta"):
        model = build_random_classifier(config.vision, 1000, pooling=config.pooling, norm_follows=False)
    assert model.vision.head.weight.shape[0] == 1000
    assert config.optim.batch_size % (8 * config.optim.micro_batch_size) == 0 and config.optim.micro_batch_size % 2 == 0
