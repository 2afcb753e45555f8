"""A prepared folder of captions, written by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Rows = Sequence[tuple[int, int, str]]
"""Caption id, image id and caption, in the order of the table."""


def picture(image_id: int) -> Image.Image:
    """A noisy picture that no other image equals."""
    return Image.fromarray(np.random.default_rng(image_id).integers(256, size=(20, 24, 3), dtype=np.uint8))


def write_captions(folder: Path, splits: Mapping[str, Rows], missing: Sequence[int] = ()) -> Path:
    """``folder``/prepared of these splits, its images in ``folder``/raw but for the ``missing``."""
    raw, prepared = folder / "raw", folder / "prepared"
    for made in (raw, prepared):
        made.mkdir(parents=True)
    image_ids = sorted({image_id for rows in splits.values() for _, image_id, _ in rows})
    for image_id in image_ids:
        picture(image_id).save(raw / f"{image_id}.png")
    write_tables(prepared, raw, splits, {i: None if i in missing else f"{i}.png" for i in image_ids})
    return prepared


def write_tables(prepared: Path, raw: Path, splits: Mapping[str, Rows], files: Mapping[int, str | None]) -> None:
    """The tables and the manifest of a prepared folder; ``files`` are the images, relative to ``raw``."""
    sizes = {
        image_id: (24, 20) if file is None else Image.open(raw / file).size for image_id, file in sorted(files.items())
    }
    images = {
        "image_id": pa.array(sorted(files), pa.int64()),
        "file": pa.array([files[image_id] for image_id in sorted(files)], pa.string()),
        "bytes": pa.nulls(len(files), pa.binary()),
        "width": pa.array([width for width, _ in sizes.values()], pa.int32()),
        "height": pa.array([height for _, height in sizes.values()], pa.int32()),
    }
    pq.write_table(pa.table(images), prepared / "images.parquet")
    types = {"caption_id": pa.int64(), "image_id": pa.int64(), "caption": pa.string()}
    for split, rows in splits.items():
        columns = {name: pa.array([row[i] for row in rows], kind) for i, (name, kind) in enumerate(types.items())}
        pq.write_table(pa.table(columns), prepared / f"{split}.parquet", row_group_size=3)
    counts = {split: {"captions": len(rows)} for split, rows in splits.items()}
    manifest = {"format": 1, "kind": "captions", "dataset": "flickr30k", "root": str(raw), "splits": counts}
    (prepared / "manifest.json").write_text(json.dumps(manifest))
