"""Prepare SNLI-VE, hypotheses that a photograph entails, contradicts or leaves open, for training and evaluation:

    vl-absvit prepare-snli-ve --root RAW --images DIR --output OUT
    vl-absvit prepare-snli-ve --root RAW --lists train=a.jsonl dev=b.jsonl --output OUT

RAW has snli_ve_{train,dev,test}.jsonl in either release, or e-SNLI-VE's esnlive_{train,dev,test}.csv, which is another
data set and is called so in all results; any may stay gzipped (.gz). --images has Flickr30K's pictures, all 31,783 of
them: a folder for Karpathy's splits lacks 769. They lie in that folder or up to four levels below it.
An interrupted run goes on where it stopped when the command is given again.
"""

from pathlib import Path

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.prepare.command import run_preparation, statements_summary
from vl_absvit.prepare.snli_ve import SNLIVEOptions, prepare_snli_ve


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of the official files, and of the images")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of Flickr30K's images, if not --root")
    parser.add_argument("--lists", nargs="+", default=(), metavar="SPLIT=FILE", help="files of other names, by split")
    parser.add_argument("--embed-images", action="store_true", help="write the images' bytes into the tables")
    run_preparation(parser, SNLIVEOptions, prepare_snli_ve, statements_summary)


if __name__ == "__main__":
    run_main(main)
