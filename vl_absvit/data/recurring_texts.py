"""What is said of an image by captions that a batch may not show. C captions."""

import hashlib

import numpy as np
import pyarrow as pa

_AT_ONCE = 10_000
"""Captions that are strings at a time."""


def text_number(text: str) -> int:
    """A number that is the same for a text in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest())


class RecurringTexts:
    """The texts that captions of several images have, by number, of each of these images.

    Phrases such as "blue sky" are true of many images. Where every image has one caption there are none: then a batch
    shows all that is said of its images.
    """

    def __init__(self, image_ids: np.ndarray, texts: pa.ChunkedArray) -> None:
        """
        Args:
            image_ids: image of each caption, (C,).
            texts: text of each caption, (C,).
        """
        numbers = np.empty(0, dtype=np.int64)
        if len(np.unique(image_ids)) < len(image_ids):
            parts = (texts.slice(start, _AT_ONCE).to_pylist() for start in range(0, len(texts), _AT_ONCE))
            numbers = np.fromiter((text_number(text) for part in parts for text in part), np.int64, len(texts))
        image_ids = image_ids[: len(numbers)]
        order = np.lexsort((numbers, image_ids))
        image_ids, numbers = image_ids[order], numbers[order]
        is_first = np.ones(len(order), dtype=bool)  # of its text about its image
        is_first[1:] = (image_ids[1:] != image_ids[:-1]) | (numbers[1:] != numbers[:-1])
        image_ids, numbers = image_ids[is_first], numbers[is_first]
        _, text, images = np.unique(numbers, return_inverse=True, return_counts=True)
        recurs = images[text] > 1
        self._image_ids, self._numbers = image_ids[recurs], numbers[recurs]

    def of(self, image_id: int) -> np.ndarray:
        """Numbers of the texts that other images have, too, ascending."""
        first, end = np.searchsorted(self._image_ids, [image_id, image_id + 1])
        return self._numbers[first:end]
