"""Prepare eye fixations for comparison: vl-absvit prepare-fixations --fixations PLACE --images DIR --output OUT

PLACE is one of
  a table with the columns image, observer, x, y and perhaps t (CSV, TSV, JSON Lines, Parquet)
  OSIE's fixations.mat
  a folder of matrices *.mat that are not 0 at fixated pixels, as CAT2000's FIXATIONLOCS
  a folder with pictures *_fixPts.jpg that are white there, as MIT1003's ALLFIXATIONMAPS
x and y are pixels, from 0 on or, with --one-based, from 1 on. DIR has the pictures, which are found by the end of their
path. Fixations outside their picture are left out and counted; more than 1 % of them are refused.
An interrupted run goes on where it stopped when the command is given again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.prepare.command import run_preparation
from vl_absvit.prepare.fixations import SPLIT, FixationOptions, prepare_fixations


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("--fixations", type=Path, required=True, metavar="PLACE", help="file or folder of fixations")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of the pictures")
    parser.add_argument("--one-based", action="store_true", help="the first pixel is 1, as MATLAB counts (default: 0)")
    run_preparation(parser, FixationOptions, prepare_fixations, summary)


def summary(manifest: dict[str, Any], _: Path) -> Iterator[str]:
    counts = manifest["splits"][SPLIT]
    people = f"by {counts['observers']:,} observers" if counts["observers"] else "by nobody knows whom"
    order = "" if counts["has_order"] else ", in no known order"
    yield f"{counts['fixations']:,} fixations on {counts['images']:,} pictures {people}{order}"


if __name__ == "__main__":
    run_main(main)
