"""Pages of classified pixels: picture, prediction, label, mistakes; and a picture looked at for one class.

vl-absvit draw-segmentation --checkpoint DIR --data data/voc --split val --output PAGES --pictures 12
vl-absvit draw-segmentation --checkpoint DIR --data data/voc --split val --output PAGES --ask dog --ask sheep
DIR is a checkpoint of a finetuning on labelled pixels. With --ask the second look is steered by a class in place of the
trained query: the mean of the first look's tokens where the class is in pictures of --prior-split, by its share of
each patch, less the mean of all. A row for each class shows its prior mask, and the pixels that are given the class
under either prior.
PAGES gets a page for every picture, and drawing.json, which says how each class fares under either prior.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vl_absvit.cli import (
    OptionParser,
    add_checkpoint_option,
    add_device_option,
    add_images_option,
    add_precision_option,
    choose_device,
    progress,
    run_main,
)
from vl_absvit.errors import ConfigError, InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from vl_absvit.data.labelled_pixels import LabelledPictures
    from vl_absvit.looking.segmentation_pages import Steered
    from vl_absvit.tasks.segmenter_checkpoint import SegmenterCheckpoint


def main() -> None:
    arguments = parse_arguments()
    import numpy as np

    from vl_absvit.commands.evaluate_segmentation import check_classes
    from vl_absvit.data.files import check_new_or_empty, write_whole
    from vl_absvit.data.json_files import write_json
    from vl_absvit.data.labelled_pixels import LabelledPictures, PictureDataset
    from vl_absvit.hub import find
    from vl_absvit.looking.segmentation_pages import page
    from vl_absvit.precision import arithmetic
    from vl_absvit.tasks.segmentation import SegmentationTask
    from vl_absvit.tasks.segmentation_evaluation import predict, showing_of

    check_new_or_empty(arguments.output)
    found = find(arguments.checkpoint, "--checkpoint")
    checkpoint: SegmenterCheckpoint = SegmentationTask.load(found.path)
    device = choose_device(arguments.device)
    model = checkpoint.model.to(device)
    model.vision.fold()
    pictures = LabelledPictures(arguments.data, [arguments.split], arguments.images)
    check_classes(checkpoint.classes, pictures.classes, found.name, arguments.data)
    asked = asked_for(arguments, checkpoint)
    showing = showing_of(checkpoint.pictures, checkpoint.vision)
    dataset = PictureDataset(pictures, checkpoint.transform)
    chosen = np.linspace(0, len(dataset) - 1, min(arguments.pictures, len(dataset))).round().astype(int).tolist()
    entries = []
    with progress() as bar, arithmetic(arguments.precision, device):
        priors = priors_of(arguments, checkpoint, asked, bar) if asked else {}
        for place in bar.track(chosen, total=len(chosen), description="drawing"):
            (shown,) = dataset.__getitems__([place])
            picture, name = pictures.open(place)[0], pictures.names[place]
            prediction = predict(model, shown, showing)
            steered = [steer(checkpoint, shown, priors[one], one, prediction) for one in asked]
            drawn = page(
                picture, prediction, shown.label, pictures.classes, pictures.colours, steered, f"{name}, {found.name}"
            )
            write_whole(arguments.output / f"{name}.png", partial(drawn.save, format="PNG"))
            entries.append({"name": name} | {"asked": {one.name: fares(one, shown.label, pictures) for one in steered}})
    content = {
        "checkpoint": found.name,
        "data": str(arguments.data),
        "split": arguments.split,
        "precision": arguments.precision,
        "pictures": entries,
        "definitions": {
            "prior": "mean of the first look's tokens, each by the share of its patch that the class covers, less the "
            "mean of all patches",
            "iou": "of the class with its label, under its prior and under the trained query, in percent; null where "
            "it is neither labelled nor found",
            "mask": "mean prior mask where the class is labelled, and elsewhere",
        },
    }
    write_json(arguments.output / "drawing.json", content, indent=1)
    print(f"{len(entries):,} pages in {arguments.output}")


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "a segmenter's checkpoint")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="prepared labelled pixels")
    parser.add_argument("--split", default="val", help="split whose pictures are drawn (default: val)")
    add_images_option(parser)
    parser.add_argument("--pictures", type=int, default=8, metavar="N", help="evenly over the split (default: 8)")
    parser.add_argument("--ask", action="append", default=[], metavar="CLASS", help="steer by it; once for every class")
    parser.add_argument("--prior-split", default="train", help="split that priors of classes are made of (train)")
    parser.add_argument(
        "--prior-pictures", type=int, default=200, metavar="N", help="pictures of it at most, evenly (default: 200)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="PAGES", help="folder to write, new or empty")
    add_device_option(parser)
    add_precision_option(parser)
    arguments = parser.parse_args()
    for option in ("pictures", "prior_pictures"):
        if getattr(arguments, option) < 1:
            parser.error(f"--{option.replace('_', '-')} must be at least 1")
    return arguments


def asked_for(arguments: argparse.Namespace, checkpoint: "SegmenterCheckpoint") -> list[str]:
    """The classes that the command line asks for.

    Raises:
        ConfigError: there is no such class, or the encoder cannot be steered.
    """
    asked, model = list(dict.fromkeys(arguments.ask)), checkpoint.model
    for name in asked:
        if name not in checkpoint.classes:
            raise ConfigError(
                f"--ask {name!r:.60}: expected a class of the checkpoint, such as {', '.join(checkpoint.classes[:5])}"
            )
    if asked and not model.vision.uses_prior:
        raise ConfigError(f"--ask: the checkpoint's encoder, {model.vision.variant.label}, uses no prior")
    if asked and not model.takes_any_size:
        raise ConfigError("--ask: the checkpoint's encoder takes images of its own size alone, and is shown windows")
    return asked


def priors_of(
    arguments: argparse.Namespace, checkpoint: "SegmenterCheckpoint", asked: list[str], bar: Any
) -> "dict[str, Tensor]":
    """The prior of each asked class.

    Raises:
        InputError: the pictures that priors are made of have no pixel of a class.
    """
    import numpy as np

    from vl_absvit.data.labelled_pixels import LabelledPictures
    from vl_absvit.looking.class_prior import class_priors

    pictures = LabelledPictures(arguments.data, [arguments.prior_split], arguments.images)
    pictures.check_labelled([arguments.prior_split])
    number = min(arguments.prior_pictures, len(pictures))
    places = np.linspace(0, len(pictures) - 1, number).round().astype(int).tolist()
    made = bar.track(inputs(pictures, checkpoint, places), total=number, description="priors of classes")
    found = class_priors(checkpoint.model, made)
    rows = {name: checkpoint.classes.index(name) for name in asked}
    missing = [name for name, row in rows.items() if not found.patches[row]]
    if missing:
        raise InputError(
            f"{arguments.data}: {number} pictures of {arguments.prior_split} have no pixel of {', '.join(missing)}; "
            "raise --prior-pictures"
        )
    return {name: found.vectors[row] for name, row in rows.items()}


def inputs(
    pictures: "LabelledPictures", checkpoint: "SegmenterCheckpoint", places: list[int]
) -> "Iterator[tuple[Tensor, np.ndarray]]":
    """The model's inputs, and labels of their size."""
    import torch

    from vl_absvit.data.pixel_transforms import resize_label

    for place in places:
        picture, label = pictures.open(place)
        assert label is not None, "the split is labelled"
        image = checkpoint.transform(picture)[None]
        size = (image.shape[-2], image.shape[-1])
        yield image, resize_label(torch.from_numpy(label.copy()), size).numpy()


