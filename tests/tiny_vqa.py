"""A demo world of a few scenes, prepared as VQAv2 and as captions, and configs to train on it within a test."""

import os
from pathlib import Path

import pytest
import yaml

from vl_absvit.config import DataConfig, FusionConfig, LearningRates, OptimConfig, RunConfig, TextConfig, VisionConfig
from vl_absvit.demo.world import make_demo_world
from vl_absvit.prepare.captions import CaptionOptions, prepare_captions
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2
from vl_absvit.tasks.classification import PretrainConfig
from vl_absvit.tasks.retrieval import RetrievalConfig
from vl_absvit.tasks.vqa import VQAConfig
from vl_absvit.training.run_dir import config_as_dict

FAST = LearningRates(vision=3e-3, text=3e-3, fusion=3e-3, head=3e-3, feedback=3e-3, prior=3e-3)


def tiny_world(base: Path) -> Path:
    """``base``/world with ``demo`` (the raw world) and ``prepared``, with captions in it; made once per ``base``."""
    world = base / "world"
    if not world.exists():
        make_demo_world(
            base / "demo", seed=0, scenes=10, workers=1, track=lambda items, total, description: iter(items)
        )
        options = PrepareOptions(root=base / "demo/vqav2", min_count=1, minival_images=1)
        prepare_vqav2(options, base / "prepared", workers=1)
        for dataset in ("coco", "flickr30k"):
            raw = base / "demo" / dataset
            options = CaptionOptions(dataset=dataset, root=raw, karpathy=raw / f"dataset_{dataset}.json")
            prepare_captions(options, base / "prepared" / dataset, workers=1)
        world.mkdir()
        os.replace(base / "demo", world / "demo")
        os.replace(base / "prepared", world / "prepared")
        for manifest in (world / "prepared").rglob("manifest.json"):
            manifest.write_text(manifest.read_text().replace(str(base / "demo"), str(world / "demo")))
    return world


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """The tiny world; shared by every module that imports this fixture."""
    return tiny_world(tmp_path_factory.getbasetemp())


def tiny_vision(**changes) -> VisionConfig:
    sizes = dict(model="absvit_tiny_patch16_224", image_size=32, width=16, depth=2, num_heads=2)
    return VisionConfig(**(sizes | changes))


def tiny_vqa_config(
    world: Path, output: Path, *, micro_batch_size: int | None = None, dropout=0.0, **parts
) -> VQAConfig:
    """Two epochs of five steps of twelve questions on the tiny world."""
    return VQAConfig(
        data=DataConfig(root=str(world / "prepared"), num_workers=0, augmentation="none"),
        run=RunConfig(
            output=str(output), precision="fp32", log_every=1, trackers=(), resume=parts.pop("resume", False)
        ),
        vision=parts.pop("vision", tiny_vision()),
        text=TextConfig(
            model=None,
            tokenizer=str(world / "demo/tokenizer"),
            width=16,
            depth=1,
            num_heads=2,
            max_tokens=24,
            dropout=dropout,
        ),
        fusion=FusionConfig(width=16, num_layers=1, num_heads=2, dropout=dropout),
        optim=OptimConfig(batch_size=12, epochs=2, micro_batch_size=micro_batch_size, learning_rates=FAST),
        **parts,
    )


def tiny_retrieval_config(
    world: Path, output: Path, *, dataset: str = "coco", micro_batch_size: int | None = None, **parts
) -> RetrievalConfig:
    """Two epochs of four steps of four captions on the tiny world."""
    splits = ("train", "restval") if dataset == "coco" else ("train",)
    vqa = tiny_vqa_config(world, output)
    return RetrievalConfig(
        data=DataConfig(
            root=str(world / "prepared" / dataset),
            train_splits=splits,
            select_split="val",
            num_workers=0,
            augmentation="none",
        ),
        run=vqa.run,
        vision=parts.pop("vision", vqa.vision),
        text=vqa.text,
        fusion=vqa.fusion,
        negatives=3,
        select_shortlist=2,
        optim=OptimConfig(batch_size=4, epochs=2, micro_batch_size=micro_batch_size, learning_rates=FAST),
        **parts,
    )


def tiny_pretrain_config(world: Path, output: Path, **parts) -> PretrainConfig:
    """Two epochs on the single objects of the tiny world."""
    return PretrainConfig(
        data=DataConfig(
            root=str(world / "demo/single_objects"), select_split="val", num_workers=0, augmentation="none"
        ),
        run=RunConfig(output=str(output), precision="fp32", log_every=1, trackers=()),
        vision=parts.pop("vision", tiny_vision(gain=1.0)),
        optim=OptimConfig(batch_size=14, epochs=2, learning_rates=FAST),
        **parts,
    )


def write_config(config, path: Path) -> Path:
    """A config as a file for ``--config``."""
    path.write_text(yaml.safe_dump(config_as_dict(config)))
    return path
