"""Semantic segmentation with a trainable query as prior: a class for every pixel [AbS, Table 2.4]."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from vl_absvit.config import SegmentationConfig
from vl_absvit.data.identity import content_of
from vl_absvit.data.image_loader import check_disjoint
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.data.labelled_pixels import LabelledPictures, PictureDataset, PixelBatch, PixelDataset, read_classes
from vl_absvit.data.loaders import samples_per_pass
from vl_absvit.data.pixel_transforms import TrainingPixels
from vl_absvit.data.records import SEGMENTATION, read_manifest
from vl_absvit.data.segmentation_labels import VOID
from vl_absvit.data.transforms import Normalise, image_transform
from vl_absvit.distributed import sum_over_processes, world_size
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.evaluation.segmentation_metrics import pixel_scores
from vl_absvit.hub import find
from vl_absvit.losses import pixel_loss
from vl_absvit.models.architecture import build_random_segmenter, image_statistics
from vl_absvit.models.build import build_segmenter
from vl_absvit.models.segmenter import Segmenter
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.base import (
    About,
    Task,
    decoder_losses_of,
    decoder_terms,
    freeze_zero_rates,
    log_left_out_losses,
    steering_rates,
)
from vl_absvit.tasks.changed_use import log_changed_use
from vl_absvit.tasks.facts import Facts, sum_of_counts
from vl_absvit.tasks.fetching import fetched_trunk
from vl_absvit.tasks.first_look_fit import first_look_fit
from vl_absvit.tasks.folder_weights import CONFIG, WEIGHTS
from vl_absvit.tasks.global_norm import normed_by_all
from vl_absvit.tasks.resuming import check_same_classes, check_same_data, history, without_start_weights
from vl_absvit.tasks.segmentation_evaluation import judge, showing_of
from vl_absvit.tasks.segmenter_checkpoint import (
    KEY,
    SegmenterCheckpoint,
    classes_in,
    content_of_checkpoint,
    evaluation_pixels,
    load_segmenter,
    matched_classes,
    training_of,
)
from vl_absvit.tasks.vl_checkpoint import TRAINING, origin_of

LEAST_SAMPLES = 2
"""Images that a batch norm needs: of one image, the map that is pooled to a single value has no spread."""


class SegmentationTask(Task):
    """Finetuning on labelled pixels; ``Task`` describes the methods."""

    kind = "segmentation"
    about = About(
        "semantic segmentation",
        "image-segmentation",
        "vl-absvit evaluate-segmentation --checkpoint {name} --data FOLDER --split val --output val.json",
    )
    config_class = SegmentationConfig
    select_metric = "miou"
    usual_labels = (150, "classes, ADE20K's")

    model: Segmenter
    train_set: PixelDataset

    def __init__(self, config: SegmentationConfig, checkpoint: Path | None = None) -> None:
        """
        Args:
            checkpoint: of this run, to go on from.
        """
        _check_batch(config)
        config = self.config = _fetched(config) if checkpoint is None else _without_start(config)
        data, seed = config.data, config.run.seed
        self.showing = showing_of(config.pictures, config.vision)
        pictures = LabelledPictures(data.root, data.train_splits, data.images)
        pictures.check_labelled(data.train_splits)
        self.classes, self.colours = pictures.classes, pictures.colours
        self.train_set = PixelDataset(pictures, _training_pixels(config), seed)
        self.select_set: PictureDataset | None = None
        splits = list(data.train_splits)
        if data.select_split is not None:
            selected = LabelledPictures(data.root, [data.select_split], data.images)
            selected.check_labelled([data.select_split])
            self.select_set = PictureDataset(selected, evaluation_pixels(config.vision, config.pictures))
            check_disjoint(self.train_set, self.select_set)
            splits.append(data.select_split)
        self._data = _describe_data(config, content_of(data.root, splits))
        self.training = self._data if checkpoint is None else history(checkpoint, self._data)
        torch.manual_seed(seed)
        plain = image_transform(config.vision.image_size, *image_statistics(config.vision))
        # A run that goes on has no start weights, so that nothing is fitted.
        fit = first_look_fit(self.train_set, plain, seed)
        start = config.from_checkpoint
        known = None if start is None else matched_classes(start, self.classes)
        self.model = build_segmenter(config, len(self.classes), known, fit)
        log_changed_use(start, content_of_checkpoint(config, self.classes, self.colours))
        if world_size() > 1:
            normed_by_all(self.model)
        log_left_out_losses(config, self.model, has_prior=False)
        freeze_zero_rates(config, self.model, self.lr_of())

    def look_ahead(self, batches: Sequence[PixelBatch], seeds: Sequence[int]) -> list[Tensor]:
        """For each pass, the pixels over which its losses are means: an equal share of those of the whole step."""
        counted = torch.stack([self._counted(batch) for batch in batches]).sum()
        return [sum_over_processes(counted) / (world_size() * len(batches))] * len(batches)

    def losses(self, model: nn.Module, batch: PixelBatch, ahead: Tensor | None = None) -> dict[str, Tensor]:
        if ahead is None:
            ahead = sum_over_processes(self._counted(batch)) / world_size()
        weights, labels = self.config.loss, batch.labels.long()
        with arithmetic(self.config.run.precision, batch.images.device):
            out = model(
                batch.images,
                need_auxiliary=weights.auxiliary > 0,
                **decoder_losses_of(self.config, self.model.vision),
            )
            terms = {"decode": pixel_loss(out.logits, labels, ahead, VOID)}
            if out.auxiliary_logits is not None:
                terms["auxiliary"] = weights.auxiliary * pixel_loss(out.auxiliary_logits, labels, ahead, VOID)
        return terms | decoder_terms(self.config, out)

    def _counted(self, batch: PixelBatch) -> Tensor:
        """Pixels of a batch that losses are means over, ()."""
        is_counted = batch.labels != VOID if self.config.loss.mean == "valid" else torch.ones_like(batch.labels)
        return is_counted.sum().double()

    @torch.no_grad()
    def evaluate(self, model: Segmenter) -> dict[str, float] | None:
        """mIoU, mean accuracy and share of right pixels of the selection split, in percent."""
        if self.select_set is None:
            return None
        self.model.vision.fold()
        with arithmetic(self.config.run.precision, next(model.parameters()).device):
            counts = judge(model, self.select_set, self.showing, self.config.data.num_workers)
        scores = pixel_scores(counts)
        if scores.miou is None or scores.macc is None or scores.aacc is None:
            raise InputError(f"{self.config.data.root}: {self.config.data.select_split} has no pixel with a class")
        return {"miou": scores.miou, "macc": scores.macc, "aacc": scores.aacc}

    def lr_of(self) -> dict[str, float]:
        rates = self.config.optim.rates
        lr_of = {"vision": rates.vision, "head": rates.head}
        if self.model.auxiliary_head is not None:
            lr_of["auxiliary_head"] = rates.head
        if any(True for _ in self.model.neck.parameters()):
            lr_of["neck"] = rates.head
        return lr_of | steering_rates(rates, self.model.vision)

    def save(self, folder: Path) -> None:
        """Weights of encoder and heads, with what is needed to build them and to show them pictures."""
        safetensors.torch.save_model(self.model, str(folder / WEIGHTS))
        content = content_of_checkpoint(self.config, self.classes, self.colours)
        write_json(folder / CONFIG, content, indent=1)
        write_json(folder / TRAINING, self.training, indent=1)

    def check_saved(self, folder: Path) -> None:
        root = self.config.data.root
        check_same_classes(classes_in(read_json(folder / CONFIG, dict)), self.classes, root, folder)
        check_same_data(self._data, root, folder)

    @classmethod
    def holds(cls, content: Mapping[str, Any]) -> bool:
        return KEY in content

    @classmethod
    def load(cls, folder: Path) -> SegmenterCheckpoint:
        return load_segmenter(folder)

    @classmethod
    def data_sizes(cls, config: SegmentationConfig) -> tuple[int, int]:
        samples = sum_of_counts(config.data, SEGMENTATION, "labels")
        return samples, len(read_classes(config.data.root)[0])

    @classmethod
    def random_model(cls, config: SegmentationConfig, facts: Facts) -> Segmenter:
        assert facts.labels is not None, "a segmenter has classes"
        return build_random_segmenter(config.vision, facts.labels, config.head, config.loss.auxiliary > 0)

    @classmethod
    def made_up_batch(cls, config: SegmentationConfig, facts: Facts, samples: int) -> PixelBatch:
        assert facts.labels is not None, "a segmenter has classes"
        labels = torch.randint(facts.labels, (samples, *config.crop), dtype=torch.uint8)
        return PixelBatch(torch.rand(samples, 3, *config.crop), labels)

    @classmethod
    def least_samples(cls, config: SegmentationConfig) -> int:
        return LEAST_SAMPLES


def _fetched(config: SegmentationConfig) -> SegmentationConfig:
    """The config with a folder in place of a name on the hub."""
    if config.from_checkpoint is None:
        return fetched_trunk(config)
    return replace(config, from_checkpoint=str(find(config.from_checkpoint, "from_checkpoint").path))


def _without_start(config: SegmentationConfig) -> SegmentationConfig:
    """The config of a run that goes on: no start weights are read."""
    return replace(without_start_weights(config), from_checkpoint=None)


def _check_batch(config: SegmentationConfig) -> None:
    """Raise ``ConfigError`` where a forward pass of all processes has one image."""
    images = world_size() * samples_per_pass(config.optim.batch_size, config.optim.micro_batch_size, world_size())
    if images < LEAST_SAMPLES:
        raise ConfigError(
            f"a forward pass has {images} image, and batch norms need at least {LEAST_SAMPLES}; raise "
            "optim.batch_size, or optim.micro_batch_size"
        )


def _training_pixels(config: SegmentationConfig) -> TrainingPixels:
    pictures, normalise = config.pictures, Normalise(*image_statistics(config.vision))
    is_random = config.data.augmentation == "pixels"
    return TrainingPixels(pictures.longest, pictures.shortest, config.crop, normalise, is_random)


def _describe_data(config: SegmentationConfig, content: dict[str, str]) -> dict[str, Any]:
    """The content of ``training.json``: the data that a run trains and selects on, and the origin of its weights."""
    return {
        "task": "segmentation",
        "dataset": read_manifest(config.data.root).get("dataset", "labelled pixels"),
        "splits": list(config.data.train_splits),
        "selected_on": config.data.select_split,
        "content": content,
        "vision_weights": None if config.from_checkpoint else origin_of(config.vision.weights),
        "started_from": origin_of(config.from_checkpoint),
        "start": None if config.from_checkpoint is None else training_of(config.from_checkpoint) or None,
    }
