"""Make an index of a folder's pictures, or bring one up to date: only new and changed pictures are read.

A picture is the same as before if path, size and time of its file are. Any other is read. One whose content is known by
its digest, as after a renaming, keeps its vectors; the model looks at the rest. Every process takes a contiguous part
of these and writes segments of its own.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.progress import Progress

from vl_absvit.config import EvaluationPrecision
from vl_absvit.data.loaders import batch_loader
from vl_absvit.data.picture_folder import PictureFile, find_pictures
from vl_absvit.data.transfer import to_device
from vl_absvit.distributed import gather_objects, is_main, rank, world_size
from vl_absvit.errors import InputError
from vl_absvit.main_process import in_main_process
from vl_absvit.models.prior import PATCH_POOLS
from vl_absvit.search.gallery import dtype_of, kept_vectors
from vl_absvit.search.index_folder import Index, digests, key_of, stamps, write_index
from vl_absvit.search.index_plan import Plan, make_plan
from vl_absvit.search.live_rows import keep_live
from vl_absvit.search.pictures import PictureReader, ReadBatch
from vl_absvit.search.segments import Layout, Row, SegmentWriter, names_in, open_vectors, remove
from vl_absvit.tasks.vl_checkpoint import VLCheckpoint

_LOCK = ".lock"


class Source(NamedTuple):
    """The checkpoint that makes an index."""

    checkpoint: VLCheckpoint  # its model is on the device to use
    folder: Path
    name: str  # as those who search find it: its folder, or its name on the hub
    precision: EvaluationPrecision


class Done(NamedTuple):
    """An index that was brought up to date."""

    made: Index
    bad: dict[PictureFile, str]
    looked: int  # pictures that the model has looked at
    copied: int  # files of known contents, such as renamed ones
    removed: int  # pictures that are no longer there
    others: int  # files that are not named like pictures


class _Share(NamedTuple):
    """What one process has done."""

    segments: list[tuple[str, list[Row]]]
    bad: dict[PictureFile, str]
    looked: int
    copied: int


def made_with(source: Source) -> dict[str, Any]:
    """Everything that vectors depend on."""
    return {"files": digests(source.folder), "pool": source.checkpoint.model.pool, "precision": source.precision}


def layout_of(source: Source, made: dict[str, Any]) -> Layout:
    """The layout of an index.

    Raises:
        InputError: the checkpoint's texts have no priors that anything could be compared with.
    """
    model = source.checkpoint.model
    if model.prior is None:
        raise InputError(f"checkpoint {source.folder}: its texts have no priors, so that there is no dual encoder")
    rows, columns = model.vision.grids()[-1]
    vectors = rows * columns if model.pool in PATCH_POOLS else 1
    return Layout(key_of(made), vectors, model.vision.width, dtype_of(model.pool))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Inside, the folder is there and no other run works in it.

    Raises:
        InputError: another run does, or it cannot be made.
    """

    def lock() -> int:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stream = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR)
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{folder}: another vl-absvit index is at work here") from error
        except OSError as error:
            raise InputError(f"{folder}: cannot be written: {error.strerror}") from error
        return stream

    stream = in_main_process(lock)
    try:
        yield
    finally:
        if is_main():
            os.close(stream)


def update_index(source: Source, root: Path, output: Path, *, batch_size: int, num_workers: int, bar: Progress) -> Done:
    """Make the index ``output`` of the pictures below ``root``, or bring it up to date; all processes call it.

    Args:
        output: a folder that is locked.
        batch_size: pictures of a forward pass.

    Raises:
        InputError: ``output`` holds something else, there is no picture, or none can be used.
    """
    made = in_main_process(lambda: made_with(source))
    layout = layout_of(source, made)
    plan = in_main_process(lambda: make_plan(root, output, layout))
    share = _look(source, root, output, layout, plan, batch_size, num_workers, bar)
    shares = gather_objects([share])
    return in_main_process(lambda: _finish(source, root, output, layout, made, plan, shares))


