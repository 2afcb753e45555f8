"""One training step of a config on made-up inputs: the model, batches, the task's own losses.

Nothing is read and nothing is fetched. On fake tensors the step is counted, on real ones it can be measured. Shapes:
B samples, I images, T tokens, C captions per sample.
"""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from transformers import RobertaConfig

from vl_absvit.config import PretrainConfig, RetrievalConfig, VQAConfig
from vl_absvit.data.class_folders import ImageBatch
from vl_absvit.data.collate import PAD_MULTIPLE, RetrievalBatch, VQABatch
from vl_absvit.models.build import (
    build_classifier,
    build_from_architecture,
    build_retrieval_model,
    build_vqa_model,
    leave_untrained,
)
from vl_absvit.planning.facts import Facts, Words
from vl_absvit.tasks.base import RunnableConfig, leave_at_rest
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vqa import VQATask

Fact = TypeVar("Fact")


def build_model(config: RunnableConfig, facts: Facts) -> nn.Module:
    """The model that a run of ``config`` trains, with random weights, in training mode."""
    config = replace(config, vision=replace(config.vision, weights=None))
    model = _build_random(config, facts)
    model.vision.set_grad_checkpointing(config.vision.gradient_checkpointing)
    leave_at_rest(config, model, bare_task(config, facts, model).lr_of())
    return model.train()


def _build_random(config: RunnableConfig, facts: Facts) -> nn.Module:
    if isinstance(config, PretrainConfig):
        return build_classifier(config, _known(facts.labels))
    # From scratch, so that no weights are read; a pretrained encoder's sizes are put in afterwards.
    scratch = replace(config, from_checkpoint=None, text=replace(config.text, model=None, tokenizer="none"))
    words = facts.text if isinstance(facts.text, Words) else Words(_known(facts.text).vocab_size, 1, 0, 2)
    if isinstance(config, VQAConfig):
        model = build_vqa_model(scratch, _known(facts.labels), words)
    else:
        model = build_retrieval_model(scratch, words)
    if isinstance(facts.text, RobertaConfig):
        model = build_from_architecture(model.architecture | {"text": facts.text.to_dict()}, where="config")
        leave_untrained(model, config)
    return model


def _known(fact: Fact | None) -> Fact:
    """What ``find_facts`` always says of this kind of run."""
    assert fact is not None
    return fact


def make_batch(config: RunnableConfig, facts: Facts, samples: int, device: torch.device) -> Any:
    """B samples, each about an image of its own, with texts as long as the config allows: the most that can come."""
    with torch.device(device):
        rows, size = torch.arange(samples), config.vision.image_size
        images = torch.rand(samples, 3, size, size)
        if isinstance(config, PretrainConfig):
            return ImageBatch(images, torch.zeros(samples, config.mosaic**2, dtype=torch.long), rows)
        texts = samples * (1 + config.negatives if isinstance(config, RetrievalConfig) else 1)
        length = -(-config.text.max_tokens // PAD_MULTIPLE) * PAD_MULTIPLE
        is_token = (torch.arange(length) < min(config.text.max_tokens, length - 1)).expand(texts, -1)  # nearly full
        pad = _known(_known(facts.text).pad_token_id)
        token_ids = torch.where(is_token, int(pad == 0), pad)  # any word will do
        if isinstance(config, RetrievalConfig):
            # Other processes and passes have other images.
            captioned = np.arange(max(samples, 2, 1 + config.negative_images))
            own = np.arange(samples)
            return RetrievalBatch(images, rows, rows, token_ids, is_token, own, captioned, own)
        return VQABatch(images, rows, rows, token_ids, is_token, torch.zeros(samples, _known(facts.labels)), rows)


def bare_task(config: RunnableConfig, facts: Facts, model: Any) -> VQATask | RetrievalTask | ClassificationTask:
    """The task of a run without its data: with what ``losses``, ``look_ahead`` and ``lr_of`` use."""
    kind = {VQAConfig: VQATask, RetrievalConfig: RetrievalTask, PretrainConfig: ClassificationTask}[type(config)]
    task = kind.__new__(kind)
    task.config, task.model = config, model
    task.train_set = SimpleNamespace(classes=range(facts.labels or 0))
    return task


def look_ahead(config: RunnableConfig, facts: Facts, model: Any, batches: Sequence[Any]) -> Sequence[Any]:
    """What the passes of a step need to know of each other; ``model`` has the parts of it that are used."""
    with torch.no_grad():
        return bare_task(config, facts, model).look_ahead(batches, range(len(batches)))


def run_pass(config: RunnableConfig, facts: Facts, model: nn.Module, batch: Any, ahead: Any = None) -> None:
    """Forward and backward pass of one micro-batch; gradients are added to those that are there."""
    terms = bare_task(config, facts, model).losses(model, batch, ahead)
    sum(terms.values()).backward()
