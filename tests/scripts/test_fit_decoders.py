"""The command that fits a trunk's decoders finds those that a finetuning of the same config would start with."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.run_script import run_script
from tests.tasks.test_first_look_fit import KINDS, decoders_of, trunk  # noqa: F401
from tests.tiny_vqa import tiny_pretrain_config, tiny_vision, tiny_vqa_config, write_config
from vl_absvit.config import VisionConfig
from vl_absvit.models.architecture import build_vision
from vl_absvit.tasks.vqa import VQATask

FIT = "scripts/fit_decoders.py"


@pytest.mark.parametrize("kind", ["vqa", "retrieval"])
def test_a_run_from_the_folder_starts_as_one_that_fits_for_itself(world, tmp_path, trunk, capfd, kind):  # noqa: F811
    make, task = KINDS[kind]
    config = make(world, tmp_path / "run", vision=tiny_vision(weights=trunk))
    file, output = write_config(config, tmp_path / "config.yaml"), tmp_path / "fitted"
    assert run_script(FIT, "--config", file, "--output", output) == 0
    told = capfd.readouterr()
    assert "variance explained" in told.err and "    fitted     feedback decoders " in told.err
    assert told.out.endswith(f"{output}: for --vision.weights {output}\n")
    itself = task(config)
    other = task(make(world, tmp_path / "run", vision=tiny_vision(weights=str(output))))
    for name, value in itself.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], value), name
    assert "decoders" not in json.loads((output / "config.json").read_text())["vision"]


def test_a_trunk_by_timms_name_is_fitted_with_its_mean_token(world, tmp_path, capfd):
    sizes = {"model": "vit_small_patch14_reg4_dinov2", "image_size": 28, "patch_size": 7, "width": 16, "num_heads": 2}
    torch.manual_seed(0)
    save_file(build_vision(VisionConfig(**sizes, depth=3, top_down="none"), 0).state_dict(), tmp_path / "w.safetensors")
    vision = VisionConfig(**sizes, depth=2, weights=str(tmp_path / "w.safetensors"), centred=True)
    config = tiny_vqa_config(world, tmp_path / "run", vision=vision)
    file, output = write_config(config, tmp_path / "config.yaml"), tmp_path / "fitted"
    assert run_script(FIT, "--config", file, "--output", output) == 0
    told = capfd.readouterr().err
    assert "    fitted     feedback decoders " in told and "    fitted     prior " in told
    itself = VQATask(config).model.vision.state_dict()
    fitted = load_file(output / "model.safetensors")
    for name in ("mean_token", "decoders.0.transform.weight", "blocks.1.attn.qkv.weight"):
        assert torch.equal(fitted[name], itself[name]) and fitted[name].any(), name


def test_what_cannot_be_fitted_is_one_line(world, tmp_path, trunk, complaint):  # noqa: F811
    task = VQATask(tiny_vqa_config(world, tmp_path))
    (tmp_path / "whole").mkdir()
    task.save(tmp_path / "whole")
    file = write_config(
        tiny_vqa_config(world, tmp_path / "run", vision=tiny_vision(weights=trunk)), tmp_path / "f.yaml"
    )
    output = tmp_path / "new"

    def fit(code: int, *changes: object) -> str:
        return complaint(code, FIT, "--config", file, "--output", output, *changes)

    assert fit(2, "--vision.weights", "null").startswith("vision.weights is needed: ")
    assert fit(2, "--vision.top_down", "mask_att") == "vision.top_down mask_att feeds nothing back: it has no decoders"
    assert fit(1, "--vision.weights", tmp_path / "whole").endswith("holds decoders already, there is nothing to fit")
    assert fit(1, "--vision.weights", "nowhere").startswith("vision.weights: no such file: nowhere")
    pretraining = write_config(tiny_pretrain_config(world, tmp_path / "run"), tmp_path / "pretraining.yaml")
    line = complaint(2, FIT, "--config", pretraining, "--output", output)
    assert line == f"--config {pretraining}: expected the config of a finetuning, got one of a pretraining"
    assert not output.exists()
    output.mkdir()
    assert fit(1) == f"{output}: already there; expected a new folder to write"
