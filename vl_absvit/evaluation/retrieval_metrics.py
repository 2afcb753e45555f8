"""Recall of image-text retrieval, from scores alone.

Image retrieval (ir) asks a caption for its image, text retrieval (tr) an image for any of its captions. Ties count
against the model. Shapes: I images, C captions.
"""

from collections.abc import Sequence

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


def retrieval_recalls(
    scores: np.ndarray,
    image_of_caption: np.ndarray,
    similarity: np.ndarray | None = None,
    size: int | None = None,
    ks: Sequence[int] = KS,
) -> dict[str, float]:
    """``ir_r1`` ... ``tr_r10`` in percent.

    Args:
        scores: of every image with every caption, (I, C); with a shortlist, only listed pairs are read.
        image_of_caption: row of the image that each caption describes, (C,).
        similarity: of the dual encoder, (I, C), where shortlists were taken from it.
        size: candidates per query in the shortlists; None means that all pairs are scored.
    """
    is_match = image_of_caption == np.arange(len(scores))[:, None]  # (I, C)
    recalls = {}
    for name, turn in (("ir", np.transpose), ("tr", np.asarray)):
        queries = [None if table is None else turn(table) for table in (scores, is_match, similarity)]
        listed = None if size is None else shortlist(queries[2], size)
        ranks = rank_of_first_match(queries[0], queries[1], listed, queries[2])
        recalls |= {f"{name}_r{k}": value for k, value in recall(ranks, ks).items()}
    return recalls


def listed_pairs(similarity: np.ndarray, size: int | None) -> np.ndarray:
    """Pairs that at least one direction's shortlist asks for, (I, C) bool; all of them where ``size`` is None."""
    if size is None:
        return np.ones(similarity.shape, dtype=bool)
    return shortlist(similarity, size) | shortlist(similarity.T, size).T
