"""A small attention export, as ``scripts/export_attention.py`` writes it, about pictures drawn here."""

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vl_absvit.looking.geometry import seen_box

SIZE = (96, 64)
ENTRY = {
    "question_id": 10,
    "image_id": 1,
    "image": "pictures/1.png",
    "question": "What colour is the ball?",
    "prediction": "red",
    "confidence": 0.75,
    "answers": ["red"] * 6 + ["dark red"] * 3 + ["blue"],
    "answer_type": "other",
    "accuracy": 100.0,
    "image_size": list(SIZE),
}


CAPTION = {name: ENTRY[name] for name in ("image_id", "image", "image_size")}
PICTURE = dict(CAPTION)
CAPTION |= {"caption_id": 20, "caption": "a red ball", "match": 0.875, "score": -1.5}
PICTURE |= {"image_id": None, "picture": "balls/1.png", "prediction": "ball", "confidence": 0.75}


def blob(rows: int, columns: int, row: float, column: float, spread: float = 1.5) -> np.ndarray:
    """A map that is strongest at one cell."""
    y, x = np.mgrid[0:rows, 0:columns]
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * spread**2)).astype(np.float32)


def draw_picture(file: Path, size: tuple[int, int] = SIZE) -> None:
    """A red ball at the left on grey."""
    picture = Image.new("RGB", size, (120, 125, 130))
    radius = min(size) / 4
    x, y = size[0] / 4, size[1] / 2
    ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), fill=(200, 30, 30))
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)


def add_question(folder: Path, id: str, maps: dict[str, np.ndarray] | None = None, **fields: object) -> None:
    """Append a question to an export: ``ENTRY`` with other fields, its maps, and its picture if it is not there yet."""
    _add(folder, {"id": id} | ENTRY | fields, maps)


def add_caption(folder: Path, id: str, **fields: object) -> None:
    """The same for a caption: ``CAPTION`` with other fields."""
    _add(folder, {"id": id} | CAPTION | fields)


def add_picture(folder: Path, id: str, maps: dict[str, np.ndarray] | None = None, **fields: object) -> None:
    """The same for a picture without a text: ``PICTURE`` with other fields."""
    _add(folder, {"id": id} | PICTURE | fields, maps)


def _add(folder: Path, entry: dict, maps: dict[str, np.ndarray] | None = None) -> None:
    id = entry["id"]
    entry.setdefault("box", list(seen_box(*entry["image_size"], 32)))
    if not (folder / entry["image"]).exists():
        draw_picture(folder / entry["image"], tuple(entry["image_size"]))
    if maps is None:
        maps = {"prior_mask": blob(4, 4, 2, 0), "bottom_up": blob(4, 4, 1, 3), "top_down": blob(4, 4, 2, 1)}
    where = {"box": np.asarray(entry["box"], dtype=float), "image_size": np.asarray(entry["image_size"])}
    np.savez(folder / f"{id}.npz", **maps, **where)
    with (folder / "index.jsonl").open("a", encoding="utf-8") as index:
        index.write(json.dumps(entry | {"npz": f"{id}.npz", "png": f"{id}.png"}) + "\n")


def content_of(page: Path) -> dict:
    """What a report holds, as its script reads it."""
    [text] = re.findall(r'<script id="content"[^>]*>(.*?)</script>', page.read_text(encoding="utf-8"))
    return json.loads(text)
