"""Which tensors of images stay in memory once made: one rule and one limit for every data set."""

from torch import Tensor
from torch.utils.data import get_worker_info

KEPT_BYTES = 2**30
"""Images of a data set that is smaller than this as tensors, and not augmented, are kept once made."""


class KeptImages(dict[int, Tensor]):
    """Tensors by image, if all of them fit.

    Args:
        number: of images that will be asked for.
        is_random: whether an image is another each time.
    """

    def __init__(self, number: int, is_random: bool) -> None:
        super().__init__()
        self._number, self._is_random = number, is_random

    def keep(self, tensors: dict[int, Tensor]) -> None:
        """Keep equally large tensors, except in loader processes: each would hold a copy, and lose it as it ends."""
        size = next(iter(tensors.values())).nbytes if tensors else 0
        if size * self._number <= KEPT_BYTES and not self._is_random and get_worker_info() is None:
            self.update(tensors)
