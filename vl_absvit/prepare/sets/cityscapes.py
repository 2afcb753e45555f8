"""Cityscapes' finely labelled pixels (Cordts et al., "The Cityscapes Dataset", CVPR 2016)."""

from pathlib import Path

from vl_absvit.data.segmentation_labels import VOID, Colour
from vl_absvit.errors import InputError
from vl_absvit.prepare.segmentation_source import LabelValues, Layout, Pair, SegmentationSet, numbered_from_0

CLASSES: dict[str, tuple[int, Colour]] = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
"""Evaluated classes in order of their training numbers, with the id in label files and the colour."""
IDS = [number for number, _ in CLASSES.values()]
LARGEST_ID = 33
BY_ID = LabelValues(
    {value: IDS.index(value) if value in IDS else VOID for value in (*range(LARGEST_ID + 1), VOID)},
    f"Cityscapes' ids 0 to {LARGEST_ID}, or {VOID} for a licence plate",
)


def read(root: Path) -> Layout:
    """The pictures and labels below ``leftImg8bit`` and ``gtFine``. Labels of test are held back."""
    if not (root / "leftImg8bit").is_dir():
        raise InputError(f"{root}: expected the folders leftImg8bit and gtFine of Cityscapes there")
    splits: dict[str, list[Pair]] = {}
    kinds: set[str] = set()
    for split in ("train", "val", "test"):
        images = sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
        pairs = []
        for image in (image for image in images if not image.name.startswith(".")):
            name = image.name.removesuffix("_leftImg8bit.png")
            label = None
            if split != "test":
                stem = f"gtFine/{split}/{image.parent.name}/{name}_gtFine"
                kind = next((k for k in ("labelIds", "labelTrainIds") if (root / f"{stem}_{k}.png").exists()), None)
                if kind is None:
                    raise InputError(f"{root / stem}_labelIds.png: no such file; expected the label of {image.name}")
                kinds.add(kind)
                label = f"{stem}_{kind}.png"
            pairs.append(Pair(name, image.relative_to(root).as_posix(), label))
        if pairs:
            splits[split] = pairs
    if not splits:
        raise InputError(f"{root}: expected leftImg8bit/{{train,val,test}}/CITY/*_leftImg8bit.png, found none")
    if len(kinds) > 1:
        raise InputError(f"{root}: some labels are there as labelIds, others as labelTrainIds alone; expected one form")
    values = numbered_from_0(len(CLASSES)) if kinds == {"labelTrainIds"} else BY_ID
    return Layout(root, splits, list(CLASSES), [colour for _, colour in CLASSES.values()], values)


COUNTS = {"train": 2_975, "val": 500, "test": 1_525}
SETS = {"cityscapes": SegmentationSet("Cityscapes, finely labelled", COUNTS, read, dict(enumerate(IDS)))}
