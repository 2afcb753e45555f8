"""Prepare VQA-HAT, where people looked when they answered questions, for comparisons with a model:

    python data_prep/prepare_vqa_hat.py --maps DIR --questions V1.json --images DIR --output OUT

Das et al., "Human Attention in Visual Question Answering", EMNLP 2016. All under their official names:
  --maps       {question_id}_{n}.png, unpacked from vqahat_train.zip or vqahat_val.zip
  --questions  OpenEnded_mscoco_{train2014,val2014}_questions.json of VQA v1, not v2; may stay gzipped
  --images     COCO_{train2014,val2014}_*.jpg, in this folder or in train2014/, val2014/ below it
Afterwards: scripts/export_attention.py --data OUT --split val, then scripts/compare_vqa_hat.py --hat OUT.
An interrupted run goes on where it stopped when the command is given again.
"""

import os
import sys
from pathlib import Path

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.data.preparation.vqa_hat import HATOptions, prepare_vqa_hat


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("--maps", type=Path, required=True, metavar="DIR", help="folder of human attention maps")
    parser.add_argument("--questions", type=Path, required=True, metavar="FILE", help="VQA v1's questions")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of COCO's images")
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="folder to write")
    parser.add_argument("--allow-missing-images", action="store_true", help="go on without the images that are missing")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes that check images (default all cores)"
    )
    arguments = vars(parser.parse_args())
    output, workers = arguments.pop("output"), arguments.pop("workers")
    was_there = (output / "manifest.json").is_file()
    manifest = prepare_vqa_hat(HATOptions(**arguments), output, workers)
    for warning in manifest["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    if was_there:
        print(f"{output} is finished already; nothing to do")
    for split, counts in manifest["splits"].items():
        print(
            f"{split}: {counts['human_maps']:,} human maps of {counts['questions']:,} questions "
            f"on {counts['images']:,} images"
        )


if __name__ == "__main__":
    run_main(main)
