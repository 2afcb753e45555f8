"""Prepare VQAv2 or a relative for training: vl-absvit prepare-vqav2 --root RAW --output OUT

RAW holds the official downloads under their official names, each JSON plain or gzipped; splits may be absent:
  v2_OpenEnded_mscoco_{train2014,val2014,test2015,test-dev2015}_questions.json
  v2_mscoco_{train2014,val2014}_annotations.json
  train2014/ val2014/ test2015/ (images; names and folders of 2017 will do)
or those of VQA v1, OK-VQA, VQA-CP or VizWiz. All may lie in folders below RAW, such as annotations/ and coco/images/.
An interrupted run goes on where it stopped when the command is given again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.prepare.command import run_preparation
from vl_absvit.prepare.vqa_sets import DATA_SETS
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of the official downloads")
    parser.add_argument("--images", type=Path, help="folder of the images, or of their folders (default: RAW)")
    parser.add_argument("--dataset", choices=DATA_SETS, help="which data set (default: what the files are)")
    parser.add_argument(
        "--vocabulary", type=Path, help="take this vocabulary: our answers.json, or others' lists, objects and lines"
    )
    parser.add_argument(
        "--min-count", type=int, default=9, help="answers of the vocabulary occur this often (default 9)"
    )
    parser.add_argument("--embed-images", action="store_true", help="write the images' bytes into the tables")
    parser.add_argument("--meter-compatible", action="store_true", help="METER's vocabulary and soft targets")
    parser.add_argument("--minival-images", type=int, help="val images to hold out (default a tenth, at most 2,000)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the images held out (default 0)")
    run_preparation(parser, PrepareOptions, prepare_vqav2, summary)


def summary(manifest: dict[str, Any], output: Path) -> Iterator[str]:
    for split, counts in manifest["splits"].items():
        target = f", {counts['with_target']:,} with an answer in the vocabulary" if counts["annotated"] else ""
        yield f"{split:9}{counts['questions']:,} questions on {counts['images']:,} images{target}"
    if manifest["vocabulary"]:
        yield f"{manifest['vocabulary']['size']:,} answers in {output / 'answers.json'}"


if __name__ == "__main__":
    run_main(main)
