"""Questions in, an attention export out: every process takes a contiguous part of the batches that are not done yet."""

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accelerate.utils import send_to_device
from rich.progress import Progress

from vl_absvit.attention.export import ExportFolder
from vl_absvit.attention.geometry import seen_box
from vl_absvit.attention.questions import Asked, Questions, batches_by_image
from vl_absvit.attention.render import panel
from vl_absvit.attention.report import TITLES
from vl_absvit.data.loaders import batch_loader
from vl_absvit.data.preparation.folder import fingerprint
from vl_absvit.data.python2 import round_half_up
from vl_absvit.distributed import gather_objects, is_main, rank, world_size
from vl_absvit.errors import InputError
from vl_absvit.evaluation.vqa_accuracy import question_accuracy
from vl_absvit.tasks.attention import Explanation, MapChoice, explain
from vl_absvit.tasks.checkpoint import PREPROCESSING
from vl_absvit.tasks.vqa import ANSWERS, VQACheckpoint


class Answered(NamedTuple):
    """What the model makes of one question."""

    prediction: str
    confidence: float  # sigmoid of the answer's logit: answers are trained with binary cross-entropy
    maps: dict[str, np.ndarray]  # (h, w) each


def describe_export(
    checkpoint: str | Path, questions: dict[str, Any], choice: MapChoice, colormap: str | None
) -> dict[str, Any]:
    """Everything that an export's files depend on, as JSON.

    Args:
        checkpoint: its folder.
        questions: what they are about.
        colormap: of the panels; None if there are none.
    """
    files = ("config.json", "model.safetensors", "tokenizer.json", PREPROCESSING, ANSWERS)
    return {
        "checkpoint": {name: fingerprint(Path(checkpoint) / name)["sha256"] for name in files},
        "questions": questions,
        "maps": list(choice.names),
        "block": choice.block,
        "heads": choice.heads,
        "colormap": colormap,
    }


def export_maps(
    checkpoint: VQACheckpoint,
    questions: Questions,
    folder: ExportFolder,
    done: set[str],
    choice: MapChoice,
    *,
    colormap: str | None,
    batch_size: int,
    num_workers: int,
    bar: Progress,
) -> None:
    """Export every question that is not done, and write the index; all processes call it.

    Batches depend on the questions alone, so that neither the number of processes nor an interruption moves a map.

    Args:
        checkpoint: its model is on the device to use.
        folder: started.
        done: ids of the questions that are there, the same on every process.
        colormap: of the panels; None for none.
        batch_size: questions per forward pass.
        num_workers: loader processes, and threads that draw and write, per process.
    """
    batches = batches_by_image(questions.image_ids, batch_size)
    batches = [batch for batch in batches if any(questions.ids[row] not in done for row in batch)]
    mine = [batches[k] for k in np.array_split(np.arange(len(batches)), world_size())[rank()]]
    device = next(checkpoint.model.parameters()).device
    shown = bar.add_task("looking", total=sum(map(len, mine)))
    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        for rows, batch in zip(mine, batch_loader(questions.samples, mine, num_workers), strict=True):
            explanation = explain(checkpoint.model, send_to_device(batch, device), choice)
            answered = _answers(explanation, checkpoint.vocabulary.answers)
            of_image = itertools.groupby(zip(rows, answered, strict=True), lambda each: questions.image_ids[each[0]])
            write = partial(_write, folder, questions, done, checkpoint.preprocessing.image_size, colormap)
            for entries in pool.map(write, [list(group) for _, group in of_image]):
                folder.note(entries)
            bar.advance(shown, len(rows))
    gather_objects([None])  # the main process waits for the others' notes
    if is_main():
        folder.complete(questions.ids)


def _answers(explanation: Explanation, vocabulary: Sequence[str]) -> list[Answered]:
    """One per question of the batch."""
    confidence, label = explanation.logits.float().sigmoid().cpu(), explanation.logits.argmax(dim=1).tolist()
    maps = {name: grids.float().cpu().numpy() for name, grids in explanation.maps.items()}
    return [
        Answered(vocabulary[k], float(confidence[row, k]), {name: grids[row] for name, grids in maps.items()})
        for row, k in enumerate(label)
    ]


def _write(
    folder: ExportFolder,
    questions: Questions,
    done: set[str],
    image_size: int,
    colormap: str | None,
    answered: Sequence[tuple[int, Answered]],
) -> list[dict[str, Any]]:
    """Files of the questions on one image, by row; returns the lines of those that were not done."""
    new = [(row, answer) for row, answer in answered if questions.ids[row] not in done]
    if not new:
        return []
    row = new[0][0]
    picture = None if colormap is None else questions.open(row)
    size = questions.image_size(row) if picture is None else picture.size
    entries = []
    for row, answer in new:
        asked = questions.asked(row)
        entry = _entry(asked, answer, _picture_path(folder, asked), size, image_size, has_panel=picture is not None)
        drawn = None
        if picture is not None:
            titled = {TITLES.get(name, name): grid for name, grid in answer.maps.items()}
            drawn = panel(
                picture, titled, entry["box"],
                question=asked.question, predicted=answer.prediction, truth=asked.truth, colormap=colormap,
            )  # fmt: skip
        folder.write(entry, answer.maps, drawn)
        entries.append(entry)
    return entries


def _entry(
    asked: Asked, answer: Answered, image: str, size: tuple[int, int], image_size: int, has_panel: bool
) -> dict[str, Any]:
    """A line of the index."""
    if not 0 <= answer.confidence <= 1:
        raise InputError(f"question {asked.id}: the model's answer has the confidence {answer.confidence}")
    accuracy = None
    if asked.answers is not None:
        accuracy = round_half_up(100 * question_accuracy(answer.prediction, asked.answers), 2)
    return {
        "id": asked.id,
        "question_id": asked.question_id,
        "image_id": asked.image_id,
        "image": image,
        "question": asked.question,
        "prediction": answer.prediction,
        "confidence": answer.confidence,
        "answers": asked.answers,
        "answer_type": asked.answer_type,
        "accuracy": accuracy,
        "image_size": list(size),
        "box": list(seen_box(*size, image_size)),
        "npz": f"{asked.id}.npz",
        "png": f"{asked.id}.png" if has_panel else None,
    }


def _picture_path(folder: ExportFolder, asked: Asked) -> str:
    """Where readers find the picture: its file, or a copy in the export where the tables hold it."""
    if asked.content is None:
        return str(asked.image)
    return folder.keep_picture(f"{asked.image_id}{asked.image.suffix}", asked.content)
