"""NLVR2 and SNLI-VE: statements about images, the whole model, its losses, and the official metrics.

Shapes: B statements about k images each (NLVR2: 2, SNLI-VE: 1), I distinct images, L labels.
"""

import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from vl_absvit.config import NLVR2Config, SNLIVEConfig, StatementConfig
from vl_absvit.data.collate import StatementBatch
from vl_absvit.data.records import NLVR2, SNLI_VE, STATEMENT_LABELS
from vl_absvit.data.statements import StatementDataset, mean_colour
from vl_absvit.data.transforms import Augmentation
from vl_absvit.distributed import gather_objects
from vl_absvit.evaluation.statement_metrics import constant_label, statement_scores
from vl_absvit.losses import label_loss
from vl_absvit.models.looks import FirstLook
from vl_absvit.models.vl_model import Pairs, Texts, VLOutput
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.base import About, decoder_losses_of, selection_loader
from vl_absvit.tasks.facts import Facts, sum_of_counts
from vl_absvit.tasks.prior_losses import StepPriorLoss, Wordings
from vl_absvit.tasks.vision_language import VisionLanguageTask, made_up_images, made_up_texts
from vl_absvit.tasks.vl_checkpoint import Preprocessing

log = logging.getLogger(__name__)

ENTAILMENT = STATEMENT_LABELS[SNLI_VE].index("entailment")


class StatementTask(VisionLanguageTask):
    """Finetuning on statements; ``Task`` describes the methods. A subclass names the kind of data and its head."""

    data_kind: ClassVar[str]
    """Kind of the prepared folder, a key of ``STATEMENT_LABELS``."""
    select_metric = "accuracy"

    def __init__(self, config: StatementConfig, checkpoint: Path | None = None) -> None:
        super().__init__(config, checkpoint)
        if config.blind:
            self.training["blind"] = True

    def read_data(self) -> tuple[StatementDataset, StatementDataset | None]:
        config, data = self.config, self.config.data
        of_this_run = {"blind": config.blind, "images": data.images}
        train_set = make_statements(
            data.root, data.train_splits, self.data_kind, self.tokenizer, self.preprocessing,
            augmentation=data.augmentation, seed=config.run.seed, **of_this_run,
        )  # fmt: skip
        if data.select_split is None:
            return train_set, None
        splits = [data.select_split]
        return train_set, make_statements(
            data.root, splits, self.data_kind, self.tokenizer, self.preprocessing, **of_this_run
        )

    @classmethod
    def head(cls, config: StatementConfig, labels: int | None) -> dict[str, Any]:
        return {"kind": cls.head_kind, "labels": list(STATEMENT_LABELS[cls.data_kind])}

    def read(self, model: nn.Module, batch: StatementBatch) -> VLOutput:
        with arithmetic(self.config.run.precision, batch.images.device):
            return judge(model, batch, **decoder_losses_of(self.config, self.model.vision))

    def losses(
        self, model: nn.Module, batch: StatementBatch, step_prior: StepPriorLoss | None = None
    ) -> dict[str, Tensor]:
        out = self.read(model, batch)
        assert isinstance(out.logits, Tensor), "the head gives a logit per label"
        return {self.kind: label_loss(out.logits, batch.labels)} | self.auxiliary_terms(out, batch, step_prior)

    def evaluate(self, model: nn.Module) -> dict[str, float] | None:
        """The official metrics on the selection split, in percent."""
        if self.select_set is None:
            return None
        self.model.vision.fold()
        with arithmetic(self.config.run.precision, next(model.parameters()).device):
            pairs = gather_objects(list(label_pairs(model, selection_loader(self.config, self.select_set))))
        return scores_of(self.select_set, self.data_kind, labels_in_order(self.select_set, pairs))

    @classmethod
    def data_sizes(cls, config: StatementConfig) -> tuple[int, None]:
        return sum_of_counts(config.data, cls.data_kind, "statements", "without_image"), None

    @classmethod
    @abstractmethod
    def images_per_statement(cls) -> int:
        """k."""

    @classmethod
    def made_up_batch(cls, config: StatementConfig, facts: Facts, samples: int) -> StatementBatch:
        rows, shown = torch.arange(samples), torch.arange(cls.images_per_statement() * samples)
        images, texts = made_up_images(config, facts, len(shown)), made_up_texts(config, facts, samples)
        labels = torch.full((samples,), len(STATEMENT_LABELS[cls.data_kind]) - 1)  # all are entailed: the most there is
        return StatementBatch(images, shown, shown, *texts, labels, rows, rows)


