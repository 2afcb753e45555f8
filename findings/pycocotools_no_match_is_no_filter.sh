#!/usr/bin/env bash
# pycocotools 2.0.11: asked for a class that is not there, the three calls of every COCO script give all pictures and all annotations.
#
# getCatIds, getImgIds and getAnnIds are chained: names to classes, classes to pictures, pictures to annotations. In each an empty list is
# "no such condition", not "none fits". So a misspelt class, VOC's name for one of COCO's ("tvmonitor", "aeroplane"), or two classes that
# no picture shows together do not end in nothing: they end in everything, and a set of one class becomes the whole of COCO.
# And one name given as a text, not in a list, is any name that is a part of it: "hot dog" asks for dogs too, "teddy bear" for bears,
# "carrot" for cars. As pictures have to show all classes asked for, only the few with a dog beside the hot dog are left.
# Naive guess: nothing, or an error, where nothing fits; and "hot dog" and ["hot dog"] are the same question, as 58 and [58] are.
# Seen: six of six pictures for "tvmonitor"; one of two for "hot dog"; no word anywhere.
# Remedy: always lists of names, as many classes as names (assert it), and no further call with an empty list.
# Source: https://github.com/ppwwyyxx/cocoapi (pycocotools/coco.py). The parts of names are known since 2019 (cocodataset/cocoapi, issue 291,
# open); of the empty lists the docstrings say "default skips that filter". Here: COCO's files are read without pycocotools, by picture.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pycocotools==2.0.11 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY' || { echo "no longer so"; exit 1; }
import contextlib
import io
import json
from importlib.metadata import version

from pycocotools.coco import COCO

NAMES = {18: "dog", 58: "hot dog", 72: "tv"}  # as COCO numbers them
SHOWN = [(1, 58), (2, 58), (2, 18), (3, 18), (4, 72)]  # picture, class; pictures 5 and 6 show none
content = {
    "images": [{"id": picture} for picture in range(1, 7)],
    "categories": [{"id": number, "name": name} for number, name in NAMES.items()],
    "annotations": [
        {"id": 100 + place, "image_id": picture, "category_id": number, "area": 1.0, "iscrowd": 0}
        for place, (picture, number) in enumerate(SHOWN)
    ],
}
with open("instances.json", "w") as file:
    json.dump(content, file)
with contextlib.redirect_stdout(io.StringIO()):
    coco = COCO("instances.json")


def found(names: str | list[str]) -> tuple[list[str], list[int], int]:
    """Classes, pictures, and the number of annotations."""
    classes = coco.getCatIds(catNms=names)
    pictures = coco.getImgIds(catIds=classes)
    annotations = coco.getAnnIds(imgIds=pictures, catIds=classes)
    print(f"  {names!r}: classes {[NAMES[number] for number in classes]}, pictures {pictures}, {len(annotations)} annotations")
    return [NAMES[number] for number in classes], sorted(pictures), len(annotations)


print("pycocotools", version("pycocotools"), "on six pictures with five annotations")
assert found(["hot dog"]) == (["hot dog"], [1, 2], 2)
assert found("hot dog") == (["dog", "hot dog"], [2], 2)
assert found(["tvmonitor"]) == ([], [1, 2, 3, 4, 5, 6], 5)
assert found(["hot dog", "tv"]) == (["hot dog", "tv"], [], 3)  # of no picture, the annotations of all
PY
