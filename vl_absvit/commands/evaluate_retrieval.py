"""Recall of image and text retrieval on a split, with its protocol in words.

vl-absvit evaluate-retrieval --checkpoint runs/retrieval/checkpoints/best --data OUT --split test \\
    --look second --shortlist 128 --output scores.json
Also under torchrun or accelerate launch. ``--look first`` compares every caption's prior with every image's first look;
``--look second`` has the whole model judge the pairs that the shortlists of both directions ask for, or all of them;
``--look both`` ranks these by the sum of the whole model's score and the dual encoder's logit. Several looks share
the model's work: ``--look first second both`` writes scores_first.json, scores_second.json and scores_both.json.
``--folds 5`` gives the mean over five consecutive folds, each ranked among its own images and captions: COCO's "1K".
``--corrupt fog`` ranks pictures corrupted as ImageNet-C's are.
Interrupted, it goes on when the same command is given again.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vl_absvit.cli import check_loading_options, evaluation_parser, progress, run_main
from vl_absvit.data.corruptions import add_corruption_options, corruptions_of
from vl_absvit.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from vl_absvit.data.captions import CaptionGallery
    from vl_absvit.evaluation.retrieval_metrics import Ranks
    from vl_absvit.tasks.retrieval_scores import GalleryScores
    from vl_absvit.training.evaluated import Evaluated


def main() -> None:
    arguments = parse_arguments()
    from vl_absvit.tasks.retrieval import RetrievalTask
    from vl_absvit.training.evaluated import evaluate_checkpoint

    evaluate_checkpoint(arguments, RetrievalTask.load, rank)


def rank(arguments: argparse.Namespace, found: "Evaluated") -> None:
    """All images and captions of the split."""
    import numpy as np

    from vl_absvit.data.json_files import make_room, write_json
    from vl_absvit.distributed import is_main
    from vl_absvit.evaluation.chunk_store import FileChunkStore
    from vl_absvit.evaluation.retrieval_metrics import consecutive_folds, mean_measures, measures_of_folds
    from vl_absvit.main_process import in_main_process
    from vl_absvit.precision import DESCRIPTIONS, arithmetic
    from vl_absvit.tasks.retrieval_protocol import request_of
    from vl_absvit.tasks.retrieval_scores import pairs_at_once, score_gallery
    from vl_absvit.tasks.score_file import keep_scores

    if arguments.keep_scores:
        make_room(arguments.keep_scores)
    gallery = open_gallery(arguments, found)
    fold_of_image = consecutive_folds(len(gallery.image_ids), arguments.folds)
    largest = int(np.bincount(fold_of_image[gallery.image_of_caption]).max())  # captions of a fold
    size = None if arguments.shortlist == "all" else min(int(arguments.shortlist), largest)
    batch_size = arguments.batch_size or pairs_at_once(found.device)
    settings = {"split": arguments.split, "look": " ".join(arguments.look), "folds": arguments.folds}
    settings |= {"batch_size": batch_size, "precision": DESCRIPTIONS[arguments.precision]}
    if arguments.corrupt:
        settings["corruption"] = arguments.corrupt[0].words
    store = FileChunkStore(arguments.output)
    goes_on = in_main_process(lambda: store.start(request_of(found.folder, arguments.data, shortlist=size, **settings)))
    if goes_on and is_main():
        print(f"going on with the interrupted evaluation in {store.folder}")
    started = time.monotonic()
    with progress() as bar, arithmetic(arguments.precision, found.device):
        scores = score_gallery(
            found.checkpoint.model, gallery, look="first" if arguments.look == ["first"] else "second", size=size,
            bar=bar, folds=arguments.folds, batch_size=batch_size, num_workers=arguments.num_workers, store=store,
        )  # fmt: skip
    if not is_main():
        return
    seconds = round(time.monotonic() - started, 2)
    for look in arguments.look:
        ranks = ranks_by(look, scores, gallery, size, fold_of_image)
        of_folds = measures_of_folds(ranks, gallery.image_of_caption, fold_of_image)
        result = rounded(mean_measures(of_folds)) | describe(arguments, found, gallery, look, size)
        result |= {
            "pairs": 0 if look == "first" or scores.pairs is None else int(np.isfinite(scores.pairs).sum()),
            "seconds": seconds,
            "went_on_after_interruption": goes_on,
        }
        if arguments.folds > 1:
            result["per_fold"] = [rounded(fold) for fold in of_folds]
        if arguments.keep_scores:
            keep_scores(arguments.keep_scores, gallery, scores, ranks, fold_of_image)
        write_json(output_of(arguments, look), result, indent=1)
        report(result)
    store.remove()


def ranks_by(
    look: str, scores: "GalleryScores", gallery: "CaptionGallery", size: int | None, fold_of_image: "np.ndarray"
) -> "Ranks":
    """Ranks of all images and captions by the scores of a look."""
    from vl_absvit.evaluation.retrieval_metrics import retrieval_ranks, summed_scores

    if look == "first" or scores.pairs is None:
        return retrieval_ranks(scores.similarity, gallery.image_of_caption, fold_of_image=fold_of_image)
    whole = scores.pairs if look == "second" else summed_scores(scores.pairs, scores.similarity)
    return retrieval_ranks(whole, gallery.image_of_caption, scores.similarity, size, fold_of_image)


def output_of(arguments: argparse.Namespace, look: str) -> Path:
    """The file of a look's result: ``--output``, with the look's name behind its own if there are several."""
    output: Path = arguments.output
    return output if len(arguments.look) == 1 else output.with_stem(f"{output.stem}_{look}")


def open_gallery(arguments: argparse.Namespace, found: "Evaluated") -> "CaptionGallery":
    """The images and captions of the split.

    Raises:
        InputError: some lack their image, or there are fewer images than folds.
    """
    from vl_absvit.tasks.retrieval import make_gallery
    from vl_absvit.training.evaluated import refuse_incomplete

    checkpoint, corruption = found.checkpoint, next(iter(arguments.corrupt), None)
    gallery = make_gallery(
        arguments.data, arguments.split, checkpoint.tokenizer, checkpoint.preprocessing, arguments.images, corruption
    )
    refuse_incomplete(arguments, "captions", gallery.without_image, len(gallery.image_of_caption))
    if arguments.folds > len(gallery.image_ids):
        raise InputError(f"--folds: {arguments.split} has {len(gallery.image_ids)} images, got {arguments.folds} folds")
    return gallery


def describe(
    arguments: argparse.Namespace, found: "Evaluated", gallery: "CaptionGallery", look: str, size: int | None
) -> dict[str, Any]:
    """What was ranked by what.

    Args:
        look: of ``arguments.look``.
        size: candidates per query that the whole model judged; None means all pairs.
    """
    from vl_absvit.tasks.retrieval_protocol import describe_protocol

    protocol = describe_protocol(
        found.checkpoint, arguments.data, arguments.split, gallery, look, size, arguments.folds
    )
    corruption = next(iter(arguments.corrupt), None)
    if corruption is not None:
        protocol["protocol"] += f"; images corrupted, {corruption.words}"
    return {
        **protocol,
        "corruption": corruption and corruption.words,
        "precision": arguments.precision,
        "checkpoint": found.name,
    }


def report(result: Mapping[str, Any]) -> None:
    """Print recalls and ranks of both directions."""
    from rich.console import Console
    from rich.table import Table

    columns = ("R@1", "R@5", "R@10", "median rank", "mean rank")
    shown = Table(result["protocol"], *columns, caption=f"sum of recalls {result['rsum']:.2f}")
    for name, title in (("ir", "image retrieval"), ("tr", "text retrieval")):
        numbers = (f"{name}_r1", f"{name}_r5", f"{name}_r10", f"{name}_median_rank", f"{name}_mean_rank")
        shown.add_row(title, *(f"{result[number]:.2f}" for number in numbers))
    Console().print(shown)


def rounded(measured: Mapping[str, float]) -> dict[str, Any]:
    """Measures with four digits behind the point."""
    return {name: round(value, 4) for name, value in measured.items()}


def parse_arguments() -> argparse.Namespace:
    parser = evaluation_parser(
        __doc__,
        checkpoint="a retrieval checkpoint",
        data="folder written by vl-absvit prepare-captions",
        split="split to rank, such as test",
        batches="pairs per forward pass (default: 64 on a CPU, 256 on a GPU)",
        batch_size=None,
    )
    parser.add_argument(
        "--look", nargs="+", choices=("first", "second", "both"), default=["second"],
        help="dual encoder, whole model, or their sum (default: second); of several, each in a file of its own",
    )  # fmt: skip
    parser.add_argument(
        "--shortlist", default="128", metavar="K|all", help="candidates per query that the whole model judges (128)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="recalls and protocol, as JSON")
    parser.add_argument(
        "--folds", type=int, default=1, metavar="N", help="mean over N consecutive folds of the images (default: 1)"
    )
    parser.add_argument(
        "--keep-scores", type=Path, metavar="FILE.npz", help="also keep ids, scores and ranks, for numpy.load"
    )
    add_corruption_options(parser, several=False)
    arguments = parser.parse_args()
    if arguments.shortlist != "all" and not (arguments.shortlist.isascii() and arguments.shortlist.isdigit()):
        parser.error(f"--shortlist must be a positive number or all, got {arguments.shortlist}")
    if arguments.shortlist != "all" and int(arguments.shortlist) < 1:
        parser.error(f"--shortlist must be at least 1, got {arguments.shortlist}")
    if arguments.folds < 1:
        parser.error(f"--folds must be at least 1, got {arguments.folds}")
    if len(set(arguments.look)) < len(arguments.look):
        parser.error(f"--look names a look twice: {' '.join(arguments.look)}")
    if arguments.keep_scores and len(arguments.look) > 1:
        parser.error("--keep-scores keeps the ranks of one look; --look names several")
    if arguments.keep_scores == arguments.output:
        parser.error("--keep-scores and --output name the same file")
    check_loading_options(parser, arguments)
    arguments.corrupt = corruptions_of(parser, arguments)
    return arguments


if __name__ == "__main__":
    run_main(main)
