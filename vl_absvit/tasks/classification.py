"""Image classification with a trainable query as prior: pretraining of the visual encoder [AbS 2.5]."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import safetensors.torch
import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from torch import Tensor, nn

from vl_absvit.config import OptimConfig, PretrainConfig
from vl_absvit.data.augmentation import MixedDataset, imagenet_transform
from vl_absvit.data.class_files import class_names, image_files
from vl_absvit.data.class_folders import ImageBatch, ImageFolderDataset, MosaicDataset
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.data.loaders import samples_per_pass
from vl_absvit.data.transforms import ImageTransform, image_transform
from vl_absvit.distributed import gather_objects, make_together, world_size
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.losses import class_loss
from vl_absvit.models.architecture import build_random_classifier, image_statistics
from vl_absvit.models.build import build_classifier
from vl_absvit.models.heads import Classifier, ClassifierOutput
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.base import (
    About,
    Task,
    decoder_losses_of,
    decoder_terms,
    freeze_zero_rates,
    log_left_out_losses,
    selection_loader,
    steering_rates,
)
from vl_absvit.tasks.classifier_checkpoint import (
    STATISTICS,
    ClassifierCheckpoint,
    load_classifier,
    match_classes,
    statistics_of,
)
from vl_absvit.tasks.facts import Facts
from vl_absvit.tasks.fetching import fetched_trunk
from vl_absvit.tasks.first_look_fit import first_look_fit
from vl_absvit.tasks.folder_weights import CONFIG, WEIGHTS
from vl_absvit.tasks.resuming import check_same_classes, check_same_data, history, without_start_weights
from vl_absvit.tasks.vl_checkpoint import TRAINING, origin_of
from vl_absvit.token_grid import TokenGrid


class ClassificationTask(Task):
    """Pretraining on an image folder; ``Task`` describes the methods."""

    kind = "pretraining"
    about = About(
        "image classification",
        "image-classification",
        "vl-absvit evaluate-vision --checkpoint {name} --data FOLDER --output val.json",
    )
    config_class = PretrainConfig
    select_metric = "top1"
    start_option = "--vision.weights"
    usual_labels = (1000, "classes, ImageNet's")

    model: Classifier
    train_set: ImageFolderDataset | MosaicDataset | MixedDataset
    num_classes: int

    def __init__(self, config: PretrainConfig, checkpoint: Path | None = None) -> None:
        """
        Args:
            checkpoint: of this run, to go on from.
        """
        config = self.config = fetched_trunk(config) if checkpoint is None else without_start_weights(config)
        data, mixing, seed = config.data, config.augmentation, config.run.seed
        if mixing.mixes:
            _check_pairs(config.optim)
        transform, plain = _transforms(config)
        images = ImageFolderDataset(data.root, data.train_splits, transform, seed=seed, repeats=mixing.repeats)
        self.train_set, self.num_classes = images, len(images.classes)
        content = {"+".join(data.train_splits): images.files.content()}
        if config.mosaic > 1:
            self.train_set = MosaicDataset(images, config.mosaic, seed, make_together)
        if mixing.mixes:
            self.train_set = MixedDataset(images, mixup=mixing.mixup, cutmix=mixing.cutmix, seed=seed)
        self.select_set: ImageFolderDataset | MosaicDataset | None = None
        if data.select_split is not None:
            self.select_set = selected = ImageFolderDataset(data.root, [data.select_split], plain)
            content[data.select_split] = selected.files.content()
            if selected.classes != images.classes:
                raise InputError(f"{data.root}: {data.select_split} has other classes than {data.train_splits[0]}")
            if config.mosaic > 1:
                self.select_set = MosaicDataset(selected, config.mosaic, seed=None)
        self._data = _describe_data(config, content)
        self.training = self._data if checkpoint is None else history(checkpoint, self._data)
        torch.manual_seed(seed)
        classes = match_classes(config.vision.weights, self.train_set.classes)
        # A run that goes on has no start weights, so that nothing is fitted.
        fit = first_look_fit(self.train_set, plain, seed)
        self.model = build_classifier(config.vision, self.num_classes, config.pooling, classes, fit)
        _check_cells(config.mosaic, self.model.vision.token_grid())
        log_left_out_losses(config, self.model, has_prior=False)
        freeze_zero_rates(config, self.model, self.lr_of())

    def losses(self, model: nn.Module, batch: ImageBatch, ahead: None = None) -> dict[str, Tensor]:
        with arithmetic(self.config.run.precision, batch.images.device):
            out = model(batch.images, mosaic=self.config.mosaic, **decoder_losses_of(self.config, self.model.vision))
        targets = batch.targets  # (I, classes), of mixed images
        if targets is None:
            targets = F.one_hot(batch.labels, self.num_classes).float()  # (I, cells, classes)
        smoothing = self.config.augmentation.label_smoothing
        return {"classification": classification_loss(out, targets, smoothing)} | decoder_terms(self.config, out)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float] | None:
        """Share of images of the selection split whose class has the highest logit in the last look, in percent.

        Where training images are mosaics, an image is shown in all cells of one.
        """
        if self.select_set is None:
            return None
        loader = selection_loader(self.config, self.select_set)
        records: list[tuple[int, bool]] = []
        device = next(model.parameters()).device
        self.model.vision.fold()
        with arithmetic(self.config.run.precision, device):
            for batch in loader:
                indices = batch.indices.tolist()
                batch = send_to_device(batch, device, non_blocking=True)
                logits = model(batch.images).last_logits
                # Ties count against the model: no class but its own is level with an image's own.
                own = logits.gather(1, batch.labels[:, :1])
                is_right = (logits >= own).sum(dim=1) == 1
                records += zip(indices, is_right.tolist(), strict=True)
        records = gather_objects(records)
        assert sorted(index for index, _ in records) == list(range(len(self.select_set))), "each image exactly once"
        return {"top1": 100 * sum(correct for _, correct in records) / len(records)}

    def lr_of(self) -> dict[str, float]:
        rates = self.config.optim.rates
        return {"vision": rates.vision, "vision.head": rates.head} | steering_rates(rates, self.model.vision)

    def save(self, folder: Path) -> None:
        """The encoder's weights, ready for ``vision.weights``, with its configuration, classes and pixel statistics."""
        safetensors.torch.save_model(self.model, str(folder / WEIGHTS))
        vision = asdict(replace(self.config.vision, weights=None, gradient_checkpointing=False))
        del vision["decoders"]  # of how training starts
        content = {"format": 1, "vision": vision, "pooling": self.config.pooling, "classes": self.train_set.classes}
        write_json(folder / CONFIG, content, indent=1)
        write_json(folder / STATISTICS, statistics_of(self.config.vision, self.config.crop_pct), indent=1)
        write_json(folder / TRAINING, self.training, indent=1)

    def check_saved(self, folder: Path) -> None:
        root, saved = self.config.data.root, read_json(folder / CONFIG, dict).get("classes")
        check_same_classes(saved, self.train_set.classes, root, folder, self.start_option)
        check_same_data(self._data, root, folder, self.start_option)

    @classmethod
    def holds(cls, content: Mapping[str, Any]) -> bool:
        return "classes" in content

    @classmethod
    def load(cls, folder: Path) -> ClassifierCheckpoint:
        return load_classifier(folder)

    @classmethod
    def data_sizes(cls, config: PretrainConfig) -> tuple[int, int]:
        root, splits = Path(config.data.root), config.data.train_splits
        classes = class_names(root / splits[0])
        return sum(len(image_files(root / split / name)) for split in splits for name in classes), len(classes)

    @classmethod
    def random_model(cls, config: PretrainConfig, facts: Facts) -> Classifier:
        assert facts.labels is not None, "a classifier has classes"
        return build_random_classifier(config.vision, facts.labels, pooling=config.pooling, norm_follows=False)

    @classmethod
    def made_up_batch(cls, config: PretrainConfig, facts: Facts, samples: int) -> ImageBatch:
        assert facts.labels is not None, "a classifier has classes"
        size, labels = config.vision.image_size, torch.randint(facts.labels, (samples, config.mosaic**2))
        return ImageBatch(torch.rand(samples, 3, size, size), labels, torch.arange(samples))

    @classmethod
    def without_data(cls, config: PretrainConfig, model: Classifier, facts: Facts | None = None) -> Self:
        task = super().without_data(config, model, facts)
        assert facts is not None and facts.labels is not None, "a classifier has classes"
        task.num_classes = facts.labels
        return task


