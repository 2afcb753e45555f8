"""Labelled images in one folder per class: ROOT/SPLIT/CLASS/IMAGE. Shapes: I images."""

from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vl_absvit.data.class_files import ImageFiles, class_names
from vl_absvit.data.image_loader import choose
from vl_absvit.data.kept import KeptImages
from vl_absvit.data.rgb import open_picture
from vl_absvit.data.transforms import ImageTransform, transformed
from vl_absvit.errors import InputError


class ImageBatch(NamedTuple):
    """Images and their classes."""

    images: Tensor  # (I, 3, H, W)
    labels: Tensor  # (I, cells) long: the class in every cell of a mosaic in raster order; other images have one cell
    indices: Tensor  # (I,) long, place in the data set; of further copies beyond its end
    targets: Tensor | None = None  # (I, classes), shares of the classes in mixed images; None if the labels suffice


class ImageSample(NamedTuple):
    """One image and its class."""

    image: Tensor  # (3, H, W)
    labels: list[int]
    place: int  # in the data set; of further copies beyond its end


Together = Callable[[int, Callable[[range], Tensor]], Tensor]
"""Makes rows of a tensor in several processes, as ``distributed.make_together``."""


def collate_images(samples: Sequence[ImageSample]) -> ImageBatch:
    """A batch of samples."""
    return ImageBatch(
        images=torch.stack([sample.image for sample in samples]),
        labels=torch.tensor([sample.labels for sample in samples]),
        indices=torch.tensor([sample.place for sample in samples]),
    )


class ImageFolderDataset(Dataset):
    """Images of one or more splits in order of class and name.

    Seed, epoch and index determine how a training image is augmented. Copy c of image i has the index c * len + i.

    Args:
        root: folder of splits. A split is a folder of class folders; all splits have the same classes.
        only: names of the class folders to read; None reads all.
        repeats: copies of an image in a row in training, see ``loaders.global_batches``.
    """

    def __init__(
        self,
        root: str | Path,
        splits: Sequence[str],
        transform: ImageTransform,
        seed: int = 0,
        only: Container[str] | None = None,
        repeats: int = 1,
    ) -> None:
        self.repeats = repeats
        self._transform, self._seed, self._epoch = transform, seed, 0
        self.classes: list[str] = []
        folders: list[tuple[Path, int]] = []
        for split in splits:
            folder = Path(root) / split
            classes = [name for name in class_names(folder) if only is None or name in only]
            if self.classes and classes != self.classes:
                raise InputError(f"{folder} has other classes than {Path(root) / splits[0]}")
            self.classes = classes
            folders += [(folder / name, label) for label, name in enumerate(classes)]
        self.files = ImageFiles(folders)
        self._kept = KeptImages(len(self.files), transform.is_random)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> ImageSample:
        if index >= len(self) * self.repeats:
            raise IndexError(index)  # ends ``for sample in data_set``
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[ImageSample]:
        """Several samples at once, for a loader."""
        image_of, size = self._kept.load(indices, self._make), len(self)
        return [ImageSample(image_of[index], [self.files.label(index % size)], index) for index in indices]

    def make_all(self, together: Together) -> None:
        """Make every image of the epoch now, where memory keeps them all."""
        if len(self._kept) < len(self) and self._kept.fit(self[0].image):
            images = together(len(self), lambda part: torch.stack([sample.image for sample in self.__getitems__(part)]))
            self._kept.update(enumerate(images))

    def _make(self, indices: list[int]) -> list[Tensor]:
        pictures = (open_picture(self.files[index % len(self)][0], self._transform.decode) for index in indices)
        return transformed(self._transform, pictures, ((self._seed, self._epoch, index) for index in indices))

    collate = staticmethod(collate_images)

    def sample_images(self, number: int, seed: int, transform: ImageTransform) -> Iterator[Tensor]:
        """At most ``number`` images, (3, H, W) each, made by ``transform`` and chosen by the seed."""
        for place in choose(len(self), number, seed):
            yield self.picture(place, transform)

    def picture(self, index: int, transform: ImageTransform) -> Tensor:
        """An image made by another, plain transform, (3, H, W)."""
        return transform(open_picture(self.files[index][0], transform.decode))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that augmentation depends on."""
        self._epoch = epoch
        self._kept.set_epoch(epoch)


class MosaicDataset(Dataset):
    """n x n mosaics of another data set's images.

    Sample i shows image i in one random cell, and other random images around it.

    Args:
        side: cells per side n.
        seed: seed of the draws, which depend only on seed, epoch and index; None shows image i in all cells
            (evaluation).
        together: makes an epoch's images, of which every process needs nearly all, in all processes, which load their
            samples at the same time; None makes them in this process, one after the other as they are needed.
    """

    def __init__(
        self, images: ImageFolderDataset, side: int, seed: int | None, together: Together | None = None
    ) -> None:
        self.images, self.classes = images, images.classes
        self._side, self._seed, self._epoch, self._together = side, seed, 0, together

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> ImageSample:
        cells = self.images.__getitems__(self._sources(index))
        return ImageSample(self._join([cell.image for cell in cells]), [cell.labels[0] for cell in cells], index)

    def __getitems__(self, indices: Sequence[int]) -> list[ImageSample]:
        """Several samples at once, for a loader."""
        if self._together is not None:
            self.images.make_all(self._together)
        return [self[index] for index in indices]

    collate = staticmethod(collate_images)

    def sample_images(self, number: int, seed: int, transform: ImageTransform) -> Iterator[Tensor]:
        """At most ``number`` mosaics, (3, H, W) each, of images made by ``transform``; chosen by the seed."""
        for place in choose(len(self), number, seed):
            yield self._join([self.images.picture(source, transform) for source in self._sources(place)])

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that draws and augmentation depend on."""
        self._epoch = epoch
        self.images.set_epoch(epoch)

    def _join(self, images: Sequence[Tensor]) -> Tensor:
        grid = torch.stack(list(images)).unflatten(0, (self._side, self._side))  # (n, n, 3, h, w)
        return grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)  # (3, n h, n w)

    def _sources(self, index: int) -> list[int]:
        cells = self._side**2
        if self._seed is None:
            return [index] * cells
        draw = np.random.default_rng([self._seed, self._epoch, index])
        sources = draw.integers(len(self), size=cells)
        sources[draw.integers(cells)] = index
        return sources.tolist()
