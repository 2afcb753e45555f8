"""PASCAL VOC 2012's labelled pixels (Everingham et al., IJCV 2015), alone or with those of SBD.

SBD (Hariharan et al., "Semantic contours from inverse detectors", ICCV 2011) labels more pictures for training, without
a void border. Its labels as people store them are in ``SegmentationClassAug``; some of its pictures are in VOC's val.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PIL import ImageColor

from vl_absvit.data.segmentation_labels import standard_colours
from vl_absvit.errors import InputError
from vl_absvit.prepare.segmentation_source import (
    LabelValues,
    Layout,
    Pair,
    SegmentationSet,
    first_folder,
    numbered_from_0,
    read_names,
)

CLASSES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor"
).split()
LISTS, LABELS, MORE_LABELS = "ImageSets/Segmentation", "SegmentationClass", "SegmentationClassAug"
MORE = ("aug.txt", "trainaug.txt", "train_aug.txt")
"""Names of the list of SBD's training pictures, with or without those of VOC's train."""


def explain(wrong: Sequence[int]) -> str:
    """What values that are no classes probably are."""
    colours = [*standard_colours(len(CLASSES)), (224, 224, 192)]
    shades = {_luminance(*colour) for colour in colours}
    if set(wrong) <= shades:
        return "these are shades of the palette's colours: the file was converted to grey and has lost its classes"
    return "values between classes come from resizing by interpolation"


def _luminance(red: int, green: int, blue: int) -> int:
    """The shade of a colour that converting a picture to grey gives."""
    shade = ImageColor.getcolor(f"rgb({red},{green},{blue})", "L")
    assert isinstance(shade, int), "a shade is a number"
    return shade


def read(root: Path, augmented: bool) -> Layout:
    """The pictures and labels in VOC's folder, or in that of the development kit around it."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected VOCdevkit/VOC2012 there")
    base = first_folder(root, ("", "VOC2012", "VOCdevkit/VOC2012"), LISTS)
    lists = {split: base / LISTS / f"{split}.txt" for split in ("train", "val", "test")}
    splits = {
        split: [_pair(name, None if split == "test" else LABELS) for name in read_names(path)]
        for split, path in lists.items()
        if path.is_file()
    }
    files = [path for path in lists.values() if path.is_file()]
    if augmented:
        more = next((base / LISTS / name for name in MORE if (base / LISTS / name).is_file()), None)
        if more is None:
            raise InputError(f"{base / LISTS}: expected SBD's training pictures in {' or '.join(MORE)}, found neither")
        files.append(more)
        train = splits.get("train", [])
        own = {pair.name for pair in train}
        splits = {"train": train + [_pair(name, MORE_LABELS) for name in read_names(more) if name not in own], **{
            split: pairs for split, pairs in splits.items() if split != "train"}}  # fmt: skip
    if not splits:
        raise InputError(f"{base / LISTS}: expected train.txt, val.txt or test.txt there, found none")
    values: LabelValues = numbered_from_0(len(CLASSES))._replace(explain=explain)
    return Layout(base, splits, CLASSES, standard_colours(len(CLASSES)), values, files)


def _pair(name: str, labels: str | None) -> Pair:
    return Pair(name, f"JPEGImages/{name}.jpg", labels and f"{labels}/{name}.png")


COUNTS = {"train": 1_464, "val": 1_449, "test": 1_456}
SETS = {
    "voc": SegmentationSet("PASCAL VOC 2012", COUNTS, partial(read, augmented=False)),
    "voc_aug": SegmentationSet("PASCAL VOC 2012 and SBD", COUNTS | {"train": 10_582}, partial(read, augmented=True)),
}
