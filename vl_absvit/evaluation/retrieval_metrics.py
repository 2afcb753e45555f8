"""Ranks and recalls of image-text retrieval, computed from scores alone.

In image retrieval (ir) a caption searches its image. In text retrieval (tr) an image searches any of its captions. Ties
count against the model. With shortlists, listed candidates rank before all others. The others follow in the order of
the dual encoder, right candidates among them. Shapes: I images, C captions, Q queries.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

KS = (1, 5, 10)
ZERO_SHOT = {True: "zero-shot", False: "finetuned", None: "not known to be zero-shot"}
"""Whether a model has never been trained on the images that it is evaluated on -> in words."""
TEMPERATURE = 0.07
"""That of the prior loss, if a run does not choose another."""


def summed_scores(pairs: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """The whole model's scores plus the dual encoder's logits, s + cos / tau with the prior loss's usual tau.

    Both terms are trained as logits of a softmax over candidates, so that the sum multiplies what either holds likely.
    The code of BLIP (Li et al., ICML 2022, arXiv:2201.12086) ranks by such a sum, with tau = 1.

    Args:
        pairs: the whole model's scores of images and captions, (I, C); NaN where it judged nothing.
        similarity: the dual encoder's, (I, C).
    """
    return pairs + similarity / TEMPERATURE


def shortlist(similarity: np.ndarray, size: int) -> np.ndarray:
    """The ``size`` best candidates of every query, or all if there are fewer. Earlier candidates win ties.

    Args:
        similarity: similarity of queries and candidates, (queries, candidates).

    Returns:
        Whether a candidate is listed, (queries, candidates) bool.
    """
    listed = np.zeros(similarity.shape, dtype=bool)
    best = np.argsort(-similarity, axis=1, kind="stable")[:, :size]
    np.put_along_axis(listed, best, True, axis=1)
    return listed


def rank_of_first_match(
    scores: np.ndarray, is_match: np.ndarray, listed: np.ndarray | None = None, similarity: np.ndarray | None = None
) -> np.ndarray:
    """For each query, the number of wrong candidates that rank before its best match or tie with it.

    Args:
        scores: scores of queries and candidates, (queries, candidates); only those of ``listed`` ones are read.
        is_match: right candidates, (queries, candidates) bool; at least one for each query.
        listed: candidates that were scored. They rank before all others, which follow in the order of ``similarity``.
            None means all candidates.
        similarity: (queries, candidates).

    Returns:
        (queries,); 0 is best.
    """
    if listed is None:
        listed = np.ones(scores.shape, dtype=bool)
    scores = np.where(listed, scores, -np.inf)
    if not np.isfinite(scores[listed]).all():
        raise ValueError("scores of listed candidates must be finite")
    own = np.where(is_match, scores, -np.inf).max(axis=1, keepdims=True)  # -inf if no match is listed
    before = (~is_match & listed & (scores >= own)).sum(axis=1)
    if similarity is None:
        return before
    own_similarity = np.where(is_match, similarity, -np.inf).max(axis=1, keepdims=True)
    behind = (~is_match & ~listed & (similarity >= own_similarity)).sum(axis=1)
    return np.where(np.isneginf(own[:, 0]), before + behind, before)


def recall(ranks: np.ndarray, ks: Sequence[int] = KS) -> dict[int, float]:
    """Percentage of queries whose best match is among the first k."""
    return {k: 100 * float((ranks < k).mean()) for k in ks}


class Ranks(NamedTuple):
    """For each query, the number of wrong candidates that rank before its best match or tie with it; 0 is best."""

    ir: np.ndarray  # (C,), of captions that search their image
    tr: np.ndarray  # (I,), of images that search a caption


def consecutive_folds(images: int, folds: int) -> np.ndarray:
    """The fold of every image, (I,). Folds count from 0, follow the images' order, and differ by one image at most."""
    return np.repeat(np.arange(folds), [len(part) for part in np.array_split(np.arange(images), folds)])


