"""A training step of VQA with frozen parts, beside one in which everything trains.

All sides train one model, each with its own frozen parts and its own optimizer, which takes 13 GB at base size. What is
kept lies in files as ``data.keep_frozen`` makes them, and reading it is a part of the step. Pictures are in memory
already: decoding them is no part of it, which favours the sides that look at them.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from accelerate.utils import send_to_device
from rich.console import Console
from torch import Tensor

from benchmarks.contest import Key
from benchmarks.measure import Stage, Turns, spread, take_turns
from benchmarks.memory import kept_for_backward
from benchmarks.samples import ANSWERS, Workload, questions_about
from benchmarks.session import run_session
from benchmarks.synthetic import PAD, random_model
from benchmarks.tables import number, span, table_of
from benchmarks.training import Trainee, make_step, nowhere
from vl_absvit.config import LearningRates, OptimConfig, Precision, VQAConfig
from vl_absvit.data.collate import VQASample, collate_vqa, pad_texts, wording
from vl_absvit.data.kept_rows import KeptRows
from vl_absvit.models import VLAbSViT
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.base import freeze_zero_rates
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.training.optim import build_optimizer

FULL = "everything trains"
LARGEST_DIFFERENCE = 0.02  # of a loss on what is kept, relative to that on pictures; bf16 rounds to 1 in 512


class Frozen(NamedTuple):
    """What a side does not train."""

    parts: tuple[str, ...]  # fields of ``LearningRates``
    is_kept: bool  # whether first looks are read, and the vectors of texts if the text encoder is frozen


SIDES = {
    FULL: Frozen((), False),
    "trunk frozen": Frozen(("vision",), False),
    "trunk frozen, looks kept": Frozen(("vision",), True),
    "both encoders frozen and kept": Frozen(("vision", "text"), True),
    "all before the fusion frozen, encoders kept": Frozen(("vision", "text", "feedback", "prior"), True),
}


class Kept(NamedTuple):
    """What frozen encoders made of the samples."""

    first_looks: KeptRows
    texts: KeptRows


def measure(
    size: Literal["tiny", "base"], images: int, questions: Sequence[int], folder: Path, turns: Turns
) -> dict[str, Any]:
    """Everything about one precision."""
    model = random_model(size, {"kind": "vqa", "num_answers": ANSWERS}).to(turns.device)
    tasks = {name: task_of(model, frozen, turns.precision) for name, frozen in SIDES.items()}
    optimizers, states = {}, {}
    for name, task in tasks.items():
        freeze(task)
        optimizers[name] = build_optimizer(model, task.lr_of(), task.config.optim)
        states[name] = 12 * sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    cases, turn, kept_bytes = [], [], {}
    for per_image in questions:
        work = Workload(images, per_image, model.vision.image_size[0])
        samples, name = questions_about(work), work.named("question")
        kept = keep(model, samples, turns, folder / turns.precision / name)
        trainees = {side: trainee(task, samples, kept if SIDES[side].is_kept else None) for side, task in tasks.items()}
        check(model, tasks, trainees)
        cases.append(name)
        for side, task in tasks.items():
            freeze(task)
            kept_bytes[name, side] = kept_for_backward(trainees[side].terms, model.parameters())
            step = make_step(trainees[side], model, optimizers[side], task.config.optim.max_grad_norm, one_by_one=False)
            turn.append(partial(take_turn, task, step, name, side))
    measured = take_turns(turn, turns.device, turns.repeats, turns.advance)
    return {"cases": {name: summarise(name, measured, kept_bytes, states) for name in cases}}


def take_turn(task: VQATask, step: Callable[[Stage], None], case: str, side: str, stage: Stage) -> None:
    """A step of one side, whose parts are stages of their own. Frozen decoders were folded before, as in a run."""
    freeze(task)
    task.model.vision.fold()
    step(lambda part: stage(Key(case, side, part)))


def task_of(model: VLAbSViT, frozen: Frozen, precision: Precision) -> VQATask:
    """The task of one side."""
    rates = replace(LearningRates(), **dict.fromkeys(frozen.parts, 0.0))
    config = VQAConfig(**nowhere(precision), optim=OptimConfig(learning_rates=rates))
    return VQATask.without_data(config, model)


def freeze(task: VQATask) -> None:
    """Leave the parts of a side alone in training."""
    task.model.requires_grad_().train()
    freeze_zero_rates(task.config, task.model, task.lr_of())


@torch.no_grad()
def keep(model: VLAbSViT, samples: Sequence[VQASample], turns: Turns, folder: Path) -> Kept:
    """Write what is read in place of pictures and texts."""
    images = {sample.image_id: sample.image for sample in samples}
    texts = dict(sorted((wording(sample.token_ids), sample.token_ids) for sample in samples))
    keys, lengths = np.array(list(texts)), np.array([len(text) for text in texts.values()])
    looks = KeptRows(folder / "looks", np.array(list(images)), np.full(len(images), model.vision.numbers_to_keep))
    vectors = KeptRows(folder / "texts", keys, lengths * model.text.width)
    model.eval()
    with arithmetic(turns.precision, turns.device):
        token_ids, is_token = (tensor.to(turns.device) for tensor in pad_texts(list(texts.values()), PAD))
        made: dict[KeptRows, Sequence[Tensor]] = {
            looks: list(model.vision.first_look_to_keep(torch.stack(list(images.values())).to(turns.device))),
            vectors: [row[:length] for row, length in zip(model.text(token_ids, is_token), lengths, strict=True)],
        }
    for rows, content in made.items():
        first = 0
        for file in range(rows.files):
            rows.write(file, content[first : first + len(rows.keys_of(file))])
            first += len(rows.keys_of(file))
    return Kept(looks, vectors)


def trainee(task: VQATask, samples: Sequence[VQASample], kept: Kept | None) -> Trainee:
    """One side's batch and losses."""
    is_text_kept = kept is not None and task.config.optim.learning_rates.text == 0
    device = next(task.model.parameters()).device

    def batch() -> Any:
        seen = samples
        if kept is not None:
            image_ids = list(dict.fromkeys(sample.image_id for sample in samples))
            rows = dict(zip(image_ids, kept.first_looks.load(image_ids), strict=True))
            seen = [sample._replace(image=rows[sample.image_id]) for sample in samples]
        states = kept.texts if kept is not None and is_text_kept else None
        return send_to_device(collate_vqa(seen, pad_id=PAD, vocabulary_size=ANSWERS, text_states=states), device)

    return Trainee(batch, lambda batch: task.losses(task.model, batch))


