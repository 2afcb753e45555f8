"""Export where a model looks: maps for every question or caption of a split, for texts or pictures of one's own.

vl-absvit export-attention --checkpoint runs/vqa/checkpoints/best --data OUT --split val --output DIR
vl-absvit export-attention --checkpoint runs/vqa/checkpoints/best --requests questions.jsonl --output DIR
vl-absvit export-attention --checkpoint runs/vqa/checkpoints/best --image a.jpg --question "Why?" --output DIR
vl-absvit export-attention --checkpoint runs/retrieval/checkpoints/best --image a.jpg --caption "Dog" --output D
vl-absvit export-attention --checkpoint runs/pretrain/checkpoints/best --pictures FOLDER --output DIR

Also under torchrun or accelerate launch. A VQA model answers questions, a retrieval model judges captions, each about
its own image where they are a split's, and a pretrained classifier classifies pictures. DIR gets <id>.npz with a grid
per map, <id>.png with the maps over the picture and index.jsonl. A line of questions.jsonl is
{"image": path, "question": text}, or "caption", with an "id" if not the line's number; its other keys go into the
index. Interrupted, it goes on when the same command is given again.

Maps, as vl_absvit/looking/maps.py defines them; a plain ViT has only the last four:
prior_mask, top_down, top_down_cls, difference, bottom_up, bottom_up_cls, cross, cross_gradient
A classifier has top_down_average, bottom_up_average, grad_cam and rollout in place of the last two.
"""

import argparse
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from vl_absvit.cli import (
    OptionParser,
    add_block_option,
    add_checkpoint_option,
    add_images_option,
    add_precision_option,
    is_first_process,
    progress,
    run_main,
)
from vl_absvit.errors import ConfigError

if TYPE_CHECKING:
    from vl_absvit.hub import Found
    from vl_absvit.looking.picture_texts import PictureTexts
    from vl_absvit.looking.viewer import Checkpoint

FILES = ("config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json", "answers.json")
"""Files of a checkpoint that an export depends on; ``answers.json`` is VQA's."""


def main() -> None:
    arguments = parse_arguments()
    from vl_absvit.data.whole_folder import fingerprints
    from vl_absvit.hub import find

    found = find(arguments.checkpoint, "--checkpoint")
    with ThreadPoolExecutor(1) as beside:  # the weights are hashed while torch is imported
        files = beside.submit(fingerprints, found.path, FILES) if is_first_process() else None
        export(arguments, found, files)


def export(arguments: argparse.Namespace, found: "Found", files: "Future[dict[str, str]] | None") -> None:
    """Export what the command line asks for.

    Args:
        found: the checkpoint.
        files: SHA-256 of its files, in the first process.
    """
    from vl_absvit.distributed import is_main, rank
    from vl_absvit.looking.export_run import describe_export, export_maps
    from vl_absvit.looking.export_writer import ExportFolder
    from vl_absvit.looking.viewer import load_checkpoint, make_viewer
    from vl_absvit.main_process import in_main_process
    from vl_absvit.precision import arithmetic
    from vl_absvit.training.loop import make_accelerator

    accelerator = make_accelerator()
    checkpoint = load_checkpoint(found.path)
    checkpoint.model.to(accelerator.device)
    viewer = make_viewer(checkpoint, arguments.maps, arguments.block, arguments.heads, arguments.prior)
    questions = open_questions(arguments, checkpoint)
    count = f"{len(questions.ids):,} {questions.kind}s"
    folder = ExportFolder(arguments.output, rank())

    def begin() -> set[str]:
        assert files is not None, "the main process is the first"
        description = describe_export(files.result(), questions, viewer, arguments.colormap, arguments.precision)
        return folder.start(description)

    done = in_main_process(begin)
    if is_main() and done:
        print(f"going on: {len(done):,} of {count} are in {arguments.output}")
    with progress() as bar, arithmetic(arguments.precision, accelerator.device):
        export_maps(
            viewer, questions, folder, done,
            colormap=arguments.colormap, batch_size=arguments.batch_size, num_workers=arguments.num_workers, bar=bar,
        )  # fmt: skip
    if is_main():
        print(f"{count} in {arguments.output}: {', '.join(viewer.choice.names)}, in {arguments.precision}")
        if found.name != arguments.checkpoint:
            print(f"by {found.name}")
    accelerator.end_training()


