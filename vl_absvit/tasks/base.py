"""The interface of a task. The training loop, the planner and the benchmarks use nothing else of data and models.

A task is one file: the class of its config, its data, losses, evaluation and checkpoint, and batches made up for the
planner. ``registry.TASKS`` names all tasks.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor, nn
from torch.utils.data import DataLoader

from vl_absvit.config import LearningRates, OptimConfig, TaskConfig
from vl_absvit.data.loaders import (
    BatchedDataset,
    TrainingDataset,
    samples_per_pass,
    training_loader,
)
from vl_absvit.data.stream_loader import StreamLoader
from vl_absvit.data.streaming import StreamedQuestions
from vl_absvit.distributed import world_size
from vl_absvit.errors import ConfigError
from vl_absvit.models.heads import ClassifierOutput
from vl_absvit.models.looks import VisionModel, VisualEncoder
from vl_absvit.models.vl_model import VLOutput
from vl_absvit.tasks.facts import Facts
from vl_absvit.tasks.own_share import own_share

log = logging.getLogger(__name__)

_DECODER_LOSSES = ("reconstruction", "transform")


class About(NamedTuple):
    """How a model card describes a kind of checkpoint."""

    title: str
    pipeline: str | None  # the hub's name of the task, if it has one
    command: str | None = None  # that evaluates the checkpoint ``{name}``, if there is one


class Task(ABC):
    """One kind of run: made of its config and, where it goes on, of the checkpoint to go on from."""

    kind: ClassVar[str]
    """Its name in ``TASKS``."""
    about: ClassVar[About]
    config_class: ClassVar[type[TaskConfig]]
    select_metric: str
    """The first entry of ``evaluate``, which picks the best checkpoint; higher is better."""
    start_option: ClassVar[str] = "--from_checkpoint"
    """Option by which another run starts from a checkpoint of this kind."""
    usual_labels: ClassVar[tuple[int, str] | None] = None
    """Labels of the data that everybody uses, and what they are; None where a head tells no labels apart."""

    config: Any  # of ``config_class``
    train_set: TrainingDataset | StreamedQuestions
    """Samples to train on."""
    model: VisionModel
    """The bare model, whose visual encoder is ``vision``; the loop wraps it and passes the wrapped one on."""

    def get_ready(self) -> None:  # noqa: B027  # most tasks are ready
        """Do what needs the model on its device, with its weights, before the first step. All processes call this."""

    def look_ahead(self, batches: Sequence[Any], seeds: Sequence[int]) -> Sequence[Any]:
        """Facts about a whole optimizer step, on all ranks, that the losses of each of its forward passes need.

        The loop calls this without gradient where a step has several passes. ``seeds`` are those of their random
        numbers.
        """
        return [None] * len(batches)

    @abstractmethod
    def losses(self, model: nn.Module, batch: Any, ahead: Any = None) -> dict[str, Tensor]:
        """Already weighted scalars, each a mean over the micro-batch; the loop minimises their sum and logs each.

        ``ahead`` is this pass's item of ``look_ahead``, if the step has several.
        """

    @abstractmethod
    def evaluate(self, model: Any) -> dict[str, float] | None:
        """Metrics on the selection split, the same in every process; None without a split. All processes call this."""

    @abstractmethod
    def lr_of(self) -> dict[str, float]:
        """Peak learning rate per module path of ``model``; together the paths cover every trainable parameter.

        A module with a rate of 0 is not trained (``freeze_zero_rates``).
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the portable checkpoint into an existing empty folder; its weights are ``model.safetensors``."""

    @abstractmethod
    def check_saved(self, folder: Path) -> None:
        """Raise ``InputError`` where the labels of a checkpoint to go on from mean something else than this task's."""

    @classmethod
    @abstractmethod
    def holds(cls, content: Mapping[str, Any]) -> bool:
        """Whether the ``config.json`` with this content is that of a checkpoint of this kind."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Any:
        """Read a checkpoint folder as its evaluation does; raises ``InputError`` where it is not whole or another's."""

    @classmethod
    def find_facts(cls, config: Any) -> Facts:
        """Sizes on which memory and time depend beside the config, read from the data or, without data, assumed.

        Raises:
            InputError: the data is there and is not what the config trains on.
            ConfigError: sizes can neither be read nor are they known.
        """
        samples: int | None = None
        labels: int | None = None
        assumed: tuple[str, ...] = ()
        if Path(config.data.root).is_dir():
            samples, labels = cls.data_sizes(config)
        elif cls.usual_labels is not None:
            labels, which = cls.usual_labels
            assumed = (f"{labels:,} {which}: there is no data in {config.data.root}",)
        return Facts(samples, labels, None, assumed)

    @classmethod
    @abstractmethod
    def data_sizes(cls, config: Any) -> tuple[int, int | None]:
        """Training samples in the data, and labels if there are any."""

    @classmethod
    @abstractmethod
    def random_model(cls, config: Any, facts: Facts) -> VisionModel:
        """The model that a run trains, with random weights; nothing is read."""

    @classmethod
    @abstractmethod
    def made_up_batch(cls, config: Any, facts: Facts, samples: int) -> Any:
        """Random samples, each about an image of its own, with texts as long as the config allows: the most there is.

        It is on the device that is the default.
        """

    @classmethod
    def least_samples(cls, config: Any) -> int:
        """Samples of all processes that a forward pass needs."""
        return 1

    @classmethod
    def without_data(cls, config: Any, model: Any, facts: Facts | None = None) -> Self:
        """A task that can compute losses, look ahead and give learning rates; nothing is read."""
        task = cls.__new__(cls)
        task.config, task.model = config, model
        return task


