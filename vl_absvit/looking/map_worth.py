"""Are the maps of an export worth anything? Curves of the model's confidence, and maps of randomised weights.

The maps are those of the export: they are not made again while cells change, and text or class stay the prior.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vl_absvit.data.class_folders import ImageBatch
from vl_absvit.data.collate import VQABatch
from vl_absvit.errors import InputError
from vl_absvit.evaluation.attention_agreement import centre_map, spearman
from vl_absvit.evaluation.map_curves import (
    BLUR_KERNEL,
    BLUR_SIGMA,
    area,
    changed,
    deletion_start,
    insertion_start,
    on_input,
    ranks_of,
    steps_of,
)
from vl_absvit.evaluation.uncertain_mean import uncertain_mean
from vl_absvit.looking.randomised import randomise
from vl_absvit.looking.viewer import Viewer
from vl_absvit.models.heads import MatchScores

SEED = 0
CURVES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "deletion": deletion_start,
    "insertion": insertion_start,
}
DEFINITIONS = {
    "confidence": "of what the model said about the whole picture: the probability of the class, the sigmoid of the "
    "answer's logit, or the probability that the caption matches",
    "deletion": "area under the confidence while cells become the mean colour, the strongest of the map first; less is "
    "better; mean over texts or pictures",
    "insertion": f"area under the confidence while cells of the picture replace those of a blurred one (Gaussian of "
    f"{BLUR_KERNEL} pixels, sigma {BLUR_SIGMA:g}), the strongest first; more is better",
    "curves": "mean confidence at each share of changed cells; equal cells come in raster order; maps are not made "
    "anew, text or class stay the prior",
    "centre": "a Gaussian in the middle of what the model sees",
    "random": f"an order of cells that is drawn with seed {SEED} for each text or picture",
    "randomised": "Spearman's rank correlation of a map with itself after the numbers of each weight were shuffled: in "
    "the head (and fusion), then also in the last block, and so on to all; mean over texts or pictures where neither "
    "map is constant; a map that stays near 1 does not depend on what the model learned",
}


class Curves(NamedTuple):
    """One row of one text or picture: confidence at each step, (K,)."""

    deletion: np.ndarray
    insertion: np.ndarray


@torch.no_grad()
def confidences(viewer: Viewer, batch: VQABatch | ImageBatch, images: Tensor, target: int) -> np.ndarray:
    """The model's confidence in an answer, a class or a match, for changed pictures, (K,).

    Args:
        viewer: makes no maps.
        batch: of one text or picture.
        images: (K, 3, S, S).
        target: of the answer or class.
    """
    number = len(images)
    if isinstance(batch, VQABatch):
        index = torch.arange(number, device=images.device)
        tokens, is_token = (rows.expand(number, *rows.shape[1:]) for rows in (batch.token_ids, batch.is_token))
        batch = batch._replace(images=images, image_index=index, token_ids=tokens, is_token=is_token)
        logits = viewer.explain(batch).logits
        if isinstance(logits, MatchScores):
            found = logits.itm.float().softmax(dim=1)[:, 1]
        else:
            found = logits.float()[:, target].sigmoid()
    else:
        logits = viewer.explain(batch._replace(images=images)).logits
        assert isinstance(logits, Tensor), "a classifier has logits"
        found = logits.float().softmax(dim=1)[:, target]
    if not found.isfinite().all():
        raise InputError("the model's confidence is not a number")
    return found.cpu().numpy()


def curves_of(
    viewer: Viewer,
    batch: VQABatch | ImageBatch,
    maps: Mapping[str, np.ndarray],
    number: int,
    *,
    step: int,
    batch_size: int,
) -> dict[str, Curves]:
    """Both curves of every map of one text or picture, and of the baselines.

    Args:
        viewer: makes no maps.
        batch: of one text or picture, on the model's device.
        maps: (h, w) each, over all that the model sees.
        number: of the text or picture, which the random order depends on.
        step: cells that change at once.
        batch_size: pictures per forward pass.
    """
    image = batch.images[0]
    logits = viewer.explain(batch).logits
    target = 0 if isinstance(logits, MatchScores) else int(logits[0].argmax())
    shape = next(iter(maps.values())).shape
    draw = np.random.default_rng([SEED, number])
    shown = dict(maps) | {"centre": centre_map(shape), "random": draw.random(shape)}
    found: dict[str, Curves] = {}
    for name, grid in shown.items():
        ranks = torch.as_tensor(on_input(ranks_of(grid), (image.shape[1], image.shape[2])), device=image.device)
        cells = steps_of(grid.size, step)
        of_curve = {}
        for curve, start in CURVES.items():
            before, after = start(image)
            parts = [
                confidences(viewer, batch, changed(before, after, ranks, cells[first : first + batch_size]), target)
                for first in range(0, len(cells), batch_size)
            ]
            of_curve[curve] = np.concatenate(parts)
        found[name] = Curves(**of_curve)
    return found


def randomised_maps(
    viewer: Viewer, batches: Sequence[VQABatch | ImageBatch]
) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """Part by part of the weights that lose their order: how much each map stays the same in every batch.

    Args:
        viewer: its model is lost.
        batches: of one text or picture each.

    Yields:
        The part, and for every map the rank correlations with the trained model's, NaN where one is constant.
    """

    def maps_now() -> list[dict[str, np.ndarray]]:
        return [
            {name: grids[0].float().cpu().numpy() for name, grids in viewer.explain(batch).maps.items()}
            for batch in batches
        ]

    trained = maps_now()
    for part in randomise(viewer.model, SEED):
        now = maps_now()
        kept: dict[str, list[float]] = {}
        for before, after in zip(trained, now, strict=True):
            for name, grid in before.items():
                is_finite = bool(np.isfinite(after[name]).all())
                same = spearman(grid, after[name]) if is_finite else None
                kept.setdefault(name, []).append(np.nan if same is None else same)
        yield part, kept


def summarise(
    curves: Sequence[Mapping[str, Curves]],
    cells: Mapping[str, Sequence[int]],
    randomised: Mapping[str, Mapping[str, Sequence[float]]],
    main: str,
) -> dict[str, Any]:
    """Rows over all texts or pictures, as JSON.

    Args:
        curves: row -> curves, of each.
        cells: row -> changed cells at each step.
        randomised: part -> map -> rank correlations; may be empty.
        main: the map in the headline.
    """
    rows: dict[str, Any] = {}
    for name in dict.fromkeys(name for of_one in curves for name in of_one):
        rows[name] = {}
        for curve in CURVES:
            values = np.stack([getattr(of_one[name], curve) for of_one in curves])
            areas = np.array([area(cells[name], row) for row in values])
            rows[name][curve] = uncertain_mean(areas, SEED)._asdict()
            rows[name][f"{curve}_curve"] = values.mean(axis=0).tolist()
        rows[name]["shares"] = [number / cells[name][-1] for number in cells[name]]
        if any(name in kept for kept in randomised.values()):
            rows[name]["randomised"] = {
                part: uncertain_mean(np.array(kept[name]), SEED)._asdict() for part, kept in randomised.items()
            }
    return {
        "map": main,
        **{curve: rows[main][curve]["mean"] for curve in CURVES},
        "rows": rows,
        "parts": list(randomised),
        "counts": {"judged": len(curves)},
    }
