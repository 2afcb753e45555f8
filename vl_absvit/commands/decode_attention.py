"""What the feedback brings to the first block, as pictures: a linear decoder from its input z_0 to pixels.

vl-absvit decode-attention --checkpoint runs/vqa/checkpoints/best --data OUT --split val --output DIR \\
    --image a.jpg --text "What colour is the star?" --text "What colour is the ring?"
vl-absvit decode-attention --checkpoint runs/vqa/checkpoints/best --data OUT --split val --questions 60 \\
    --output DIR

The run's vision.top_down must be absvit, absvit_qkv or feedback; the last knows no text and takes no --text. The
decoder is fitted on images of --fit-split and judged on images of --split; where R^2 is low the pictures mean little.

DIR gets, for every picture, a page <name>.png and the arrays behind it, <name>.npz: image, bottom_up (decoded z_0),
top_down (for every text, what r_1 adds to the pixels) and sum (decoded z_0 + r_1), RGB in [0, 1]. decoding.json says
how they were made. Top-down is drawn as a change of mid-grey, with one factor for all texts of a picture that lets the
strongest hundredth of all changes reach black or white: texts can be compared, and the strength alpha does not show.
Image, bottom-up and sum are drawn as they are, cut off at black and white: alpha shows in the sum.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from math import ceil, isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vl_absvit.cli import (
    OptionParser,
    add_checkpoint_option,
    add_images_option,
    add_precision_option,
    progress,
    run_main,
)
from vl_absvit.data.files import write_whole
from vl_absvit.data.json_files import write_json
from vl_absvit.errors import ConfigError, InputError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from vl_absvit.data.records import ImageTable
    from vl_absvit.looking.decoded_pictures import Decoded
    from vl_absvit.looking.linear_decoder import LinearDecoder
    from vl_absvit.tasks.vl_checkpoint import VLCheckpoint

NOTE = "Top-down: what the feedback adds to the decoded input, as a change of mid-grey, one factor for all texts."
DEFINITIONS = {
    "decoder": "x_i = A (z_0,i - p_i) + c for the pixels x_i and the position p_i of patch i; ridge least squares",
    "ridge": "added to the variances of z_0 - p, as a share of their mean",
    "r2": "1 - squared error of decoded images of --split over that of the mean patch of the images of --fit-split",
    "psnr": "of the same images in dB, pixels between 0 and 1",
    "bottom_up": "decoded z_0, the first block's own input",
    "top_down": "A r_1: what the pixels gain when r_1 = R_1 ... R_L u, the reconstruction of z_0 that the feedback "
    "makes of the modulated tokens u, is added to z_0. T_1 r_1, which enters the attention, is not in z_0's space",
    "sum": "decoded z_0 + r_1, which is bottom_up + top_down",
    "scale": "top_down is drawn as mid-grey + scale * top_down, the same for all texts of a picture: the strongest "
    "hundredth of the changes reaches black or white. Image, bottom_up and sum are drawn as they are, cut off there",
    "largest": "change of a pixel value that a text's top_down makes; in proportion to the gain",
}


class Subject(NamedTuple):
    """A picture and what is asked about it."""

    name: str  # of its files
    source: Path | int  # file, or id in the prepared data
    texts: list[str]


def main() -> None:
    arguments = parse_arguments()
    import torch

    from vl_absvit.data.files import check_new_or_empty
    from vl_absvit.data.records import ImageTable
    from vl_absvit.hub import find
    from vl_absvit.looking.decoded_pictures import decode_image, load_decodable
    from vl_absvit.looking.linear_decoder import RIDGE
    from vl_absvit.precision import arithmetic
    from vl_absvit.tasks.vl_checkpoint import priors_of

    if arguments.ridge is None:
        arguments.ridge = RIDGE
    check_new_or_empty(arguments.output)
    arguments.output.mkdir(parents=True, exist_ok=True)  # now: a folder that cannot be made stops before the fit
    found = find(arguments.checkpoint, "--checkpoint")
    checkpoint = load_decodable(found.path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vision = checkpoint.model.to(device).vision
    if arguments.image is not None and vision.uses_prior != bool(arguments.text):
        needs = "at least one --text, which steers it" if vision.uses_prior else "no --text: none has a say"
        raise ConfigError(f"command line: the checkpoint's encoder, {vision.variant.label}, takes {needs}")
    images = ImageTable(arguments.data, arguments.images)
    fit_ids, held_out_ids = choose_images(arguments, images)
    subjects = name_subjects(arguments, images, vision.uses_prior)
    pictures = []
    with arithmetic(arguments.precision, device):
        # A text that the model cannot read stops here, before the fit.
        priors = [priors_of(checkpoint, subject.texts) if vision.uses_prior else None for subject in subjects]
        decoder, fit = fit_and_judge(checkpoint, images, fit_ids, held_out_ids, arguments)
        with progress() as bar:
            asked = zip(subjects, priors, strict=True)
            for subject, prior in bar.track(asked, total=len(subjects), description="decoding"):
                decoded = decode_image(checkpoint, decoder, open_picture(subject.source, images), prior)
                pictures.append(write_picture(subject, decoded, arguments.output))
    content = {
        "checkpoint": found.name,
        "top_down": vision.variant.label,
        "gain": vision.modulate.keywords["gain"],
        "precision": arguments.precision,
        "data": str(arguments.data),
        **fit,
        "pictures": pictures,
        "definitions": DEFINITIONS,
    }
    write_json(arguments.output / "decoding.json", content, indent=1)
    print(f"{len(pictures):,} pages in {arguments.output}")


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "a VQA or retrieval checkpoint")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="OUT", help="folder written by vl-absvit prepare-..."
    )
    add_images_option(parser)
    parser.add_argument(
        "--split", required=True, help="split whose images are drawn and judge the decoder, such as val"
    )
    parser.add_argument("--fit-split", default="train", help="split that the decoder is fitted on (default: train)")
    parser.add_argument(
        "--fit-images", type=int, default=500,
        help="images to fit it on, and at most as many to judge it on, evenly over the split (default: 500)",
    )  # fmt: skip
    parser.add_argument("--ridge", type=float, help=f"{DEFINITIONS['ridge']} (default: a thousandth)")
    parser.add_argument("--image", metavar="FILE_OR_ID", help="a picture, or the id of an image of --split")
    parser.add_argument(
        "--text", action="append", default=[], help="what to ask about --image; give it once for every text"
    )
    parser.add_argument("--questions", type=int, metavar="N", help="the first N questions of --split instead")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write, new or empty")
    parser.add_argument("--batch-size", type=int, default=32, help="images per pass of the fit (default: 32)")
    add_precision_option(parser)
    arguments = parser.parse_args()
    if (arguments.image is None) == (arguments.questions is None) or (arguments.text and arguments.image is None):
        parser.error("give --image with its --text, or --questions")
    check_texts(parser, arguments.text)
    for option in ("questions", "fit_images", "batch_size"):
        if (value := getattr(arguments, option)) is not None and value < 1:
            parser.error(f"--{option.replace('_', '-')} must be at least 1")
    if arguments.ridge is not None and not (isfinite(arguments.ridge) and arguments.ridge > 0):
        parser.error("--ridge must be a number above 0")
    if arguments.fit_split == arguments.split:
        parser.error(
            f"--fit-split and --split are both {arguments.split!r}: the decoder must be judged on other images"
        )
    return arguments


def check_texts(parser: OptionParser, texts: Sequence[str]) -> None:
    """Complain of texts that cannot be asked."""
    from vl_absvit.looking.pages import MAX_PRIORS

    if not all(text.strip() for text in texts):
        parser.error("--text: a text is empty")
    if len(set(texts)) < len(texts) or len(texts) > MAX_PRIORS:
        parser.error(f"--text: expected at most {MAX_PRIORS} different ones, got {len(texts)}")
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        parser.error(f"--text: expected texts that UTF-8 can hold: {error.reason}")


def name_subjects(arguments: argparse.Namespace, images: ImageTable, uses_prior: bool) -> list[Subject]:
    """The pictures that the command line names, each with its texts; with none where none has a say."""
    from vl_absvit.tasks.trunk_file import images_of_split

    if arguments.questions is not None:
        texts_of = questions_by_image(arguments, images)
        return [Subject(str(key), key, texts if uses_prior else []) for key, texts in texts_of.items()]
    file = Path(arguments.image)
    if file.exists() or not arguments.image.isdecimal():
        open_picture(file, images)  # what is wrong with it is said before the fit
        return [Subject(file.stem, file, arguments.text)]
    source = int(arguments.image)
    if source not in images_of_split(arguments.data, arguments.split, images):
        raise InputError(
            f"{arguments.data}: there is no image {source} in {arguments.split}, nor is there a file of that name"
        )
    return [Subject(str(source), source, arguments.text)]


def questions_by_image(arguments: argparse.Namespace, images: ImageTable) -> dict[int, list[str]]:
    """The first questions of the split that have an image, by the image's id."""
    import numpy as np

    from vl_absvit.data.records import read_questions

    table, wanted = read_questions(arguments.data, [arguments.split]), arguments.questions
    rows = np.flatnonzero(np.isin(table.data.column("image_id").to_numpy(), images.available))
    if len(rows) < wanted:
        raise ConfigError(
            f"command line: --questions {wanted:,}, but {arguments.split} has {len(rows):,} questions with an image"
        )
    asked = table[rows[:wanted]]
    texts_of: dict[int, list[str]] = {}
    for image_id, text in zip(asked["image_id"], asked["question"], strict=True):
        texts_of.setdefault(image_id, []).append(text)
    return texts_of


