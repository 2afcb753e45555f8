"""Tiny caption data sets in Karpathy's form, for tests to write, break and prepare."""

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

SPLITS = {"flickr30k": ("train", "val", "test"), "coco": ("train", "restval", "val", "test")}


def image_record(dataset: str, number: int, split: str, texts: Sequence[str] | None = None) -> dict:
    """Image ``number`` (Flickr30K) or ``10 * number`` (COCO); its captions are numbered from ``100 * number``."""
    texts = [f"Thing {number} seen from side {k}." for k in range(5)] if texts is None else texts
    sentences = [{"tokens": [], "raw": raw, "imgid": number, "sentid": 100 * number + k} for k, raw in enumerate(texts)]
    record = {"imgid": number, "split": split, "filename": f"{1000 + number}.jpg", "sentences": sentences}
    if dataset == "coco":
        folder = "train2014" if split == "train" else "val2014"
        record |= {"filepath": folder, "filename": f"COCO_{folder}_{10 * number:012d}.jpg", "cocoid": 10 * number}
    return record


def image_path(raw: Path, record: dict) -> Path:
    return raw / record.get("filepath", "flickr30k-images") / record["filename"]


def write_karpathy(raw: Path, dataset: str, records: Sequence[dict]) -> Path:
    """The caption file and an image of its own shade for each record; the caption file's path."""
    for number, record in enumerate(records):
        path = image_path(raw, record)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8), (number % 256, 100, 200)).save(path)
    file = raw / f"dataset_{dataset}.json"
    file.write_text(json.dumps({"images": list(records), "dataset": dataset}))
    return file


def write_small_captions(raw: Path, dataset: str, images: int = 2) -> Path:
    """``images`` per split, splits taking turns, ids descending: the file's order is neither by split nor by id."""
    splits = SPLITS[dataset]
    total = images * len(splits)
    records = [image_record(dataset, total - k, splits[k % len(splits)]) for k in range(total)]
    return write_karpathy(raw, dataset, records)
