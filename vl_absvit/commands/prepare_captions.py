"""Prepare the captions of Flickr30K, Flickr8k or COCO for training:

    vl-absvit prepare-captions --dataset flickr30k --root RAW --karpathy dataset_flickr30k.json --output OUT
    vl-absvit prepare-captions --dataset flickr30k --root RAW --captions results.csv \\
        --karpathy dataset_flickr30k.json --output OUT
    vl-absvit prepare-captions --dataset flickr8k --root RAW --captions Flickr8k.token.txt \\
        --splits Flickr_8k.trainImages.txt Flickr_8k.devImages.txt Flickr_8k.testImages.txt --output OUT
    vl-absvit prepare-captions --dataset flickr30k --root RAW \\
        --captions flickr30k_train.json flickr30k_val.json flickr30k_test.json --output OUT

--captions takes results_20130124.token, results.csv, a table "image,caption", or a JSON list for each split as ALBEF,
BLIP and LAVIS have them. Any file may stay gzipped (.gz). The images lie in RAW or, up to four levels, below it.
An interrupted run goes on where it stopped when the command is given again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.prepare.caption_sets import CAPTION_SETS
from vl_absvit.prepare.captions import CaptionOptions, prepare_captions
from vl_absvit.prepare.command import run_preparation


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("--dataset", choices=tuple(CAPTION_SETS), required=True, help="which data set it is")
    parser.add_argument("--root", type=Path, required=True, help="folder that the images lie below")
    parser.add_argument("--karpathy", type=Path, metavar="FILE", help="Karpathy's file: captions and splits")
    parser.add_argument(
        "--captions",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="lists of captions; --karpathy then divides",
    )
    parser.add_argument(
        "--splits", type=Path, nargs="+", default=(), metavar="FILE", help="lists of each split's images, to divide"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images, if not --root")
    parser.add_argument("--embed-images", action="store_true", help="write the images' bytes into the tables")
    run_preparation(parser, CaptionOptions, prepare_captions, summary)


def summary(manifest: dict[str, Any], _: Path) -> Iterator[str]:
    for split, counts in manifest["splits"].items():
        yield f"{split:9}{counts['captions']:,} captions of {counts['images']:,} images"


if __name__ == "__main__":
    run_main(main)
