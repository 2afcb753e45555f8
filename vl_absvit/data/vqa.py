"""Visual questions of a prepared folder, as samples for a ``DataLoader``."""

import logging
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info
from transformers import PreTrainedTokenizerBase

from vl_absvit.data.collate import VQABatch, VQASample, collate_vqa
from vl_absvit.data.records import ImageTable, read_questions
from vl_absvit.data.transforms import ImageTransform, seeded
from vl_absvit.errors import ConfigError, InputError

log = logging.getLogger(__name__)

KEPT_BYTES = 2**30
"""Images of a data set that is smaller than this as tensors, and not augmented, are kept in memory once made."""


class VQADataset(Dataset):
    """Questions with their images, tokenised and decoded when asked for.

    Nothing random is drawn from global generators: an augmented image looks the same for a given (seed, epoch, image
    id), whatever process loads it and whichever question it belongs to.

    Attributes:
        question_ids: of each sample, (samples,).
        image_ids: of each sample, (samples,).
        has_answers: whether the splits are annotated.
        dropped: training questions left out because none of their answers is in the vocabulary; 0 outside training.
        without_image: questions left out because their image was missing at preparation.
        truncated: questions longer than ``max_tokens``, which are cut.
    """

    def __init__(
        self,
        root: str | Path,
        splits: Sequence[str],
        vocabulary_size: int,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        transform: ImageTransform,
        training: bool,
        seed: int = 0,
    ) -> None:
        """
        Args:
            max_tokens: longest text, special tokens included.
            training: leave out questions without a target.
            seed: of augmentation.

        Raises:
            InputError: a split does not exist, has no answers to train on or no question left, or its labels are not
                within the vocabulary.
        """
        # Loader processes are forked after the tokenizer was first used; its own threads do not survive that.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._images = ImageTable(root)
        self._questions = read_questions(root, splits)
        self._tokenizer, self._max_tokens, self._transform = tokenizer, max_tokens, transform
        self._vocabulary_size, self._training, self._seed, self._epoch = vocabulary_size, training, seed, 0
        name = f"{root}: {'+'.join(splits)}"

        self.has_answers = "labels" in self._questions.column_names
        if training and not self.has_answers:
            raise InputError(f"{name} has no answers to train on")
        columns = ["question_id", "image_id", "question"] + ["labels", "scores"] * self.has_answers
        self._questions = self._questions.select_columns(columns)
        image_ids = self._column("image_id")
        has_image = np.isin(image_ids, self._images.available)
        keep = has_image.copy()
        if training:
            keep &= pc.list_value_length(self._questions.data.column("labels")).to_numpy() > 0
        self._rows = np.flatnonzero(keep)
        self.without_image = int((~has_image).sum())
        self.dropped = int((has_image & ~keep).sum())
        self.question_ids = self._column("question_id")[self._rows]
        self.image_ids = image_ids[self._rows]
        self._num_images = len(np.unique(self.image_ids))
        self._kept: dict[int, Tensor] = {}
        self._check(name)
        self.truncated = self._count_truncated()
        self._report(name)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> VQASample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[VQASample]:
        """Several samples at once: texts are tokenised together, and every distinct image is decoded once."""
        rows = self._questions[self._rows[list(indices)]]
        texts = self._tokenizer(rows["question"], truncation=True, max_length=self._max_tokens)["input_ids"]
        image_of = self._load_images(list(dict.fromkeys(rows["image_id"])))
        nothing = [[]] * len(texts)
        return [
            VQASample(question_id, image_id, image_of[image_id], text, labels, scores)
            for question_id, image_id, text, labels, scores in zip(
                rows["question_id"],
                rows["image_id"],
                texts,
                rows["labels"] if self.has_answers else nothing,
                rows["scores"] if self.has_answers else nothing,
                strict=True,
            )
        ]

    def collate(self, samples: Sequence[VQASample]) -> VQABatch:
        """A batch of samples, padded with the tokenizer's pad id."""
        return collate_vqa(samples, pad_id=self._tokenizer.pad_token_id, vocabulary_size=self._vocabulary_size)

    def set_epoch(self, epoch: int) -> None:
        """Augment images as in this epoch. Loader processes learn of it when they are started, not later."""
        self._epoch = epoch

    def _load_images(self, image_ids: Sequence[int]) -> dict[int, Tensor]:
        new = [image_id for image_id in image_ids if image_id not in self._kept]
        tensors = {image_id: self._kept[image_id] for image_id in image_ids if image_id in self._kept}
        for image_id, picture in zip(new, self._images.open(new), strict=True):
            with seeded(self._seed, self._epoch, image_id) if self._transform.is_random else nullcontext():
                tensors[image_id] = self._transform(picture)
        if new and self._may_keep(tensors[new[0]]):
            self._kept |= {image_id: tensors[image_id] for image_id in new}
        return tensors

    def _may_keep(self, image: Tensor) -> bool:
        """Loader processes live for one epoch; what they kept would be lost."""
        fits = image.nbytes * self._num_images <= KEPT_BYTES
        return fits and not self._transform.is_random and get_worker_info() is None

    def _column(self, name: str) -> np.ndarray:
        return self._questions.data.column(name).to_numpy()

    def _check(self, name: str) -> None:
        if self._tokenizer.pad_token_id is None:
            raise InputError("the tokenizer has no pad token")
        if not len(self):
            raise InputError(
                f"{name} has no question to use: {self.without_image} without their image, "
                f"{self.dropped} without an answer in the vocabulary"
            )
        if self.has_answers:
            largest = pc.max(pc.list_flatten(self._questions.data.column("labels"))).as_py()
            if largest is not None and largest >= self._vocabulary_size:
                raise InputError(
                    f"{name} has the label {largest}, but the vocabulary has {self._vocabulary_size} answers"
                )

    def _count_truncated(self) -> int:
        """Byte-level tokenizers make at most one token of a byte, so only texts of many bytes need to be looked at."""
        special = self._tokenizer.num_special_tokens_to_add()
        texts = self._questions.data.column("question")
        long = (pc.binary_length(texts).to_numpy() > self._max_tokens - special)[self._rows]
        candidates = texts.take(self._rows[long]).to_pylist()
        if not candidates:
            return 0
        lengths = self._tokenizer(candidates, truncation=True, max_length=self._max_tokens + 1, return_length=True)[
            "length"
        ]
        return sum(length > self._max_tokens for length in lengths)

    def _report(self, name: str) -> None:
        log.info("%s: %d questions on %d images", name, len(self), self._num_images)
        if self.dropped:
            log.info("%s: %d questions dropped, none of their answers is in the vocabulary", name, self.dropped)
        if self.without_image:
            log.warning("%s: %d questions left out, their images were missing at preparation", name, self.without_image)
        if self.truncated:
            log.warning(
                "%s: %d questions are longer than %d tokens and are cut", name, self.truncated, self._max_tokens
            )


def check_disjoint(train: VQADataset, select: VQADataset) -> None:
    """Refuse to select on what is trained on.

    Raises:
        ConfigError: an image occurs in both.
    """
    shared = np.intersect1d(train.image_ids, select.image_ids)
    if len(shared):
        raise ConfigError(
            f"{len(shared)} images are both in data.train_splits and in data.select_split, e.g. {shared[0]}; "
            "set data.select_split to null to give up checkpoint selection"
        )
