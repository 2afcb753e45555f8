"""Prepare VQA-HAT, where people looked when they answered questions, for comparisons with a model:

    vl-absvit prepare-vqa-hat --maps DIR --questions V1.json --images DIR --output OUT

Das et al., "Human Attention in Visual Question Answering", EMNLP 2016. All under their official names:
  --maps       {question_id}_{n}.png, unpacked from vqahat_train.zip or vqahat_val.zip
  --questions  OpenEnded_mscoco_{train2014,val2014}_questions.json of VQA v1, not v2; may stay gzipped
  --images     COCO_{train2014,val2014}_*.jpg, or 2017's names, in this folder or up to four levels below it
Afterwards: vl-absvit export-attention --data OUT --split val, then vl-absvit compare-vqa-hat --hat OUT.
An interrupted run goes on where it stopped when the command is given again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.prepare.command import run_preparation
from vl_absvit.prepare.vqa_hat import HATOptions, prepare_vqa_hat


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("--maps", type=Path, required=True, metavar="DIR", help="folder of human attention maps")
    parser.add_argument("--questions", type=Path, required=True, metavar="FILE", help="VQA v1's questions")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of COCO's images")
    run_preparation(parser, HATOptions, prepare_vqa_hat, summary)


def summary(manifest: dict[str, Any], _: Path) -> Iterator[str]:
    for split, counts in manifest["splits"].items():
        yield (
            f"{split}: {counts['human_maps']:,} human maps of {counts['questions']:,} questions "
            f"on {counts['images']:,} images"
        )


if __name__ == "__main__":
    run_main(main)
