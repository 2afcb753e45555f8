"""Fingerprints of data sets. They depend on content, not on paths or on the way files were written."""

import hashlib
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vl_absvit.data.json_files import read_json
from vl_absvit.data.parquet import read_columns
from vl_absvit.data.records import (
    ASKING,
    CAPTIONS,
    IMAGE_COLUMNS,
    SEGMENTATION,
    STATEMENT_COLUMNS,
    image_files,
    read_captions,
    read_labels,
    read_manifest,
    read_questions,
    read_statements,
)
from vl_absvit.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset


def content_of(root: str | Path, splits: Iterable[str]) -> dict[str, str]:
    """Split -> SHA-256 of its ids, texts, answers, targets, labels and sizes of pictures in a prepared folder.

    Pictures are not read. Two pictures of the same id and size are not told apart.

    Raises:
        InputError: a split does not exist, or a table cannot be read.
    """
    kind = read_manifest(root).get("kind")
    if kind == CAPTIONS:
        read: Callable[[str | Path, list[str]], Dataset] = read_captions
        columns: tuple[str, ...] = ("caption_id", "image_id", "caption")
    elif kind == SEGMENTATION:
        read, columns = read_labels, ("image_id", "name", "label_sha256")
    elif kind in STATEMENT_COLUMNS:
        read, columns = partial(read_statements, kind=kind), STATEMENT_COLUMNS[kind]
    else:
        read, columns = read_questions, (*ASKING, "answers", "labels", "scores")
    sizes = _sizes(root)
    found = {}
    for split in splits:
        table = read(root, [split]).data
        present = [name for name in columns if name in table.column_names]
        digest = hashlib.sha256(json.dumps(present).encode())
        for name in present:
            _add(digest, table.column(name))
        for name in [name for name in IMAGE_COLUMNS if name in table.column_names]:
            digest.update(_of_images(table.column(name).to_numpy(), *sizes).tobytes())
        found[split] = digest.hexdigest()
    return found


def stream_content(folder: str | Path) -> str:
    """SHA-256 of a folder of stream shards, pictures included, out of the manifest's list.

    Raises:
        InputError: there is no such manifest.
    """
    manifest = read_json(Path(folder) / "manifest.json", dict)
    try:
        shards = [shard["sha256"] for shard in manifest["shards"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder}: its manifest.json lists no stream shards") from error
    return hashlib.sha256(json.dumps(shards).encode()).hexdigest()


def _sizes(root: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the images with a file, ascending, and their (width, height)."""
    columns = ("image_id", "file", "width", "height")
    table = pa.concat_tables([read_columns(file, columns) for file in image_files(root)])
    table = table.filter(table.column("file").is_valid()).sort_by("image_id")
    sides = np.stack([table.column(side).to_numpy() for side in ("width", "height")], axis=-1)
    return table.column("image_id").to_numpy(), sides.astype("<i8")


def _of_images(asked: np.ndarray, ids: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Sizes of the requested images; -1 for images without a file."""
    places = np.searchsorted(ids, asked).clip(max=max(len(ids) - 1, 0))
    if not len(ids):
        return np.full((len(asked), 2), -1, dtype="<i8")
    return np.where((ids[places] == asked)[:, None], sizes[places], -1).astype("<i8")


def _add(digest: Any, column: pa.ChunkedArray) -> None:
    """Add a column's values to a digest, in a form that does not depend on chunks, buffers or widths of numbers."""
    if pa.types.is_list(column.type):
        digest.update(_numbers(pc.list_value_length(column), "<i8"))
        _add(digest, pc.list_flatten(column))
    elif pa.types.is_string(column.type):
        digest.update(_numbers(pc.binary_length(column), "<i8"))
        for chunk in column.chunks:
            digest.update("".join(text for text in chunk.to_pylist() if text is not None).encode())
    else:
        digest.update(_numbers(column, "<f4" if pa.types.is_floating(column.type) else "<i8"))


def _numbers(column: pa.ChunkedArray, form: str) -> bytes:
    return pc.fill_null(column, -1).to_numpy().astype(form).tobytes()
