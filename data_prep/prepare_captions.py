"""Prepare Flickr30K's or COCO's captions with Karpathy's splits for training:

    python data_prep/prepare_captions.py --dataset flickr30k --root RAW --karpathy dataset_flickr30k.json --output OUT

Karpathy's file may stay gzipped (.json.gz). RAW holds the images:
  flickr30k-images/1000092795.jpg ...                    Flickr30K
  train2014/COCO_train2014_000000000009.jpg, val2014/    COCO
An interrupted run goes on where it stopped when the command is given again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.data.preparation.captions import CaptionOptions, prepare_captions
from vl_absvit.data.preparation.command import run_preparation


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("--dataset", choices=("flickr30k", "coco"), required=True, help="which data set it is")
    parser.add_argument("--root", type=Path, required=True, help="folder of the image folders")
    parser.add_argument("--karpathy", type=Path, required=True, help="Karpathy's file of captions and splits")
    parser.add_argument("--embed-images", action="store_true", help="write the images' bytes into the tables")
    run_preparation(parser, CaptionOptions, prepare_captions, summary)


def summary(manifest: dict[str, Any], _: Path) -> Iterator[str]:
    for split, counts in manifest["splits"].items():
        yield f"{split:9}{counts['captions']:,} captions of {counts['images']:,} images"


if __name__ == "__main__":
    run_main(main)
