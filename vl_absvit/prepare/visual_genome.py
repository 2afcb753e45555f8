"""Regions of Visual Genome as captions of their whole images, in either form of the keys."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from vl_absvit.data.json_files import read_json
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError
from vl_absvit.prepare.caption_source import is_inside
from vl_absvit.prepare.json_records import integer, records_in, string
from vl_absvit.prepare.json_stream import stream_records
from vl_absvit.prepare.pair_source import Candidate, PairSourceFiles, Part, numbered_parts

_IMAGES_OF_A_PART = 1_000
_KEPT = {"images", "image_id", "id", "url", "width", "height", "coco_id", "flickr_id"}


class VisualGenome(PairSourceFiles):
    """``region_descriptions.json`` and ``image_data.json``, of any release."""

    dataset, embedded = "visual_genome", False

    def __init__(self, root: Path, min_region: float = 0.0) -> None:
        """
        Args:
            min_region: share of its image that a region has at least; 0 takes all.

        Raises:
            InputError: one of the two files is missing or has a fault.
        """
        places = [root / folder for folder in ("", "annotations")]
        self._regions, self._data = (
            next((place / name for place in places for name in names if (place / name).is_file()), None)
            for names in (("region_descriptions.json", "region_descriptions_v1.json"), ("image_data.json",))
        )
        if self._regions is None or self._data is None:
            raise InputError(f"{root}: expected region_descriptions.json and image_data.json there or in annotations/")
        self._min_region = min_region
        self._images = {
            integer(record, "image_id" if "image_id" in record else "id", location): record
            for location, record in records_in(read_json(self._data, keep=_KEPT), self._data, "images")
        }

    def sources(self) -> list[Path]:
        return [path for path in (self._regions, self._data) if path is not None]

    def parts(self) -> Iterator[tuple[str, Any]]:
        assert self._regions is not None, "it is there"
        return numbered_parts(stream_records(self._regions), _IMAGES_OF_A_PART)

    def read(self, name: str, part: list[tuple[str, dict]]) -> Part:
        counts: Counter[str] = Counter()
        found = [self._candidate(*record, counts) for record in part]
        return Part(name, [each for each in found if each.captions], counts)

    def _candidate(self, location: str, record: dict, counts: Counter[str]) -> Candidate:
        regions = record.get("regions")
        if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
            raise InputError(f"{location}: expected a list of regions, got {shown(regions)}")
        if not regions:
            return Candidate("", [], None, None, {})
        # The first release calls the image "image" in its regions; a record without an id has it there alone.
        of_region = regions[0].get("image_id", regions[0].get("image"))
        image_id = integer({"id": record.get("id", record.get("image_id", of_region))}, "id", location)
        if image_id not in self._images:
            raise InputError(f"{location}: image {image_id} is not in {self._data}")
        known = self._images[image_id]
        phrases = []
        for region in regions:
            phrase = string(region, "phrase", location)
            if self._min_region and _area(region, location) < self._min_region * _area(known, str(self._data)):
                counts["regions that are too small a part of their picture"] += 1
            else:
                phrases.append(phrase)
        folder, _, name = str(known.get("url", "")).rpartition("/")
        file = f"{folder.rpartition('/')[2]}/{name}"
        if not name or not is_inside(PurePosixPath(file)):
            raise InputError(
                f"{self._data}: image {image_id}: expected an address such as .../VG_100K/1.jpg, got "
                f"{shown(known.get('url'))}"
            )
        ids = {name: str(known[f"{name}_id"]) for name in ("coco", "flickr") if known.get(f"{name}_id") is not None}
        return Candidate(str(image_id), phrases, file, None, ids)


def _area(record: dict, location: str) -> int:
    return integer(record, "width", location) * integer(record, "height", location)
