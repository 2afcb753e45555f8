"""Prepare labelled pixels for training: vl-absvit prepare-segmentation --dataset NAME --root RAW --output OUT

RAW holds a data set as it is published; splits may be absent:
  voc         VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets/Segmentation/{train,val}.txt}
  voc_aug     the same with SegmentationClassAug and ImageSets/Segmentation/aug.txt: SBD's labels, for training alone
  cityscapes  leftImg8bit/{train,val,test}/CITY/*_leftImg8bit.png, gtFine/{train,val}/CITY/*_gtFine_labelIds.png
  ade20k      ADEChallengeData2016/{images,annotations}/{training,validation} and objectInfo150.txt
  folder      your own: images/SPLIT/NAME.jpg, labels/SPLIT/NAME.png and classes.txt, one class a line, the first is 0
Labels become grey PNG pictures of final class numbers, 255 for pixels without a class. What is no label of the data
set (colours, shades, another size, other values) is refused.
An interrupted run goes on where it stopped when the command is given again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.prepare.command import run_preparation
from vl_absvit.prepare.segmentation import SEGMENTATION_SETS, SegmentationOptions, prepare_segmentation


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("--dataset", choices=SEGMENTATION_SETS, required=True, help="which data set")
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--embed-images", action="store_true", help="write the images' bytes into the tables")
    run_preparation(parser, SegmentationOptions, prepare_segmentation, summary)


def summary(manifest: dict[str, Any], _: Path) -> Iterator[str]:
    classes = len(manifest["classes"])
    for split, counts in manifest["splits"].items():
        labels = f", {counts['void_percent']:.2f} % of the pixels void" if counts["has_labels"] else ", without labels"
        yield f"{split:9}{counts['images']:,} pictures of {classes} classes{labels}"


if __name__ == "__main__":
    run_main(main)
