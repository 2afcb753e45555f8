"""Read a prepared folder of eye fixations."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from vl_absvit.data.parquet import read_columns
from vl_absvit.data.records import FIXATIONS, check_kind
from vl_absvit.errors import InputError


class LookedAt(NamedTuple):
    """A picture, and where people looked in it."""

    image_id: int
    file: str  # relative to the folder of pictures
    size: tuple[int, int]  # width and height
    places: np.ndarray  # (F, 2), x and y in pixels from 0 on
    observers: np.ndarray | None  # (F,), a number for each person; None if it is not known who looked
    numbers: np.ndarray | None  # (F,), of a person's fixations in the order of looking; None if it is not known

    def without_first(self) -> "LookedAt":
        """Without each person's first fixation.

        Raises:
            InputError: the order is not known.
        """
        if self.numbers is None:
            raise InputError(f"{self.file}: nobody knows which fixation was the first; keep it")
        later = self.numbers > 0
        observers = None if self.observers is None else self.observers[later]
        return self._replace(places=self.places[later], observers=observers, numbers=self.numbers[later])


def read_looked_at(root: str | Path) -> list[LookedAt]:
    """All pictures with fixations, by id.

    Raises:
        InputError: the folder was not written by vl-absvit prepare-fixations, or a table is damaged.
    """
    root = Path(root)
    check_kind(root, FIXATIONS)
    images = read_columns(root / "images.parquet", ("image_id", "file", "width", "height")).to_pylist()
    table = read_columns(root / "fixations.parquet", ("image_id", "observer", "number", "x", "y"))
    ids = table.column("image_id").to_numpy()
    places = np.stack([table.column(name).to_numpy() for name in ("x", "y")], axis=-1)
    people, numbers = table.column("observer"), table.column("number")
    observers = None
    if people.null_count == 0:
        observers = people.combine_chunks().dictionary_encode().indices.to_numpy()
    order = numbers.to_numpy() if numbers.null_count == 0 else None
    looked_at = []
    for image in images:
        rows = np.flatnonzero(ids == image["image_id"])
        if len(rows):
            looked_at.append(
                LookedAt(
                    image["image_id"],
                    image["file"],
                    (image["width"], image["height"]),
                    places[rows],
                    None if observers is None else observers[rows],
                    None if order is None else order[rows],
                )
            )
    return looked_at
