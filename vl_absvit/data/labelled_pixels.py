"""Pictures of a prepared folder with classes of their pixels. Shapes: I images of H x W pixels."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vl_absvit.data.image_loader import choose
from vl_absvit.data.parquet import LargeValues
from vl_absvit.data.pixel_transforms import EvaluationPixels, TrainingPixels
from vl_absvit.data.records import ImageTable, read_labels, read_manifest, split_files
from vl_absvit.data.segmentation_labels import VOID, Colour, decode_label
from vl_absvit.data.transforms import ImageTransform, seeded
from vl_absvit.errors import InputError


class PixelBatch(NamedTuple):
    """Images and the classes of their pixels."""

    images: Tensor  # (I, 3, H, W)
    labels: Tensor  # (I, H, W) uint8, 255 for void


class PixelSample(NamedTuple):
    """One image and the classes of its pixels."""

    image: Tensor  # (3, H, W)
    label: Tensor  # (H, W) uint8


class LabelledPicture(NamedTuple):
    """A picture for evaluation."""

    place: int  # in the data set
    views: list[Tensor]  # the model's input at every scale, (1, 3, h, w)
    size: tuple[int, int]  # height and width of the picture itself
    label: np.ndarray | None  # (H, W), of the picture's size; None where labels are held back


def read_classes(root: str | Path) -> tuple[list[str], list[Colour]]:
    """Names and colours of the classes of a prepared folder.

    Raises:
        InputError: the manifest lacks them.
    """
    manifest = read_manifest(root)
    classes, colours = manifest.get("classes"), manifest.get("colours")
    if (
        not (isinstance(classes, list) and isinstance(colours, list) and 0 < len(classes) == len(colours) <= VOID)
        or not all(isinstance(name, str) for name in classes)
        or not all(map(_is_colour, colours))
    ):
        raise InputError(f"{Path(root) / 'manifest.json'}: expected names and colours of 1 to {VOID} classes")
    return classes, [tuple(colour) for colour in colours]


def _is_colour(value: Any) -> bool:
    """Whether a value of JSON is red, green and blue."""
    return isinstance(value, list) and len(value) == 3 and all(type(part) is int and 0 <= part < 256 for part in value)


class LabelledPictures:
    """The pictures of some splits that were there at preparation, with their labels; both are read on access.

    Attributes:
        image_ids: of each picture, (pictures,).
        names: of each picture within the data set.
    """

    def __init__(self, root: str | Path, splits: Sequence[str], images: str | Path | None = None) -> None:
        """
        Args:
            images: folder of the raw pictures; None takes the manifest's.

        Raises:
            InputError: this is no prepared folder of labelled pixels, or a split does not exist or has no picture.
        """
        self._table = ImageTable(root, images)
        rows = read_labels(root, splits)
        image_ids = rows.data.column("image_id").to_numpy()
        self._rows = np.flatnonzero(np.isin(image_ids, self._table.available))
        if not len(self._rows):
            raise InputError(f"{root}: there is no picture in {', '.join(splits)}")
        self.image_ids = image_ids[self._rows]
        self.names = rows.data.column("name").take(self._rows).to_pylist()
        self._labels, self._root = LargeValues(split_files(root, splits), "label"), root
        self.classes, self.colours = read_classes(root)

    def __len__(self) -> int:
        return len(self._rows)

    def open(self, place: int) -> tuple[Image.Image, np.ndarray | None]:
        """A picture and its label, (H, W) uint8, None where it is held back.

        Raises:
            InputError: one of them cannot be read, or they have other sizes or classes than at preparation.
        """
        (picture,) = self._table.open([self.image_ids[place]])
        (content,) = self._labels.take(self._rows[[place]])
        if content is None:
            return picture, None
        where = f"{self._root}: label of {self.names[place]}"
        try:
            label = decode_label(content)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if label.shape != (picture.height, picture.width):
            raise InputError(
                f"{where}: expected its picture's {picture.width} x {picture.height} pixels, got "
                f"{label.shape[1]} x {label.shape[0]}; was the picture changed since preparation?"
            )
        if (largest := label[label != VOID].max(initial=0)) >= len(self.classes):
            raise InputError(f"{where}: expected the classes 0 to {len(self.classes) - 1}, got {largest}")
        return picture, label

    def check_labelled(self, splits: Sequence[str]) -> None:
        """Refuse splits whose labels are held back.

        Raises:
            InputError: names the split.
        """
        counts = read_manifest(self._root)["splits"]
        for split in splits:
            if not counts[split].get("has_labels"):
                raise InputError(f"{self._root}: the split {split} has no labels")

    def sample_images(self, number: int, seed: int, transform: ImageTransform) -> Iterator[Tensor]:
        """At most ``number`` pictures, (3, h, w) each, made by ``transform`` and chosen by the seed."""
        for place in choose(len(self), number, seed):
            yield transform(self._table.open([self.image_ids[place]], transform.decode)[0])


class PixelDataset(Dataset):
    """Images to train on. Seed, epoch and image id determine how one is augmented."""

    def __init__(self, pictures: LabelledPictures, transform: TrainingPixels, seed: int) -> None:
        self.pictures, self.image_ids = pictures, pictures.image_ids
        self.sample_images = pictures.sample_images
        self._transform, self._seed, self._epoch = transform, seed, 0

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitems__(self, indices: Sequence[int]) -> list[PixelSample]:
        return [self._sample(index) for index in indices]

    def _sample(self, index: int) -> PixelSample:
        picture, label = self.pictures.open(index)
        assert label is not None, "training is on labelled splits"
        with seeded(self._seed, self._epoch, int(self.image_ids[index])):
            return PixelSample(*self._transform(picture, label))

    def collate(self, samples: Sequence[PixelSample]) -> PixelBatch:
        """A batch of samples."""
        return PixelBatch(*(torch.stack([sample[part] for sample in samples]) for part in range(2)))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that augmentation depends on."""
        self._epoch = epoch


class PictureDataset(Dataset):
    """Pictures to evaluate, one at a time: they have many sizes.

    Args:
        ratios: scales over the usual one at which each is seen.
    """

    def __init__(
        self, pictures: LabelledPictures, transform: EvaluationPixels, ratios: Sequence[float] = (1.0,)
    ) -> None:
        self.pictures, self.image_ids = pictures, pictures.image_ids
        self._transform, self._ratios = transform, list(ratios)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitems__(self, indices: Sequence[int]) -> list[LabelledPicture]:
        return [self._picture(index) for index in indices]

    def _picture(self, index: int) -> LabelledPicture:
        picture, label = self.pictures.open(index)
        views = [self._transform(picture, ratio)[None] for ratio in self._ratios]
        return LabelledPicture(index, views, (picture.height, picture.width), label)

    def collate(self, samples: Sequence[LabelledPicture]) -> LabelledPicture:
        """The one sample."""
        (sample,) = samples
        return sample
