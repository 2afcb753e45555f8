"""From published VQA-HAT maps, VQA v1's questions and COCO's images to a folder that exports and comparisons read.

An interrupted run goes on with the maps and images that it has not checked.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vl_absvit.cli import progress
from vl_absvit.data.files import check_name
from vl_absvit.data.png import encode_grey
from vl_absvit.data.records import VQA_HAT
from vl_absvit.data.vqa_hat import decode_grey
from vl_absvit.data.whole_folder import make_request
from vl_absvit.errors import InputError
from vl_absvit.prepare import vqa_hat_source as source
from vl_absvit.prepare.check_images import Images
from vl_absvit.prepare.coco_images import official_file
from vl_absvit.prepare.journal import Journal
from vl_absvit.prepare.prepare import Content, ImageFolder, Records, Source, count_rows, prepare
from vl_absvit.prepare.tables import QUESTION_SCHEMA, sorted_by_id, table_of, write_rows, write_table
from vl_absvit.prepare.vqa_hat_source import MapName
from vl_absvit.prepare.vqa_source import by_id

_MAP_SCHEMA = pa.schema(
    [
        ("question_id", pa.int64()),
        ("n", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("pixels", pa.binary()),  # a PNG file of 8-bit grey
    ]
)
_MAPS_PER_GROUP = 64  # a map is tens of kilobytes
_MAPS_PER_COMMIT = 512
_TOPIC = "map"  # of the journal


@dataclass(frozen=True, kw_only=True)
class HATOptions:
    """The options that the prepared folder depends on."""

    maps: Path
    questions: Path
    images: Path
    allow_missing_images: bool = False


def prepare_vqa_hat(options: HATOptions, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest. A finished ``output`` is only compared with the request.

    Raises:
        InputError: maps, questions or images have a fault, or ``output`` was made from others.
    """
    hat = HATSource(options)
    if not options.images.is_dir():
        raise InputError(f"{options.images}: no such folder; expected the images COCO_{hat.subset.name}_*.jpg there")
    images = ImageFolder(options.images, by_id, allow_missing=options.allow_missing_images)
    return prepare(hat, images, output, workers)


