"""Ranks and recalls of image-text retrieval, from scores alone.

Image retrieval (ir) asks a caption for its image, text retrieval (tr) an image for any of its captions. Ties count
against the model. Where shortlists were scored, listed candidates stand before all others, which follow in the order of
the dual encoder: so does a match that no shortlist has. Shapes: I images, C captions, Q queries.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

KS = (1, 5, 10)


def shortlist(similarity: np.ndarray, size: int) -> np.ndarray:
    """The ``size`` best candidates of every query, or all if there are fewer; of equal ones the earlier.

    Args:
        similarity: of queries to candidates, (queries, candidates).

    Returns:
        Membership, (queries, candidates) bool.
    """
    listed = np.zeros(similarity.shape, dtype=bool)
    best = np.argsort(-similarity, axis=1, kind="stable")[:, :size]
    np.put_along_axis(listed, best, True, axis=1)
    return listed


def rank_of_first_match(
    scores: np.ndarray, is_match: np.ndarray, listed: np.ndarray | None = None, similarity: np.ndarray | None = None
) -> np.ndarray:
    """How many wrong candidates stand before, or level with, each query's best match.

    Args:
        scores: of queries to candidates, (queries, candidates); read where ``listed`` only.
        is_match: right candidates, (queries, candidates) bool; at least one per query.
        listed: candidates that were scored; they stand before all others, which follow in the order of ``similarity``.
            None means all of them.
        similarity: (queries, candidates).

    Returns:
        (queries,), 0 is best.
    """
    if listed is None:
        listed = np.ones(scores.shape, dtype=bool)
    scores = np.where(listed, scores, -np.inf)
    if not np.isfinite(scores[listed]).all():
        raise ValueError("scores of listed candidates must be finite")
    own = np.where(is_match, scores, -np.inf).max(axis=1, keepdims=True)  # -inf where no match is listed
    before = (~is_match & listed & (scores >= own)).sum(axis=1)
    if similarity is None:
        return before
    own_similarity = np.where(is_match, similarity, -np.inf).max(axis=1, keepdims=True)
    behind = (~is_match & ~listed & (similarity >= own_similarity)).sum(axis=1)
    return np.where(np.isneginf(own[:, 0]), before + behind, before)


def recall(ranks: np.ndarray, ks: Sequence[int] = KS) -> dict[int, float]:
    """Percentage of queries whose first match is among the first k."""
    return {k: 100 * float((ranks < k).mean()) for k in ks}


class Ranks(NamedTuple):
    """Wrong candidates that stand before, or level with, the best match of every query; 0 is best."""

    ir: np.ndarray  # (C,), of captions that ask for their image
    tr: np.ndarray  # (I,), of images that ask for a caption


def consecutive_folds(images: int, folds: int) -> np.ndarray:
    """The fold of every image, (I,): from 0, in the images' order, of sizes that differ by one at most."""
    return np.repeat(np.arange(folds), [len(part) for part in np.array_split(np.arange(images), folds)])


def retrieval_ranks(
    scores: np.ndarray,
    image_of_caption: np.ndarray,
    similarity: np.ndarray | None = None,
    size: int | None = None,
    fold_of_image: np.ndarray | None = None,
) -> Ranks:
    """Ranks of both directions; with folds, among the images and captions of a query's own fold only.

    Args:
        scores: of every image with every caption, (I, C); only pairs of one fold and, with shortlists, listed ones are
            read.
        image_of_caption: row of the image that each caption describes, (C,).
        similarity: of the dual encoder, (I, C), where shortlists were taken from it.
        size: candidates per query in the shortlists; None means that all pairs are scored.
        fold_of_image: (I,); None means one fold.
    """
    ir, tr = np.empty(len(image_of_caption), dtype=np.int64), np.empty(len(scores), dtype=np.int64)
    for images, captions in _members(scores.shape, image_of_caption, fold_of_image):
        is_match = image_of_caption[captions] == images[:, None]
        tables = [None if table is None else _part(table, images, captions) for table in (scores, similarity)]
        for ranks, queries, turn in ((ir, captions, np.transpose), (tr, images, np.asarray)):
            own_scores, own_similarity = (None if table is None else turn(table) for table in tables)
            listed = None if size is None else shortlist(own_similarity, size)
            ranks[queries] = rank_of_first_match(own_scores, turn(is_match), listed, own_similarity)
    return Ranks(ir, tr)


