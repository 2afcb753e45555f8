"""Images of a data set as tensors (3, H, W), and the check that training and selection share none."""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from torch import Tensor

from vl_absvit.data.kept import KeptImages
from vl_absvit.data.kept_rows import KeptRows
from vl_absvit.data.loaders import WithImageIds
from vl_absvit.data.records import ImageTable
from vl_absvit.data.transforms import ImageTransform, transformed
from vl_absvit.errors import ConfigError


def choose(total: int, number: int, seed: int) -> list[int]:
    """At most ``number`` distinct places out of ``total``, ascending. They depend on the arguments alone."""
    chosen = np.random.default_rng(seed).permutation(total)[:number]
    return sorted(chosen.tolist())


class ImageLoader:
    """Images by id, opened and transformed on access."""

    def __init__(self, table: ImageTable, transform: ImageTransform, num_images: int, seed: int = 0) -> None:
        """
        Args:
            num_images: number of distinct images that will be needed; it decides whether memory keeps them.
            seed: seed of augmentation.
        """
        self._table, self._transform, self._seed, self._epoch = table, transform, seed, 0
        self._kept = KeptImages(num_images, transform.is_random)
        self._first_looks: KeptRows | None = None

    def take_first_looks(self, kept: KeptRows) -> None:
        """From now on give these rows, by image id, in place of the images."""
        self._kept.clear()
        self._first_looks = kept

    def content(self, image_ids: np.ndarray) -> str:
        """SHA-256 of the named images' ids, sizes in pixels and sizes in bytes. No picture is read."""
        digest = hashlib.sha256(image_ids.astype("<i8").tobytes())
        for sizes in (self._table.sizes(image_ids), self._table.bytes_of(image_ids)):
            digest.update(sizes.astype("<i8").tobytes())
        return digest.hexdigest()

    def load(self, image_ids: Iterable[int]) -> dict[int, Tensor]:
        """Tensors of the named images, which must be ``available`` in the table. Each is decoded once."""
        image_ids = list(dict.fromkeys(image_ids))
        if self._first_looks is not None:
            return dict(zip(image_ids, self._first_looks.load(image_ids), strict=True))
        return self._kept.load(image_ids, self._make)

    def _make(self, image_ids: list[int]) -> list[Tensor]:
        seeds = ((self._seed, self._epoch, image_id) for image_id in image_ids)
        return transformed(self._transform, self._table.open(image_ids, self._transform.decode), seeds)

    def sample(self, image_ids: np.ndarray, number: int, seed: int, transform: ImageTransform) -> Iterator[Tensor]:
        """At most ``number`` distinct images out of the named ones, (3, H, W) each, by another, plain transform."""
        distinct = np.unique(image_ids)
        for place in choose(len(distinct), number, seed):
            yield transform(self._table.open([distinct[place]], transform.decode)[0])

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that augmentation depends on."""
        self._epoch = epoch
        self._kept.set_epoch(epoch)


def check_disjoint(train: WithImageIds, select: WithImageIds) -> None:
    """Refuse a selection split that shares images with the training splits.

    Raises:
        ConfigError: an image occurs in both.
    """
    shared = np.intersect1d(train.image_ids, select.image_ids)
    if len(shared):
        raise ConfigError(
            f"{len(shared)} images are both in data.train_splits and in data.select_split, e.g. {shared[0]}; "
            "set data.select_split to null to give up checkpoint selection"
        )