@torch.no_grad()
def check(model: VLAbSViT, tasks: Mapping[str, VQATask], trainees: Mapping[str, Trainee]) -> None:
    """Raise ``RuntimeError`` if, without dropout, a loss on what is kept is another than that on pictures."""
    freeze(tasks[FULL])
    model.eval()
    expected = trainees[FULL].terms()
    for side, each in trainees.items():
        for name, loss in each.terms().items():
            difference = abs(loss - expected[name]) / abs(expected[name])
            if difference > LARGEST_DIFFERENCE:
                raise RuntimeError(f"{side}: the loss {name} differs by {difference:.1%} of it")
    model.train()


def summarise(
    case: str, measured: Any, kept_bytes: Mapping[tuple[str, str], int], states: Mapping[str, int]
) -> dict[str, Any]:
    """Seconds, operations and memory of every side of a case, and how they stand to those of the full step."""

    def of(side: str, values: Mapping[Any, Any]) -> dict[str, Any]:
        return {key.part: value for key, value in values.items() if key[:2] == (case, side)}

    seconds = {side: np.sum(list(of(side, measured.seconds).values()), axis=0) for side in SIDES}  # (R,) each
    flop = {side: sum(of(side, measured.flops).values()) for side in SIDES}
    memory = {side: kept_bytes[case, side] + states[side] for side in SIDES}
    return {
        side: {
            "seconds": spread(seconds[side])._asdict(),
            "ratio": spread(seconds[FULL] / seconds[side])._asdict(),
            "flop": flop[side],
            "floor": flop[FULL] / flop[side],
            "activation_bytes": kept_bytes[case, side],
            "gradient_and_moment_bytes": states[side],
            "memory": memory[side] / memory[FULL],
            "activations": kept_bytes[case, side] / kept_bytes[case, FULL],
            "parts": {name: spread(values)._asdict() for name, values in of(side, measured.seconds).items()},
        }
        for side in SIDES
    }


def show(console: Console, precision: str, result: dict[str, Any]) -> None:
    """One precision."""
    for case, sides in result["cases"].items():
        table = table_of(
            f"{precision}, {case}", "s", "full / this", "by operations", "activations, MiB", "of full",
            "gradients and moments, MiB", "all three, of full",
        )  # fmt: skip
        for side, found in sides.items():
            table.add_row(
                side, span(found["seconds"]), span(found["ratio"]), f"{found['floor']:.2f}",
                number(found["activation_bytes"] / 2**20), f"{found['activations']:.2f}",
                number(found["gradient_and_moment_bytes"] / 2**20), f"{found['memory']:.2f}",
            )  # fmt: skip
        console.print(table)


def run(*, size: Literal["tiny", "base"], images: int, questions: Sequence[int], **common: Any) -> None:
    """The benchmark, by the command's options.

    Raises: as ``run_session``, and ``RuntimeError`` if losses differ.
    """
    questions = sorted(set(questions))
    told = {"benchmark": "train-frozen", "size": size, "images": images, "questions": questions}
    with tempfile.TemporaryDirectory() as folder:
        measure_one = partial(measure, size, images, questions, Path(folder))
        run_session(told, measure_one, lambda results: None, show, **common)
