"""Images that stay in memory as tensors: one rule and one limit for every data set."""

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

    def keep(self, tensors: dict[int, Tensor]) -> None:
        """Keep tensors of one size. Loader processes keep none: each would hold a copy and lose it at its end."""
        size = next(iter(tensors.values())).nbytes if tensors else 0
        if size * self._number <= KEPT_BYTES and get_worker_info() is None:
            self.update(tensors)
