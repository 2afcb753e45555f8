"""Pictures that are made up, as JPEG files of real ones' sizes, in a folder that the loaders can read."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vl_absvit.data.json_files import write_json
from vl_absvit.data.records import CAPTIONS

Size = tuple[int, int]
"""Width and height in pixels."""

ROUGHNESS = 1.3  # how fast amplitudes fall with frequency: makes 4.6 bits per pixel of COCO's kind of JPEG, as COCO has
CONTRAST, COLOUR = 60, 0.35  # standard deviation of brightness, in grey levels, and of each colour's share of it
QUALITY, FULL_COLOUR = 90, 0  # as most of COCO's files


def make_picture(size: Size, generator: np.random.Generator) -> Image.Image:
    """Clouds, fine and coarse."""
    width, height = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf  # no constant part
    brightness, *colours = (_cloud(frequency, size, generator) for _ in range(4))
    pixels = 128 + CONTRAST * np.stack([brightness + COLOUR * colour for colour in colours], axis=-1)
    return Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))


def _cloud(frequency: np.ndarray, size: Size, generator: np.random.Generator) -> np.ndarray:
    phases = np.exp(2j * np.pi * generator.random(frequency.shape))
    values = np.fft.irfft2(frequency**-ROUGHNESS * phases, s=size[::-1])
    return values / values.std()


def jpeg(picture: Image.Image) -> bytes:
    """The picture as a file's content."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, subsampling=FULL_COLOUR)
    return buffer.getvalue()


def write_pictures(root: Path, sizes: Sequence[Size], number: int, seed: int = 0) -> dict[Size, list[bytes]]:
    """A prepared folder of ``number`` pictures of each size and no texts; the files' contents by size."""
    generator = np.random.default_rng(seed)
    contents = {size: [jpeg(make_picture(size, generator)) for _ in range(number)] for size in sizes}
    rows: list[dict[str, Any]] = []
    for size, files in contents.items():
        for content in files:
            name = f"{len(rows)}.jpg"
            (root / name).write_bytes(content)
            rows.append({"image_id": len(rows), "file": name, "bytes": None, "width": size[0], "height": size[1]})
    types = [("image_id", pa.int64()), ("file", pa.string()), ("bytes", pa.binary())]
    types += [("width", pa.int32()), ("height", pa.int32())]
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(types)), root / "images.parquet")
    write_json(root / "manifest.json", {"format": 1, "kind": CAPTIONS, "root": str(root), "splits": {}})
    return contents
