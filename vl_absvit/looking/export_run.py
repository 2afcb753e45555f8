"""Make an attention export of many texts or pictures. Every process takes a contiguous part of those not done yet."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
from accelerate.utils import send_to_device
from rich.progress import Progress
from torch import Tensor

from vl_absvit.config import EvaluationPrecision
from vl_absvit.data.loaders import batch_loader
from vl_absvit.distributed import gather_objects, is_main, rank, world_size
from vl_absvit.errors import InputError
from vl_absvit.looking.export_reader import EXPECTED, IMAGE_FROM_HERE
from vl_absvit.looking.export_writer import ExportFolder
from vl_absvit.looking.geometry import Box
from vl_absvit.looking.own_texts import passed_on
from vl_absvit.looking.pages import panel
from vl_absvit.looking.picture_texts import PictureText, PictureTexts, batches_by_image
from vl_absvit.looking.predictions import Prediction
from vl_absvit.looking.report_page import TITLES
from vl_absvit.looking.viewer import Viewer


def describe_export(
    checkpoint: Mapping[str, str],
    texts: PictureTexts,
    viewer: Viewer,
    colormap: str | None,
    precision: EvaluationPrecision,
) -> dict[str, Any]:
    """Everything that an export's files depend on, as JSON.

    Args:
        checkpoint: SHA-256 of its folder's files, by name.
        colormap: of the panels; None if there are none.
    """
    return {
        "checkpoint": dict(checkpoint),
        f"{texts.kind}s": texts.describe(),
        "maps": list(viewer.choice.names),
        "block": viewer.choice.block,
        "heads": viewer.choice.heads,
        "colormap": colormap,
        "precision": precision,
    } | ({} if viewer.prior is None else {"prior": viewer.prior})


def export_maps(
    viewer: Viewer,
    texts: PictureTexts,
    folder: ExportFolder,
    done: set[str],
    *,
    colormap: str | None,
    batch_size: int,
    num_workers: int,
    bar: Progress,
) -> None:
    """Export every question, caption or picture that is not done, and write the index; all processes call it.

    Batches depend on the texts alone, so that neither the number of processes nor an interruption moves a map.

    Args:
        folder: started.
        done: ids of the texts that are there, the same on every process.
        colormap: of the panels; None for none.
        batch_size: texts per forward pass.
        num_workers: loader processes, and threads that draw and write, per process.
    """
    batches = batches_by_image(texts.image_ids, batch_size)
    batches = [batch for batch in batches if any(texts.ids[row] not in done for row in batch)]
    own_batches = [batches[k] for k in np.array_split(np.arange(len(batches)), world_size())[rank()]]
    device = next(viewer.model.parameters()).device
    viewer.model.vision.fold()
    bar_task = bar.add_task("looking", total=sum(map(len, own_batches)))
    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        for rows, batch in zip(own_batches, batch_loader(texts.samples, own_batches, num_workers), strict=True):
            explanation = viewer.explain(send_to_device(batch, device))
            predictions, maps = viewer.predict(explanation.logits), _per_text(explanation.maps, len(rows))
            of_image = itertools.groupby(
                zip(rows, predictions, maps, strict=True), lambda looked: texts.image_ids[looked[0]]
            )
            write = partial(_write, folder, texts, done, viewer.box, colormap)
            for entries in pool.map(write, [list(group) for _, group in of_image]):
                folder.note(entries)
            bar.advance(bar_task, len(rows))
    gather_objects([None])  # the main process waits for the others' notes
    if is_main():
        folder.complete(texts.ids)


def _per_text(maps: Mapping[str, Tensor], texts: int) -> list[dict[str, np.ndarray]]:
    """Name -> (B, h, w), to name -> (h, w) for each of B texts."""
    arrays = {name: grids.float().cpu().numpy() for name, grids in maps.items()}
    return [{name: grids[row] for name, grids in arrays.items()} for row in range(texts)]


def _write(
    folder: ExportFolder,
    texts: PictureTexts,
    done: set[str],
    box: Callable[[int, int], Box],
    colormap: str | None,
    looked: Sequence[tuple[int, Prediction, dict[str, np.ndarray]]],
) -> list[dict[str, Any]]:
    """Files of the texts on one image, by row; returns the lines of those that were not done."""
    new = [result for result in looked if texts.ids[result[0]] not in done]
    if not new:
        return []
    row = new[0][0]
    picture = None if colormap is None else texts.open(row)
    size = texts.image_size(row) if picture is None else picture.size
    entries = []
    for row, prediction, maps in new:
        text = texts.text_at(row)
        for name, value in prediction._asdict().items():
            if isinstance(value, float) and not isfinite(value):
                raise InputError(f"{texts.kind} {text.id}: the model's {name} is {value}")
        if text.content is None:
            place = folder.place_of(text.image)
        else:  # the tables hold the picture; the export gets a copy
            place = {"image": folder.keep_picture(f"{text.image_id}{text.image.suffix}", text.content)}
        entry = entry_of(text, prediction, place, size, box(*size), has_panel=picture is not None)
        drawn = None
        if picture is not None and colormap is not None:
            titled = {TITLES.get(name, name): grid for name, grid in maps.items()}
            drawn = panel(
                picture, titled, entry["box"], text=text.text, remarks=prediction.remarks(text), colormap=colormap
            )
        folder.write(entry, maps, drawn)
        entries.append(entry)
    return entries


def entry_of(
    text: PictureText,
    prediction: Prediction,
    place: dict[str, str],
    size: tuple[int, int],
    box: Box,
    has_panel: bool,
) -> dict[str, Any]:
    """A line of the index.

    Args:
        place: where readers find the picture.
        size: its width and height.
        box: the part of it that the model sees.
    """
    entry = {
        "id": text.id,
        "image_id": text.image_id,
        **place,
        **prediction.fields(text),
        "image_size": list(size),
        "box": list(box),
        "npz": f"{text.id}.npz",
        "png": f"{text.id}.png" if has_panel else None,
    }
    return entry | passed_on(text.more, {IMAGE_FROM_HERE, *entry, *EXPECTED["question"], *EXPECTED["caption"]})