def steer(
    checkpoint: "SegmenterCheckpoint", shown: Any, prior: "Tensor", name: str, prediction: "np.ndarray"
) -> "Steered":
    """What a class as a prior brings out of a picture, which is shown whole."""
    import torch

    from vl_absvit.looking.segmentation_pages import Steered
    from vl_absvit.models.pixel_scores import enlarge
    from vl_absvit.tasks.segmentation_evaluation import Showing, covered_by, predict

    model, row, image = checkpoint.model, checkpoint.classes.index(name), shown.views[0]
    device = next(model.parameters()).device
    found = predict(model, shown, Showing(border=checkpoint.pictures.border), prior.to(device))
    with torch.no_grad():
        looks = model.vision.look_twice(image.to(device), prior.to(device)[None])
    assert looks.prior_mask is not None, "the encoder uses a prior"
    size = (image.shape[-2], image.shape[-1])
    on_grid = looks.prior_mask[:, model.vision.num_prefix_tokens :].unflatten(1, (1, *model.vision.grids(size)[-1]))
    mask = enlarge(on_grid.float(), covered_by(model, size))[..., : size[0], : size[1]]
    return Steered(name, enlarge(mask, shown.size)[0, 0].cpu().numpy(), found == row, prediction == row)


def fares(steered: "Steered", label: "np.ndarray | None", pictures: "LabelledPictures") -> dict[str, Any] | None:
    """How a class fares under its own prior and under the trained query; None without a label."""
    from vl_absvit.data.segmentation_labels import VOID

    if label is None:
        return None
    true, valid = label == pictures.classes.index(steered.name), label != VOID

    def iou(found: Any) -> float | None:
        either = ((found | true) & valid).sum()
        return 100 * float((found & true & valid).sum() / either) if either else None

    def mean(where: Any) -> float | None:
        return float(steered.mask[where].mean()) if where.any() else None

    return {
        "iou": iou(steered.found),
        "iou_of_the_trained_query": iou(steered.before),
        "mask_on_the_class": mean(true),
        "mask_elsewhere": mean(valid & ~true),
    }


if __name__ == "__main__":
    run_main(main)
