"""Every task with every encoder on made-up data: training steps, an evaluation, maps, by the code of a run.

Nothing is read. It runs on a CPU, on a GPU, and on tensors that only claim to be on one. Shapes: B samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils.data import Dataset

from benchmarks.samples import Workload, questions_about
from benchmarks.synthetic import END, PAD, START, VOCABULARY, SyntheticGallery, SyntheticImages, random_text
from vl_absvit.config import (
    DataConfig,
    FusionConfig,
    OptimConfig,
    Precision,
    RunConfig,
    TaskConfig,
    TextConfig,
    UPerNetConfig,
    VisionConfig,
)
from vl_absvit.data.class_folders import ImageSample, collate_images
from vl_absvit.data.collate import StatementSample, collate_statements, collate_vqa
from vl_absvit.data.labelled_pixels import LabelledPicture
from vl_absvit.data.records import STATEMENT_LABELS
from vl_absvit.evaluation.accuracy_rules import OFFICIAL
from vl_absvit.looking.explanation import PICTURE_MAPS, Explanation, choose_maps, explain, explain_pictures
from vl_absvit.planning.step import bare_task, build_model, make_batch
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.facts import Facts, Words
from vl_absvit.tasks.registry import TASKS
from vl_absvit.tasks.segmentation_evaluation import Showing
from vl_absvit.training.compiled import compile_forward
from vl_absvit.training.loop import take_step
from vl_absvit.training.optim import build_optimizer
from vl_absvit.variants import VARIANTS, TopDown

ANSWERS = 7  # or classes
CPU = torch.device("cpu")


class Size(NamedTuple):
    """How large everything is."""

    vision: VisionConfig
    text: TextConfig
    fusion: FusionConfig
    words: int  # of the vocabulary of texts
    samples: int  # of an optimizer step
    negatives: int = 3
    head: UPerNetConfig = UPerNetConfig(channels=16, auxiliary_channels=16, dropout=0.0)  # of segmentation


TINY = Size(
    VisionConfig(model="absvit_tiny_patch16_224", image_size=32, width=16, depth=2, num_heads=2),
    TextConfig(model=None, tokenizer="none", width=16, depth=1, num_heads=2, dropout=0.0),
    FusionConfig(width=16, num_layers=1, num_heads=2, dropout=0.0),
    words=50,
    samples=4,
)


def combinations() -> list[tuple[str, TopDown]]:
    """Every task with every encoder."""
    return [(kind, top_down) for kind in TASKS for top_down in VARIANTS]


DROPPING = TINY._replace(
    vision=replace(TINY.vision, drop_path=0.1),
    text=replace(TINY.text, dropout=0.1),
    fusion=FusionConfig(width=16, num_layers=1, num_heads=2),
)
"""With random numbers in every part."""
BASE = Size(
    VisionConfig(), TextConfig(model=None, tokenizer="none", dropout=0.1), FusionConfig(), words=VOCABULARY, samples=16
)


class Trial:
    """One task with one encoder, without data.

    Args:
        device: where the model is.
        passes: of an optimizer step.
        compiled: whether the forward pass is.
    """

    def __init__(
        self,
        kind: str,
        top_down: TopDown,
        device: torch.device,
        *,
        precision: Precision = "fp32",
        passes: int = 1,
        size: Size = TINY,
        compiled: bool = False,
    ) -> None:
        self.kind, self.size, self.passes = kind, size, passes
        self.config = config_of(kind, top_down, precision, passes, size)
        labels = size.words if kind == "pairs" else ANSWERS  # words are what hidden ones are guessed from
        self.facts = facts = Facts(None, labels, Words(size.words, PAD, START, END), ())
        torch.manual_seed(0)
        if device.type == "cuda" and not torch.cuda.is_available():
            with unset_fake_temporarily(), torch.device("meta"):
                model = build_model(self.config, facts)
            model.to_empty(device=device)
        else:
            model = build_model(self.config, facts).to(device)
        self.task = bare_task(self.config, facts, model)
        self.model: Any = model
        self.device = device
        # Trials on a CPU follow those on a GPU, and Accelerate has one device for a process: the loop asks the model.
        self.accelerator = Accelerator(gradient_accumulation_steps=passes)
        if compiled:
            compile_forward(model, self.accelerator)
        self.optimizer = build_optimizer(model, self.task.lr_of(), self.config.optim)

    def step(self, number: int = 0) -> dict[str, float]:
        """An optimizer step; its mean losses."""
        batches = self.batches()
        seeds = [self.passes * number + each for each in range(self.passes)]
        self.model.train()
        taken = take_step(
            self.task, self.model, self.accelerator, self.optimizer, batches, seeds, max_norm=1.0, is_logged=True
        )
        return taken.means

    def evaluate(self) -> dict[str, float]:
        """Scores of a selection split that is there once."""
        with unset_fake_temporarily():
            SELECTIONS[self.kind](self.task, self.size)
        self.model.eval()
        scores = self.task.evaluate(self.model)
        assert scores is not None, "the split is there"
        return scores

    def ahead_differs_by(self) -> float:
        """How far what a pass compares is, without gradient, from the same with gradient and the same seed."""
        self.model.train()
        batch = send_to_device(self.batches()[0], self.device, non_blocking=True)

        def compared() -> tuple[Tensor, Tensor]:
            torch.manual_seed(1)
            texts = self.model.encode_texts(batch.token_ids, batch.is_token)
            return texts.prior, self.model.vision.look_once(batch.images).tokens

        with arithmetic(self.config.run.precision, self.device):
            with_gradient = compared()
        with torch.no_grad(), arithmetic(self.config.run.precision, self.device):
            without = compared()
        return max((a - b).abs().max().item() for a, b in zip(with_gradient, without, strict=True))

    def maps(self) -> Explanation:
        """All maps of a model of ``EXPLAINED``."""
        self.model.eval()
        batch = send_to_device(self.batches()[0], self.device, non_blocking=True)
        if self.kind == "pretraining":
            choice = choose_maps(self.model.vision, None, block=-1, kinds=PICTURE_MAPS)
            return explain_pictures(self.model, batch.images, choice)
        texts = len(batch.token_ids) // len(batch.image_index)  # of a sample, of which the first is about its image
        batch = batch._replace(token_ids=batch.token_ids[::texts], is_token=batch.is_token[::texts])
        return explain(self.model, batch, choose_maps(self.model.vision, None, block=-1))

    def batches(self) -> list[Any]:
        """Of the passes of a step, in host memory."""
        with unset_fake_temporarily():  # what is in host memory is real
            torch.manual_seed(0)
            samples = self.size.samples // self.passes
            return [make_batch(self.config, self.facts, samples, CPU) for _ in range(self.passes)]


def config_of(kind: str, top_down: TopDown, precision: Precision, passes: int, size: Size) -> TaskConfig:
    """A run of a task with an encoder, all losses asked for."""
    config_class = TASKS[kind].config_class
    sizes: dict[str, Any] = {name: getattr(size, name) for name in ("text", "fusion", "negatives", "head")}
    return config_class(
        data=DataConfig(root="none", num_workers=0, augmentation="none"),
        run=RunConfig(output="none", precision=precision, trackers=()),
        vision=replace(size.vision, top_down=top_down),
        optim=OptimConfig(batch_size=size.samples, micro_batch_size=size.samples // passes),
        **{field.name: sizes[field.name] for field in fields(config_class) if field.name in sizes},
    )


def _labelled(samples: int, resolution: int, seed: int) -> list[ImageSample]:
    images = SyntheticImages(samples, resolution, seed).__getitems__(range(samples))
    return [ImageSample(image, [index % ANSWERS], index) for index, image in enumerate(images)]


class _Samples(Dataset):
    """Samples that are there, as a data set."""

    def __init__(self, samples: Sequence[Any], collate: Callable[[Sequence[Any]], Any]) -> None:
        self._samples, self._collate = samples, collate

    def collate(self, samples: Sequence[Any]) -> Any:
        with unset_fake_temporarily():
            return self._collate(samples)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitems__(self, rows: Sequence[int]) -> list[Any]:
        return [self._samples[row] for row in rows]


def _select_by_captions(task: Any, size: Size) -> None:
    task.select_set = SyntheticGallery(4, 8, size.vision.image_size, vocabulary=size.words)


def _select_by_classes(task: Any, size: Size) -> None:
    task.select_set = _Samples(_labelled(size.samples, size.vision.image_size, seed=1), collate_images)


def _select_by_questions(task: Any, size: Size) -> None:
    questions = questions_about(Workload(size.samples // 2, 2, size.vision.image_size), ANSWERS, size.words)
    collate = partial(collate_vqa, pad_id=PAD, vocabulary_size=ANSWERS)
    task.select_set, task.vocabulary = _Samples(questions, collate), SimpleNamespace(answers=["yes"] * ANSWERS)
    records = {"question_type": "is", "answer_type": "yes/no", "answers": [{"answer": "yes", "answer_id": 1}]}
    task._rule = OFFICIAL
    task._annotations = [records | {"question_id": question.question_id} for question in questions]


def _select_by_statements(task: Any, size: Size) -> None:
    sides, numbers = task.images_per_statement(), np.arange(size.samples)
    views = SyntheticImages(size.samples + 1, size.vision.image_size, seed=1).__getitems__(range(size.samples + 1))
    generator, words = np.random.default_rng(1), STATEMENT_LABELS[task.data_kind]
    statements = [
        StatementSample(
            row, tuple(range(row, row + sides)), tuple(views[row : row + sides]),
            random_text(6 + row, generator, size.words), row % len(words),
        )
        for row in numbers.tolist()
    ]  # fmt: skip
    task.select_set = _Samples(statements, partial(collate_statements, pad_id=PAD))
    task.select_set.statement_ids, task.select_set.labels = numbers, numbers % len(words)
    task.select_set.names, task.select_set.subsets = [f"dev-{row}-0-0" for row in numbers], [None] * len(numbers)


def _select_by_pairs(task: Any, size: Size) -> None:
    facts = Facts(None, size.words, Words(size.words, PAD, START, END), ())
    batch = make_batch(task.config, facts, size.samples, CPU)
    batch = batch._replace(false_index=batch.image_index.flip(0), other_ids=batch.token_ids, is_other=batch.is_token)
    task.select_set, task._selected = _Samples(range(size.samples), lambda _: batch), ["made up"]


def _select_by_pixels(task: Any, size: Size) -> None:
    side = size.vision.image_size
    views = SyntheticImages(size.samples, side, seed=1).__getitems__(range(size.samples))
    label = np.arange(side * side).reshape(side, side) % ANSWERS
    pictures = [LabelledPicture(place, [view[None]], (side, side), label) for place, view in enumerate(views)]
    task.select_set, task.showing = _Samples(pictures, lambda samples: samples[0]), Showing()


EXPLAINED = ("vqa", "retrieval", "pretraining")
"""The tasks whose models' maps are exported."""
SELECTIONS: dict[str, Callable[[Any, Size], None]] = {
    "vqa": _select_by_questions,
    "retrieval": _select_by_captions,
    "nlvr2": _select_by_statements,
    "snli_ve": _select_by_statements,
    "pairs": _select_by_pairs,
    "pretraining": _select_by_classes,
    "segmentation": _select_by_pixels,
}
"""What a task's ``evaluate`` needs beside the model; a task that is not here is not evaluated."""
READS = {"retrieval": 2, "segmentation": TINY.samples}
"""What a tiny evaluation reads from the device, and waits for: similarities and scores of a chunk of images, the
classes of each picture; of other tasks once what a batch gives."""
