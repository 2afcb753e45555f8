"""Questions of stream shards as samples, as ``vqa.VQADataset`` makes them of tables."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.data.collate import VQABatch, VQASample, collate_vqa
from vl_absvit.data.records import ImageRecord, open_image
from vl_absvit.data.stream_folder import Question, StreamFolder, open_stream
from vl_absvit.data.texts import count_truncated, encode, prepare_tokenizer
from vl_absvit.data.transforms import ImageTransform, transformed
from vl_absvit.errors import ConfigError, InputError

log = logging.getLogger(__name__)


class PartSample(NamedTuple):
    """A sample without its image."""

    place: int  # in the batch
    row: int  # of the image in ``Part.images``
    image_id: int
    question_id: int
    token_ids: list[int]
    labels: list[int]
    scores: list[float]


class Part(NamedTuple):
    """One loader process's samples of a batch."""

    images: Tensor  # (I, 3, H, W) distinct images in one tensor, because each tensor costs the process an open file
    rows: list[PartSample]

    def samples(self) -> Iterator[tuple[int, VQASample]]:
        """Samples with their places in the batch."""
        for place, row, image_id, question_id, token_ids, labels, scores in self.rows:
            yield place, VQASample(question_id, image_id, self.images[row], token_ids, labels, scores)


class StreamedQuestions:
    """The questions of a folder of stream shards.

    Attributes:
        image_ids: ids of all images, (images,).
        shards: the files.
        truncated: number of questions longer than ``max_tokens``, which are cut.
    """

    def __init__(
        self,
        folder: str | Path,
        splits: Sequence[str],
        vocabulary: AnswerVocabulary,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        transform: ImageTransform,
        seed: int = 0,
    ) -> None:
        """
        Args:
            splits: the splits that the shards must hold.
            max_tokens: longest text, special tokens included.
            seed: seed of augmentation.

        Raises:
            InputError: the shards are not whole, or their labels were made with another vocabulary.
            ConfigError: they hold other splits.
        """
        stream = open_stream(folder)
        if stream.splits != list(splits):
            raise ConfigError(
                f"data.train_splits is {', '.join(splits)}, but data.stream {folder} was written from "
                f"{', '.join(stream.splits)}"
            )
        if stream.vocabulary_sha256 != vocabulary.sha256:
            raise InputError(
                f"{folder}: its labels were made with another vocabulary than data.root's: its sha256 is "
                f"{stream.vocabulary_sha256:.12}, that of data.root {vocabulary.sha256:.12}"
            )
        prepare_tokenizer(tokenizer)
        self._folder = Path(folder)
        self.shards, self._tokenizer, self._max_tokens = stream.shards, tokenizer, max_tokens
        self._transform, self._seed, self._vocabulary_size = transform, seed, len(vocabulary)
        self.image_ids = np.concatenate([shard.column("image_id").to_numpy() for shard in self.shards])
        texts = (shard.column("questions") for shard in self.shards)
        self.truncated = sum(count_truncated(pc.list_flatten(column), tokenizer, max_tokens) for column in texts)
        self._report(f"{folder}: {'+'.join(splits)}", stream)

    def __len__(self) -> int:
        """Number of questions in an epoch, which takes as many of every shard as the smallest shard has."""
        return len(self.shards) * min(sum(shard.questions) for shard in self.shards)

    def collate(self, samples: Sequence[VQASample]) -> VQABatch:
        """A batch of samples, padded with the tokenizer's pad id."""
        return collate_vqa(samples, pad_id=self._tokenizer.pad_token_id, vocabulary_size=self._vocabulary_size)

    def load(self, questions: Mapping[int, Question], epoch: int) -> Part:
        """Tokenise questions together and decode each of their images once.

        Args:
            questions: place in the batch -> question.
            epoch: the epoch that augmentation depends on.
        """
        texts = encode([question.text for question in questions.values()], self._tokenizer, self._max_tokens)
        records = {question.image.image_id: question.image for question in questions.values()}
        row_of = {image_id: row for row, image_id in enumerate(records)}
        return Part(
            torch.stack([self._image(record, epoch) for record in records.values()]),
            [
                PartSample(place, row_of[image.image_id], image.image_id, question_id, text, labels, scores)
                for (place, (image, question_id, _, labels, scores)), text in zip(questions.items(), texts, strict=True)
            ],
        )

    def _image(self, record: ImageRecord, epoch: int) -> Tensor:
        decoded = open_image(record, self._folder, self._transform.decode)
        return transformed(self._transform, [decoded], [(self._seed, epoch, record.image_id)])[0]

    def sample_images(self, number: int, seed: int, transform: ImageTransform) -> Iterator[Tensor]:
        """At most ``number`` distinct images, (3, H, W) each, made by ``transform`` and chosen by the seed.

        Whole row groups of several shards are read.
        """
        groups = [(shard, group) for shard in self.shards for group in range(len(shard.questions))]
        order = np.random.default_rng(seed).permutation(len(groups)).tolist()
        records = (question.image for place in order for question in groups[place][0].read(groups[place][1]))
        for record in islice(_distinct(records), number):
            yield transform(open_image(record, self._folder, transform.decode))

    def _report(self, name: str, stream: StreamFolder) -> None:
        number = sum(sum(shard.questions) for shard in self.shards)
        log.info("%s: %d questions on %d images in %d shards", name, number, len(self.image_ids), len(self.shards))
        if stream.dropped:
            log.info("%s: %d questions dropped, none of their answers is in the vocabulary", name, stream.dropped)
        if stream.without_image:
            log.warning("%s: %d questions left out, their images were missing", name, stream.without_image)
        if self.truncated:
            log.warning(
                "%s: %d questions are longer than %d tokens and are cut", name, self.truncated, self._max_tokens
            )


def _distinct(records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
    """The first record of every image."""
    seen: set[int] = set()
    for record in records:
        if record.image_id not in seen:
            seen.add(record.image_id)
            yield record
