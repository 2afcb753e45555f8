"""From published eye fixations and their pictures to a folder that exports are compared with."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vl_absvit.data.picture_folder import PicturesByTail, find_pictures
from vl_absvit.data.records import FIXATIONS
from vl_absvit.data.whole_folder import fingerprint_all, make_request
from vl_absvit.errors import InputError
from vl_absvit.prepare.check_images import Images
from vl_absvit.prepare.fixation_sources import files_of, read_fixations
from vl_absvit.prepare.prepare import Content, ImageFolder, Records, Source, count_rows, prepare
from vl_absvit.prepare.tables import table_of, write_table

_SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("observer", pa.string()),
        ("number", pa.int32()),
        ("x", pa.float64()),
        ("y", pa.float64()),
        ("t", pa.float64()),
    ]
)
SPLIT = "fixations"
MOST_OUTSIDE = 0.01
"""Largest share of fixations outside their pictures. Above it, something is wrong with all of them."""


@dataclass(frozen=True, kw_only=True)
class FixationOptions:
    """The options that the prepared folder depends on."""

    fixations: Path
    images: Path
    one_based: bool = False
    allow_missing_images: bool = False


def prepare_fixations(options: FixationOptions, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest. A finished ``output`` is only compared with the request.

    Raises:
        InputError: fixations or pictures have a fault, or ``output`` was made from others.
    """
    images = ImageFolder(options.images, _pictures_below, allow_missing=options.allow_missing_images)
    return prepare(FixationSource(options), images, output, workers)


def _pictures_below(root: Path, _: Iterable[str]) -> PicturesByTail:
    return PicturesByTail(root, [picture.file for picture in find_pictures(root).pictures])


class FixationSource(Source):
    """Fixations of any form; those outside their picture are left out and counted."""

    row_type = "fixations"

    def __init__(self, options: FixationOptions) -> None:
        self._options = options
        self._empty: Counter[str] = Counter()

    def request(self) -> dict[str, Any]:
        options = self._options
        if not options.fixations.exists():
            raise InputError(f"{options.fixations}: no such file or folder")
        settings = {"one_based": options.one_based, "allow_missing_images": options.allow_missing_images}
        request = make_request(FIXATIONS, options.images, settings, [])
        place = options.fixations.resolve()
        root = place if place.is_dir() else place.parent
        files = [file.relative_to(root).as_posix() for file in files_of(place)]
        request["sources"][place.name] = fingerprint_all(root, files, "a file of fixations")
        return request

    def read(self) -> Records:
        """All fixations; pictures are numbered by name."""
        shift = 1.0 if self._options.one_based else 0.0
        rows = list(read_fixations(self._options.fixations, self._empty))
        if not rows:
            raise InputError(f"{self._options.fixations}: has no fixation")
        names = sorted({row.image for row in rows})
        id_of = {name: number for number, name in enumerate(names, start=1)}
        made = ((id_of[row.image], row.observer, row.number, row.x - shift, row.y - shift, row.time) for row in rows)
        table = table_of(made, _SCHEMA, "reading fixations")
        timed = [(row.image, row.observer, row.x, row.y, row.time) for row in rows if row.time is not None]
        repeated = len(timed) - len(set(timed))
        warnings = [f"{repeated:,} fixations repeat another one of observer, place and time"] if repeated else []
        return Records({SPLIT: table}, {number: name for name, number in id_of.items()}, warnings)

    def write(self, folder: Path, records: Records, images: Images) -> Content:
        """Write the fixations that are on usable pictures.

        Raises:
            InputError: more of them are outside than chance explains, or none is left.
        """
        table = records.splits[SPLIT]
        ids, x, y = (table.column(name).to_numpy() for name in ("image_id", "x", "y"))
        is_there = images.are_usable(ids) & ~images.are_missing(ids)
        sizes = np.array([images.sizes.get(image_id, (0, 0)) for image_id in ids.tolist()]).reshape(-1, 2)
        with np.errstate(invalid="ignore"):
            inside = (x >= 0) & (y >= 0) & (x < sizes[:, 0]) & (y < sizes[:, 1])
        outside = is_there & ~inside
        if outside.sum() > MOST_OUTSIDE * is_there.sum():
            first = int(np.flatnonzero(outside)[0])
            name = images.files[int(ids[first])]
            raise InputError(
                f"{self._options.fixations}: {outside.sum():,} of {is_there.sum():,} fixations are outside their "
                f"pictures, the first at x {x[first]:g}, y {y[first]:g} in {name} of {sizes[first, 0]} x "
                f"{sizes[first, 1]}; are x and y swapped, or these other pictures?"
            )
        kept = table.filter(pa.array(is_there & inside))
        if not len(kept):
            raise InputError(f"{self._options.fixations}: no fixation on a picture is left")
        write_table(folder / f"{SPLIT}.parquet", kept)
        observers = {name for name in kept.column("observer").unique().to_pylist() if name is not None}
        counts = count_rows(self.row_type, ids[is_there & inside], images) | {
            "observers": len(observers),
            "outside": int(outside.sum()),
            "empty_observers": self._empty.total(),
            "has_order": kept.column("number").null_count == 0,
        }
        warnings = [f"{outside.sum()} fixations are outside their pictures and left out"] if outside.any() else []
        if self._empty.total():
            warnings.append(f"{self._empty.total()} times an observer has no fixation in a picture")
        bare = len(np.unique(ids[is_there])) - counts["images"]
        if bare:
            warnings.append(f"{bare} pictures have no fixation left")
        return Content({SPLIT: counts}, warnings, {})
