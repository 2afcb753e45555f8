#!/usr/bin/env bash
# datasets 5.2.0: load_dataset("imagefolder") takes a CLASS folder called "train" for a split, in both usual layouts, without a word.
#
# COCO, VOC, Cityscapes and CIFAR-100 have a class "train"; "bullet train" of ImageNet and "test tube" match as well. The documented
# rule (train, test and their like in a folder's name are splits) is applied to every folder of a path, that of the class included.
# Naive guess: DIR/CLASS/FILE is one split of all classes, and DIR/SPLIT/CLASS/FILE has the splits of the first level.
# Seen: of bus, train, truck without splits, only the pictures of trains are there, and no label. With train/ and test/ above, nothing is
# missing, but the test pictures of trains are in the training split too: every class is tested fairly but this one.
# torchvision's ImageFolder reads classes one level below what it is given. Remedy: name the files of each split,
# load_dataset("imagefolder", data_files={"train": "DIR/train/**", "test": "DIR/test/**"}), or name that folder otherwise.
# Source: https://github.com/huggingface/datasets/blob/5.2.0/src/datasets/data_files.py, SPLIT_KEYWORDS and the patterns made of them.
# Here: vl_absvit/data/class_folders.py reads splits one level below the root and classes one below them, whatever they are called.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1 pillow==12.3.0
cd "$folder"
HF_HUB_OFFLINE=1 HF_HOME="$folder/home" "$folder/venv/bin/python" - <<'PY' || { echo "no longer so"; exit 1; }
from collections import Counter
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()
CLASSES = ("bus", "train", "truck")


def draw(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(folder / f"{number}.png")


def read(root: str, **more: object) -> dict[str, Counter]:
    """Split -> the folders that its pictures lie in, with their numbers."""
    splits = datasets.load_dataset("imagefolder", **({"data_dir": root} | more))
    found = {}
    for name, split in splits.items():
        paths = [Path(row["path"]) for row in split.cast_column("image", datasets.Image(decode=False))["image"]]
        found[name] = Counter(str(path.parent.relative_to(Path(root).resolve())) for path in paths)
        print(f"  {name}: {dict(found[name])}, columns {split.column_names}")
    return found


for name in CLASSES:
    draw(Path("plain") / name)
    for split in ("train", "test"):
        draw(Path("divided") / split / name)
print(f"datasets {datasets.__version__}, plain/CLASS:")
assert read("plain") == {"train": {"train": 4}}
print("divided/SPLIT/CLASS:")
in_train = {f"train/{name}": 4 for name in CLASSES}
in_test = {f"test/{name}": 4 for name in CLASSES}
assert read("divided") == {"train": in_train | {"test/train": 4}, "test": in_test}
print("the same with the files of each split named:")
named = {split: f"divided/{split}/**" for split in ("train", "test")}
assert read("divided", data_dir=None, data_files=named) == {"train": in_train, "test": in_test}
PY
