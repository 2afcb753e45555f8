"""Prepare many captioned pictures for pretraining on pairs, part by part, without what test sets have:

    vl-absvit prepare-pairs --dataset conceptual_captions --root SHARDS --output OUT --exclude data/coco data/flickr30k
    vl-absvit prepare-pairs --dataset visual_genome --root RAW --output OUT --exclude data/coco data/vqav2=test
    vl-absvit prepare-pairs --dataset shop --root PICTURES --table captions.jsonl --output OUT

SHARDS holds what img2dataset wrote, as tars, Parquet files or folders of files. Pictures of tars and tables go into
OUT; it refers to all others. Unfinished shards are refused by name, and counted with --allow-unfinished. Members other
than pictures and texts are never opened, nothing is unpickled. RAW holds one of
- Visual Genome's region_descriptions.json, image_data.json, VG_100K and VG_100K_2;
- train_annot.json, a list of [path, caption], and the pictures, as METER and ViLT keep Conceptual Captions and SBU;
- Conceptual Captions' TSV of addresses, or SBU's lists of them, and pictures that are named by their row, such as
  0000/0000000, as at Flickr, or by the CRC-32 of their address.
--table takes CSV, TSV, JSON, JSON Lines or Parquet with a column of files below PICTURES and one of captions.
--exclude takes prepared folders, whose splits other than train and restval count (FOLDER=SPLIT,SPLIT names others),
folders of pictures, and lists with lines such as "coco 391895": pictures are found by their id at COCO or Flickr and by
their bytes. An interrupted run goes on when the command is given again.
"""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.prepare.command import run_preparation
from vl_absvit.prepare.pair_filters import PairFilters
from vl_absvit.prepare.pairs import PairOptions, prepare_pairs


def main() -> None:
    parser = OptionParser(__doc__)
    names = "visual_genome, conceptual_captions, sbu_captions, or your own name"
    parser.add_argument("--dataset", required=True, metavar="NAME", help=names)
    parser.add_argument("--root", type=Path, required=True, help="folder of the shards, or of lists and pictures")
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="table of files and captions, or of several lists one"
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        default=(),
        metavar="ROLE=COLUMN",
        help="columns without usual names, for image, caption",
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the pictures, if not --root")
    parser.add_argument("--exclude", nargs="+", default=(), metavar="WHAT", help="folders, or lists of ids")
    parser.add_argument(
        "--val-share", type=float, default=0.0, metavar="X", help="share of the pictures for val (default: 0)"
    )
    parser.add_argument("--allow-unfinished", action="store_true", help="go on without unfinished shards")
    parser.add_argument("--unescape-html", action="store_true", help="make characters of entities: &amp; is &")
    for name, kind, what in (
        ("--min-words", int, "fewest words of a caption"), ("--max-words", int, "most words of a caption"),
        ("--max-repeats", int, "leave out captions that the source has more often"),
        ("--min-side", int, "pixels of a picture's shorter side, at least"),
        ("--max-aspect", float, "longer side of a picture over its shorter one, at most"),
        ("--min-region", float, "share of its picture that a region of Visual Genome has, at least"),
    ):  # fmt: skip
        parser.add_argument(name, type=kind, metavar="N" if kind is int else "X", help=what)
    run_preparation(parser, _options, prepare_pairs, summary)


def _options(**given: Any) -> PairOptions:
    filters = PairFilters(**{each.name: given.pop(each.name) for each in fields(PairFilters)})
    return PairOptions(filters=filters, **given)


def summary(manifest: dict[str, Any], _: Path) -> Iterator[str]:
    for split, counts in manifest["splits"].items():
        yield f"{split:6}{counts['captions']:,} captions of {counts['images']:,} pictures"
    yield from (f"      {number:,} {what}" for what, number in manifest["counts"].items())


if __name__ == "__main__":
    run_main(main)
