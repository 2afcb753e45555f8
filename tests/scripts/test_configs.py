"""Every file of configs/ is a valid run, opens with how to run it, and survives being written and read again."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from vl_absvit.cli import parse_run_config
from vl_absvit.config import PretrainConfig, RetrievalConfig, VQAConfig
from vl_absvit.training.run_dir import config_as_dict

ROOT = Path(__file__).parents[2]
CONFIGS = {
    "demo/pretrain.yaml": PretrainConfig,
    "demo/vqa.yaml": VQAConfig,
    "demo/retrieval.yaml": RetrievalConfig,
    "retrieval_absvit_base.yaml": RetrievalConfig,
    "retrieval_coco_absvit_base.yaml": RetrievalConfig,
    "retrieval_coco_vit_base.yaml": RetrievalConfig,
    "retrieval_vit_base.yaml": RetrievalConfig,
    "vqa_absvit_base.yaml": VQAConfig,
    "vqa_absvit_base_384.yaml": VQAConfig,
    "vqa_vit_base.yaml": VQAConfig,
}


def parse(name: str, *overrides: str):
    return parse_run_config(CONFIGS[name], ["--config", str(ROOT / "configs" / name), *overrides])


def test_every_config_is_listed_here():
    folder = ROOT / "configs"
    assert {str(file.relative_to(folder)) for file in folder.rglob("*.yaml")} == set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_what_it_says_after_a_round_trip(name, tmp_path):
    config = parse(name)
    assert type(config) is CONFIGS[name]
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(config_as_dict(config)))
    assert parse_run_config(CONFIGS[name], ["--config", str(again)]) == config


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_opens_with_its_command_its_needs_and_what_it_should_give(name):
    text = (ROOT / "configs" / name).read_text()
    opening = "\n".join(line for line in text.split("\n\n")[0].splitlines() if line.startswith("#"))
    assert f"--config configs/{name}" in opening and "Needs:" in opening
    assert "Expected:" in opening or "Writes:" in opening


@pytest.mark.parametrize("name", [name for name in CONFIGS if "_base" in name])
@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
def test_the_batch_of_a_base_config_divides_on_the_usual_numbers_of_gpus(name, gpus):
    optim = parse(name).optim
    assert optim.batch_size == 512 and optim.batch_size % (gpus * optim.micro_batch_size) == 0


def test_the_demo_stages_fit_together():
    pretrain, vqa, retrieval = (parse(f"demo/{stage}.yaml") for stage in ("pretrain", "vqa", "retrieval"))
    assert vqa.vision.weights == f"{pretrain.run.output}/checkpoints/best"
    sizes = ("model", "patch_size", "width", "depth", "num_heads")
    assert [getattr(pretrain.vision, name) for name in sizes] == [getattr(vqa.vision, name) for name in sizes]
    assert retrieval.start == f"{vqa.run.output}/checkpoints/best"
    assert (retrieval.text, retrieval.fusion) == (vqa.text, vqa.fusion)
    assert replace(retrieval.vision, weights=vqa.vision.weights) == vqa.vision
