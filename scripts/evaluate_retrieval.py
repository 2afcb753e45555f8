"""Recall of image and text retrieval on a split, with its protocol in words.

python scripts/evaluate_retrieval.py --checkpoint runs/retrieval/checkpoints/best --data OUT --split test \\
    --look second --shortlist 128 --output scores.json
Also under torchrun or accelerate launch. ``--look first`` compares every caption's prior with every image's first look;
``--look second`` has the whole model judge the pairs that the shortlists of both directions ask for, or all of them.
Interrupted, it goes on when the same command is given again.
"""

import argparse
import time
from pathlib import Path

from vl_absvit.cli import OptionParser, add_images_option, progress, run_main
from vl_absvit.errors import InputError


def main() -> None:
    arguments = parse_arguments()
    import numpy as np
    import torch
    from rich.console import Console
    from rich.table import Table

    from vl_absvit.data.json_files import make_room, write_json
    from vl_absvit.distributed import gather_objects, is_main
    from vl_absvit.evaluation.chunk_store import FileChunkStore
    from vl_absvit.evaluation.retrieval_metrics import retrieval_recalls
    from vl_absvit.hub import find
    from vl_absvit.tasks.checkpoint import load_parts
    from vl_absvit.tasks.retrieval import make_gallery
    from vl_absvit.tasks.retrieval_protocol import describe_protocol, request_of
    from vl_absvit.tasks.retrieval_scores import score_gallery
    from vl_absvit.training.loop import make_accelerator

    accelerator = make_accelerator()
    make_room(arguments.output)
    found = find(arguments.checkpoint, "--checkpoint")
    checkpoint = load_parts(found.path, "matching")
    gallery = make_gallery(
        arguments.data, arguments.split, checkpoint.tokenizer, checkpoint.preprocessing, arguments.images
    )
    if gallery.without_image:
        raise InputError(
            f"{arguments.data}: {gallery.without_image} captions of {arguments.split} have no image, and recall is "
            "over all of them; see missing_images in manifest.json"
        )
    size = None if arguments.shortlist == "all" else min(int(arguments.shortlist), len(gallery.caption_ids))
    model = checkpoint.model.to(accelerator.device, torch.bfloat16 if arguments.precision == "bf16" else None)
    settings = {name: getattr(arguments, name) for name in ("split", "look", "precision", "batch_size")}
    store = FileChunkStore(arguments.output)
    goes_on = is_main() and store.start(request_of(found.path, arguments.data, shortlist=size, **settings))
    gather_objects([None])  # the other processes wait until the store is there
    if goes_on:
        print(f"going on with the interrupted evaluation in {store.folder}")
    started = time.monotonic()
    with progress() as bar:
        scores = score_gallery(
            model, gallery, look=arguments.look, size=size, bar=bar,
            batch_size=arguments.batch_size, num_workers=arguments.num_workers, store=store,
        )  # fmt: skip
    if is_main():
        if arguments.look == "first":
            recalls = retrieval_recalls(scores.similarity, gallery.image_of_caption)
        else:
            recalls = retrieval_recalls(scores.pairs, gallery.image_of_caption, scores.similarity, size)
        judged = 0 if scores.pairs is None else int(np.isfinite(scores.pairs).sum())
        result = {
            **{name: round(value, 4) for name, value in recalls.items()},
            **describe_protocol(checkpoint, arguments.data, arguments.split, gallery, arguments.look, size),
            "pairs": judged,
            "precision": arguments.precision,
            "checkpoint": found.name,
            "seconds": round(time.monotonic() - started, 2),
            "went_on_after_interruption": goes_on,
        }
        write_json(arguments.output, result, indent=1)
        store.remove()
        table = Table(result["protocol"], "R@1", "R@5", "R@10")
        for name, title in (("ir", "image retrieval"), ("tr", "text retrieval")):
            table.add_row(title, *(f"{recalls[f'{name}_r{k}']:.2f}" for k in (1, 5, 10)))
        Console().print(table)
    accelerator.end_training()


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    parser.add_argument(
        "--checkpoint", required=True, metavar="DIR", help="folder of a retrieval checkpoint, or hub name"
    )
    parser.add_argument("--data", required=True, metavar="OUT", help="folder written by data_prep/prepare_captions.py")
    add_images_option(parser)
    parser.add_argument("--split", required=True, help="split to rank, such as test")
    parser.add_argument("--look", choices=("first", "second"), default="second", help="dual encoder, or whole model")
    parser.add_argument(
        "--shortlist", default="128", metavar="K|all", help="candidates per query that the whole model judges (128)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="recalls and protocol, as JSON")
    parser.add_argument("--batch-size", type=int, default=64, help="pairs per forward pass (default: 64)")
    parser.add_argument("--num-workers", type=int, default=4, help="loader processes per process (default: 4)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the weights (default: fp32)")
    arguments = parser.parse_args()
    if arguments.shortlist != "all" and not (arguments.shortlist.isascii() and arguments.shortlist.isdigit()):
        parser.error(f"--shortlist must be a positive number or all, got {arguments.shortlist}")
    if arguments.shortlist != "all" and int(arguments.shortlist) < 1:
        parser.error(f"--shortlist must be at least 1, got {arguments.shortlist}")
    if arguments.batch_size < 1 or arguments.num_workers < 0:
        parser.error("--batch-size must be at least 1 and --num-workers at least 0")
    return arguments


if __name__ == "__main__":
    run_main(main)
