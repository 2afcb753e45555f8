"""Compare a model's maps with human maps, question by question: the rows of a comparison on VQA-HAT.

Shapes: Q questions, C cells of ``GRID``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vl_absvit.evaluation.attention_agreement import (
    CENTRE_SIGMA,
    GRID,
    Agreement,
    Box,
    agreement,
    area_average,
    centre_map,
    choose_donors,
    consensus,
    correlations,
    human_on_grid,
    inter_human,
    rank_vector,
    uniform_noise,
)
from vl_absvit.evaluation.uncertain_mean import CONFIDENCE, RESAMPLES

SEED = 0
DEFINITIONS = {
    "rank_correlation": f"Spearman's rank correlation of the {GRID[0]} x {GRID[1]} cells of a map and of a human map, "
    "both averaged by area over the part of the image that the model saw; mean over the human maps of a question, then "
    "over questions; a constant map of the model counts as 0, a constant human map is left out",
    "standard_error": "of the mean over questions",
    "interval": f"percentiles that hold {CONFIDENCE:.0%} of the means of {RESAMPLES:,} resamples of the questions, "
    f"seed {SEED}",
    "inter_human": "each human map with each other one of its question, for questions with at least two",
    "centre": f"a Gaussian at the centre of the image; sigma is {CENTRE_SIGMA} of its width and of its height",
    "shuffled": "the map named under 'map', but of another question: about the same image where there is one, else "
    f"about another image; drawn with seed {SEED}",
    "uniform_noise": f"independent uniform values, seed {SEED}; 0 is expected",
    "off_centre": "the same on the questions whose human maps have a mean rank correlation with 'centre' below 0",
}


class Row(NamedTuple):
    """One row of the comparison."""

    overall: Agreement
    off_centre: Agreement  # on questions whose human maps do not favour the centre


class Scores(NamedTuple):
    """The whole comparison."""

    map: str  # the kind of map that ``shuffled`` takes from other questions
    rows: dict[str, Row]  # inter_human, the model's maps, centre, shuffled, uniform_noise
    questions: int
    off_centre_questions: int
    counts: dict[str, Any]  # numbers of maps that were used, left out or counted as 0


class HATComparison:
    """Collects questions one at a time. It keeps only the rank vectors of their maps."""

    def __init__(self, kinds: Sequence[str], main: str) -> None:
        """
        Args:
            kinds: names of the model's maps; every question has all of them.
            main: the kind of map that ``shuffled`` takes from other questions.
        """
        self._kinds, self._main = list(dict.fromkeys(kinds)), main
        self._ids: list[tuple[int, int]] = []  # of question and image
        self._vectors: dict[str, list[np.ndarray]] = {name: [] for name in (*self._kinds, "centre", "uniform_noise")}
        self._human: list[np.ndarray] = []
        self._people: list[int] = []
        self._constant_human_maps = 0
        self._questions_without_map = 0

    def add(
        self,
        question_id: int,
        image_id: int,
        maps: Mapping[str, np.ndarray],
        human: Sequence[np.ndarray],
        box: Box,
        image_size: tuple[int, int],
    ) -> None:
        """Add one question. It is left out and counted if all its human maps are constant on the part the model saw.

        Args:
            maps: the model's maps over ``box``, (h, w) each.
            human: human maps over the whole image, 8-bit, (height, width) each.
            box: the part that the model saw, in pixels of the image.
            image_size: width and height of the image.

        Raises:
            InputError: a map is no grid of finite numbers, or the box is not within the image.
        """
        grids = [human_on_grid(grey, box, image_size) for grey in human]
        varied = [grid for grid in grids if grid.min() < grid.max()]
        self._constant_human_maps += len(grids) - len(varied)
        if not varied:
            self._questions_without_map += 1
            return
        width, height = image_size
        share = (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
        shown = {name: area_average(maps[name]) for name in self._kinds}
        shown |= {"centre": centre_map(box=share), "uniform_noise": uniform_noise(question_id, SEED)}
        for name, grid in shown.items():
            self._vectors[name].append(rank_vector(grid).astype(np.float32))
        self._human.append(consensus(varied))
        self._people.append(len(varied))
        self._ids.append((question_id, image_id))

    def scores(self) -> Scores:
        """The rows over all added questions. At least one question must not be left out."""
        human = np.stack(self._human)  # (Q, C)
        vectors = {name: np.stack(of_kind) for name, of_kind in self._vectors.items()}  # (Q, C) each
        values = {name: correlations(of_kind, human) for name, of_kind in vectors.items()}  # (Q,) each
        question_ids, image_ids = zip(*self._ids, strict=True)
        donors = choose_donors(question_ids, image_ids, SEED)
        values["shuffled"] = np.where(
            donors.places < 0, np.nan, correlations(vectors[self._main][donors.places], human)
        )
        values["inter_human"] = inter_human(human, np.array(self._people))
        off_centre = values["centre"] < 0
        return Scores(
            map=self._main,
            rows={
                name: Row(agreement(values[name], SEED), agreement(values[name][off_centre], SEED))
                for name in ("inter_human", *self._kinds, "centre", "shuffled", "uniform_noise")
            },
            questions=len(human),
            off_centre_questions=int(off_centre.sum()),
            counts={
                "human_maps": sum(self._people),
                "constant_human_maps": self._constant_human_maps,
                "questions_without_varied_human_map": self._questions_without_map,
                "constant_model_maps": {name: int((~vectors[name].any(axis=1)).sum()) for name in self._kinds},
                "shuffled_from_same_image": int(donors.same_image.sum()),
                "shuffled_from_other_image": int((~donors.same_image & (donors.places >= 0)).sum()),
            },
        )

    def __len__(self) -> int:
        return len(self._ids)
