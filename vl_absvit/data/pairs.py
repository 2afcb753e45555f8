"""Captions of one or more prepared folders, with hidden words, as samples for pretraining on pairs.

A pair is a caption and its image. In every global batch half of the pairs are to be shown as they are and half falsely,
by their place in the batch (``SHOWN``): exactly, whatever the processes and passes. B pairs, I distinct images.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from vl_absvit.data.captions import Captions
from vl_absvit.data.collate import distinct_images, pad_texts, wording
from vl_absvit.data.image_loader import ImageLoader
from vl_absvit.data.masking import Hidden, WordMasker
from vl_absvit.data.mixing import Mixture
from vl_absvit.data.records import ImageTable
from vl_absvit.data.recurring_texts import RecurringTexts, text_number
from vl_absvit.data.transforms import ImageTransform
from vl_absvit.errors import InputError

TRUE, FALSE_IMAGE, FALSE_CAPTION = 0, 1, 2
SHOWN = (TRUE, FALSE_IMAGE, TRUE, FALSE_CAPTION)
"""How the pair at a place of the global batch, modulo 4, is shown in image-text matching."""
_IDS_OF_A_FOLDER = 2**40
_EVALUATION = 2**31
"""Stands in for the epoch in the draws of an evaluation, which are always the same."""


class PairFolder(NamedTuple):
    """A prepared folder of captions."""

    root: str
    splits: tuple[str, ...]
    place: int  # of the folder among all that a run knows, by which its images are told from those of others
    images: str | None = None  # folder of the raw images; None takes the manifest's


class PairSample(NamedTuple):
    """One caption, with hidden words and without, and its image."""

    caption_id: int
    image_id: int
    image: Tensor  # (3, H, W)
    token_ids: list[int]
    hidden: Hidden
    shown: int
    source: int
    text: int  # number of the caption's text
    said: np.ndarray  # numbers of texts that captions of its image and of others have
    false_image: tuple[int, Tensor] | None = None  # id and (3, H, W), in evaluation
    other: list[int] | None = None  # token ids of a caption of that image, with hidden words


class PairBatch(NamedTuple):
    """Pairs of one forward pass. An image that several share occurs once. M tokens to guess."""

    images: Tensor  # (I, 3, H, W) distinct images
    image_index: Tensor  # (B,) long, row of ``images`` of every caption
    image_ids: Tensor  # (I,) long
    token_ids: Tensor  # (B, T) long
    is_token: Tensor  # (B, T) bool, True = real token
    hidden_ids: Tensor  # (B, T) long, with hidden words
    positions: Tensor  # (M,) long, of the tokens to guess among all B * T
    answers: Tensor  # (M,) long, their true ids
    words: Tensor  # (B,) long, equal for captions of the same text
    false_index: Tensor  # (B,) long, row of a false image of every caption, in evaluation; (0,) in training
    other_ids: Tensor  # (B, T) long, what is left of a caption of that image, in evaluation; (0, T) in training
    is_other: Tensor  # (B, T) bool, as ``is_token``
    # The rest stays in host memory, where it is used.
    caption_ids: np.ndarray  # (B,) int64
    captioned_ids: np.ndarray  # (B,) int64, ids of their images
    wordings: np.ndarray  # (B,) int64, as ``words``
    shown: np.ndarray  # (B,) TRUE, FALSE_IMAGE or FALSE_CAPTION
    sources: np.ndarray  # (B,)
    texts: np.ndarray  # (B,) int64, numbers of the captions' texts
    said: list[np.ndarray]  # B x (any,) int64, numbers of texts that captions of its image and of others have


class _Folder(NamedTuple):
    """The captions and images of a folder."""

    captions: Captions
    images: ImageLoader
    first_id: int  # is added to the ids of its images
    recurring: RecurringTexts | None  # in training


class PairDataset(Dataset):
    """Captions of all folders, one folder after the other.

    A sample does not depend on the process that loads it or on the rest of its batch. Seed, the folder's own epoch,
    folder and caption id decide which words are hidden.

    Attributes:
        image_ids: of each caption's image, (captions,); images of different folders have different ids.
        mixture: the order of samples in training.
    """

    def __init__(
        self,
        folders: Sequence[PairFolder],
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        transform: ImageTransform,
        *,
        share: float,
        weights: Sequence[float | None] | None = None,
        seed: int = 0,
        evaluation: bool = False,
    ) -> None:
        """
        Args:
            max_tokens: longest text, special tokens included.
            share: of words that are hidden.
            weights: share of each folder in every batch; None takes its captions.
            seed: of augmentation, order and hidden words.
            evaluation: hide the same words every time, and load a false image with every caption.

        Raises:
            InputError: a split does not exist or has no caption left, or no image is false of a caption.
        """
        self._masker = WordMasker(tokenizer, share)
        self._tokenizer, self._max_tokens, self._seed, self._evaluation = tokenizer, max_tokens, seed, evaluation
        self._folders, groups = [], []
        for folder in folders:
            table = ImageTable(folder.root, folder.images)
            captions = Captions(folder.root, folder.splits, table, tokenizer, max_tokens)
            if (largest := captions.image_ids.max()) >= _IDS_OF_A_FOLDER:
                raise InputError(f"{captions.name}: expected ids of images below {_IDS_OF_A_FOLDER:,}, got {largest}")
            loader = ImageLoader(table, transform, len(np.unique(captions.image_ids)), seed)
            groups.append(table.groups(captions.image_ids))
            recurring = None if evaluation else RecurringTexts(captions.image_ids, captions.column())
            self._folders.append(_Folder(captions, loader, folder.place * _IDS_OF_A_FOLDER, recurring))
        self.image_ids = np.concatenate([folder.captions.image_ids + folder.first_id for folder in self._folders])
        sizes = [len(folder.captions.caption_ids) for folder in self._folders]
        self._first = np.concatenate([[0], np.cumsum(sizes)])
        self.mixture = Mixture(sizes, [None] * len(sizes) if weights is None else weights, seed, groups)
        self._others = self._other_captions() if evaluation else None

    def __len__(self) -> int:
        return len(self.image_ids)

    def batches(self, batch_size: int, epoch: int) -> np.ndarray:
        """The global batches of an epoch, (steps, batch_size), as numbers that also say the folder's epoch and how a
        pair is shown.
        """
        rows, epochs = self.mixture.batches(batch_size, epoch)
        places = np.arange(batch_size) % len(SHOWN)
        return (epochs * len(self) + rows) * len(SHOWN) + places

    def __getitem__(self, index: int) -> PairSample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[PairSample]:
        """Several samples at once, by number as ``batches`` gives them, or by row in evaluation."""
        shown, epochs, rows = [TRUE] * len(indices), [_EVALUATION] * len(indices), list(indices)
        if not self._evaluation:
            shown = [SHOWN[index % len(SHOWN)] for index in indices]
            epochs, rows = map(list, zip(*(divmod(index // len(SHOWN), len(self)) for index in indices), strict=True))
        sources = np.searchsorted(self._first, rows, side="right") - 1
        samples: dict[int, PairSample] = {}
        for source in np.unique(sources).tolist():
            places = np.flatnonzero(sources == source).tolist()
            folder, own = self._folders[source], [rows[place] - int(self._first[source]) for place in places]
            # In evaluation there is another caption to each, and the image of that one is false of it.
            others = [] if self._others is None else [int(self._others[rows[place]]) for place in places]
            texts, ids = folder.captions, folder.captions.image_ids[[*own, *others]].tolist()
            loaded = folder.images.load(ids)
            written = texts.texts([*own, *others])
            keys = [
                [self._seed, epochs[place], source, int(texts.caption_ids[row])]
                for place, row in zip([*places, *places][: len(ids)], [*own, *others], strict=True)
            ]
            hidden = self._hide(written, keys)
            for number, (place, row) in enumerate(zip(places, own, strict=True)):
                image_id, (token_ids, of_text) = ids[number], hidden[number]
                sample = PairSample(
                    int(texts.caption_ids[row]), image_id + folder.first_id, loaded[image_id], token_ids, of_text,
                    shown[place], source, text_number(written[number]),
                    np.empty(0, dtype=np.int64) if folder.recurring is None else folder.recurring.of(image_id),
                )  # fmt: skip
                if others:
                    false_id, other = ids[number + len(own)], hidden[number + len(own)]
                    false_image = false_id + folder.first_id, loaded[false_id]
                    sample = sample._replace(false_image=false_image, other=other[1].token_ids)
                samples[place] = sample
        return [samples[place] for place in range(len(rows))]

    def _hide(self, texts: Sequence[str], keys: Sequence[Sequence[int]]) -> list[tuple[list[int], Hidden]]:
        """Token ids of texts, and the same with hidden words, which the keys decide."""
        encoded = self._tokenizer(texts, truncation=True, max_length=self._max_tokens)
        return [
            (token_ids, self._masker.hide(token_ids, encoded.word_ids(number), key))
            for number, (token_ids, key) in enumerate(zip(encoded["input_ids"], keys, strict=True))
        ]

    def collate(self, samples: Sequence[PairSample]) -> PairBatch:
        """A batch of samples, padded with the tokenizer's pad id."""
        pad_id = self._tokenizer.pad_token_id
        others = [sample.other for sample in samples if sample.other is not None]
        token_ids, is_token = pad_texts([*(sample.token_ids for sample in samples), *others], pad_id)
        (token_ids, other_ids), (is_token, is_other) = (
            tensor.split([len(samples), len(others)]) for tensor in (token_ids, is_token)
        )
        hidden_ids, _ = pad_texts([*(sample.hidden.token_ids for sample in samples), *others], pad_id)
        length = token_ids.shape[1]
        positions = [row * length + place for row, sample in enumerate(samples) for place in sample.hidden.positions]
        shown = [(sample.image_id, sample.image) for sample in samples]
        false = [sample.false_image for sample in samples if sample.false_image is not None]
        together = distinct_images([*shown, *false])
        wordings = [wording(sample.token_ids) for sample in samples]
        return PairBatch(
            images=together.images,
            image_index=together.image_index[: len(samples)],
            image_ids=together.image_ids,
            token_ids=token_ids,
            is_token=is_token,
            hidden_ids=hidden_ids[: len(samples)],
            positions=torch.tensor(positions, dtype=torch.long),
            answers=torch.tensor([answer for sample in samples for answer in sample.hidden.answers], dtype=torch.long),
            words=torch.tensor(wordings),
            false_index=together.image_index[len(samples) :],
            other_ids=other_ids,
            is_other=is_other,
            caption_ids=np.array([sample.caption_id for sample in samples]),
            captioned_ids=np.array([sample.image_id for sample in samples]),
            wordings=np.array(wordings),
            shown=np.array([sample.shown for sample in samples]),
            sources=np.array([sample.source for sample in samples]),
            texts=np.array([sample.text for sample in samples]),
            said=[sample.said for sample in samples],
        )

    def hidden_share(self, number: int = 1_000) -> float:
        """Share of the tokens of words that are hidden, in the first captions of the first folder."""
        captions = self._folders[0].captions
        rows = list(range(min(number, len(captions.caption_ids))))
        keys = [[self._seed, 0, 0, int(captions.caption_ids[row])] for row in rows]
        texts = self._hide(captions.texts(rows), keys)
        special = set(self._tokenizer.all_special_ids)
        tokens = sum(token not in special for token_ids, _ in texts for token in token_ids)
        return sum(len(hidden.positions) for _, hidden in texts) / max(tokens, 1)

    def sample_images(self, number: int, seed: int, transform: ImageTransform) -> Iterator[Tensor]:
        """At most ``number`` distinct images of the first folder, (3, H, W) each, chosen by the seed."""
        first = self._folders[0]
        return first.images.sample(first.captions.image_ids, number, seed, transform)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that augmentation depends on."""
        for folder in self._folders:
            folder.images.set_epoch(epoch)

    def _other_captions(self) -> np.ndarray:
        """Row in its folder of another caption for each, (captions,): one of an image that is false of it.

        Of that image, which is of the same folder, no caption has the same words.
        """
        chosen = []
        for source, folder in enumerate(self._folders):
            order = np.argsort(folder.captions.image_ids, kind="stable")
            in_order = folder.captions.image_ids[order]
            texts = folder.captions.column().combine_chunks().dictionary_encode().indices.to_numpy()
            pictures = np.unique(folder.captions.image_ids)
            for row, caption_id in enumerate(folder.captions.caption_ids.tolist()):
                true = np.unique(folder.captions.image_ids[texts == texts[row]])
                if len(true) == len(pictures):
                    raise InputError(f"{folder.captions.name}: caption {caption_id} is true of all images")
                generator = np.random.default_rng([self._seed, _EVALUATION, source, caption_id])
                # One image more than are true is enough for one that is false.
                drawn = generator.choice(pictures, len(true) + 1, replace=False)
                false = next(image_id for image_id in drawn.tolist() if image_id not in true)
                chosen.append(order[np.searchsorted(in_order, false)])
        return np.array(chosen)
