"""A made-up shop: pictures, and tables about them in any form, for tests to write, break and prepare."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def write_pictures(folder: Path, number: int = 4) -> Path:
    """``folder``/pictures of 0.jpg, 1.jpg and so on, each of its own size."""
    (folder / "pictures").mkdir(parents=True)
    for each in range(number):
        Image.new("RGB", (20 + each, 16), (50 * each % 256, 90, 120)).save(folder / f"pictures/{each}.jpg")
    return folder / "pictures"


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A table as JSON Lines."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path
