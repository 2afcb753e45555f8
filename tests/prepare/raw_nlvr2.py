"""A tiny NLVR2 in the official form, for tests to write, break and prepare."""

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from vl_absvit.prepare.nlvr2 import NLVR2Options, prepare_nlvr2

SENTENCES = ("One image shows a cat.", "There are two  dogs.")


def line(identifier: str, label: str, sentence: str = SENTENCES[0], **more: str) -> dict:
    urls = {f"{side}_url": f"http://x/{identifier[:-2]}-{side}.jpg" for side in ("left", "right")}
    return {
        "identifier": identifier,
        "sentence": sentence,
        "label": label,
        **urls,
        "synset": "cat",
        "writer": "1",
        **more,
    }


def lines_of(split: str, sets: int = 2) -> list[dict]:
    """Of each set two pairs, of each pair two sentences; True and False take turns."""
    more = {"directory": "7"} if split == "train" else {}
    names = [(number, pair, k) for number in range(sets) for pair in range(2) for k in range(2)]
    return [
        line(f"{split}-{number}-{pair}-{k}", ("True", "False")[(pair + k) % 2], SENTENCES[k], **more)
        for number, pair, k in names
    ]


def write_lists(raw: Path, lists: dict[str, Sequence[dict]]) -> None:
    folder = raw / "nlvr2/data"
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in lists.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(each) + "\n" for each in lines))


def image_files(lines: Sequence[dict]) -> list[str]:
    """Official files of the images of lines."""
    files = {}
    for each in lines:
        split, pair = each["identifier"].split("-")[0], each["identifier"].rpartition("-")[0]
        folder = f"images/train/{each['directory']}" if split == "train" else split
        files.update({f"{folder}/{pair}-img{side}.png": None for side in (0, 1)})
    return list(files)


def write_image(path: Path, shade: int = 0) -> None:
    """A JPEG file, whatever its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), (shade % 256, 100, 200)).save(path, format="JPEG")


def write_small_nlvr2(raw: Path, splits: Sequence[str] = ("train", "dev")) -> Path:
    """Lines, subsets of dev, and all images."""
    lists = {split: lines_of(split) for split in splits}
    if "dev" in lists:
        lists |= {"balanced/balanced_dev": lists["dev"][:3], "unbalanced/unbalanced_dev": lists["dev"][4:6]}
    write_lists(raw, lists)
    for number, file in enumerate(file for split in splits for file in image_files(lists[split])):
        write_image(raw / file, number)
    return raw


def prepare(raw: Path, output: Path, workers: int = 1, **options: object) -> dict:
    return prepare_nlvr2(NLVR2Options(root=raw, **options), output, workers)