def _describe_data(config: PretrainConfig, content: dict[str, str]) -> dict[str, Any]:
    """The content of ``training.json``: the data that a run trains and selects on, and the origin of its weights."""
    return {
        "task": "classification",
        "dataset": "images in folders",
        "splits": list(config.data.train_splits),
        "selected_on": config.data.select_split,
        "content": content,
        "vision_weights": origin_of(config.vision.weights),
        "start": None,
    }


def _transforms(config: PretrainConfig) -> tuple[ImageTransform, ImageTransform]:
    """Transforms of training and of evaluation."""
    size, (mean, std) = config.vision.image_size // config.mosaic, image_statistics(config.vision)
    plain = image_transform(size, mean, std, crop_pct=config.crop_pct)
    augmentation = config.data.augmentation
    assert augmentation != "pixels", "the config refuses it"
    if augmentation == "imagenet":
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
        training = image_transform(size, mean, std, augmentation, crop_pct=config.crop_pct)
    return training, plain


def _check_cells(mosaic: int, grid: TokenGrid) -> None:
    """Raise ``ConfigError`` where a patch would lie in two cells of a mosaic."""
    if grid.rows % mosaic or grid.columns % mosaic:
        raise ConfigError(
            f"mosaic {mosaic} does not divide the grid of {grid.rows} x {grid.columns} patches, so that some would lie "
            "in two cells; choose another mosaic or vision.image_size"
        )


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
        targets: probability of every class, (I, classes), or (I, cells, classes) of mosaics.
        label_smoothing: share of the targets that is spread evenly over all classes.
    """
    looks = [logits for logits in (out.first_logits, out.second_logits) if logits is not None]
    return torch.stack([class_loss(logits, targets, label_smoothing) for logits in looks]).mean()