def open_questions(arguments: argparse.Namespace, checkpoint: "Checkpoint") -> "PictureTexts":
    """The questions, or captions for a model that judges those, or pictures, that the command line names."""
    from vl_absvit.data.captions import CaptionDataset
    from vl_absvit.data.records import read_manifest, read_vocabulary, split_names
    from vl_absvit.looking.own_samples import OwnPictures, OwnTexts
    from vl_absvit.looking.own_texts import TextKind, make_request, picture_requests, read_names, read_requests
    from vl_absvit.looking.picture_texts import SplitCaptions, SplitQuestions
    from vl_absvit.tasks.classifier_checkpoint import ClassifierCheckpoint
    from vl_absvit.tasks.vqa import VQACheckpoint, make_dataset

    if isinstance(checkpoint, ClassifierCheckpoint):
        if arguments.pictures is None:
            raise ConfigError(f"checkpoint {arguments.checkpoint} is a classifier, which looks at --pictures")
        names = None if arguments.list is None else read_names(arguments.list)
        return OwnPictures(picture_requests(arguments.pictures, names), checkpoint.transform)
    if arguments.pictures is not None:
        raise ConfigError(
            f"checkpoint {arguments.checkpoint} is no classifier: it looks at a picture for a text, see --requests"
        )
    tokenizer, preprocessing = checkpoint.tokenizer, checkpoint.preprocessing
    kind: TextKind = "question" if isinstance(checkpoint, VQACheckpoint) else "caption"
    if arguments.caption is not None and kind == "question":
        raise ConfigError(f"checkpoint {arguments.checkpoint} is a VQA model's, which answers a --question")
    if arguments.data is not None and kind == "caption":
        captions = CaptionDataset(
            arguments.data,
            split_names(arguments.split),
            tokenizer,
            preprocessing.max_tokens,
            preprocessing.transform(),
            negatives=0,
            images=arguments.images,
        )
        return SplitCaptions(arguments.data, arguments.split, captions, arguments.images)
    if arguments.data is not None:
        is_labelled = read_manifest(arguments.data).get("vocabulary") is not None
        assert isinstance(checkpoint, VQACheckpoint), "a model that answers has a vocabulary"
        vocabulary = read_vocabulary(arguments.data) if is_labelled else checkpoint.vocabulary
        samples = make_dataset(
            arguments.data, split_names(arguments.split), tokenizer, len(vocabulary), preprocessing,
            images=arguments.images,
        )  # fmt: skip
        return SplitQuestions(arguments.data, arguments.split, samples, arguments.images)
    if arguments.requests is not None:
        requests = read_requests(arguments.requests, kind)
    else:
        text = arguments.question if arguments.caption is None else arguments.caption
        requests = [make_request(arguments.image, text, "command line", kind=kind)]
    return OwnTexts(requests, tokenizer, preprocessing.max_tokens, preprocessing.transform(), kind)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "a VQA, retrieval or pretraining checkpoint")
    parser.add_argument("--data", metavar="OUT", help="folder of vl-absvit prepare-{vqa,vqav2,vqa-hat,captions}")
    add_images_option(parser)
    parser.add_argument("--split", help="split of --data, such as val, or several: val,minival")
    parser.add_argument("--requests", metavar="FILE", help="questions or captions of one's own, as JSON lines")
    parser.add_argument("--image", metavar="FILE", help="a picture to ask about")
    parser.add_argument("--question", metavar="TEXT", help="what to ask about --image")
    parser.add_argument("--caption", metavar="TEXT", help="what to look for in --image, for a retrieval model")
    parser.add_argument("--pictures", metavar="PLACE", help="a picture or a folder of pictures, for a classifier")
    parser.add_argument(
        "--list", type=Path, metavar="FILE", help="names of pictures to take, one a line (default: all)"
    )
    parser.add_argument(
        "--prior", metavar="CLASS", help="what --pictures are searched for (default: a trained query, for no class)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--maps", nargs="+", metavar="MAP", help="maps to make (default: all that the model has)")
    add_block_option(parser, "block whose tokens bottom_up and top_down measure")
    parser.add_argument(
        "--heads", choices=("mean", "max"), default="mean", help="how attention heads become one (default: mean)"
    )
    parser.add_argument(
        "--colormap", default="inferno", help="of the pictures, a name of matplotlib's (default: inferno)"
    )
    parser.add_argument("--no-overlays", action="store_true", help="no pictures, which take most time and space")
    parser.add_argument(
        "--batch-size", type=int, default=64, help="questions or captions per process and forward pass (default: 64)"
    )
    parser.add_argument(
        "--num-workers", type=int, default=4, help="processes that load and threads that draw, per process (default: 4)"
    )
    add_precision_option(parser)
    arguments = parser.parse_args()
    names = ("data", "split", "requests", "image", "question", "caption", "pictures")
    given = {name for name in names if getattr(arguments, name) is not None}
    if given not in ({"data", "split"}, {"requests"}, {"image", "question"}, {"image", "caption"}, {"pictures"}):
        parser.error(
            "give --data and --split, or --requests, or --image and --question, or --image and --caption, or --pictures"
        )
    for name in ("prior", "list"):
        if getattr(arguments, name) is not None and "pictures" not in given:
            parser.error(f"--{name} goes with --pictures")
    for name in ("question", "caption"):
        if name in given and not getattr(arguments, name).strip():
            parser.error(f"--{name} is empty")
    if arguments.batch_size < 1 or arguments.num_workers < 0:
        parser.error("--batch-size must be at least 1 and --num-workers at least 0")
    check_colormap(arguments.colormap)
    if arguments.no_overlays:
        arguments.colormap = None
    return arguments


def check_colormap(name: str) -> None:
    """Raise ``ConfigError`` where matplotlib has no colormap of this name."""
    import matplotlib

    if name not in matplotlib.colormaps:
        raise ConfigError(f"command line: matplotlib has no colormap {name!r}; viridis and gray are two that it has")


if __name__ == "__main__":
    run_main(main)