def retrieval_ranks(
    scores: np.ndarray,
    image_of_caption: np.ndarray,
    similarity: np.ndarray | None = None,
    size: int | None = None,
    fold_of_image: np.ndarray | None = None,
) -> Ranks:
    """Ranks of both directions. With folds, a query ranks the images or captions of its own fold only.

    Args:
        scores: scores of images and captions, (I, C). Only pairs of one fold and, with shortlists, listed pairs are
            read.
        image_of_caption: row of the image that each caption describes, (C,).
        similarity: the dual encoder's similarities, (I, C), if shortlists were taken from them.
        size: candidates of each query in the shortlists; None means that all pairs are scored.
        fold_of_image: (I,); None means one fold.
    """
    assert size is None or similarity is not None, "shortlists are taken from similarities"
    ir, tr = np.empty(len(image_of_caption), dtype=np.int64), np.empty(len(scores), dtype=np.int64)
    for images, captions in _members(scores.shape, image_of_caption, fold_of_image):
        is_match = image_of_caption[captions] == images[:, None]
        pairs = _part(scores, images, captions)
        similar = None if similarity is None else _part(similarity, images, captions)
        for ranks, queries, by_query in ((ir, captions, np.transpose), (tr, images, np.asarray)):
            own_similarity = None if similar is None else by_query(similar)
            listed = None if size is None or own_similarity is None else shortlist(own_similarity, size)
            ranks[queries] = rank_of_first_match(by_query(pairs), by_query(is_match), listed, own_similarity)
    return Ranks(ir, tr)


def listed_pairs(
    similarity: np.ndarray,
    size: int | None,
    image_of_caption: np.ndarray | None = None,
    fold_of_image: np.ndarray | None = None,
) -> np.ndarray:
    """Pairs that the shortlist of at least one direction holds, (I, C) bool; all pairs if ``size`` is None.

    Args:
        image_of_caption, fold_of_image: as for ``retrieval_ranks``. Pairs of different folds are never listed.
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
    """The numbers that papers report: recalls in percent, their sum, and median and mean rank, which count from 1.

    The names are ``ir_r1`` ... ``tr_r10``, ``rsum`` (of the six), ``ir_median_rank``, ``ir_mean_rank`` and the same two
    of ``tr``. The median of an even number of ranks lies halfway between the middle two.
    """
    recalls = {f"{name}_r{k}": value for name in Ranks._fields for k, value in recall(getattr(ranks, name), ks).items()}
    measured = recalls | {"rsum": sum(recalls.values())}
    for name, values in ranks._asdict().items():
        measured |= {
            f"{name}_median_rank": 1 + float(np.median(values)),
            f"{name}_mean_rank": 1 + float(np.mean(values)),
        }
    return measured


def measures_of_folds(ranks: Ranks, image_of_caption: np.ndarray, fold_of_image: np.ndarray) -> list[dict[str, float]]:
    """``measures`` of each fold's queries. Papers report the mean over folds."""
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
    """``ir_r1`` ... ``tr_r10`` in percent. The arguments are those of ``retrieval_ranks``."""
    ranks = retrieval_ranks(scores, image_of_caption, similarity, size)
    return {f"{name}_r{k}": value for name in Ranks._fields for k, value in recall(getattr(ranks, name), ks).items()}


def _members(
    shape: tuple[int, int], image_of_caption: np.ndarray | None, fold_of_image: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images and captions of each fold, both ascending, for a table of this shape."""
    if fold_of_image is None:
        yield np.arange(shape[0]), np.arange(shape[1])
        return
    for fold in np.unique(fold_of_image):
        yield np.flatnonzero(fold_of_image == fold), np.flatnonzero(fold_of_image[image_of_caption] == fold)


def _part(table: np.ndarray, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """Some rows and columns of a table; the table itself if these are all of them."""
    return table if (len(images), len(captions)) == table.shape else table[np.ix_(images, captions)]
