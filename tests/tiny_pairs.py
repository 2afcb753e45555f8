"""Configs to pretrain on the captions of the tiny world."""

from dataclasses import replace
from pathlib import Path

from tests.tiny_vqa import tiny_vqa_config
from vl_absvit.config import DataConfig, OptimConfig, PairsConfig


def tiny_pairs_config(world: Path, output: Path, **parts) -> PairsConfig:
    """Two epochs of a few steps of eight captions."""
    vqa = tiny_vqa_config(world, output)
    optim = OptimConfig(
        **(vars(vqa.optim) | {"batch_size": 8, "micro_batch_size": parts.pop("micro_batch_size", None)})
    )
    return PairsConfig(
        data=DataConfig(
            root=str(world / "prepared/coco"), train_splits=("train", "restval"), select_split="val", num_workers=0,
            augmentation="none",
        ),
        run=vqa.run, vision=parts.pop("vision", vqa.vision), fusion=parts.pop("fusion", vqa.fusion), optim=optim,
        text=replace(vqa.text, dropout=parts.pop("dropout", 0.0)),
        **parts,
    )  # fmt: skip
