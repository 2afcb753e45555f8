"""Batches in which samples of one image stand together and share its decoding and its first look.

As in other batches, every sample is equally likely in any step of an epoch and is seen at most once. But samples of one
image are not independent, so a batch tells less about the data. Shapes: S samples, k samples per slot.
"""

import numpy as np

from vl_absvit.errors import ConfigError


def same_image_batches(
    image_ids: np.ndarray, batch_size: int, per_image: int, seed: int, epoch: int
) -> list[list[int]]:
    """The complete batches of one training epoch, in an order that depends only on ``seed`` and ``epoch``.

    A batch consists of slots of ``per_image`` samples. A slot holds samples of one image, or of a few images with fewer
    samples. Slots are shuffled. Parts for processes and passes consist of whole slots if their size is a multiple of
    ``per_image``.

    Args:
        image_ids: image of each sample, (S,).
        per_image: most samples of one image that stand together.

    Raises:
        ConfigError: there are fewer samples than one batch holds, or a batch is not made of whole slots.
    """
    if len(image_ids) < batch_size:
        raise ConfigError(f"optim.batch_size {batch_size} is more than the {len(image_ids)} training samples")
    if batch_size % per_image:
        raise ConfigError(f"optim.batch_size {batch_size} is no multiple of data.samples_per_image {per_image}")
    generator = np.random.Generator(np.random.PCG64([seed, epoch]))
    complete = len(image_ids) // batch_size
    kept = generator.permutation(len(image_ids))[: complete * batch_size]  # the rest differs in every epoch
    whole, rest = _groups(kept, image_ids[kept], per_image)
    rest = [rest[row] for row in generator.permutation(len(rest))]
    slots = np.concatenate([whole, np.array(_fill(rest, per_image), dtype=kept.dtype).reshape(-1, per_image)])
    return generator.permutation(slots).reshape(complete, batch_size).tolist()


def _groups(rows: np.ndarray, image_ids: np.ndarray, size: int) -> tuple[np.ndarray, list[list[int]]]:
    """Groups of rows of one image, in the given order: those of ``size``, (groups, size), and the smaller ones."""
    by_image = np.argsort(image_ids, kind="stable")
    rows, image_ids = rows[by_image], image_ids[by_image]
    is_first = np.r_[True, image_ids[1:] != image_ids[:-1]]
    first = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]  # for every row, the first of the same image
    starts = np.flatnonzero((np.arange(len(rows)) - first) % size == 0)
    sizes = np.diff(np.r_[starts, len(rows)])
    whole = starts[sizes == size, None] + np.arange(size)
    smaller = sizes < size
    rest = [rows[start : start + n].tolist() for start, n in zip(starts[smaller], sizes[smaller], strict=True)]
    return rows[whole], rest


def _fill(groups: list[list[int]], size: int) -> list[list[int]]:
    """Slots of ``size`` rows, made of smaller groups: the largest that fits first. If none fits, one is divided."""
    of_size: list[list[list[int]]] = [[] for _ in range(size)]
    for group in groups:
        of_size[len(group)].append(group)
    slots = []
    while any(of_size):
        slot: list[int] = []
        while room := size - len(slot):
            fitting = next((n for n in range(min(room, size - 1), 0, -1) if of_size[n]), None)
            if fitting is None:
                larger = next(n for n in range(room + 1, size) if of_size[n])
                group = of_size[larger].pop()
                of_size[larger - room].append(group[room:])
                slot += group[:room]
            else:
                slot += of_size[fitting].pop()
        slots.append(slot)
    return slots
