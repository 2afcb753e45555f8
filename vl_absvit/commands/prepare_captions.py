"""Prepare the captions of Flickr30K, Flickr8k or COCO for training, or your own:

    vl-absvit prepare-captions --dataset flickr30k --root RAW --karpathy dataset_flickr30k.json --output OUT
    vl-absvit prepare-captions --dataset flickr30k --root RAW --captions results.csv \\
        --karpathy dataset_flickr30k.json --output OUT
    vl-absvit prepare-captions --dataset flickr8k --root RAW --captions Flickr8k.token.txt \\
        --splits Flickr_8k.trainImages.txt Flickr_8k.devImages.txt Flickr_8k.testImages.txt --output OUT
    vl-absvit prepare-captions --dataset flickr30k --root RAW \\
        --captions flickr30k_train.json flickr30k_val.json flickr30k_test.json --output OUT
    vl-absvit prepare-captions --dataset shop --images pictures --table captions.csv --output OUT

--captions takes results_20130124.token, results.csv, a table "image,caption", or a JSON list for each split as ALBEF,
BLIP and LAVIS have them. Any file may stay gzipped (.gz). The images lie in RAW or, up to four levels, below it.

--table takes captions of any pictures: *.csv, *.tsv, *.txt, *.jsonl, *.json or *.parquet, or a folder that datasets'
save_to_disk wrote, with a column for the picture (image, filepath ...) and one for its caption or a list of them
(caption, title ...). A column split, or SPLIT=FILE, names splits; otherwise shares of the pictures are drawn. Rows that
cannot be used are listed in OUT/refused.jsonl, each with file, line and reason.

--exclude keeps pictures out of train and restval that a test set has. It takes prepared folders, whose other splits
count (FOLDER=SPLIT,SPLIT names others), folders of pictures, and lists with lines such as "coco 391895".
An interrupted run goes on where it stopped when the command is given again.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.errors import ConfigError
from vl_absvit.prepare.caption_sets import CAPTION_SETS
from vl_absvit.prepare.captions import CaptionOptions, prepare_captions
from vl_absvit.prepare.command import run_preparation
from vl_absvit.prepare.own.captions import OwnCaptionOptions, prepare_own_captions
from vl_absvit.prepare.own.command import add_table_options


def main() -> None:
    parser = OptionParser(__doc__)
    known = ", ".join(CAPTION_SETS)
    parser.add_argument("--dataset", required=True, metavar="NAME", help=f"{known}; or, with --table, your own name")
    parser.add_argument("--root", type=Path, help="folder that the images lie below")
    parser.add_argument("--table", nargs="+", default=(), metavar="[SPLIT=]FILE", help="tables of your own captions")
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
    parser.add_argument(
        "--exclude", nargs="+", default=(), metavar="WHAT", help="folders, or lists of ids, not to be trained on"
    )
    add_table_options(parser, "image, caption, split")
    run_preparation(parser, choose_options, prepare, summary)


def choose_options(
    *, dataset: str, root: Path | None, images: Path | None, table: Sequence[str], **others: Any
) -> CaptionOptions | OwnCaptionOptions:
    """The options of a published data set, or of one's own tables.

    Raises:
        ConfigError: options of both are given, or none of them can be.
    """
    folder = images or root
    if folder is None:
        raise ConfigError("expected the folder of the images by --root or --images, got neither")
    published = {name: others.pop(name) for name in ("karpathy", "captions", "splits")}
    both = {name: others.pop(name) for name in ("embed_images", "allow_missing_images", "exclude")}
    if table:
        if given := [name for name, value in published.items() if value]:
            raise ConfigError(f"--table goes without --{given[0]}; SPLIT=FILE says which split a table is of")
        return OwnCaptionOptions(name=dataset, images=folder, table=table, **others, **both)
    others.pop("seed")
    if given := [name for name, value in others.items() if value not in (None, False, ())]:
        raise ConfigError(f"--{given[0].replace('_', '-')} says how to read a --table, and none is given")
    if dataset not in CAPTION_SETS:
        raise ConfigError(f"--dataset {dataset}: expected one of {', '.join(CAPTION_SETS)}, or captions by --table")
    return CaptionOptions(dataset=dataset, root=root or folder, images=images, **published, **both)


def prepare(options: CaptionOptions | OwnCaptionOptions, output: Path, workers: int) -> dict[str, Any]:
    """The manifest of a preparation."""
    if isinstance(options, OwnCaptionOptions):
        return prepare_own_captions(options, output, workers)
    return prepare_captions(options, output, workers)


def summary(manifest: dict[str, Any], _: Path) -> Iterator[str]:
    for split, counts in manifest["splits"].items():
        yield f"{split:9}{counts['captions']:,} captions of {counts['images']:,} images"


if __name__ == "__main__":
    run_main(main)
