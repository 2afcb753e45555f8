"""The published VQA-HAT maps, VQA v1's questions and COCO's images to a folder that exports and comparisons read.

An interrupted run goes on from the questions it has taken in, and the maps and images it has checked.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vl_absvit.cli import progress
from vl_absvit.data.files import check_name
from vl_absvit.data.records import VQA_HAT
from vl_absvit.data.vqa_hat import decode_grey, encode_grey
from vl_absvit.data.whole_folder import make_request
from vl_absvit.errors import InputError
from vl_absvit.prepare import vqa_hat_source as source
from vl_absvit.prepare.check_images import check_images, find_images
from vl_absvit.prepare.coco_images import CocoImages
from vl_absvit.prepare.prepare import Content, Work, prepare
from vl_absvit.prepare.tables import QUESTION_SCHEMA, write_images, write_rows
from vl_absvit.prepare.vqa_hat_store import HATStore, of_split

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


@dataclass(frozen=True, kw_only=True)
class HATOptions:
    """What the prepared folder depends on."""

    maps: Path
    questions: Path
    images: Path
    allow_missing_images: bool = False


def prepare_vqa_hat(options: HATOptions, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest; if it is finished already, only check that it is what was asked for.

    Raises:
        InputError: something is wrong with maps, questions or images, or ``output`` is there from others.
    """
    subset = source.subset_of(options.questions)
    names, passed_over = source.list_maps(options.maps, subset)
    if not options.images.is_dir():
        raise InputError(f"{options.images}: no such folder; expected the images COCO_{subset.name}_*.jpg there")

    def fill(work: Work) -> Content:
        store = HATStore(work.database, work.images)
        _take_in(store, options, names)
        pictures, allowed = CocoImages(options.images), options.allow_missing_images
        store.list_images(subset, pictures)
        warnings = find_images(work.images, of_split(subset.split), pictures, allow_missing=allowed)
        _check_maps(store, options.maps)
        checked = check_images(work.images, workers, lambda: store.skipped_questions(subset.split))
        counts = store.counts()
        if not counts["human_maps"]:
            raise InputError(f"{options.maps}: no map is left, {counts['constant_maps']} are constant")
        write_images(work.folder, work.images, embed=False)
        write_rows(work.folder / f"{subset.split}.parquet", QUESTION_SCHEMA, store.questions())
        maps = _decoded(store.maps(), options.maps)
        write_rows(
            work.folder / "human_maps.parquet", _MAP_SCHEMA, maps, rows_per_group=_MAPS_PER_GROUP, compression="none"
        )
        warnings += checked.warnings + _oddities(store, counts, len(names), subset) + _passed_over(passed_over)
        return Content({subset.split: {**counts, "annotated": False}}, checked, warnings, more={"vocabulary": None})

    return prepare(output, _request(options, names), fill, root=options.images, noun="questions")


def _request(options: HATOptions, names: list[source.MapName]) -> dict[str, Any]:
    """What decides the result; the folder of maps is a source like any file."""
    settings = {"allow_missing_images": options.allow_missing_images}
    request = make_request(VQA_HAT, options.images, settings, [options.questions])
    check_name(options.maps.resolve())
    with progress() as bar:
        tracked = bar.track(names, description="reading maps")
        request["sources"][options.maps.resolve().name] = source.fingerprint_of(options.maps, tracked)
    return request


def _take_in(store: HATStore, options: HATOptions, names: list[source.MapName]) -> None:
    """Names of maps and questions, checked against each other."""
    with progress() as bar:
        records = bar.track(source.read_questions(options.questions), description=options.questions.name)
        store.add_questions(options.questions, records)
    store.add_maps(options.maps, names)
    store.check_join(options.maps, options.questions)


def _check_maps(store: HATStore, folder: Path) -> None:
    """Decode every map that was not looked at before.

    Raises:
        InputError: some cannot be used; names the first.
    """
    with progress() as bar:
        task = bar.add_task("checking maps", total=store.count_unchecked_maps())
        while chunk := store.unchecked_maps(limit=_MAPS_PER_COMMIT):
            store.record_maps((*name, *_check_map(folder / name.file)) for name in chunk)
            bar.update(task, advance=len(chunk))
    bad, first, reason = store.bad_maps()
    if bad:
        more = f" (and {bad - 1} more maps cannot be used)" if bad > 1 else ""
        raise InputError(f"{folder / first.file}: {reason}{more}; get it again or take it away")


def _check_map(file: Path) -> tuple[str, str | None, int | None, int | None]:
    """State, reason, height and width."""
    try:
        grey = decode_grey(file.read_bytes())
    except InputError as error:
        return "bad", str(error), None, None
    return "constant" if grey.min() == grey.max() else "good", None, *grey.shape


def _decoded(names: Iterable[source.MapName], folder: Path) -> Iterator[tuple[int, int, int, int, bytes]]:
    for name in names:
        grey = decode_grey((folder / name.file).read_bytes())
        yield *name, *grey.shape, encode_grey(grey)


def _passed_over(names: list[str]) -> list[str]:
    """Words for what lies beside the maps."""
    if not names:
        return []
    what = "1 file or folder" if len(names) == 1 else f"{len(names)} files or folders"
    return [f"passed over beside the maps, for none can be one: {what}, {source.first_of(names)}"]


def _oddities(store: HATStore, counts: dict[str, int], files: int, subset: source.Subset) -> list[str]:
    """Words for what differs from the published set, and for maps that cannot be a picture of their image."""
    warnings = []
    if files != subset.maps:
        warnings.append(f"{subset.split}: {files:,} human maps are there, the published set has {subset.maps:,}")
    if counts["constant_maps"]:
        warnings.append(
            f"{counts['constant_maps']} human maps are constant and left out; "
            f"{counts['questions_without_map']} questions have no other and are left out, too"
        )
    number, name, map_size, image_size = store.other_shapes()
    if number:
        warnings.append(
            f"{number} human maps have other proportions than their image, the first is {name.file} of {map_size} on "
            f"an image of {image_size}; they are taken to cover all of it"
        )
    return warnings