def new_run_from(checkpoint: Path, option: str = "--from_checkpoint") -> str:
    """Advice for training from a checkpoint in another way than it was trained."""
    return f"start a new run from it: {option} {checkpoint} --run.output NEW"


def log_left_out_losses(config: TaskConfig, model: VisionModel, has_prior: bool) -> None:
    """Log configured losses that have nothing to train in this model, and parameters that no loss trains.

    Args:
        has_prior: whether there is a prior that comes from a text.
    """
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    if frozen:
        log.info("no loss trains %s: out of training", ", ".join(frozen))
    if config.loss.prior and not has_prior:
        log.info("there is no prior from a text (vision.top_down %s), loss.prior is left out", config.vision.top_down)
    for name in _DECODER_LOSSES:
        if getattr(config.loss, name) and not model.vision.feeds_back:
            log.info("vision.top_down %s feeds nothing back, loss.%s is left out", config.vision.top_down, name)


def freeze_zero_rates(config: TaskConfig, model: Any, lr_of: Mapping[str, float]) -> None:
    """Freeze the modules whose learning rate is 0, and log their names and size.

    Args:
        model: of the task.
        lr_of: rate per module path; where paths nest, the longest one that contains a parameter counts.
    """
    frozen = 0
    for name, parameter in model.named_parameters():
        owner = owner_of(name, lr_of)
        if owner is not None and lr_of[owner] == 0:
            parameter.requires_grad_(False)
            frozen += parameter.numel()
    if resting := [path for path, rate in lr_of.items() if rate == 0]:
        whole = sum(parameter.numel() for parameter in model.parameters())
        log.info("frozen: %s, %s of the model's %s numbers", ", ".join(resting), f"{frozen:,}", f"{whole:,}")
    for name in _DECODER_LOSSES:
        if getattr(config.loss, name) and model.vision.feeds_back and not _trains_decoders(model.vision):
            log.info("the feedback decoders are out of training, loss.%s is left out", name)


def steering_rates(rates: LearningRates, vision: VisualEncoder) -> dict[str, float]:
    """Peak learning rates of what steers the encoder ``vision`` of a vision task, as far as it has it."""
    parts = {"vision.decoders": (vision.feeds_back, rates.feedback), "vision.prior": (vision.uses_prior, rates.prior)}
    return {path: rate for path, (is_there, rate) in parts.items() if is_there}


def owner_of(name: str, paths: Iterable[str]) -> str | None:
    """The longest of some module paths that contains a parameter; None where none does."""
    return max((path for path in paths if name == path or name.startswith(f"{path}.")), key=len, default=None)


def decoder_losses_of(config: TaskConfig, vision: VisualEncoder) -> dict[str, bool]:
    """Arguments for a model's forward pass that name the decoder losses to compute."""
    return {f"need_{name}": getattr(config.loss, name) > 0 and _trains_decoders(vision) for name in _DECODER_LOSSES}


def decoder_terms(config: TaskConfig, out: VLOutput | ClassifierOutput) -> dict[str, Tensor]:
    """The weighted losses of the decoders that a forward pass computed."""
    losses = {name: getattr(out, name) for name in _DECODER_LOSSES}
    return {name: getattr(config.loss, name) * loss for name, loss in losses.items() if loss is not None}


def _trains_decoders(vision: VisualEncoder) -> bool:
    weights = (weight for decoder in vision.feedback_decoders for weight in decoder.parameters())
    return vision.feeds_back and all(weight.requires_grad for weight in weights)


def steps_per_epoch(optim: OptimConfig, train_set: Sized) -> int:
    """Optimizer steps in one epoch; the incomplete last batch is dropped. None at all raises ``ConfigError``."""
    if len(train_set) < optim.batch_size:
        raise ConfigError(f"optim.batch_size {optim.batch_size} is more than the {len(train_set)} training samples")
    return len(train_set) // optim.batch_size


def passes_per_step(optim: OptimConfig, world_size: int) -> int:
    """Forward passes per optimizer step and process; a batch that does not divide raises ``ConfigError``."""
    return optim.batch_size // (world_size * samples_per_pass(optim.batch_size, optim.micro_batch_size, world_size))


def epoch_batches(
    config: TaskConfig,
    train_set: TrainingDataset | StreamedQuestions,
    epoch: int,
    start_step: int,
    rank: int,
    world_size: int,
    epochs: int = 1,
) -> DataLoader | StreamLoader:
    """This process's micro-batches of ``epochs`` epochs in order, from step ``start_step`` of the first one on."""
    loader: Callable[..., DataLoader | StreamLoader] = StreamLoader
    if config.data.stream is None:
        loader = partial(training_loader, samples_per_image=config.data.samples_per_image)
    return loader(
        train_set,
        batch_size=config.optim.batch_size,
        micro_batch_size=config.optim.micro_batch_size,
        rank=rank,
        world_size=world_size,
        seed=config.run.seed,
        epoch=epoch,
        epochs=epochs,
        start_step=start_step,
        num_workers=config.data.num_workers,
    )


def in_groups(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of ``size`` consecutive items each; the last one may be shorter."""
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def selection_loader(config: TaskConfig, select_set: BatchedDataset) -> DataLoader:
    """This process's share of the selection split, in batches as large as a training pass."""
    optim = config.optim
    batch_size = samples_per_pass(optim.batch_size, optim.micro_batch_size, world_size())
    return own_share(select_set, batch_size=batch_size, num_workers=config.data.num_workers)
