"""Feedback decoders fitted to images of a run's training set, the same in every process."""

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
from vl_absvit.tasks.base import in_groups

log = logging.getLogger(__name__)

IMAGES = 600
AT_ONCE = 16


def decoder_fit(
    train_set: TrainingDataset | StreamedQuestions, transform: ImageTransform, seed: int
) -> Callable[[VisualEncoder], str]:
    """A function that fits a trunk's decoders in closed form and returns words on the images that it used.

    All processes call it together: the main one looks at images and fits, the others take over what it found.

    Args:
        train_set: at most ``IMAGES`` of its images are looked at.
        transform: from pictures to the trunk's inputs, without augmentation.
        seed: of the choice of images.
    """

    def fit(vision: VisualEncoder) -> str:
        words = in_main_process(lambda: fit_decoders(vision, train_set.sample_images(IMAGES, seed, transform)))
        take_from_main([weight.data for decoder in vision.feedback_decoders for weight in decoder.parameters()])
        return f"{words} of the training set"

    return fit


def fit_decoders(vision: VisualEncoder, images: Iterator[Tensor]) -> str:
    """Fit a trunk's decoders to its first look at images, (3, H, W) each; says in words how many they were.

    A GPU takes part where there is one. The share of the variance that the decoders explain is logged.
    """
    home = next(vision.parameters()).device
    try:
        vision.to("cuda" if torch.cuda.is_available() else home)
        fitted = closed_form.fit_decoders(vision, map(torch.stack, in_groups(images, AT_ONCE)))
    finally:
        vision.to(home)
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
    return f"closed form, on {number} images"
