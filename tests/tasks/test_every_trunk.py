"""Every trunk in every use: it classifies, answers, ranks and is exported as the ViT, or is refused in one line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from tests.tiny_vqa import tiny_pretrain_config, tiny_retrieval_config, tiny_vqa_config
from vl_absvit.config import VisionConfig
from vl_absvit.errors import InputError
from vl_absvit.looking.explanation import choose_maps, explain
from vl_absvit.tasks.base import Task, epoch_batches
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.encoder_file import encoder_of, write_encoder
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vqa import VQATask

pytestmark = pytest.mark.slow

SIZES: dict[str, Any] = {"image_size": 48, "width": 16, "depth": 2, "num_heads": 2, "gain": 1.0}
TRUNKS: dict[str, dict[str, Any]] = {
    "rvt": {"model": "absvit_rvt_tiny", "width": [16, 16], "depth": [1, 1], "num_heads": [2, 2]},
    "rvt_plus": {"model": "absvit_rvt_plus_small"},
    "rvt_performer": {"model": "absvit_rvt_performer_small"},
    "fan": {"model": "absvit_fan_tiny"},
    "deit_star": {"model": "absvit_deit_star_tiny"},
    "gfnet": {"model": "absvit_gfnet_tiny", "patch_size": 8},
    "gfnet_star": {"model": "absvit_gfnet_star_tiny", "attention": "vars_sd"},
    "vit": {"model": "absvit_tiny_patch16_224", "attention": "vars_d"},
}
every_trunk = pytest.mark.parametrize("trunk", TRUNKS)


def vision_of(trunk: str) -> VisionConfig:
    return VisionConfig(**SIZES | TRUNKS[trunk])


def step(task: Task) -> None:
    """One forward and backward pass of a training batch reaches every parameter."""
    batch = next(iter(epoch_batches(task.config, task.train_set, 0, 0, 0, 1)))
    sum(task.losses(task.model.train(), batch).values()).backward()
    assert [
        name for name, weight in task.model.named_parameters() if weight.requires_grad and weight.grad is None
    ] == []
    task.model.eval().zero_grad()


def opened(folder: Path, **more) -> torch.nn.Module:
    """The encoder of a checkpoint folder, exported to a file and opened by timm."""
    encoder = encoder_of(folder)
    write_encoder(encoder, folder / "encoder.safetensors")
    given: dict[str, Any] = {"checkpoint_path": str(folder / "encoder.safetensors")}
    if "features_only" in more:  # timm would load it into its wrapper
        given = {"pretrained": True, "pretrained_cfg_overlay": {"file": given["checkpoint_path"]}}
    return timm.create_model(encoder.name, **given, **encoder.arguments, **more).eval()


@every_trunk
@torch.no_grad()
def test_it_classifies_and_timm_opens_what_is_exported_with_its_getters(world, tmp_path, trunk):
    task = ClassificationTask(tiny_pretrain_config(world, tmp_path, vision=vision_of(trunk), pooling="avg"))
    with torch.enable_grad():
        step(task)
    assert 0 <= task.evaluate(task.model)[task.select_metric] <= 100
    task.save(tmp_path)
    vision, images = task.model.vision, torch.randn(2, 3, 48, 48)
    encoder = opened(tmp_path)
    torch.testing.assert_close(encoder(images), task.model(images).last_logits)
    tokens, levels = encoder.forward_intermediates(images)
    torch.testing.assert_close(tokens, vision.forward_features(images))
    assert [level.shape[2:] for level in levels] == ([(3, 3), (2, 2)] if trunk == "rvt" else [levels[0].shape[2:]] * 2)
    features = opened(tmp_path, features_only=True, out_indices=(0, 1))
    for given, level in zip(features(images), levels, strict=True):
        torch.testing.assert_close(given, level)


@every_trunk
@torch.no_grad()
def test_it_answers_and_its_maps_and_encoder_are_those_of_the_answer(world, tmp_path, trunk):
    task = VQATask(tiny_vqa_config(world, tmp_path, vision=vision_of(trunk)))
    with torch.enable_grad():
        step(task)
    assert 0 <= task.evaluate(task.model)[task.select_metric] <= 100
    task.save(tmp_path)
    loaded, batch = VQATask.load(tmp_path).model, task.select_set.collate(task.select_set.__getitems__(range(3)))
    inputs = (batch.images, batch.token_ids, batch.is_token, batch.image_index)
    out = task.model(*inputs)
    torch.testing.assert_close(loaded(*inputs).logits, out.logits)
    explained = explain(loaded, batch, choose_maps(loaded.vision, None))
    torch.testing.assert_close(explained.logits, out.logits)
    assert {"prior_mask", "bottom_up", "top_down", "cross"} <= explained.maps.keys()
    assert all(grids.isfinite().all() for grids in explained.maps.values())
    seen = opened(tmp_path).forward_features(batch.images[batch.image_index], out.prior)
    torch.testing.assert_close(
        seen, task.model.vision.look_twice(batch.images[batch.image_index], out.prior).seen(None)
    )


@every_trunk
def test_it_ranks_at_another_size_than_it_was_pretrained_or_says_why_it_cannot(world, tmp_path, trunk):
    ClassificationTask(tiny_pretrain_config(world, tmp_path, vision=vision_of(trunk), pooling="avg")).save(tmp_path)
    larger = replace(vision_of(trunk), image_size=64, weights=str(tmp_path))
    config = tiny_retrieval_config(world, tmp_path / "run", vision=larger)
    if trunk in ("rvt_plus", "gfnet", "gfnet_star"):  # scales, filters and static dictionaries of 48 pixels
        with pytest.raises(InputError, match="not the weights of the configured absvit_.*size mismatch"):
            RetrievalTask(config)
        config = replace(config, vision=replace(larger, image_size=48))
    task = RetrievalTask(config)
    step(task)
    assert 0 <= task.evaluate(task.model)[task.select_metric] <= 100
