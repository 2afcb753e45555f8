"""Prepare many captioned pictures for pretraining on pairs, part by part, without what test sets have:

    vl-absvit prepare-pairs --dataset conceptual_captions --root SHARDS --output OUT --exclude data/coco data/flickr30k
    vl-absvit prepare-pairs --dataset visual_genome --root RAW --output OUT --exclude data/coco data/vqav2=test

SHARDS holds what img2dataset wrote, as tars or as Parquet files: pictures go into OUT. Unfinished shards are refused by
name, and counted with --allow-unfinished. Members other than pictures and texts are never opened, nothing is unpickled.
RAW holds Visual Genome's region_descriptions.json, image_data.json, VG_100K and VG_100K_2; or, as METER and ViLT keep
Conceptual Captions and SBU, train_annot.json, a list of [path, caption], and the pictures. OUT refers to these.
--exclude takes prepared folders, whose splits other than train and restval count (FOLDER=SPLIT,SPLIT names others), and
lists with lines such as "coco 391895": pictures are found by their id at COCO or Flickr and by their bytes.
Captions of one's own come from prepare-captions. An interrupted run goes on when the command is given again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.prepare.command import run_preparation
from vl_absvit.prepare.pairs import PairOptions, prepare_pairs


def main() -> None:
    parser = OptionParser(__doc__)
    names = "visual_genome, conceptual_captions, sbu_captions, or your own name"
    parser.add_argument("--dataset", required=True, metavar="NAME", help=names)
    parser.add_argument("--root", type=Path, required=True, help="folder of the shards, or of lists and pictures")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the pictures, if not --root")
    parser.add_argument("--exclude", nargs="+", default=(), metavar="WHAT", help="prepared folders, or lists of ids")
    parser.add_argument(
        "--val-share", type=float, default=0.0, metavar="X", help="share of the pictures for val (default: 0)"
    )
    parser.add_argument("--allow-unfinished", action="store_true", help="go on without unfinished shards")
    run_preparation(parser, PairOptions, prepare_pairs, summary)


def summary(manifest: dict[str, Any], _: Path) -> Iterator[str]:
    for split, counts in manifest["splits"].items():
        yield f"{split:6}{counts['captions']:,} captions of {counts['images']:,} pictures"
    yield from (f"      {number:,} {what}" for what, number in manifest["counts"].items())


if __name__ == "__main__":
    run_main(main)
