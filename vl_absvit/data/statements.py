"""Statements about one or two images, NLVR2's and SNLI-VE's, as samples for a ``DataLoader``. S samples."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from vl_absvit.data.collate import StatementBatch, StatementSample, collate_statements
from vl_absvit.data.image_loader import ImageLoader
from vl_absvit.data.records import IMAGE_COLUMNS, ImageTable, read_statements
from vl_absvit.data.texts import count_truncated, encode, prepare_tokenizer
from vl_absvit.data.transforms import ImageTransform
from vl_absvit.errors import InputError

log = logging.getLogger(__name__)


class StatementDataset(Dataset):
    """Statements with their images, tokenised and decoded on access.

    Seed, epoch and image id determine how an image is augmented, whatever process loads it for whatever statement.

    Attributes:
        statement_ids: of each sample, (S,).
        image_ids: of each sample's image, (S,), or of its two, (S, 2).
        names: official id of each sample.
        labels: of each sample, (S,).
        subsets: official subset of each sample, if there is one.
        images: loads the images.
        without_image: number of statements left out because an image was missing at preparation.
    """

    def __init__(
        self,
        root: str | Path,
        splits: Sequence[str],
        kind: str,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        transform: ImageTransform,
        *,
        blank: Tensor | None = None,
        seed: int = 0,
        images: str | Path | None = None,
    ) -> None:
        """
        Args:
            kind: ``NLVR2`` or ``SNLI_VE``.
            max_tokens: longest text, special tokens included.
            blank: stands in for every image, (3, H, W): what a model makes of the text alone.
            seed: seed of augmentation.
            images: folder of the raw images; None takes the manifest's.

        Raises:
            InputError: a split does not exist or has no statement left.
        """
        prepare_tokenizer(tokenizer)
        table = ImageTable(root, images)
        self._table = read_statements(root, splits, kind)
        self._tokenizer, self._max_tokens, self._blank = tokenizer, max_tokens, blank
        data = self._table.data
        sides = [data.column(name).to_numpy() for name in IMAGE_COLUMNS if name in data.column_names]
        has_images = np.all([np.isin(ids, table.available) for ids in sides], axis=0)
        self._rows = np.flatnonzero(has_images)
        self._sides = [ids[self._rows] for ids in sides]
        self.image_ids = self._sides[0] if len(sides) == 1 else np.stack(self._sides, axis=-1)
        self.without_image = len(has_images) - len(self._rows)
        name = f"{root}: {'+'.join(splits)}"
        if not len(self):
            raise InputError(f"{name} has no statement to use: {self.without_image} without an image")
        usable = data.filter(pa.array(has_images))
        self.statement_ids, self.labels = (usable.column(column).to_numpy() for column in ("statement_id", "label"))
        self.names: list[str] = usable.column("name").to_pylist()
        has_subsets = "subset" in usable.column_names
        self.subsets: list[str | None] = usable.column("subset").to_pylist() if has_subsets else [None] * len(self)
        number = len(np.unique(self.image_ids))
        self.images = ImageLoader(table, transform, number, seed)
        log.info("%s: %d statements about %d images", name, len(self), number)
        if self.without_image:
            log.warning("%s: %d statements left out, images were missing at preparation", name, self.without_image)
        if truncated := count_truncated(usable.column("statement"), tokenizer, max_tokens):
            log.warning("%s: %d statements are longer than %d tokens and are cut", name, truncated, max_tokens)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> StatementSample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[StatementSample]:
        """Several samples at once. Texts are tokenised together, and every distinct image is decoded once."""
        chosen = list(indices)
        texts = encode(self._table[self._rows[chosen]]["statement"], self._tokenizer, self._max_tokens)
        shown = list(zip(*(ids[chosen].tolist() for ids in self._sides), strict=True))
        needed = dict.fromkeys(image_id for ids in shown for image_id in ids)
        image_of = self.images.load(needed) if self._blank is None else dict.fromkeys(needed, self._blank)
        return [
            StatementSample(statement_id, ids, tuple(image_of[image_id] for image_id in ids), text, label)
            for statement_id, ids, text, label in zip(
                self.statement_ids[chosen].tolist(), shown, texts, self.labels[chosen].tolist(), strict=True
            )
        ]

    def collate(self, samples: Sequence[StatementSample]) -> StatementBatch:
        """A batch of samples, padded with the tokenizer's pad id."""
        return collate_statements(samples, pad_id=self._tokenizer.pad_token_id)

    def sample_images(self, number: int, seed: int, transform: ImageTransform) -> Iterator[Tensor]:
        """At most ``number`` distinct images, (3, H, W) each, made by ``transform`` and chosen by the seed."""
        return self.images.sample(self.image_ids, number, seed, transform)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that augmentation depends on."""
        self.images.set_epoch(epoch)


def mean_colour(image_size: int) -> Tensor:
    """An image of the mean colour as models see it, after normalisation, (3, H, W)."""
    return torch.zeros(3, image_size, image_size)
