"""Read a prepared VQA-HAT folder: its questions and the human attention maps of each."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vl_absvit.data.png import load_png
from vl_absvit.data.records import VQA_HAT, check_kind, read_manifest
from vl_absvit.errors import InputError, one_line

_MAPS_PER_BATCH = 64


class HATQuestion(NamedTuple):
    """A question that people answered."""

    question_id: int  # of VQA v1
    image_id: int
    question: str
    image_size: tuple[int, int] | None  # width and height of the upright picture; None if missing at preparation


class HumanMaps(NamedTuple):
    """Human attention for one question, over the whole image."""

    question_id: int
    maps: list[np.ndarray]  # one per person, 8-bit, (height, width); sizes may differ


def read_hat_questions(root: str | Path) -> list[HATQuestion]:
    """All questions of the folder, by id.

    Raises:
        InputError: the folder was not written by vl-absvit prepare-vqa-hat, or a table is damaged.
    """
    root = Path(root)
    check_kind(root, VQA_HAT)
    images = _rows(root / "images.parquet", ("image_id", "file", "width", "height"))
    sizes = {image["image_id"]: (image["width"], image["height"]) for image in images if image["file"] is not None}
    (split,) = read_manifest(root)["splits"]
    rows = _rows(root / f"{split}.parquet", ("question_id", "image_id", "question"))
    return [
        HATQuestion(row["question_id"], row["image_id"], row["question"], sizes.get(row["image_id"])) for row in rows
    ]


def read_human_maps(root: str | Path) -> Iterator[HumanMaps]:
    """The maps of every question, by question id. Memory holds those of one question at a time.

    Raises:
        InputError: the table is missing or damaged.
    """
    path = Path(root) / "human_maps.parquet"
    rows = _rows(path, ("question_id", "n", "height", "width", "pixels"))
    for question_id, maps in itertools.groupby(rows, key=lambda row: row["question_id"]):
        yield HumanMaps(question_id, [_map(row, f"{path}: map {question_id}_{row['n']}") for row in maps])


def _map(row: dict[str, Any], location: str) -> np.ndarray:
    try:
        grey = decode_grey(row["pixels"])
    except InputError as error:
        raise InputError(f"{location}: {error}") from error
    if grey.shape != (row["height"], row["width"]):
        raise InputError(f"{location}: expected {row['height']} rows of {row['width']} pixels, got {grey.shape}")
    return grey


def _rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file as dicts with the keys ``columns``. Memory holds a few at a time."""
    try:
        with pq.ParquetFile(path) as file:
            missing = [column for column in columns if column not in file.schema_arrow.names]
            if missing:
                raise InputError(f"{path}: expected a table with the column {missing[0]!r}")
            for batch in file.iter_batches(_MAPS_PER_BATCH, columns=list(columns)):
                values = zip(*(batch.column(column).to_pylist() for column in columns), strict=True)
                yield from (dict(zip(columns, row, strict=True)) for row in values)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as the table that was prepared: {one_line(error)}") from error


def decode_grey(content: bytes) -> np.ndarray:
    """How strongly a person looked at each pixel, from a PNG file: 8-bit, (height, width).

    16-bit grey is scaled. A transparent picture of one shade is read by its opacity, any other one is laid over black.

    Raises:
        InputError: the content is no PNG, damaged, too large, or coloured. The message is the reason alone.
    """
    image = load_png(content)
    if image.mode == "L" and not image.has_transparency_data:
        return np.asarray(image)
    if image.mode.startswith("I"):
        return np.rint(np.asarray(image) / 257).astype(np.uint8)
    red, green, blue, opacity = np.moveaxis(np.asarray(image.convert("RGBA")), -1, 0)
    if (red != green).any() or (red != blue).any():
        raise InputError("is in colours, expected shades of grey")
    if red.min() == red.max() and opacity.min() < opacity.max():
        return opacity
    return np.rint(red * (opacity / 255)).astype(np.uint8)
