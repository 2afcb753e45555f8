"""Prepare NLVR2, sentences that are true or false of two photographs, for training and evaluation:

    vl-absvit prepare-nlvr2 --root RAW --output OUT
    vl-absvit prepare-nlvr2 --root RAW --images DIR --splits dev test1 --output OUT

All under their official names:
  RAW/nlvr2/data/{train,dev,test1}.json              lines, of the repository lil-lab/nlvr; balanced/, unbalanced/
  RAW/images/train/{0..99}/, RAW/dev/, RAW/test1/    images, from the authors; also below --images DIR
A .png may be a JPEG inside: pictures are known by their content. Of test2 (test-U) no images are given out; --splits
names it if you have them. An interrupted run goes on where it stopped when the command is given again.
"""

from pathlib import Path

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.prepare.command import run_preparation, statements_summary
from vl_absvit.prepare.nlvr2 import NLVR2Options, prepare_nlvr2


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder with nlvr2/data and the images")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images, if not --root")
    parser.add_argument(
        "--splits", nargs="+", default=(), metavar="SPLIT", help="splits to prepare (default: train, dev, test1)"
    )
    parser.add_argument("--embed-images", action="store_true", help="write the images' bytes into the tables")
    run_preparation(parser, NLVR2Options, prepare_nlvr2, statements_summary)


if __name__ == "__main__":
    run_main(main)
