"""Image classification with a trainable query as prior: pretraining of the visual encoder [AbS 2.5]."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from safetensors import SafetensorError
from torch import Tensor, nn

from vl_absvit.config import OptimConfig, PretrainConfig, VisionConfig
from vl_absvit.data.augmentation import MixedDataset, imagenet_transform
from vl_absvit.data.class_folders import ImageBatch, ImageFolderDataset, MosaicDataset
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.data.loaders import evaluation_loader, samples_per_pass
from vl_absvit.data.transforms import ImageTransform, image_transform
from vl_absvit.distributed import gather_objects, rank, world_size
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.losses import class_loss
from vl_absvit.models.build import build_classifier, build_random_classifier, image_statistics
from vl_absvit.models.heads import Classifier, ClassifierOutput
from vl_absvit.models.labels import LabelMatch, match_labels
from vl_absvit.models.released.imagenet import POOLING_THEN_NORM, named_for_pooling
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.base import (
    decoder_losses_of,
    decoder_terms,
    leave_at_rest,
    new_run_from,
    say_what_is_left_out,
)
from vl_absvit.tasks.checkpoint import TRAINING, origin_of
from vl_absvit.tasks.decoder_fit import decoder_fit
from vl_absvit.tasks.going_on import check_same_data, history, without_sources
from vl_absvit.tasks.sources import fetched

log = logging.getLogger(__name__)

CONFIG, WEIGHTS, STATISTICS = "config.json", "model.safetensors", "preprocessor_config.json"
POOLINGS = {"token": ("token", False), "avg": ("avg", False), POOLING_THEN_NORM: ("avg", True)}
"""What is pooled, and whether the final norm stands after the pooling (classifiers of the authors' release)."""


class ClassificationTask:
    """Pretraining on an image folder; see ``tasks.base.Task`` for what each method owes the loop."""

    select_metric = "top1"

    def __init__(self, config: PretrainConfig, checkpoint: Path | None = None) -> None:
        """
        Args:
            checkpoint: of this run, to go on from.
        """
        config = self.config = fetched(config) if checkpoint is None else without_sources(config, checkpoint)
        data, mixing, seed = config.data, config.augmentation, config.run.seed
        if mixing.mixes:
            _check_pairs(config.optim)
        transform, plain = _transforms(config)
        self.train_set = images = ImageFolderDataset(
            data.root, data.train_splits, transform, augmented=transform.is_random, seed=seed
        )
        content = {"+".join(data.train_splits): images.files.content()}
        if config.mosaic > 1:
            self.train_set = MosaicDataset(self.train_set, config.mosaic, seed)
        if mixing.mixes:
            self.train_set = MixedDataset(self.train_set, mixup=mixing.mixup, cutmix=mixing.cutmix, seed=seed)
        self.select_set = None
        if data.select_split is not None:
            self.select_set = ImageFolderDataset(data.root, [data.select_split], plain)
            content[data.select_split] = self.select_set.files.content()
            if self.select_set.classes != self.train_set.classes:
                raise InputError(f"{data.root}: {data.select_split} has other classes than {data.train_splits[0]}")
            if config.mosaic > 1:
                self.select_set = MosaicDataset(self.select_set, config.mosaic, seed=None)
        self._data = _describe_data(config, content)
        self.training = self._data if checkpoint is None else history(checkpoint, self._data)
        torch.manual_seed(seed)
        classes = match_classes(config.vision.weights, self.train_set.classes)
        # A run that goes on has no start weights, so that nothing is fitted.
        fit = decoder_fit(self.train_set, plain, seed)
        self.model = build_classifier(config, len(self.train_set.classes), classes, fit)
        say_what_is_left_out(config, self.model, has_prior=False)
        leave_at_rest(config, self.model, self.lr_of())

    def look_ahead(self, batches: Sequence[ImageBatch], seeds: Sequence[int]) -> list[None]:
        return [None] * len(batches)

    def losses(self, model: nn.Module, batch: ImageBatch, ahead: None = None) -> dict[str, Tensor]:
        with arithmetic(self.config.run.precision, batch.images.device):
            out = model(batch.images, **decoder_losses_of(self.config, self.model.vision))
        targets = batch.targets  # (I, classes)
        if targets is None:
            targets = F.one_hot(batch.labels, len(self.train_set.classes)).float().mean(dim=1)
        smoothing = self.config.augmentation.label_smoothing
        return {"classification": classification_loss(out, targets, smoothing)} | decoder_terms(self.config, out)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float] | None:
        """Share of images of the selection split whose class has the highest logit in the last look, in percent.

        Where training images are mosaics, an image is shown in all cells of one.
        """
        if self.select_set is None:
            return None
        optim = self.config.optim
        loader = evaluation_loader(
            self.select_set,
            batch_size=samples_per_pass(optim.batch_size, optim.micro_batch_size, world_size()),
            rank=rank(),
            world_size=world_size(),
            num_workers=self.config.data.num_workers,
        )
        records: list[tuple[int, bool]] = []
        device = next(model.parameters()).device
        with arithmetic(self.config.run.precision, device), self.model.vision.weights_stay():
            for batch in loader:
                indices = batch.indices.tolist()
                batch = send_to_device(batch, device, non_blocking=True)
                out = model(batch.images)
                logits = out.first_logits if out.second_logits is None else out.second_logits
                # Ties count against the model: no class but its own is level with an image's own.
                own = logits.gather(1, batch.labels[:, :1])
                is_right = (logits >= own).sum(dim=1) == 1
                records += zip(indices, is_right.tolist(), strict=True)
        records = gather_objects(records)
        assert sorted(index for index, _ in records) == list(range(len(self.select_set))), "each image exactly once"
        return {"top1": 100 * sum(correct for _, correct in records) / len(records)}

    def lr_of(self) -> dict[str, float]:
        rates = self.config.optim.learning_rates
        lr_of = {"vision": rates.vision, "vision.head": rates.head}
        if self.model.vision.feeds_back:
            lr_of["vision.decoders"] = rates.feedback
        if self.model.vision.uses_prior:
            lr_of["vision.prior"] = rates.prior
        return lr_of

    def save(self, folder: Path) -> None:
        """The encoder's weights, ready for ``vision.weights``, with its configuration, classes and pixel statistics."""
        safetensors.torch.save_model(self.model, str(folder / WEIGHTS))
        vision = asdict(replace(self.config.vision, weights=None, gradient_checkpointing=False))
        del vision["decoders"]  # of how training starts
        content = {"format": 1, "vision": vision, "pooling": self.config.pooling, "classes": self.train_set.classes}
        write_json(folder / CONFIG, content, indent=1)
        write_json(folder / STATISTICS, _statistics(self.config.vision, self.config.crop_pct), indent=1)
        write_json(folder / TRAINING, self.training, indent=1)

    def check_saved(self, folder: Path) -> None:
        saved = read_json(folder / CONFIG, dict).get("classes")
        if saved != self.train_set.classes:
            raise InputError(
                f"{self.config.data.root} has other classes than checkpoint {folder}; bring back the data as it was to "
                f"go on, or {new_run_from(folder, '--vision.weights')}"
            )
        check_same_data(self._data, self.config.data.root, folder, "--vision.weights")


