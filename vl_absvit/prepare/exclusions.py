"""Pictures that must not be trained on, for a test set has them: by their id at COCO or Flickr, or by their bytes."""

import hashlib
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vl_absvit.data.parquet import read_columns
from vl_absvit.data.records import IMAGE_COLUMNS, SNLI_VE, ImageTable, read_content, read_manifest, split_files
from vl_absvit.data.strict_json import shown
from vl_absvit.data.whole_folder import fingerprint
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.caption_sets import CAPTION_SETS
from vl_absvit.prepare.check_images import Images
from vl_absvit.prepare.coco_images import walk_pictures
from vl_absvit.prepare.text_lines import read_lines
from vl_absvit.prepare.vqa_sets import DATA_SETS

log = logging.getLogger(__name__)

ROUTES = ("coco", "flickr", "sha256")
TRAINING = ("train", "restval")
"""Splits that are trained on."""
_OF_COCO, _OF_FLICKR = (
    re.compile(r"(?:COCO_[a-z]+20[0-9]{2}_)?([0-9]{12})"),
    re.compile(r"([0-9]{5,11})(?:_[0-9a-f]+)?"),
)
"""Names of pictures, without their endings."""
_AT_FLICKR = re.compile(r"([0-9]{5,11})_[0-9a-f]{8,}(?:_[a-z0-9])?")
"""The name of a photograph as Flickr gives it, which no other number is."""
_AT_ONCE = 256


def ids_of_file(file: str, *, is_published: bool = False) -> dict[str, str]:
    """Ids at COCO and Flickr in the name of a file.

    Args:
        is_published: whether it is a file of a published data set, whose numbers are those. A number in the name of a
            file of anybody's counts where it can be no other.
    """
    stem = PurePosixPath(file).stem
    forms = (("coco", _OF_COCO), ("flickr", _OF_FLICKR if is_published else _AT_FLICKR))
    return {route: str(int(found[1])) for route, form in forms if (found := form.fullmatch(stem))}


def _route_of_ids(manifest: Mapping[str, Any]) -> str | None:
    """Where the ids of a prepared folder's images are ids, if they are."""
    dataset = str(manifest.get("dataset"))
    if manifest["kind"] == SNLI_VE:
        return "flickr"
    described = DATA_SETS.get(dataset) or CAPTION_SETS.get(dataset)
    return "coco" if dataset == "coco" or (described and described.images_of == "coco") else None


class Excluded:
    """Ids by route, and what they are excluded for."""

    def __init__(self, wanted: Iterable[str]) -> None:
        """
        Args:
            wanted: ``FOLDER`` of prepared data, whose splits other than training's count, ``FOLDER=SPLIT,SPLIT``, a
                folder of pictures, or a text file with a route and an id on each line, such as ``coco 391895``.

        Raises:
            InputError: one of them is neither, or has a fault.
        """
        self.ids: dict[str, set[str]] = {route: set() for route in ROUTES}
        self._wanted = list(wanted)
        for text in self._wanted:
            path, _, splits = text.partition("=")
            if Path(path).is_dir() and not splits and not any(Path(path).glob("images*.parquet")):
                self._add_pictures(Path(path))
            elif Path(path).is_dir():
                self._add_folder(Path(path), splits)
            elif Path(path).is_file() and not splits:
                self._add_list(Path(path))
            else:
                raise ConfigError(f"--exclude {text}: expected a folder, FOLDER=SPLIT,SPLIT or a list of ids")

    def route_of(self, ids: Mapping[str, str]) -> str | None:
        """The route by which a picture is excluded, or None."""
        return next((route for route in ROUTES if route in ids and ids[route] in self.ids[route]), None)

    def leave_out(self, images: Images, trained_on: Collection[int], *, is_published: bool) -> None:
        """Mark pictures as bad, with the route by which they are excluded.

        Args:
            images: of which those with a file are looked at.
            trained_on: ids of the images that training reads; the others may stay.
            is_published: as ``ids_of_file``.
        """
        if not any(self.ids.values()):
            return
        for image_id in sorted(set(trained_on).difference(images.missing)):
            file = images.files[image_id]
            route = self.route_of(ids_of_file(file, is_published=is_published))
            if route or (route := self.route_of({"sha256": fingerprint(images.raw / file)["sha256"]})):
                images.bad[image_id] = f"excluded by {route}"
                images.excluded += 1

    def request(self) -> dict[str, str]:
        """SHA-256 of the ids of each route: they decide the result."""
        return {route: hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest() for route, ids in self.ids.items()}

    def settings(self) -> dict[str, Any]:
        """``request`` as an option of a preparation; nothing where nothing is excluded."""
        return {"excluded": self.request()} if self._wanted else {}

    def account(self) -> dict[str, Any]:
        """What a manifest says of it; nothing where nothing is excluded."""
        return {"excluded_for": self._wanted} if self._wanted else {}

    def _add_list(self, path: Path) -> None:
        for location, line in read_lines(path):
            route, _, number = line.strip().partition(" ")
            number = number.strip().lower()
            form = "[0-9a-f]{64}" if route == "sha256" else "[0-9]{1,19}"
            if route not in ROUTES or not re.fullmatch(form, number):
                raise InputError(f"{location}: expected {', '.join(ROUTES)} and an id, got {shown(line)}")
            self.ids[route].add(number)

    def _add_pictures(self, folder: Path) -> None:
        """Add the pictures of a folder without a table of them, some levels deep."""
        number = 0
        for below, names in walk_pictures(folder):
            for name in names:
                self._add(name, fingerprint(folder / below / name)["sha256"])
                number += 1
        if not number:
            raise InputError(f"--exclude {folder}: has neither a table of pictures nor a picture")

    def _add(self, name: str, digest: str) -> None:
        """Add a picture by its name and the SHA-256 of its bytes."""
        for route, number in ids_of_file(name, is_published=True).items():
            self.ids[route].add(number)
        self.ids["sha256"].add(digest)

    def _add_folder(self, folder: Path, splits: str) -> None:
        manifest = read_manifest(folder)
        names = splits.split(",") if splits else [name for name in manifest["splits"] if name not in TRAINING]
        if not names:
            raise InputError(f"--exclude {folder}: has training splits only; name those to exclude: {folder}=train")
        tables = [read_columns(file, IMAGE_COLUMNS[:1], IMAGE_COLUMNS[1:]) for file in split_files(folder, names)]
        image_ids = np.unique(np.concatenate([column.to_numpy() for table in tables for column in table.columns]))
        table = ImageTable(folder)
        available = image_ids[np.isin(image_ids, table.available)]
        if route := _route_of_ids(manifest):
            self.ids[route].update(map(str, image_ids.tolist()))
        elif missing := len(image_ids) - len(available):
            log.warning(
                "--exclude %s: %d pictures have no file there, and are not known to be excluded", folder, missing
            )
        for start in range(0, len(available), _AT_ONCE):
            for record in table.records(available[start : start + _AT_ONCE].tolist()):
                self._add(record.file, hashlib.sha256(read_content(record, table.raw_root)).hexdigest())
