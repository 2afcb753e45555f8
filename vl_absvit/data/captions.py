"""Captions of a prepared folder: samples for training, and a gallery for ranking.

Shapes: C captions, I images, T tokens.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from vl_absvit.data.collate import RetrievalBatch, RetrievalSample, collate_retrieval, pad_texts
from vl_absvit.data.image_loader import ImageLoader
from vl_absvit.data.kept_rows import KeptRows
from vl_absvit.data.records import ImageTable, read_captions
from vl_absvit.data.texts import count_truncated, encode, prepare_tokenizer
from vl_absvit.data.transforms import ImageTransform
from vl_absvit.errors import InputError

log = logging.getLogger(__name__)


class CaptionDataset(Dataset):
    """One sample per caption: the caption, its image and false captions, tokenised and decoded on access.

    A sample does not depend on the process that loads it or on the rest of its batch. Seed, epoch and image id
    determine augmentation; seed, epoch and caption id determine the false captions.

    Attributes:
        caption_ids: caption id of each sample, (samples,).
        image_ids: image id of each sample, (samples,).
        images: loads the images.
        without_image: number of captions left out because their image was missing at preparation.
        truncated: number of captions longer than ``max_tokens``, which are cut.
    """

    def __init__(
        self,
        root: str | Path,
        splits: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        transform: ImageTransform,
        negatives: int,
        seed: int = 0,
        images: str | Path | None = None,
    ) -> None:
        """
        Args:
            max_tokens: longest text, special tokens included.
            negatives: false captions per sample.
            seed: seed of augmentation and of the false captions.
            images: folder of the raw images; None takes the manifest's.

        Raises:
            InputError: a split does not exist or has no caption left, or an image has too few false captions.
        """
        table = ImageTable(root, images)
        self._captions = Captions(root, splits, table, tokenizer, max_tokens)
        self.caption_ids, self.image_ids = self._captions.caption_ids, self._captions.image_ids
        self.without_image, self.truncated = self._captions.without_image, self._captions.truncated
        self._pad_id, self._negatives, self._epoch = tokenizer.pad_token_id, negatives, 0
        self.images = ImageLoader(table, transform, len(np.unique(self.image_ids)), seed)
        self._text_states: KeptRows | None = None
        self._false = FalseCaptions(self.caption_ids, self.image_ids, self._captions.column(), seed)
        fewest = self._false.eligible.argmin()
        if self._false.eligible[fewest] < negatives:
            raise InputError(
                f"{self._captions.name}: expected {negatives} false captions per sample, but only "
                f"{self._false.eligible[fewest]} captions of other images are not also captions of image "
                f"{self.image_ids[fewest]}"
            )

    def __len__(self) -> int:
        return len(self.caption_ids)

    def __getitem__(self, index: int) -> RetrievalSample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[RetrievalSample]:
        """Several samples at once. Texts are tokenised together, and every distinct image is decoded once."""
        rows = [[index, *self._false.draw(index, self._negatives, self._epoch)] for index in indices]
        texts = self._captions.encode(np.concatenate(rows))
        per_sample = 1 + self._negatives
        image_ids = self.image_ids[list(indices)].tolist()
        image_of = self.images.load(image_ids)
        return [
            RetrievalSample(caption_id, image_id, image_of[image_id], texts[start : start + per_sample])
            for caption_id, image_id, start in zip(
                self.caption_ids[list(indices)].tolist(), image_ids, range(0, len(texts), per_sample), strict=True
            )
        ]

    def collate(self, samples: Sequence[RetrievalSample]) -> RetrievalBatch:
        """A batch of samples, padded with the tokenizer's pad id."""
        return collate_retrieval(samples, pad_id=self._pad_id, text_states=self._text_states)

    def token_ids(self) -> list[list[int]]:
        """Token ids of every caption."""
        return self._captions.encode(np.arange(len(self)))

    def take_text_states(self, kept: KeptRows) -> None:
        """From now on batches have these token vectors, by ``wording``, in place of token ids."""
        self._text_states = kept

    def caption(self, row: int) -> str:
        """The text of one sample's own caption."""
        return self._captions.texts([row])[0]

    def sample_images(self, number: int, seed: int, transform: ImageTransform) -> Iterator[Tensor]:
        """At most ``number`` distinct images, (3, H, W) each, made by ``transform`` and chosen by the seed."""
        return self.images.sample(self.image_ids, number, seed, transform)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that augmentation and false captions depend on."""
        self._epoch = epoch
        self.images.set_epoch(epoch)


class FalseCaptions:
    """Draws captions that do not describe a caption's image.

    Captions of the same image cannot be drawn, nor can captions of the same text as one of these.

    Attributes:
        eligible: number of captions that can be drawn for each caption, (C,).
    """

    def __init__(self, caption_ids: np.ndarray, image_ids: np.ndarray, texts: pa.ChunkedArray, seed: int) -> None:
        """
        Args:
            caption_ids: (C,).
            image_ids: image of each caption, (C,).
            texts: text of each caption, (C,).
        """
        self._caption_ids, self._seed = caption_ids, seed
        # Equal texts have equal numbers. All captions with one of an image's numbers are true of the image.
        self._text = texts.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
        distinct, self._image = np.unique(image_ids, return_inverse=True)
        num_texts = self._text.max() + 1
        image, self._true_texts = np.divmod(np.unique(self._image * num_texts + self._text), num_texts)
        self._first_text = np.searchsorted(image, np.arange(len(distinct) + 1))
        captions_with = np.bincount(self._text)[self._true_texts]
        true_captions = np.add.reduceat(captions_with, self._first_text[:-1])  # (I,)
        self.eligible = len(self._text) - true_captions[self._image]

    def draw(self, caption: int, number: int, epoch: int) -> list[int]:
        """Rows of ``number`` distinct captions, uniform over the eligible ones; ``number`` is at most ``eligible``."""
        image = self._image[caption]
        true_texts = self._true_texts[self._first_text[image] : self._first_text[image + 1]]
        generator = np.random.default_rng([self._seed, epoch, self._caption_ids[caption]])
        # Enough are left even if all true captions are drawn. The first false ones are a uniform draw.
        true_captions = len(self._text) - self.eligible[caption]
        drawn = generator.choice(len(self._text), true_captions + number, replace=False)
        return drawn[~np.isin(self._text[drawn], true_texts)][:number].tolist()


class CaptionGallery:
    """All images of a split that have captions, and all their captions, in the order of the table.

    Attributes:
        image_ids: (I,).
        caption_ids: (C,).
        image_of_caption: row in ``image_ids`` of each caption's image, (C,).
        lengths: tokens of each caption, special tokens included, after cutting, (C,).
        images: data set of the images, by row.
        without_image: number of captions left out because their image was missing at preparation.
        truncated: number of captions longer than ``max_tokens``, which are cut.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        transform: ImageTransform,
        images: str | Path | None = None,
    ) -> None:
        """
        Args:
            max_tokens: longest text, special tokens included.
            images: folder of the raw images; None takes the manifest's.

        Raises:
            InputError: the split does not exist or has no caption left.
        """
        table = ImageTable(root, images)
        self._captions = Captions(root, [split], table, tokenizer, max_tokens)
        self.caption_ids = self._captions.caption_ids
        self.without_image, self.truncated = self._captions.without_image, self._captions.truncated
        ascending, first, row = np.unique(self._captions.image_ids, return_index=True, return_inverse=True)
        order = np.argsort(first)
        self.image_ids = ascending[order]
        self.image_of_caption = np.argsort(order)[row]
        self.images = GalleryImages(ImageLoader(table, transform, len(self.image_ids)), self.image_ids)
        self._pad_id = tokenizer.pad_token_id
        self._token_ids = self._captions.encode(np.arange(len(self.caption_ids)))
        self.lengths = np.array([len(token_ids) for token_ids in self._token_ids])

    def texts(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Token ids (rows, T) and their mask (rows, T), True = real token, padded as in training."""
        return pad_texts([self._token_ids[row] for row in rows], self._pad_id)

    def caption(self, row: int) -> str:
        """The text of one caption."""
        return self._captions.texts([row])[0]


class GalleryImages(Dataset):
    """Images of a gallery by row, as tensors (3, H, W)."""

    def __init__(self, loader: ImageLoader, image_ids: np.ndarray) -> None:
        self._loader, self._image_ids = loader, image_ids

    def __len__(self) -> int:
        return len(self._image_ids)

    def __getitem__(self, row: int) -> Tensor:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[Tensor]:
        """Several images at once, for a loader."""
        image_ids = self._image_ids[list(rows)].tolist()
        image_of = self._loader.load(image_ids)
        return [image_of[image_id] for image_id in image_ids]

    def collate(self, images: Sequence[Tensor]) -> Tensor:
        """One tensor (images, 3, H, W)."""
        return torch.stack(list(images))


class Captions:
    """Captions with an available image, by row. Their texts stay on disk."""

    def __init__(
        self,
        root: str | Path,
        splits: Sequence[str],
        images: ImageTable,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
    ) -> None:
        prepare_tokenizer(tokenizer)
        self.name = f"{root}: {'+'.join(splits)}"
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        self._table = read_captions(root, splits)
        image_ids = self._table.data.column("image_id").to_numpy()
        self._has_image = np.isin(image_ids, images.available)
        self._rows = np.flatnonzero(self._has_image)
        self.image_ids = image_ids[self._rows]
        self.caption_ids = self._table.data.column("caption_id").to_numpy()[self._rows]
        self.without_image = len(image_ids) - len(self._rows)
        if not len(self._rows):
            raise InputError(f"{self.name} has no caption to use: {self.without_image} without their image")
        self.truncated = count_truncated(self.column(), tokenizer, max_tokens)
        self._report()

    def column(self) -> pa.ChunkedArray:
        """The texts of all rows."""
        return self._table.data.column("caption").filter(pa.array(self._has_image))

    def texts(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        return self._table[self._rows[rows]]["caption"]

    def encode(self, rows: Sequence[int] | np.ndarray) -> list[list[int]]:
        return encode(self.texts(rows), self._tokenizer, self._max_tokens)

    def _report(self) -> None:
        log.info("%s: %d captions of %d images", self.name, len(self._rows), len(np.unique(self.image_ids)))
        if self.without_image:
            log.warning(
                "%s: %d captions left out, their images were missing at preparation", self.name, self.without_image
            )
        if self.truncated:
            log.warning(
                "%s: %d captions are longer than %d tokens and are cut", self.name, self.truncated, self._max_tokens
            )