def _describe_data(config: PretrainConfig, content: dict[str, str]) -> dict[str, Any]:
    """What a run trains and selects on, and what its weights come from, as ``training.json`` says it."""
    return {
        "task": "classification",
        "dataset": "images in folders",
        "splits": list(config.data.train_splits),
        "selected_on": config.data.select_split,
        "content": content,
        "vision_weights": origin_of(config.vision.weights),
        "start": None,
    }


def match_classes(weights: str | None, classes: Sequence[str]) -> LabelMatch | None:
    """The classes of a run beside those of the pretrained classifier that ``vision.weights`` names, and a line on both.

    None where that is something else, or nobody knows its classes.
    """
    file = None if weights is None else Path(weights) / CONFIG
    if file is None or not file.is_file():
        return None
    try:
        before = _classes_in(read_json(file, dict))
    except InputError:  # other programs' configurations need not be as strict as ours
        return None
    if before is None:
        return None
    match = match_labels(before, classes)
    if not match.is_identity:
        log.info("vision.weights %s has other classes: %s", weights, match.describe("classes"))
    return match


def _classes_in(content: dict) -> list[str] | None:
    """The names of a classifier's rows in its ``config.json``, if it is one of ours."""
    classes = content.get("classes")
    is_list = isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)
    return classes if is_list and content.get("format") == 1 and content.get("pooling") in POOLINGS else None


