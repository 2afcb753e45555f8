"""Scoring a gallery of images and captions: the naive way, all pairs exactly, and each image's best captions.

The naive side is timed on a sample of pairs; the exact one on all of them on a GPU, on one image's on a CPU; both are
extrapolated to all pairs. The shortlist is timed as a whole: texts, first looks, comparison, and every image read with
its best captions. (Shortlists of both directions, as evaluation takes them, would hold every pair of a gallery of so
few images.) Shapes: I images, C captions, P pairs of the naive sample.
"""

from functools import partial
from typing import Any, Literal, Unpack, cast

import numpy as np
import torch
from rich.progress import Progress

from benchmarks.agreement import check_outputs
from benchmarks.measure import PRECISIONS, Stage, Turns, matmul, take_turns
from benchmarks.naive import naive_scores
from benchmarks.retrieval_summary import Counts, compare_with_fp32, show, summarise
from benchmarks.session import Common, run_session
from benchmarks.synthetic import SyntheticGallery, random_model
from vl_absvit.data.captions import CaptionGallery
from vl_absvit.evaluation.retrieval_metrics import shortlist as best_candidates
from vl_absvit.models import VLAbSViT
from vl_absvit.tasks.retrieval_scores import GalleryScorer

NAIVE_PAIRS = {"cpu": 8, "cuda": 64}


def run(
    *,
    size: Literal["tiny", "base"],
    images: int,
    captions: int,
    shortlist: int,
    batch: int,
    **common: Unpack[Common],
) -> None:
    """Measure, print the tables, write the JSON; the arguments are the command's options.

    Raises: as ``run_session``.
    """
    told = {
        "benchmark": "retrieval", "size": size, "images": images, "captions": captions, "shortlist": shortlist,
        "batch": batch,
    }  # fmt: skip
    of_precision = partial(measure, size, images, captions, shortlist, batch)
    run_session(told, of_precision, compare_with_fp32, show, **common)


@torch.no_grad()
def measure(
    size: Literal["tiny", "base"],
    images: int,
    captions: int,
    shortlist: int,
    batch: int,
    turns: Turns,
) -> dict[str, Any]:
    """Everything about one precision."""
    device, precision = turns.device, turns.precision
    dtype = PRECISIONS[precision]
    model = random_model(size, {"kind": "matching"}).to(device, dtype)
    model.vision.fold()
    gallery = SyntheticGallery(images, captions, model.vision.image_size[0])
    contest = Contest(model, gallery, shortlist, batch)
    agreement = check_outputs(contest.naive_sample(), contest.own_sample(), precision)
    sides = (matmul(device, dtype), contest.naive, contest.exact, contest.naive, contest.best)
    measured = take_turns(sides, device, turns.repeats, turns.advance)
    counts = Counts(images, captions, shortlist, len(contest.rows[0]), int(contest.part.sum()))
    return {"agreement": {"pairs": counts.naive_pairs} | agreement, **summarise(counts, measured)}


class Contest:
    """Both sides on one model and gallery; ``naive``, ``exact`` and ``best`` run in measured stages.

    Attributes:
        rows: images and captions of the naive sample, 2 x (P,).
        part: pairs that ``exact`` judges, (I, C) bool.
    """

    def __init__(self, model: VLAbSViT, gallery: SyntheticGallery, size: int, batch: int) -> None:
        """
        Args:
            size: captions in every image's shortlist.
            batch: pairs, or texts, of one of our forward passes.
        """
        self._model, self._gallery, self._size, self._batch = model, gallery, size, batch
        parameter = next(model.parameters())
        device, images, captions = parameter.device, len(gallery.image_ids), len(gallery.caption_ids)
        pairs = min(NAIVE_PAIRS[device.type], images * captions)
        self.rows = np.arange(pairs) % images, np.linspace(0, captions - 1, pairs).astype(int)
        pixels = gallery.images.collate(gallery.images.__getitems__(self.rows[0].tolist()))
        texts = (tensor.to(device) for tensor in gallery.texts(self.rows[1].tolist()))
        self._sample = pixels.to(device, parameter.dtype), *texts
        self.part = np.zeros((images, captions), dtype=bool)
        self.part[: 1 if device.type == "cpu" else None] = True

    def naive(self, stage: Stage) -> None:
        """The sample."""
        with stage("naive"):
            self.naive_sample()

    def exact(self, stage: Stage) -> np.ndarray:
        """Every caption and image once, and the pairs of ``part``: scores (I, C), NaN elsewhere."""
        with stage("texts"):
            scorer = self._scorer()
        with stage("images"):
            scorer.compare(keep=True, num_workers=0)
        with stage("pairs"):
            return scorer.judge(self.part)

    def best(self, stage: Stage) -> np.ndarray:
        """Every image with its best captions, from pixels and token ids to scores (I, C), NaN elsewhere."""
        with stage("shortlist"):
            scorer = self._scorer()
            return scorer.judge(best_candidates(scorer.compare(keep=True, num_workers=0), self._size))

    def naive_sample(self) -> np.ndarray:
        """Scores of the sample, (P,)."""
        return naive_scores(self._model, *self._sample).float().cpu().numpy()

    def own_sample(self) -> np.ndarray:
        """The same as evaluation computes them."""
        listed = np.zeros_like(self.part)
        listed[self.rows] = True
        scorer = self._scorer()
        scorer.compare(keep=True, num_workers=0)
        return scorer.judge(listed)[self.rows]

    def _scorer(self) -> GalleryScorer:
        return GalleryScorer(self._model, cast(CaptionGallery, self._gallery), self._batch, Progress(disable=True))
