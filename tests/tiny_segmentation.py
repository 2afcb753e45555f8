"""A few labelled pictures, prepared, and a config to train on them within a test."""

import functools
from dataclasses import replace
from pathlib import Path

import pytest

from tests.prepare.raw_segmentation import write_small_segmentation
from tests.tiny_vqa import FAST, tiny_vision
from vl_absvit.config import (
    DataConfig,
    OptimConfig,
    PicturesConfig,
    RunConfig,
    SegmentationConfig,
    UPerNetConfig,
)
from vl_absvit.prepare.segmentation import SegmentationOptions, prepare_segmentation


@functools.cache
def prepared_pixels(base: Path) -> Path:
    """A prepared folder of nine pictures to train on and four others; made once per ``base``."""
    raw = write_small_segmentation(base / "raw_pixels", {"train": 9, "val": 4})
    prepare_segmentation(SegmentationOptions(dataset="folder", root=raw), base / "pixels", workers=1)
    return base / "pixels"


@pytest.fixture(scope="session")
def pixels(tmp_path_factory) -> Path:
    """The pictures, for all tests of a session."""
    return prepared_pixels(tmp_path_factory.mktemp("pixels"))


def tiny_segmentation_config(
    root: Path, output: Path, *, micro_batch_size: int | None = None, augmentation: str = "pixels", **parts
) -> SegmentationConfig:
    """Two epochs of two steps of four images of 32 x 32 pixels."""
    data = DataConfig(root=str(root), select_split="val", num_workers=0, augmentation=augmentation)
    optim = OptimConfig(batch_size=4, epochs=2, micro_batch_size=micro_batch_size, learning_rates=FAST)
    return SegmentationConfig(
        data=data,
        run=RunConfig(output=str(output), precision="fp32", log_every=1, trackers=()),
        vision=parts.pop("vision", tiny_vision(gain=1.0)),
        head=parts.pop("head", UPerNetConfig(channels=8, auxiliary_channels=6, dropout=0.0)),
        pictures=parts.pop("pictures", PicturesConfig(longest=96, shortest=32)),
        optim=replace(optim, **parts.pop("optim", {})),
        **parts,
    )
