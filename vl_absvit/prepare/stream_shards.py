"""From a prepared folder's training questions to shards of images with their questions, all that samples need.

Images are dealt in random order, by a seed, to the shard with the fewest questions so far. A shard is therefore a fair
sample, and all have nearly the same number of questions. An interrupted run goes on after its last whole shard.
"""

import heapq
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset

from vl_absvit.data.files import flush_to_disk
from vl_absvit.data.identity import content_of
from vl_absvit.data.records import ImageTable, read_content, read_questions, read_vocabulary, split_files
from vl_absvit.data.stream_folder import KIND, SCHEMA, questions_per_group
from vl_absvit.data.whole_folder import (
    fingerprint,
    finish,
    finished,
    make_request,
    partial_folder,
    start_or_continue,
    versions,
)
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.tables import batch_of, by_size

BYTES_PER_GROUP = 2 << 20
"""Bytes of images in a row group, which is read at once: large enough for fast reads, small enough to hold several."""
Track = Callable[[Iterable, int, str], Iterator]
"""A function that shows progress: items, their number, description -> the items."""


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """The options that the shards depend on."""

    data: Path
    """Prepared VQA data, with or without embedded images."""
    images: Path | None = None
    """Folder of the raw images; None takes the manifest's."""
    splits: Sequence[str] = ("train",)
    """Splits whose questions are written."""
    shards: int = 64
    """Number of files. A batch takes equally many questions of each, so its size is a multiple of this number."""
    seed: int = 0
    """Seed of the order in which images are dealt to shards."""


class Written(NamedTuple):
    """The finished folder's manifest, and the numbers that this run wrote."""

    manifest: dict[str, Any]
    images: int
    questions: int


def write_stream_shards(options: StreamOptions, output: Path, track: Track) -> Written:
    """Write the shards and their manifest into ``output``. A finished ``output`` is only compared with the request.

    Raises:
        ConfigError: there are more shards than images.
        InputError: the data is not for training, an image is gone, or ``output`` holds something else.
    """
    vocabulary = read_vocabulary(options.data)
    request = _request(options)
    manifest = finished(output, request)
    if manifest is not None:
        return Written(manifest, 0, 0)
    questions = _Questions(options)
    shards = deal(questions.per_image, options.shards, options.seed)
    folder = partial_folder(output)
    start_or_continue(folder, request, "writing of stream shards")
    names = [f"{'+'.join(options.splits)}-{n:05d}-of-{options.shards:05d}.parquet" for n in range(options.shards)]
    missing = {
        folder / name: images for name, images in zip(names, shards, strict=True) if not (folder / name).exists()
    }
    number = sum(map(len, missing.values()))
    rows = track(questions.rows(chain.from_iterable(missing.values())), number, "writing images")
    for path, images in missing.items():
        _write_shard(path, islice(rows, len(images)))
    assert next(rows, None) is None  # this also ends the progress bar
    manifest = {
        "format": 1,
        **request,
        "vocabulary": {"size": len(vocabulary), "sha256": vocabulary.sha256},
        "images": len(questions.per_image),
        "questions": int(questions.per_image.sum()),
        "left_out": {"dropped": questions.dropped, "without_image": questions.without_image},
        "shards": [_describe(folder / name) for name in names],
        "versions": versions(),
    }
    finish(folder, output, manifest)
    return Written(manifest, number, sum(int(questions.per_image[images].sum()) for images in missing.values()))


def deal(questions_per_image: np.ndarray, shards: int, seed: int) -> list[np.ndarray]:
    """The images of every shard, by position, in the order of writing.

    Raises:
        ConfigError: there are more shards than images.
    """
    if shards > len(questions_per_image):
        raise ConfigError(f"--shards {shards} is more than the {len(questions_per_image)} images with questions")
    dealt: list[list[int]] = [[] for _ in range(shards)]
    fewest = [(0, shard) for shard in range(shards)]
    for image in np.random.Generator(np.random.PCG64(seed)).permutation(len(questions_per_image)).tolist():
        questions, shard = fewest[0]
        dealt[shard].append(image)
        heapq.heapreplace(fewest, (questions + int(questions_per_image[image]), shard))
    return [np.array(images) for images in dealt]


class _Questions:
    """The training questions, by image. Texts and answers stay on disk.

    Attributes:
        per_image: number of questions on each image, in ascending order of image ids, (images,).
        dropped: number of questions without an answer in the vocabulary.
        without_image: number of questions whose image was missing at preparation.
    """

    def __init__(self, options: StreamOptions) -> None:
        self._table: Dataset = read_questions(options.data, options.splits)
        name = f"{options.data}: {'+'.join(options.splits)}"
        if "labels" not in self._table.column_names:
            raise InputError(f"{name} has no answers to train on")
        self._images = ImageTable(options.data, options.images)
        image_ids = self._table.data.column("image_id").to_numpy()
        has_target = pc.list_value_length(self._table.data.column("labels")).to_numpy() > 0
        has_image = np.isin(image_ids, self._images.available)
        rows = np.flatnonzero(has_image & has_target)
        if not len(rows):
            raise InputError(f"{name} has no question to train on")
        self.without_image, self.dropped = int((~has_image).sum()), int((has_image & ~has_target).sum())
        self._rows = rows[np.argsort(image_ids[rows], kind="stable")]
        self._image_ids, self._first, self.per_image = np.unique(
            image_ids[self._rows], return_index=True, return_counts=True
        )

    def rows(self, images: Iterable[int]) -> Iterator[tuple]:
        """Images, by position, as rows of a shard."""
        for image in images:
            (record,) = self._images.records([self._image_ids[image]])
            first = self._first[image]
            of_image = self._table[self._rows[first : first + self.per_image[image]]]
            columns = (of_image[name] for name in ("question_id", "question", "labels", "scores"))
            yield (record.image_id, record.file, read_content(record, self._images.raw_root), *columns)


def _request(options: StreamOptions) -> dict[str, Any]:
    """Everything that decides the result: options and content, whatever their paths. Of pictures, only sizes count."""
    settings = {"splits": list(options.splits), "shards": options.shards, "seed": options.seed}
    request = make_request(KIND, options.data, settings, split_files(options.data, options.splits))
    return {"content": content_of(options.data, options.splits), **request}


def _write_shard(path: Path, rows: Iterable[tuple]) -> None:
    """Write a shard. It gets its name when it is whole."""
    unfinished = path.with_suffix(".unfinished")
    # Images are compressed already. Statistics would repeat two of them in every header. Checksums reveal damage.
    settings = dict(compression="none", use_dictionary=False, write_statistics=False, write_page_checksum=True)
    with pq.ParquetWriter(unfinished, SCHEMA, **settings) as writer:
        for group, _ in by_size(rows, SCHEMA.get_field_index("bytes"), BYTES_PER_GROUP):
            writer.write_batch(batch_of(SCHEMA, group))
    flush_to_disk(unfinished)
    os.replace(unfinished, path)


def _describe(path: Path) -> dict[str, Any]:
    """The manifest's entry for a finished shard."""
    return {
        "file": path.name,
        **fingerprint(path),
        "images": pq.read_metadata(path).num_rows,
        "questions": questions_per_group(path),
    }
