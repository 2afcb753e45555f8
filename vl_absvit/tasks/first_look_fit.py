"""Feedback decoders and mean token fitted to images of a run's training set, the same in every process."""

import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vl_absvit.data.loaders import TrainingDataset
from vl_absvit.data.streaming import StreamedQuestions
from vl_absvit.data.transforms import ImageTransform
from vl_absvit.distributed import take_from_main
from vl_absvit.main_process import in_main_process
from vl_absvit.models import closed_form
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.start_weights import Fit, Fittable
from vl_absvit.tasks.base import in_groups

log = logging.getLogger(__name__)

IMAGES = 600
AT_ONCE = 16


def first_look_fit(train_set: TrainingDataset | StreamedQuestions, transform: ImageTransform, seed: int) -> Fit:
    """A function that fits a part of a trunk in closed form and returns words on the images that it used.

    All processes call it together: the main one looks at images and fits, the others take over what it found.

    Args:
        train_set: at most ``IMAGES`` of its images are looked at.
        transform: from pictures to the trunk's inputs, without augmentation.
        seed: of the choice of images.
    """

    def fit(vision: VisualEncoder, part: Fittable) -> str:
        words = in_main_process(lambda: fit_part(vision, part, train_set.sample_images(IMAGES, seed, transform)))
        take_from_main([value for name, value in vision.state_dict().items() if name.startswith(part)])
        return f"{words} of the training set"

    return fit


def fit_part(vision: VisualEncoder, part: Fittable, images: Iterator[Tensor]) -> str:
    """Fit a part of a trunk to its first look at images, (3, H, W) each; says in words how many they were.

    A GPU takes part where there is one.
    """
    home = next(vision.parameters()).device
    try:
        vision.to("cuda" if torch.cuda.is_available() else home)
        number = FITS[part](vision, map(torch.stack, in_groups(images, AT_ONCE)))
    finally:
        vision.to(home)
    return f"closed form, on {number} images"


def _fit_decoders(vision: VisualEncoder, batches: Iterator[Tensor]) -> int:
    """Fit all decoders; logs the share of the variance that they explain, and returns the number of images."""
    fitted = closed_form.fit_decoders(vision, batches)
    number = int(fitted[-1].tokens) // vision.token_grid().tokens
    inputs, normed = (
        " ".join(f"{share:.2f}" for stage in fitted for share in getattr(stage, name).tolist())
        for name in ("inputs_explained", "normed_explained")
    )
    log.info(
        "decoders fitted to the first look at %d images; variance explained, first block first: inputs %s (R), "
        "normed inputs %s (T)",
        number,
        inputs,
        normed,
    )
    return number


FITS: dict[Fittable, Callable[[VisualEncoder, Iterator[Tensor]], int]] = {
    "decoders": _fit_decoders,
    "mean_token": closed_form.fit_mean_token,
}