def listed_pairs(
    similarity: np.ndarray,
    size: int | None,
    image_of_caption: np.ndarray | None = None,
    fold_of_image: np.ndarray | None = None,
) -> np.ndarray:
    """Pairs that at least one direction's shortlist asks for, (I, C) bool; all of them where ``size`` is None.

    Args:
        image_of_caption, fold_of_image: as for ``retrieval_ranks``; pairs of different folds are never asked for.
    """
    listed = np.zeros(similarity.shape, dtype=bool)
    for images, captions in _members(similarity.shape, image_of_caption, fold_of_image):
        own = _part(similarity, images, captions)
        pairs = np.ones(own.shape, dtype=bool)
        if size is not None:
            pairs = shortlist(own, size) | shortlist(own.T, size).T
        listed[np.ix_(images, captions)] = pairs
    return listed


def measures(ranks: Ranks, ks: Sequence[int] = KS) -> dict[str, float]:
    """What tables report: recalls in percent, their sum, and the median and mean rank, which count from 1.

    ``ir_r1`` ... ``tr_r10``, ``rsum`` (of the six), ``ir_median_rank``, ``ir_mean_rank`` and the same of ``tr``. The
    median of an even number of ranks lies halfway between two of them.
    """
    recalls = {f"{name}_r{k}": value for name in Ranks._fields for k, value in recall(getattr(ranks, name), ks).items()}
    measured = recalls | {"rsum": sum(recalls.values())}
    for name, own in ranks._asdict().items():
        measured |= {f"{name}_median_rank": 1 + float(np.median(own)), f"{name}_mean_rank": 1 + float(np.mean(own))}
    return measured


def measures_of_folds(ranks: Ranks, image_of_caption: np.ndarray, fold_of_image: np.ndarray) -> list[dict[str, float]]:
    """``measures`` of each fold's queries; tables report the mean over folds."""
    parts = _members((len(fold_of_image), len(image_of_caption)), image_of_caption, fold_of_image)
    return [measures(Ranks(ranks.ir[captions], ranks.tr[images])) for images, captions in parts]


def mean_measures(of_folds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every measure over folds."""
    return {name: float(np.mean([fold[name] for fold in of_folds])) for name in of_folds[0]}


def retrieval_recalls(
    scores: np.ndarray,
    image_of_caption: np.ndarray,
    similarity: np.ndarray | None = None,
    size: int | None = None,
    ks: Sequence[int] = KS,
) -> dict[str, float]:
    """``ir_r1`` ... ``tr_r10`` in percent; arguments as for ``retrieval_ranks``."""
    ranks = retrieval_ranks(scores, image_of_caption, similarity, size)
    return {f"{name}_r{k}": value for name in Ranks._fields for k, value in recall(getattr(ranks, name), ks).items()}


def _members(
    shape: tuple[int, int], image_of_caption: np.ndarray | None, fold_of_image: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images and the captions of each fold, both ascending, of a table of this shape."""
    if fold_of_image is None:
        yield np.arange(shape[0]), np.arange(shape[1])
        return
    for fold in np.unique(fold_of_image):
        yield np.flatnonzero(fold_of_image == fold), np.flatnonzero(fold_of_image[image_of_caption] == fold)


def _part(table: np.ndarray, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """Some rows and columns; the table itself where these are all of them."""
    return table if (len(images), len(captions)) == table.shape else table[np.ix_(images, captions)]
