"""The encoder of a checkpoint in a file of its own: timm opens it, strictly, and it sees what it saw before."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open

import vl_absvit.models  # noqa: F401  (registers the models)
from tests.run_script import run_script
from tests.tiny_vqa import tiny_vision, tiny_vqa_config
from vl_absvit.tasks.classifier_checkpoint import load_classifier
from vl_absvit.tasks.vl_checkpoint import load_parts, priors_of
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.variants import VARIANTS

EXPORT = "scripts/export_encoder.py"
IMAGES = torch.randn(2, 3, 32, 32)


@pytest.fixture
def export(tmp_path, capsys):
    """What timm makes by the printed call of the encoder in a checkpoint folder."""

    def run(folder: Path, *options: str) -> torch.nn.Module:
        file = tmp_path / "encoder.safetensors"
        assert run_script(EXPORT, "--checkpoint", folder, "--output", file, *options) == 0
        (line,) = [
            line for line in capsys.readouterr().out.splitlines() if line.startswith("model = timm.create_model(")
        ]
        with safe_open(file, "pt") as content:
            told = json.loads(content.metadata()["timm"])
        assert all(f"{key}={value!r}" in line for key, value in told["arguments"].items())
        return timm.create_model(told["model"], checkpoint_path=str(file), **told["arguments"]).eval()

    return run


@pytest.mark.parametrize(
    ("top_down", "changes"),
    [
        *((top_down, {}) for top_down in VARIANTS),
        ("absvit", {"looks_again_from": 1}),
        ("absvit", {"model": "vit_small_patch14_reg4_dinov2", "patch_size": 16}),
    ],
)
def test_the_encoder_of_a_vqa_model_sees_what_it_saw(world, tmp_path, export, top_down, changes):
    vision = tiny_vision(top_down=top_down, gain=7.0, **changes)
    task = VQATask(tiny_vqa_config(world, tmp_path, vision=vision))
    (tmp_path / "saved").mkdir()
    task.save(tmp_path / "saved")
    before, model = task.model.vision.eval(), export(tmp_path / "saved")
    assert set(model.state_dict()) == set(before.state_dict())
    if top_down == "none":
        assert type(model) is timm.models.VisionTransformer
        torch.testing.assert_close(model.forward_features(IMAGES), before.look_once(IMAGES).tokens)
        return
    prior = torch.randn(2, 16) if VARIANTS[top_down].uses_prior else None
    assert torch.equal(model.look_once(IMAGES).tokens, before.look_once(IMAGES).tokens)
    assert torch.equal(model.forward_features(IMAGES, prior), before.look_twice(IMAGES, prior).seen(None))


def test_a_text_becomes_the_encoders_own_prior(finetuned, export):
    folder = finetuned / "vqa/checkpoints/best"
    checkpoint, text = load_parts(folder), "Is there a red ring?"
    prior = priors_of(checkpoint, [text]).expand(2, -1)
    model = export(folder, "--prior", text)
    assert torch.equal(model.forward_features(IMAGES), checkpoint.model.vision.look_twice(IMAGES, prior).seen(None))


def test_the_file_serves_as_pretrained_weights_for_timms_getters(finetuned, tmp_path, export):
    folder = finetuned / "vqa/checkpoints/best"
    model = export(folder, "--prior", "Is there a red ring?")
    getter = timm.create_model(
        "absvit_tiny_patch16_224", pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "encoder.safetensors"), "custom_load": False},
        features_only=True, out_indices=2, img_size=32, embed_dim=16, depth=2, num_heads=2, gain=10.0,
    ).eval()  # fmt: skip
    for given, expected in zip(
        getter(IMAGES), model.forward_intermediates(IMAGES, intermediates_only=True), strict=False
    ):
        assert torch.equal(given, expected)


def test_the_encoder_of_a_pretraining_keeps_its_query_and_its_head(finetuned, export):
    folder = finetuned / "pretrained/checkpoints/best"
    model = export(folder)
    assert torch.equal(model(IMAGES), load_classifier(folder).model.vision(IMAGES)) and model.num_classes > 100


def test_what_cannot_be_meant_is_one_line(finetuned, tmp_path, complaint):
    files = ("--checkpoint", finetuned / "pretrained/checkpoints/best", "--output")
    assert "ends in .safetensors" in complaint(2, EXPORT, *files, tmp_path / "a.pth")
    line = complaint(2, EXPORT, *files, tmp_path / "a.safetensors", "--prior", "a dog")
    assert "AbSViT, has a trained query as its prior" in line and not (tmp_path / "a.safetensors").exists()
    (tmp_path / "b.safetensors").touch()
    assert "already there" in complaint(1, EXPORT, *files, tmp_path / "b.safetensors")