@torch.no_grad()
def _look(
    source: Source, root: Path, output: Path, layout: Layout, plan: Plan, batch_size: int, num_workers: int,
    bar: Progress,
) -> _Share:  # fmt: skip
    """This process's part of the pictures."""
    model, device = source.checkpoint.model, next(source.checkpoint.model.parameters()).device
    known = {row.sha256: (name, len(rows), place) for name, rows in plan.segments for place, row in enumerate(rows)}
    files = [plan.todo[place] for place in np.array_split(np.arange(len(plan.todo)), world_size())[rank()]]
    reader = PictureReader(root, files, frozenset(known), source.checkpoint.preprocessing.transform())
    batches = [list(range(start, min(start + batch_size, len(files)))) for start in range(0, len(files), batch_size)]
    writer, copied = _Writer(output, layout, plan.next_number), 0
    bad: dict[PictureFile, str] = {}
    task = bar.add_task("first looks", total=len(files))
    batch: ReadBatch
    for batch in batch_loader(reader, batches, num_workers):
        bad |= {read.picture: read.reason for read in batch.read if read.reason is not None}
        if batch.images is not None:
            first = model.vision.look_once(to_device(batch.images, device))
            vectors = kept_vectors(model.vision.less_mean(first.tokens), model.pool, first.prefix_tokens)
            if not vectors.isfinite().all():
                raise InputError("the model's tokens are not numbers: the checkpoint's weights are damaged")
            seen = [batch.read[row] for row in batch.rows]
            writer.add([Row(read.picture, read.sha256) for read in seen], vectors.cpu().numpy())
        for read in batch.read:
            if read.reason is None and read.sha256 in known:
                name, rows, place = known[read.sha256]
                vectors_there = open_vectors(output, name, rows, layout)[place : place + 1]
                writer.add([Row(read.picture, read.sha256)], vectors_there)
                copied += 1
        bar.advance(task, len(batch.read))
    writer.close()
    return _Share(writer.written, bad, sum(len(rows) for _, rows in writer.written) - copied, copied)


def _finish(
    source: Source, root: Path, output: Path, layout: Layout, made: dict[str, Any], plan: Plan, shares: list[_Share]
) -> Done:
    """Write what makes the segments an index, and remove those that no longer count."""
    segments = [*plan.segments, *(segment for share in shares for segment in share.segments)]
    pictures = find_pictures(root).pictures
    current = set(pictures)
    new_bad = {picture: reason for share in shares for picture, reason in share.bad.items()}
    bad = plan.bad | {picture: reason for picture, reason in new_bad.items() if picture in current}
    number = 1 + max((int(name) for name, _ in segments), default=-1)
    kept = keep_live(output, layout, segments, current, number)
    if not kept:
        picture, reason = min(bad.items())
        raise InputError(f"{root}: none of {len(bad):,} pictures can be used; {picture.file}: {reason}")
    about = plan.approximate if (plan.approximate or {}).get("segments") == list(map(list, kept)) else None
    index = Index(output, made, source.name, stamps(source.folder), layout, root.resolve(), "", kept, about)
    write_index(index, bad)
    names = {segment.name for segment in kept}
    for name in names_in(output) - names:
        remove(output, name)
    there = {picture.file for picture in pictures}
    removed = {row.picture.file for _, rows in plan.segments for row in rows} - there
    looked, copied = sum(share.looked for share in shares), sum(share.copied for share in shares)
    return Done(index, bad, looked, copied, len(removed), plan.others)


class _Writer:
    """The segments of one process, each begun when it is needed."""

    def __init__(self, folder: Path, layout: Layout, next_number: int) -> None:
        self._folder, self._layout, self._number = folder, layout, next_number + rank()
        self._segment: SegmentWriter | None = None
        self._rows: list[Row] = []
        self.written: list[tuple[str, list[Row]]] = []

    def add(self, rows: list[Row], vectors: np.ndarray) -> None:
        if self._segment is None:
            self._segment = SegmentWriter(self._folder, f"{self._number:06d}", self._layout)
            self._number += world_size()
        self._segment.add(rows, vectors)
        self._rows += rows
        if self._segment.is_full:
            self.close()

    def close(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self.written.append((self._segment.name, self._rows))
            self._segment, self._rows = None, []
