"""Which tensors of images stay in memory once made: one rule and one limit for every data set."""

from torch import Tensor
from torch.utils.data import get_worker_info

KEPT_BYTES = 2**30
"""Images of a data set that is smaller than this as tensors are kept once made, augmented ones until the epoch ends."""


class KeptImages(dict[int, Tensor]):
    """Tensors by image, if all of them fit.

    Args:
        number: of images that will be asked for.
        is_random: whether an image is another in every epoch.
    """

    def __init__(self, number: int, is_random: bool) -> None:
        super().__init__()
        self._number, self._is_random, self._epoch = number, is_random, 0

    def set_epoch(self, epoch: int) -> None:
        """Forget what belongs to another epoch."""
        if self._is_random and epoch != self._epoch:
            self.clear()
        self._epoch = epoch

    def keep(self, tensors: dict[int, Tensor]) -> None:
        """Keep equally large tensors, except in loader processes: each would hold a copy, and lose it as it ends."""
        size = next(iter(tensors.values())).nbytes if tensors else 0
        if size * self._number <= KEPT_BYTES and get_worker_info() is None:
            self.update(tensors)
