"""Large galleries of one vector a picture through FAISS, where it is installed, and how often it finds what is there.

Vectors are put into cells by the nearest of some centres (IVF), in fp16. A search compares with those of the nearest
cells only, and what it finds is compared anew with the vectors of the index. Recall says which share of the nearest ten
were found. Johnson, Douze, Jégou, "Billion-scale similarity search with GPUs", arXiv:1702.08734.
"""

from importlib.util import find_spec
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vl_absvit.errors import InputError
from vl_absvit.search.gallery import Nearest, nearest
from vl_absvit.search.index_folder import Index

MANY = 1_000_000
"""Above so many pictures an index gets a file of FAISS."""
FILE = "approximate.faiss"
QUERIES, RANKS, ENOUGH = 64, 10, 0.95
"""Pictures whose vectors are asked for, ranks that are compared, and the recall that is enough."""
FETCHED = 8
"""Candidates that are fetched for each result."""
_PER_CELL, _ROWS_AT_ONCE = 64, 65_536


class Recall(NamedTuple):
    """A measured recall."""

    probes: int  # cells that a search compares with
    recall: float  # in [0, 1]


def is_large(index: Index) -> bool:
    """Whether FAISS is meant for an index: it has many pictures, and one vector of each."""
    return index.pictures > MANY and index.layout.vectors == 1


def is_installed() -> bool:
    """Whether FAISS is there."""
    return find_spec("faiss") is not None


def build(index: Index) -> dict[str, Any]:
    """Write the file of FAISS; returns what is known of it, for ``Index.approximate``.

    As many cells are searched as the recall needs, at most all.
    """
    import faiss

    cells = max(1, 4 * isqrt(index.pictures))
    made = faiss.index_factory(index.layout.width, f"IVF{cells},SQfp16", faiss.METRIC_INNER_PRODUCT)
    step = max(1, index.pictures // (_PER_CELL * cells))
    made.train(np.concatenate([np.asarray(part[::step, 0]) for part in index.parts()]))
    for part in index.parts():
        for start in range(0, len(part), _ROWS_AT_ONCE):
            made.add(np.ascontiguousarray(part[start : start + _ROWS_AT_ONCE, 0]))
    path = index.folder / FILE
    temporary = path.with_suffix(".tmp")
    faiss.write_index(made, str(temporary))
    temporary.replace(path)
    found = _enough_probes(index, made, cells)
    return {**found._asdict(), "queries": QUERIES, "ranks": RANKS, "segments": list(map(list, index.segments))}


def _enough_probes(index: Index, made: Any, cells: int) -> Recall:
    """The fewest cells, doubled from 8 on, whose recall is enough; the queries are pictures of the index."""
    chosen = torch.linspace(0, index.pictures - 1, min(QUERIES, index.pictures)).long().tolist()
    queries = vectors_at(index, chosen)
    exact = nearest(queries, index.parts(), index.pool, RANKS).rows
    probes = 8
    while True:
        made.nprobe = probes = min(probes, cells)
        _, rows = made.search(queries.numpy(), RANKS)
        recall = float(np.mean([len(set(row) & set(true)) / len(true) for row, true in zip(rows, exact, strict=True)]))
        if recall >= ENOUGH or probes == cells:
            return Recall(probes, recall)
        probes *= 2


def vectors_at(index: Index, rows: list[int]) -> Tensor:
    """The vectors of rows of an index of one vector a picture, (R, D)."""
    found = torch.empty(len(rows), index.layout.width)
    places, start = np.asarray(rows), 0
    for part in index.parts():
        inside = np.flatnonzero((places >= start) & (places < start + len(part)))
        found[inside] = torch.from_numpy(part[places[inside] - start, 0]).float()
        start += len(part)
    return found


def nearest_by_faiss(index: Index, priors: Tensor, number: int) -> Nearest:
    """As ``nearest``, of the candidates that FAISS finds; similarities are exact.

    Raises:
        InputError: the file is missing or damaged.
    """
    import faiss

    assert index.approximate is not None, "an index that has a file of FAISS says so"
    path = index.folder / FILE
    try:
        made: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)  # of a kind that has probes
        made.nprobe = index.approximate["probes"]
        if made.ntotal != index.pictures or made.d != index.layout.width:
            raise RuntimeError("it is of another index")
    except (RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{path}: {reason:.200}; --exact searches without it") from error
    priors = F.normalize(priors.float().cpu(), dim=-1)
    _, candidates = made.search(priors.numpy(), min(FETCHED * number, index.pictures))
    similarity = np.full((len(priors), number), -np.inf, dtype=np.float32)
    rows = np.full((len(priors), number), -1)
    for text, own in enumerate(candidates):
        own = own[own >= 0]
        exact = (vectors_at(index, own.tolist()) @ priors[text]).numpy()
        order = np.argsort(-exact, kind="stable")[:number]
        similarity[text, : len(order)], rows[text, : len(order)] = exact[order], own[order]
    return Nearest(similarity, rows)


def describe(index: Index) -> str:
    """What is known of the file of FAISS, in words."""
    about = index.approximate or {}
    return (
        f"FAISS, {about['probes']} cells a search: recall@{about['ranks']} against comparing with all "
        f"{about['recall']:.3f}, measured with the vectors of {about['queries']} pictures; --exact compares with all"
    )
