"""Images attacked through a classifier, the judged one or another. Shapes: I images, C judged classes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vl_absvit.errors import InputError
from vl_absvit.evaluation.attack_plan import Attack
from vl_absvit.evaluation.attacks import attack_pictures, pixel_scale
from vl_absvit.models.heads import Classifier
from vl_absvit.precision import without_autocast
from vl_absvit.tasks.classifier_checkpoint import load_classifier
from vl_absvit.tasks.vision_evaluation import JudgedClasses, Preparation, judged_classes, preparation


class Source(NamedTuple):
    """A classifier whose gradients an attack follows."""

    model: Classifier  # in evaluation mode
    columns: np.ndarray  # (C,), its logit of each judged class
    prepared: Preparation

    def attack(self, images: Tensor, labels: Tensor, places: list[int], attack: Attack) -> Tensor:
        """The attacked images, (I, 3, H, W). Gradients are of the cross-entropy over the judged classes, in fp32.

        Args:
            labels: place of every image's class among the judged ones, (I,).
            places: of the images in their data set.

        Raises:
            InputError: a loss or its gradient is not finite.
        """
        columns = torch.from_numpy(self.columns).to(images.device)
        scale = pixel_scale(self.prepared.image_mean, self.prepared.image_std, images)

        def logits_of(pictures: Tensor) -> Tensor:
            return self.model(pictures).last_logits[:, columns]

        def is_right(pictures: Tensor) -> Tensor:
            """Whether the class is ahead of all others, as the evaluation counts."""
            logits = logits_of(pictures)
            return ((logits >= logits.gather(1, own)).sum(dim=1) == 1).to(logits)

        own = labels[:, None]
        with without_autocast(images.device):
            if attack.targeted:
                labels = logits_of(images).argmin(dim=1)
            try:
                return attack_pictures(
                    images, lambda pictures: F.cross_entropy(logits_of(pictures), labels, reduction="none"), is_right,
                    attack, scale, places,
                )  # fmt: skip
            except FloatingPointError as error:
                raise InputError(f"image {places[0]} of the data and others of its batch: {error}") from error


def other_source(
    folder: Path, classes: JudgedClasses, subset: str | None, prepared: Preparation, device: torch.device
) -> Source:
    """Another checkpoint as the source of attacks on a judged one.

    Args:
        classes: that are judged.
        prepared: of the judged checkpoint.

    Raises:
        InputError: it has other classes, or takes other pictures.
    """
    checkpoint = load_classifier(folder)
    own = judged_classes(checkpoint.classes, subset, folder)
    if sorted(own.names) != sorted(classes.names):
        raise InputError(f"{folder}: expected the {len(classes.names)} classes of the judged checkpoint, it has others")
    theirs = preparation(folder, checkpoint, already_cut=False)
    if _inputs(theirs) != _inputs(prepared):
        raise InputError(
            f"{folder}: expected pictures of {_inputs(prepared)} as the judged checkpoint takes, got {_inputs(theirs)}"
        )
    column_of = dict(zip(own.names, own.columns, strict=True))
    columns = np.array([column_of[name] for name in classes.names])
    return Source(checkpoint.model.to(device), columns, theirs)


def _inputs(prepared: Preparation) -> str:
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in prepared[2:])
    return f"{prepared.image_size} of {prepared.transform.resized_to} px, mean {mean}, std {std}"
