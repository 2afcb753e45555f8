"""Images that stay in memory as tensors: one rule and one limit for every data set."""

from collections.abc import Callable, Iterable

from torch import Tensor
from torch.utils.data import get_worker_info

KEPT_BYTES = 2**30
"""A data set's images are kept if they take no more than this as tensors, augmented ones until the epoch ends."""


class KeptImages(dict[int, Tensor]):
    """Tensors by image, if all of them fit.

    Args:
        number: number of images that will be needed.
        is_random: whether an image differs in every epoch.
    """

    def __init__(self, number: int, is_random: bool) -> None:
        super().__init__()
        self._number, self._is_random, self._epoch = number, is_random, 0

    def set_epoch(self, epoch: int) -> None:
        """Drop the images of another epoch."""
        if self._is_random and epoch != self._epoch:
            self.clear()
        self._epoch = epoch

    def load(self, images: Iterable[int], make: Callable[[list[int]], Iterable[Tensor]]) -> dict[int, Tensor]:
        """Tensors of some images. Those that are not there are made, in one call, and kept where all fit.

        Args:
            make: gives the tensors of images, in their order.
        """
        wanted = dict.fromkeys(images)
        new = [image for image in wanted if image not in self]
        made = dict(zip(new, make(new), strict=True)) if new else {}
        if made and self.fit(made[new[0]]):
            self.update(made)
        return {image: made[image] if image in made else self[image] for image in wanted}

    def fit(self, example: Tensor) -> bool:
        """Whether all images are kept, if they are as large as this one.

        Loader processes keep none: each would hold a copy and lose it at its end.
        """
        return example.nbytes * self._number <= KEPT_BYTES and get_worker_info() is None