class HATSource(Source):
    """Questions of VQA v1 that have maps.

    A map is usable unless it has one shade only. A question is usable if it has a usable map and no bad image.
    """

    row_type = "questions"

    def __init__(self, options: HATOptions) -> None:
        """
        Raises:
            InputError: the questions are of another data set, or the folder of maps holds something else.
        """
        self._options = options
        self.subset = source.subset_of(options.questions)
        self._names, self._passed_over = source.list_maps(options.maps, self.subset)
        self._shapes: dict[MapName, tuple[int, int] | None] = {}  # height and width of the maps; None if constant

    def request(self) -> dict[str, Any]:
        """The folders, the options and the content of questions and maps."""
        options = self._options
        settings = {"allow_missing_images": options.allow_missing_images}
        request = make_request(VQA_HAT, options.images, settings, [options.questions])
        check_name(options.maps.resolve())
        with progress() as bar:
            tracked = bar.track(self._names, description="reading maps")
            request["sources"][options.maps.resolve().name] = source.fingerprint_of(options.maps, tracked)
        return request

    def read(self) -> Records:
        """The questions that have maps, by id."""
        path, maps = self._options.questions, self._options.maps
        table = sorted_by_id(table_of(source.read_questions(path), QUESTION_SCHEMA, path.name), path, "question")
        question_ids, with_maps = _question_ids(table), np.array([name.question_id for name in self._names])
        unknown = np.flatnonzero(~np.isin(with_maps, question_ids))
        if len(unknown):
            more = f" (nor do {len(unknown) - 1} more maps)" if len(unknown) > 1 else ""
            first = maps / self._names[unknown[0]].file
            raise InputError(f"{first}: its question does not occur in {path}{more}")
        table = table.filter(pa.array(np.isin(question_ids, with_maps)))
        images = table.column("image_id").unique().to_pylist()
        files = {image_id: official_file(self.subset.name, image_id) for image_id in images}
        return Records({self.subset.split: table}, files, [])

    def check(self, journal: Journal, images: Images) -> None:
        """Decode every map that was not checked before.

        Raises:
            InputError: a map cannot be used; the message names the first.
        """
        folder, bad = self._options.maps, {}
        known = {MapName(question_id, n): shape and tuple(shape) for question_id, n, shape in journal.read(_TOPIC)}
        self._shapes = {name: known[name] for name in self._names if name in known}
        unchecked = [name for name in self._names if name not in known]
        with progress() as bar:
            task = bar.add_task("checking maps", total=len(unchecked))
            for start in range(0, len(unchecked), _MAPS_PER_COMMIT):
                chunk, checked = unchecked[start : start + _MAPS_PER_COMMIT], {}
                for name in chunk:
                    try:
                        checked[name] = _shape_of(folder / name.file)
                    except InputError as error:
                        bad[name] = error
                self._shapes |= checked
                journal.write(_TOPIC, ((*name, shape) for name, shape in checked.items()))
                bar.update(task, advance=len(chunk))
        if bad:
            first = min(bad)
            more = f" (and {len(bad) - 1} more maps cannot be used)" if len(bad) > 1 else ""
            raise InputError(f"{folder / first.file}: {bad[first]}{more}; get it again or take it away")

    def write(self, folder: Path, records: Records, images: Images) -> Content:
        """Write the tables of questions and of maps.

        Raises:
            InputError: no map is left.
        """
        (table,) = records.splits.values()
        image_of = dict(zip(_question_ids(table).tolist(), table.column("image_id").to_pylist(), strict=True))
        good = [name for name in self._names if self._shapes[name]]
        usable = [name for name in good if image_of[name.question_id] not in images.bad]
        constant = len(self._names) - len(good)
        if not usable:
            raise InputError(f"{self._options.maps}: no map is left, {constant} are constant")
        shown = {name.question_id for name in good}
        questions = table.filter(pa.array(np.isin(_question_ids(table), [name.question_id for name in usable])))
        write_table(folder / f"{self.subset.split}.parquet", questions)
        write_rows(
            folder / "human_maps.parquet",
            _MAP_SCHEMA,
            _decoded(usable, self._options.maps),
            rows_per_group=_MAPS_PER_GROUP,
            compression="none",
        )
        counts = count_rows("questions", questions.column("image_id").to_numpy(), images) | {
            "human_maps": len(usable),
            "constant_maps": constant,
            "maps_on_bad_images": len(good) - len(usable),
            "questions_without_map": len(image_of) - len(shown),
            "annotated": False,
        }
        sizes = {name: size for name in good if (size := images.sizes.get(image_of[name.question_id]))}
        warnings = self._oddities(counts, sizes) + _passed_over(self._passed_over)
        return Content({self.subset.split: counts}, warnings, {"vocabulary": None})

    def _oddities(self, counts: dict[str, Any], sizes: dict[MapName, tuple[int, int]]) -> list[str]:
        """Warnings about differences from the published set, and about maps with other proportions than their image.

        Args:
            sizes: map -> width and height of its image, for good images.
        """
        subset, files, warnings = self.subset, len(self._names), []
        if files != subset.maps:
            warnings.append(f"{subset.split}: {files:,} human maps are there, the published set has {subset.maps:,}")
        if counts["constant_maps"]:
            warnings.append(
                f"{counts['constant_maps']} human maps are constant and left out; "
                f"{counts['questions_without_map']} questions have no other and are left out, too"
            )
        others = [
            (name, shape, size)
            for name, size in sizes.items()
            if (shape := self._shapes[name]) is not None and _is_of_other_proportions(shape, size)
        ]
        if others:
            first, (height, width), (image_width, image_height) = others[0]
            warnings.append(
                f"{len(others)} human maps have other proportions than their image, the first is {first.file} of "
                f"{width} x {height} on an image of {image_width} x {image_height}; they are taken to cover all of it"
            )
        return warnings


def _is_of_other_proportions(shape: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a map's proportions differ from its image's by more than rounding to whole pixels explains."""
    (height, width), (image_width, image_height) = shape, size
    return abs(width * image_height - height * image_width) > max(size)


def _question_ids(table: pa.Table) -> np.ndarray:
    return table.column("question_id").to_numpy()


def _shape_of(file: Path) -> tuple[int, int] | None:
    """Height and width; None if the map has one shade only."""
    grey = decode_grey(file.read_bytes())
    return None if grey.min() == grey.max() else grey.shape


def _decoded(names: list[MapName], folder: Path) -> Iterator[tuple[int, int, int, int, bytes]]:
    for name in names:
        grey = decode_grey((folder / name.file).read_bytes())
        yield *name, *grey.shape, encode_grey(grey)


def _passed_over(names: list[str]) -> list[str]:
    """A warning about files beside the maps."""
    if not names:
        return []
    what = "1 file or folder" if len(names) == 1 else f"{len(names)} files or folders"
    return [f"passed over beside the maps, for none can be one: {what}, {source.first_of(names)}"]
