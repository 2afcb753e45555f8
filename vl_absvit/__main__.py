"""``vl-absvit``: every program of ``vl_absvit/commands/`` under one name, for those who have no checkout."""

import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from typing import NoReturn

import vl_absvit
from vl_absvit.cli import nearest, run_main
from vl_absvit.config.shipped import configs_folder, shipped_configs
from vl_absvit.errors import ConfigError

PROGRAM = "vl-absvit"
COMMANDS = {
    "train": {
        "pretrain-vision": "the visual encoder, on labelled images",
        "pretrain-pairs": "a whole model, on captions of images: hidden words, false pairs",
        "finetune-vqa": "a whole model, on questions about images",
        "finetune-retrieval": "a whole model, on captions of images",
        "finetune-segmentation": "an encoder with UPerNet, on labelled pixels",
        "finetune-nlvr2": "a whole model, on sentences about two images",
        "finetune-snli-ve": "a whole model, on hypotheses about images",
        "train": "any task, by its config",
        "fit-decoders": "a trunk's feedback decoders, in closed form",
        "plan": "what a training needs before it is started: memory, time, days",
    },
    "evaluate": {
        "evaluate-vqa": "answer a split's questions; accuracy where it has answers",
        "score-vqa": "score predictions as the official evaluator does, or check them before they are sent",
        "evaluate-statements": "judge the statements of NLVR2 or SNLI-VE",
        "score-statements": "score predictions about NLVR2 or SNLI-VE",
        "evaluate-retrieval": "recall of images and captions",
        "tabulate-retrieval": "several retrieval results side by side",
        "evaluate-segmentation": "mIoU of a class for every pixel; predictions as files",
        "evaluate-vision": "classify images: ImageNet, ImageNet-A, -R, -Sketch and -C, ObjectNet",
        "tabulate-domains": "accuracy on domains that were left out of training, over seeds",
    },
    "look": {
        "ask": "answer questions about pictures, as lines of JSON",
        "app": "ask about a picture in the browser, see where the model looks, and search",
        "export-attention": "maps for questions or captions of a split, or for texts or pictures of one's own",
        "attention-report": "one web page of such an export",
        "compare-vqa-hat": "such an export beside where people looked",
        "evaluate-maps": "whether a model uses what its maps show, and whether they need what it learned",
        "compare-masks": "such an export taken for coarse segmentations",
        "compare-fixations": "such an export beside where people's eyes rested",
        "draw-pair": "how two questions about one picture turn the second look",
        "draw-steps": "where a classifier attends after every step of its reconstruction",
        "draw-segmentation": "predictions of pixels as pages; a picture looked at for one class",
        "compare-priors": "one picture, several priors and strengths",
        "decode-attention": "what the feedback brings to the first block, as pictures",
    },
    "search": {
        "index": "first looks at the pictures of a folder",
        "search": "the pictures of an index that a sentence describes",
    },
    "prepare": {
        "make-demo": "draw the demo world",
        "prepare-vqa": "questions about pictures of one's own, from a table",
        "prepare-vqav2": "VQAv2, VQA v1, OK-VQA, VQA-CP or VizWiz",
        "prepare-captions": "captions of Flickr30K, Flickr8k, COCO or one's own, from a table",
        "prepare-pairs": "captions to pretrain on: img2dataset, Visual Genome, SBU, CC",
        "prepare-nlvr2": "NLVR2: sentences about two images",
        "prepare-snli-ve": "SNLI-VE or e-SNLI-VE: hypotheses about images",
        "prepare-vqa-hat": "maps of where people looked",
        "prepare-fixations": "where people's eyes rested in pictures: MIT1003, OSIE, CAT2000, one's own",
        "prepare-segmentation": "labelled pixels of VOC, Cityscapes, ADE20K or your own",
        "prepare-domains": "PACS, or other pictures in several domains, each left out once",
        "write-stream-shards": "shards that training reads from beginning to end",
    },
    "other": {
        "convert-released": "the authors' checkpoints as checkpoint folders",
        "export-encoder": "a checkpoint's visual encoder as a file for timm",
        "push-to-hub": "upload a checkpoint folder with its card",
    },
}
"""What each program is for, by what one wants to do. Its module has the same name, with underscores."""


def main() -> NoReturn:
    """Run the program that the command line names."""
    run_main(_run)


def _run() -> None:
    first, *rest = sys.argv[1:] or ["--help"]
    if first in ("-h", "--help"):
        print("\n".join(_describe()))
    elif first == "--version":
        print(f"{PROGRAM} {vl_absvit.__version__}")
    else:
        name, known = first.replace("_", "-"), [each for group in COMMANDS.values() for each in group]
        if name not in known:
            raise ConfigError(f"command line: {PROGRAM} has no command {first}{nearest(name, known)}")
        sys.argv = [f"{PROGRAM} {name}", *rest]
        import_module(f"vl_absvit.commands.{name.replace('-', '_')}").main()


def _describe() -> Iterator[str]:
    yield f"usage: {PROGRAM} COMMAND [OPTION ...]; {PROGRAM} COMMAND --help says more"
    for group, commands in COMMANDS.items():
        yield f"\n{group}"
        yield from (f"  {name:23}{purpose}" for name, purpose in commands.items())
    yield "\nconfigs that --config takes by name"
    yield textwrap.fill(", ".join(shipped_configs()), width=100, initial_indent="  ", subsequent_indent="  ")
    yield f"  in {configs_folder()}"


if __name__ == "__main__":
    main()