class NLVR2Task(StatementTask):
    """Finetuning on NLVR2: one sentence, encoded once, and two images."""

    kind = head_kind = "nlvr2"
    data_kind, config_class = NLVR2, NLVR2Config
    about = About(
        "reasoning about two images (NLVR2)",
        None,
        "vl-absvit evaluate-statements --checkpoint {name} --data OUT --split test1 --output predictions.csv",
    )

    @classmethod
    def images_per_statement(cls) -> int:
        return 2


class SNLIVETask(StatementTask):
    """Finetuning on SNLI-VE: an image and a hypothesis."""

    kind, head_kind = "snli_ve", "snli"
    data_kind, config_class = SNLI_VE, SNLIVEConfig
    about = About(
        "visual entailment (SNLI-VE)",
        None,
        "vl-absvit evaluate-statements --checkpoint {name} --data OUT --split test --output predictions.csv",
    )

    @classmethod
    def images_per_statement(cls) -> int:
        return 1

    def wordings(self, batch: StatementBatch) -> Wordings:
        """Only what an image entails is a positive of the prior loss."""
        return Wordings(batch.wordings, batch.labels == ENTAILMENT)


STATEMENT_TASKS: dict[str | None, type[StatementTask]] = {task.head_kind: task for task in (NLVR2Task, SNLIVETask)}
"""The tasks by the kind of their head."""


def judge(model: nn.Module, batch: StatementBatch, **needed: bool) -> VLOutput:
    """A forward pass, whose logits are (B, L). Each statement is encoded once, and each image looked at once.

    Args:
        needed: decoder losses, as the model's ``forward`` takes them.
    """
    inputs = batch.images, batch.token_ids, batch.is_token
    if len(batch.image_index) == len(batch.token_ids):
        return model(*inputs, batch.image_index, **needed)

    def pair(texts: Texts, first: FirstLook) -> tuple[FirstLook, Pairs]:
        rows = torch.arange(len(batch.image_index), device=batch.images.device) % len(batch.token_ids)
        return first, Pairs(texts.take(rows), batch.image_index)

    return model(*inputs, pair=pair, **needed)


@torch.no_grad()
def label_pairs(model: nn.Module, loader: DataLoader) -> Iterator[tuple[int, int]]:
    """Id and most probable label of every statement in ``loader``; ``model`` is in evaluation mode."""
    device = next(model.parameters()).device
    for batch in loader:
        statement_ids = batch.statement_ids.tolist()
        logits = judge(model, send_to_device(batch, device, non_blocking=True)).logits
        assert isinstance(logits, Tensor), "the head gives a logit per label"
        yield from zip(statement_ids, logits.argmax(dim=1).tolist(), strict=True)


def labels_in_order(statements: StatementDataset, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """The label of every statement, (S,), out of ids and labels in any order."""
    predicted = dict(pairs)
    return np.array([predicted[statement_id] for statement_id in statements.statement_ids.tolist()])


def scores_of(statements: StatementDataset, kind: str, labels: np.ndarray) -> dict[str, float]:
    """The official metrics of the label of every statement, (S,). It is logged if all are the same."""
    if word := constant_label(labels, STATEMENT_LABELS[kind]):
        log.warning("every statement is judged to be %s: the model tells nothing apart", word)
    return statement_scores(kind, statements.names, statements.labels, labels, statements.subsets)


def make_statements(
    root: str | Path,
    splits: Sequence[str],
    kind: str,
    tokenizer: PreTrainedTokenizerBase,
    preprocessing: Preprocessing,
    *,
    augmentation: Augmentation = "none",
    blind: bool = False,
    seed: int = 0,
    images: str | Path | None = None,
) -> StatementDataset:
    """The named splits of a prepared folder, with inputs made as ``preprocessing`` says.

    Args:
        kind: of the folder, a key of ``STATEMENT_LABELS``.
        blind: the mean colour stands in for every image.
        images: folder of the raw images; None looks where the folder's manifest says.
    """
    return StatementDataset(
        root, list(splits), kind, tokenizer, preprocessing.max_tokens, preprocessing.transform(augmentation),
        blank=mean_colour(preprocessing.image_size) if blind else None, seed=seed, images=images,
    )  # fmt: skip
