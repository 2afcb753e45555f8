"""A segmenter on pictures of any size: whole or in windows, at several scales, mirrored; and how well it does.

Shapes: C classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from vl_absvit.config import PicturesConfig, VisionConfig
from vl_absvit.data.labelled_pixels import LabelledPicture
from vl_absvit.data.loaders import BatchedDataset, batch_loader
from vl_absvit.distributed import gather_objects, rank, world_size
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.evaluation.chunk_store import FileChunkStore
from vl_absvit.evaluation.segmentation_metrics import count_pixels
from vl_absvit.main_process import in_main_process
from vl_absvit.models.pixel_scores import Border, Size, View, Window, classify, windows_of
from vl_absvit.models.segmenter import Segmenter
from vl_absvit.models.trunks.registry import trunk_named
from vl_absvit.tasks.kept_counts import Counted, Keeper, read_counted, total

WINDOWS_AT_ONCE = 4


class Showing(NamedTuple):
    """How pictures are shown to a segmenter."""

    window: Size | None = None  # height and width in pixels; None shows them whole
    stride: Size | None = None
    ratios: tuple[float, ...] = (1.0,)  # scales over the usual one
    mirrored: bool = False  # a second time, mirrored, at every scale
    border: Border = "cut"

    def in_words(self) -> str:
        """For people."""
        how = "whole"
        if self.window is not None and self.stride is not None:
            how = "in windows of {} x {} px every {} x {} px".format(*self.window, *self.stride)
        scales = (
            "" if self.ratios == (1.0,) else f", at {', '.join(f'{ratio:g}' for ratio in self.ratios)} times its size"
        )
        mirrored = ", and mirrored" if self.mirrored else ""
        return f"each picture {how}{scales}{mirrored}" + ("" if self.border == "cut" else ", borders stretched")


def showing_of(pictures: PicturesConfig, vision: VisionConfig) -> Showing:
    """How a configuration shows pictures to its trunk.

    Raises:
        ConfigError: the trunk takes images of its own size alone, and others are asked for.
    """
    own = (vision.image_size, vision.image_size)
    if trunk_named(vision.model).any_size is None:
        for name in ("crop", "window"):
            if getattr(pictures, name) not in (None, own):
                raise ConfigError(
                    f"pictures.{name} {getattr(pictures, name)}: vision.model {vision.model} takes images of its own "
                    f"size alone, {own}; leave it out"
                )
        window: Size | None = own
    else:
        window = pictures.window
    stride = pictures.stride
    if window is not None and stride is None:
        stride = (-(-2 * window[0] // 3), -(-2 * window[1] // 3))
    return Showing(window, stride, border=pictures.border)


@torch.no_grad()
def look_at(
    model: Segmenter, image: Tensor, showing: Showing, is_mirrored: bool = False, prior: Tensor | None = None
) -> View:
    """A segmenter's logits of an image (1, 3, h, w), window after window.

    A window that is smaller than a trunk's only size is filled up right and below with zeros, the mean colour.

    Args:
        prior: (D,), in place of the trained query.
    """
    size = (image.shape[-2], image.shape[-1])
    if is_mirrored:
        image = image.flip(-1)
    places = windows_of(size, showing.window, showing.stride)
    windows: list[Window] = []
    for start in range(0, len(places), WINDOWS_AT_ONCE):
        some = places[start : start + WINDOWS_AT_ONCE]
        parts = torch.cat([image[..., top : top + h, left : left + w] for top, left, (h, w) in some])
        covered = covered_by(model, (parts.shape[-2], parts.shape[-1]))
        if not model.takes_any_size:
            missing = (0, covered[1] - parts.shape[-1], 0, covered[0] - parts.shape[-2])
            parts = torch.nn.functional.pad(parts, missing)
        logits = model(parts, prior=None if prior is None else prior.expand(len(parts), -1)).logits
        windows += [Window(one, *place, covered) for one, place in zip(logits, some, strict=True)]
    return View(windows, size, is_mirrored)


def covered_by(model: Segmenter, size: Size) -> Size:
    """Height and width in pixels that the logits of an image of ``size`` are about: whole patches."""
    vision = model.vision
    if not model.takes_any_size:
        return vision.image_size
    (rows, columns), (of_own, _) = vision.grids(size)[0], vision.grids()[0]
    patch = vision.image_size[0] // of_own
    return rows * patch, columns * patch


@torch.no_grad()
def predict(model: Segmenter, picture: LabelledPicture, showing: Showing, prior: Tensor | None = None) -> np.ndarray:
    """The class of every pixel of a picture, at its own size, (H, W) uint8.

    Args:
        prior: (D,), in place of the trained query.

    Raises:
        InputError: the model's logits are not finite.
    """
    device = next(model.parameters()).device
    images = [image.to(device, non_blocking=True) for image in picture.views]
    sides = (False, True) if showing.mirrored else (False,)
    views = [look_at(model, image, showing, is_mirrored, prior) for image in images for is_mirrored in sides]
    finite = torch.stack([torch.isfinite(window.logits).all() for view in views for window in view.windows]).all()
    found = classify(views, picture.size, showing.border)
    pixels, is_broken = torch.cat([found.flatten(), ~finite[None]]).cpu().split([found.numel(), 1])  # one wait
    if is_broken:
        raise InputError("the checkpoint gives logits that are not finite")
    return pixels.view(picture.size).numpy()


def judge(
    model: Segmenter,
    dataset: BatchedDataset,
    showing: Showing,
    num_workers: int,
    bar: Progress | None = None,
    take: Callable[[LabelledPicture, np.ndarray], object] | None = None,
    store: FileChunkStore | None = None,
) -> np.ndarray:
    """Classify every picture, each in one of the processes, and count its pixels, (C, C) as ``count_pixels``.

    Args:
        model: in evaluation mode, on its device.
        dataset: of pictures, one a sample.
        bar: shows the progress.
        take: receives every picture that this process has done, and its prediction.
        store: of what an interrupted evaluation has counted; started. Pictures in it are not classified again.

    Returns:
        The same in every process. Pictures without a label count nothing.
    """
    classes, keeper = model.num_classes, Keeper(store)
    before = Counted.nothing(classes)
    if store is not None:
        before = in_main_process(lambda: read_counted(store, classes))
    left = np.setdiff1d(np.arange(len(dataset)), before.places)
    rows = np.array_split(left, world_size())[rank()].tolist()
    own = Counted.nothing(classes)
    loader = batch_loader(dataset, [[row] for row in rows], num_workers)
    if bar is not None:
        done = len(before.places) // world_size()
        shown = bar.add_task("classifying pixels", total=done + len(rows), completed=done)
    for picture in loader:
        prediction = predict(model, picture, showing)
        if picture.label is not None:
            own.counts[:] += count_pixels(prediction, picture.label, classes)
        if take is not None:
            take(picture, prediction)
        own.places.append(picture.place)
        keeper.keep(own, is_all=len(own.places) == len(rows))
        if bar is not None:
            bar.advance(shown)
    counted = total([before, *gather_objects([own])], classes)
    assert sorted(counted.places) == list(range(len(dataset))), "each picture exactly once"
    return counted.counts


def ratios_of(text: str) -> tuple[float, ...]:
    """Scales in an option's value, such as "0.5,0.75,1".

    Raises:
        ConfigError: one is no positive number of a usual size, or comes twice.
    """
    try:
        ratios = tuple(float(word) for word in text.split(","))
    except ValueError:
        ratios = ()
    if not ratios or not all(0.1 <= ratio <= 10 for ratio in ratios) or len(set(ratios)) < len(ratios):
        raise ConfigError(
            f"--scales: expected numbers from 0.1 to 10, each once, with commas between, got {text!r:.60}"
        )
    return ratios
