"""A tiny SNLI-VE in its official forms, for tests to write, break and prepare."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from vl_absvit.prepare.snli_ve import SNLIVEOptions, prepare_snli_ve

LABELS = ("contradiction", "neutral", "entailment")
FIRST_IMAGE = {"train": 1000, "dev": 2000, "test": 3000}


def pair(image: int, number: int, label: str, hypothesis: str = "A dog runs.") -> dict:
    """A record of today's release."""
    return {
        "Flickr30K_ID": str(image),
        "gold_label": label,
        "pairID": f"{image}.jpg#{number}r1n",
        "sentence1": "A caption of the image.",
        "sentence2": hypothesis,
        "annotator_labels": [label],
    }


def pairs_of(split: str, images: int = 2) -> list[dict]:
    """Three pairs about each image, one of each label."""
    ids = range(FIRST_IMAGE[split], FIRST_IMAGE[split] + images)
    return [pair(i, k, LABELS[k], f"Thing {i} is {LABELS[k]}.") for i in ids for k in range(3)]


def write_lines(path: Path, records: Sequence[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def write_table(path: Path, records: Sequence[dict]) -> Path:
    """e-SNLI-VE's form."""
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["", "pairID", "Flickr30kID", "hypothesis", "gold_label", "explanation"])
        for number, record in enumerate(records):
            named = f"{record['Flickr30K_ID']}.jpg"
            cells = [number, record["pairID"], named, record["sentence2"], record["gold_label"], 'It is "so",\nor not.']
            table.writerow(cells)
    return path


def write_images(raw: Path, records: Sequence[dict], folder: str = "flickr30k-images") -> None:
    (raw / folder).mkdir(parents=True, exist_ok=True)
    for image in {int(record["Flickr30K_ID"]) for record in records}:
        Image.new("RGB", (12, 8), (image % 256, 100, 200)).save(raw / folder / f"{image}.jpg")


def write_small_snli_ve(raw: Path, splits: Sequence[str] = ("train", "dev")) -> Path:
    """Two images for each split."""
    raw.mkdir(parents=True)
    for split in splits:
        write_images(raw, pairs_of(split))
        write_lines(raw / f"snli_ve_{split}.jsonl", pairs_of(split))
    return raw


def prepare(raw: Path, output: Path, workers: int = 1, **options: object) -> dict:
    return prepare_snli_ve(SNLIVEOptions(root=raw, **options), output, workers)