def open_picture(source: Path | int, images: ImageTable) -> Image.Image:
    """An image of the prepared data, or a file, as upright RGB."""
    from vl_absvit.data.rgb import open_rgb

    return images.open([source])[0] if isinstance(source, int) else open_rgb(source)


def choose_images(arguments: argparse.Namespace, images: ImageTable) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the images to fit the decoder on and to judge it on."""
    import numpy as np

    from vl_absvit.tasks.trunk_file import images_of_split

    fit_ids, held_out_ids = (
        evenly(images_of_split(arguments.data, split, images), arguments.fit_images)
        for split in (arguments.fit_split, arguments.split)
    )
    if len(shared := np.intersect1d(fit_ids, held_out_ids)):
        raise InputError(
            f"{arguments.data}: {len(shared):,} images are both in {arguments.fit_split} and in {arguments.split}, "
            f"e.g. {shared[0]}; the decoder must be judged on other images than it is fitted on"
        )
    return fit_ids, held_out_ids


def evenly(ids: np.ndarray, count: int) -> np.ndarray:
    """So many of the ids, at even distances; all of them if there are fewer."""
    import numpy as np

    return ids[np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)]


def fit_and_judge(
    checkpoint: VLCheckpoint,
    images: ImageTable,
    fit_ids: np.ndarray,
    held_out_ids: np.ndarray,
    arguments: argparse.Namespace,
) -> tuple[LinearDecoder, dict[str, Any]]:
    """The decoder, and how it was made and how good it is, as JSON."""

    from vl_absvit.looking.decoded_pictures import tokens_and_patches
    from vl_absvit.looking.linear_decoder import fit_decoder, judge_decoder

    def read(ids: np.ndarray, description: str) -> Iterable[tuple[Tensor, Tensor]]:
        batches = tokens_and_patches(checkpoint, images, ids.tolist(), arguments.batch_size)
        return bar.track(batches, total=ceil(len(ids) / arguments.batch_size), description=description)

    with progress() as bar:
        try:
            decoder = fit_decoder(read(fit_ids, "fitting"), checkpoint.model.vision.positions(), arguments.ridge)
        except InputError as error:
            raise InputError(f"{arguments.data}: {len(fit_ids):,} images of {arguments.fit_split}: {error}") from error
        quality = judge_decoder(decoder, read(held_out_ids, "judging"))
    print(f"decoder fitted on {len(fit_ids):,} images of {arguments.fit_split}")
    r2 = "undefined, all patches are the same" if quality.r2 is None else f"{quality.r2:.3f}"
    psnr = "infinite" if quality.psnr is None else f"{quality.psnr:.1f} dB"
    print(f"on {len(held_out_ids):,} images of {arguments.split}: R^2 {r2}, PSNR {psnr}")
    return decoder, {
        "fit_split": arguments.fit_split,
        "fit_images": len(fit_ids),
        "fit_patches": len(fit_ids) * prod(checkpoint.model.vision.grids()[0]),
        "ridge": arguments.ridge,
        "held_out": {"split": arguments.split, "images": len(held_out_ids), **quality._asdict()},
    }


def write_picture(subject: Subject, decoded: Decoded, folder: Path) -> dict[str, Any]:
    """The page and the arrays of one picture; returns its entry in decoding.json."""
    import numpy as np

    from vl_absvit.looking.linear_decoder import shared_scale
    from vl_absvit.looking.pages import DecodedPrior, decoded_page

    scale, titles = shared_scale(decoded.top_down), subject.texts or ["no prior"]
    priors = [DecodedPrior(*pixels) for pixels in zip(titles, decoded.top_down, decoded.sum, strict=True)]
    page = decoded_page(decoded.image, decoded.bottom_up, priors, scale=scale, note=NOTE)
    write_whole(folder / f"{subject.name}.png", lambda stream: page.save(stream, "PNG"))
    arrays: dict[str, Any] = {name: np.asarray(value, dtype=np.float32) for name, value in decoded._asdict().items()}
    write_whole(folder / f"{subject.name}.npz", lambda stream: np.savez_compressed(stream, **arrays))
    return {
        "name": subject.name,
        "image": subject.source if isinstance(subject.source, int) else str(subject.source),
        "texts": subject.texts,
        "scale": scale,
        "largest": np.abs(decoded.top_down).max(axis=(1, 2, 3)).tolist(),
    }


if __name__ == "__main__":
    run_main(main)