class ClassifierCheckpoint(NamedTuple):
    """A pretrained encoder with the head that it was pretrained with."""

    model: Classifier
    transform: ImageTransform  # from pictures to the model's inputs
    classes: list[str]  # of the head's rows


def load_classifier(folder: str | Path) -> ClassifierCheckpoint:
    """Read a checkpoint folder of a pretraining run; the model is in evaluation mode.

    Raises ``InputError`` where a part is missing, the weights do not fit, or the folder holds something else.
    """
    folder = Path(folder)
    content = read_json(folder / CONFIG, dict)
    classes = _classes_in(content)
    if classes is None:
        raise InputError(
            f"{folder / CONFIG}: expected a pretrained classifier of format 1 with its vision, pooling and classes, "
            f"got {sorted(content)[:6]}"
        )
    try:
        config = VisionConfig(**content["vision"])
        pooling, norm_follows = POOLINGS[content["pooling"]]
        model = build_random_classifier(config, len(classes), pooling=pooling, norm_follows=norm_follows)
    except (ConfigError, TypeError, KeyError, ValueError) as error:
        raise InputError(f"{folder / CONFIG}: not the vision of a classifier: {error}") from error
    try:
        state = safetensors.torch.load_file(folder / WEIGHTS)
        model.load_state_dict(named_for_pooling(state, content["pooling"]))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / WEIGHTS}: does not fit the vision in {CONFIG} beside it: {reason:.300}") from error
    crop_pct = _read_crop_pct(folder / STATISTICS, config)
    transform = image_transform(config.image_size, *image_statistics(config), crop_pct=crop_pct)
    return ClassifierCheckpoint(model.eval(), transform, classes)


def _statistics(config: VisionConfig, crop_pct: float) -> dict:
    """Size, pixel statistics and crop of the encoder's input, as JSON has them."""
    mean, std = image_statistics(config)
    return {
        "image_size": config.image_size, "image_mean": list(mean), "image_std": list(std), "crop_pct": crop_pct
    }  # fmt: skip


def _read_crop_pct(path: Path, config: VisionConfig) -> float:
    """The crop that a folder's statistics say, if the rest of them is the encoder's."""
    found = read_json(path, dict)
    # Older folders, and converted ones, do not have it: they show the whole shorter side.
    expected = _statistics(config, crop_pct := found.get("crop_pct", 1.0))
    if {"crop_pct": crop_pct} | found != expected:
        raise InputError(f"{path}: expected {expected}, as {CONFIG} beside it says, got {found}")
    if type(crop_pct) not in (int, float) or not 0 < crop_pct <= 1:
        raise InputError(f"{path}: expected crop_pct to be a number in (0, 1], got {crop_pct!r:.60}")
    return crop_pct


def _transforms(config: PretrainConfig) -> tuple[ImageTransform, ImageTransform]:
    """Of training and of evaluation."""
    size, (mean, std) = config.vision.image_size // config.mosaic, image_statistics(config.vision)
    plain = image_transform(size, mean, std, crop_pct=config.crop_pct)
    if config.data.augmentation == "imagenet":
        strengths = config.augmentation
        training = imagenet_transform(
            size,
            mean,
            std,
            auto_augment=strengths.auto_augment,
            color_jitter=strengths.color_jitter,
            random_erasing=strengths.random_erasing,
        )
    else:
        training = image_transform(size, mean, std, config.data.augmentation, crop_pct=config.crop_pct)
    return training, plain


def _check_pairs(optim: OptimConfig) -> None:
    """Raise ``ConfigError`` where the images of a forward pass do not make pairs to be mixed."""
    images = samples_per_pass(optim.batch_size, optim.micro_batch_size, world_size())
    if images % 2:
        raise ConfigError(
            f"augmentation.mixup and cutmix mix pairs of images, and {images} images per process and forward pass are "
            "an odd number; set optim.micro_batch_size to an even one"
        )


def classification_loss(out: ClassifierOutput, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean of both looks' cross-entropies, as released; a plain ViT has one look.

    Args:
        targets: probability of every class, (I, classes).
        label_smoothing: share of the targets that is spread evenly over all classes.
    """
    looks = [logits for logits in (out.first_logits, out.second_logits) if logits is not None]
    return torch.stack([class_loss(logits, targets, label_smoothing) for logits in looks]).mean()
