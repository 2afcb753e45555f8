"""Questions of a prepared folder as samples for a ``DataLoader``."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from vl_absvit.data.collate import VQABatch, VQASample, collate_vqa
from vl_absvit.data.image_loader import ImageLoader
from vl_absvit.data.kept_rows import KeptRows
from vl_absvit.data.records import ImageTable, read_questions
from vl_absvit.data.texts import count_truncated, encode, prepare_tokenizer
from vl_absvit.data.transforms import ImageTransform
from vl_absvit.errors import InputError

log = logging.getLogger(__name__)


class VQADataset(Dataset):
    """Questions with their images, tokenised and decoded on access.

    Seed, epoch and image id determine how an image is augmented, whatever process loads it for whatever question.

    Attributes:
        question_ids: question id of each sample, (samples,).
        image_ids: image id of each sample, (samples,).
        images: loads the images.
        has_answers: whether the splits are annotated.
        dropped: number of training questions left out because none of their answers is in the vocabulary; 0 outside
            training.
        without_image: number of questions left out because their image was missing at preparation.
        truncated: number of questions longer than ``max_tokens``, which are cut.
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
        images: str | Path | None = None,
    ) -> None:
        """
        Args:
            max_tokens: longest text, special tokens included.
            training: leave out questions without a target.
            seed: seed of augmentation.
            images: folder of the raw images; None takes the manifest's.

        Raises:
            InputError: a split does not exist, has no answers for training or no question left, or has labels outside
                the vocabulary.
        """
        prepare_tokenizer(tokenizer)
        table = ImageTable(root, images)
        self._questions = read_questions(root, splits, ("labels", "scores"))
        self._tokenizer, self._max_tokens, self._vocabulary_size = tokenizer, max_tokens, vocabulary_size
        name = f"{root}: {'+'.join(splits)}"

        self.has_answers = "labels" in self._questions.column_names
        if training and not self.has_answers:
            raise InputError(f"{name} has no answers to train on")
        image_ids = self._column("image_id")
        has_image = np.isin(image_ids, table.available)
        keep = has_image.copy()
        if training:
            keep &= pc.list_value_length(self._questions.data.column("labels")).to_numpy() > 0
        self._rows = np.flatnonzero(keep)
        self.without_image = int((~has_image).sum())
        self.dropped = int((has_image & ~keep).sum())
        self.question_ids = self._column("question_id")[self._rows]
        self.image_ids = image_ids[self._rows]
        self._num_images = len(np.unique(self.image_ids))
        self.images = ImageLoader(table, transform, self._num_images, seed)
        self._text_states: KeptRows | None = None
        self._check(name)
        questions = self._questions.data.column("question").filter(pa.array(keep))
        self.truncated = count_truncated(questions, tokenizer, max_tokens)
        self._report(name)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> VQASample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[VQASample]:
        """Several samples at once. Texts are tokenised together, and every distinct image is decoded once."""
        rows = self._questions[self._rows[list(indices)]]
        texts = encode(rows["question"], self._tokenizer, self._max_tokens)
        image_of = self.images.load(rows["image_id"])
        unannotated: list[list[Any]] = [[]] * len(texts)
        return [
            VQASample(question_id, image_id, image_of[image_id], text, labels, scores)
            for question_id, image_id, text, labels, scores in zip(
                rows["question_id"],
                rows["image_id"],
                texts,
                rows["labels"] if self.has_answers else unannotated,
                rows["scores"] if self.has_answers else unannotated,
                strict=True,
            )
        ]

    def collate(self, samples: Sequence[VQASample]) -> VQABatch:
        """A batch of samples, padded with the tokenizer's pad id."""
        return collate_vqa(
            samples,
            pad_id=self._tokenizer.pad_token_id,
            vocabulary_size=self._vocabulary_size,
            text_states=self._text_states,
        )

    def token_ids(self) -> list[list[int]]:
        """Token ids of every sample's question."""
        questions = self._questions.data.column("question").take(self._rows)
        return encode(questions.to_pylist(), self._tokenizer, self._max_tokens)

    def take_text_states(self, kept: KeptRows) -> None:
        """From now on batches have these token vectors, by ``wording``, in place of token ids."""
        self._text_states = kept

    def sample_images(self, number: int, seed: int, transform: ImageTransform) -> Iterator[Tensor]:
        """At most ``number`` distinct images, (3, H, W) each, made by ``transform`` and chosen by the seed."""
        return self.images.sample(self.image_ids, number, seed, transform)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that augmentation depends on."""
        self.images.set_epoch(epoch)

    def _column(self, name: str) -> np.ndarray:
        return self._questions.data.column(name).to_numpy()

    def _check(self, name: str) -> None:
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
