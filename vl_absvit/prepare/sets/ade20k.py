"""ADE20K's scene parsing of 150 classes (Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017)."""

from collections.abc import Sequence
from pathlib import Path

from vl_absvit.data.segmentation_labels import VOID, Colour
from vl_absvit.errors import InputError
from vl_absvit.prepare.segmentation_source import LabelValues, Layout, SegmentationSet, first_folder
from vl_absvit.prepare.sets.labelled_folder import pairs_in
from vl_absvit.prepare.text_lines import read_lines

CLASSES, TABLE = 150, "objectInfo150.txt"
FOLDERS = {"train": "training", "val": "validation"}
COLOURS = """
787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33 ff0652 8fff8c
ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff 08ffd6 07ffe0 ffb806 0aff47
ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff eb0cff a09614 00a3ff 8c8c8c fa0a0f 14ff00
1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff 0bc8c8 ff5200 00fff5 003dff 00ff70 00ff85 ff0000 ffa300
ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad 0a00ff adff00 00ff99 ff5c00 ff00ff ff00f5 ff0066 ffad00 ff0014 ffb8b8
001fff 00ff3d 0047ff ff00cc 00ffc2 00ff52 000aff 0070ff 3300ff 00c2ff 007aff 00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff
a3ff00 ffeb00 08b8aa 8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070 5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00
ff00a3 ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500 0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff 00ffcc
2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff
"""
"""The set's colours in order of its classes, as red, green and blue in hexadecimal."""


def explain(wrong: Sequence[int]) -> str:
    """What values that are no classes probably are."""
    if set(wrong) <= {254, 255}:
        return "the downloaded files have neither: were these reduced by one already?"
    return "the downloaded files count classes from 1"


VALUES = LabelValues(
    {0: VOID} | {value: value - 1 for value in range(1, CLASSES + 1)},
    f"0 for unlabelled and the classes 1 to {CLASSES}",
    explain,
)
"""The reduction by one, which happens here and nowhere else."""
SUBMITTED = {number: number + 1 for number in range(CLASSES)}


def read(root: Path) -> Layout:
    """The pictures and labels of ``ADEChallengeData2016``, or of the folder around it."""
    base = first_folder(root, ("", "ADEChallengeData2016"), "images")
    for folder in FOLDERS.values():
        if (base / "images" / folder).is_dir() and not (base / "annotations" / folder).is_dir():
            raise InputError(f"{base / 'annotations' / folder}: no such folder; expected the labels of images/{folder}")
    splits = {
        split: pairs_in(base, "images", "annotations", folder)
        for split, folder in FOLDERS.items()
        if (base / "images" / folder).is_dir()
    }
    if not splits:
        raise InputError(f"{base / 'images'}: expected the folders {' and '.join(FOLDERS.values())}, found neither")
    return Layout(base, splits, read_table(base / TABLE), colours(), VALUES, [base / TABLE])


def read_table(path: Path) -> list[str]:
    """The names of the classes out of the set's own table, each by its first synonym.

    Raises:
        InputError: the table is missing or another one.
    """
    rows = [line.split("\t") for _, line in read_lines(path)][1:]
    if [row[0].strip() for row in rows] != [str(number) for number in range(1, CLASSES + 1)]:
        raise InputError(
            f"{path}: expected a heading and the classes 1 to {CLASSES}, one a line, got {len(rows)} lines"
        )
    return [row[-1].split(",")[0].strip() for row in rows]


def colours() -> list[Colour]:
    """The set's colours in order of its classes."""
    return [(int(word[:2], 16), int(word[2:4], 16), int(word[4:], 16)) for word in COLOURS.split()]


SETS = {"ade20k": SegmentationSet("ADE20K, scene parsing", {"train": 20_210, "val": 2_000}, read, SUBMITTED)}
