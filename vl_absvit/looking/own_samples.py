"""The user's own questions or captions about any pictures, or pictures alone, as data sets of an export."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from transformers import PreTrainedTokenizerBase

from vl_absvit.data.class_folders import ImageBatch, ImageSample, collate_images
from vl_absvit.data.collate import VQABatch, VQASample, collate_vqa
from vl_absvit.data.loaders import BatchedDataset
from vl_absvit.data.rgb import decode_rgb, open_picture, rgb_size
from vl_absvit.data.texts import count_truncated, encode, prepare_tokenizer
from vl_absvit.data.transforms import ImageTransform
from vl_absvit.errors import InputError
from vl_absvit.looking.own_texts import Request, TextKind
from vl_absvit.looking.picture_texts import PictureText

log = logging.getLogger(__name__)


class _Own:
    """What the user asks for, about any pictures."""

    def __init__(self, requests: Sequence[Request], transform: ImageTransform) -> None:
        self._requests, self._transform = requests, transform
        self.ids = [request.id for request in requests]
        number_of: dict[Path, int] = {}
        self.image_ids = np.array([number_of.setdefault(request.image, len(number_of)) for request in requests])

    def __len__(self) -> int:
        return len(self._requests)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: there is no augmentation."""

    def describe(self) -> dict[str, Any]:
        """Facts that identify these texts and pictures, independent of their place, as JSON. Opens every picture.

        Raises:
            InputError: a picture cannot be opened.
        """
        digest = hashlib.sha256()
        for request, number in zip(self._requests, self.image_ids.tolist(), strict=True):
            more = [dict(request.more)] if request.more else []
            digest.update(json.dumps([request.id, number, request.text, *more]).encode())
        for row in np.unique(self.image_ids, return_index=True)[1]:
            picture = self.open(row)
            digest.update(f"{picture.size}".encode() + picture.tobytes())
        return {"requests": digest.hexdigest()}

    def text_at(self, row: int) -> PictureText:
        """The facts about a text."""
        request = self._requests[row]
        return PictureText(request.id, None, None, request.image, None, request.text, more=request.more)

    def image_size(self, row: int) -> tuple[int, int]:
        """Width and height of the upright picture; raises ``InputError`` as ``open``."""
        size: tuple[int, int] = self._read(row, rgb_size)
        return size

    def open(self, row: int) -> Image.Image:
        """The picture.

        Raises:
            InputError: it cannot be opened.
        """
        picture: Image.Image = self._read(row, decode_rgb)
        return picture

    def _read(self, row: int, decode: Callable[[bytes], Any]) -> Any:
        request = self._requests[row]
        try:
            return open_picture(request.image, decode)
        except InputError as error:
            raise InputError(f"{request.source}: {error}") from error


class OwnTexts(_Own):
    """The user's own questions or captions as a data set of VQA samples."""

    def __init__(
        self,
        requests: Sequence[Request],
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        transform: ImageTransform,
        kind: TextKind = "question",
    ) -> None:
        """
        Args:
            max_tokens: longest text, special tokens included.
            transform: from pictures to the model's inputs.
        """
        super().__init__(requests, transform)
        self.kind: TextKind = kind
        self.samples: BatchedDataset = self
        prepare_tokenizer(tokenizer)
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        if truncated := count_truncated(pa.chunked_array([[r.text for r in requests]]), tokenizer, max_tokens):
            log.warning("%d %ss are longer than %d tokens and are cut", truncated, kind, max_tokens)

    def __getitems__(self, indices: Sequence[int]) -> list[VQASample]:
        """Several samples at once. Every distinct picture is decoded once."""
        texts = encode([self._requests[row].text for row in indices], self._tokenizer, self._max_tokens)
        first_row = {self.image_ids[row]: row for row in reversed(indices)}
        image_of = {image_id: self._transform(self.open(row)) for image_id, row in first_row.items()}
        return [
            VQASample(row, int(self.image_ids[row]), image_of[self.image_ids[row]], text, [], [])
            for row, text in zip(indices, texts, strict=True)
        ]

    def collate(self, samples: Sequence[VQASample]) -> VQABatch:
        """A batch of samples without targets. Question ids are rows; image ids are equal for equal pictures."""
        return collate_vqa(samples, pad_id=self._tokenizer.pad_token_id, vocabulary_size=0)


class OwnPictures(_Own):
    """Pictures without texts. A request's text is the picture's name."""

    def __init__(self, requests: Sequence[Request], transform: ImageTransform) -> None:
        """
        Args:
            requests: each about a picture of its own.
            transform: from pictures to the model's inputs.
        """
        super().__init__(requests, transform)
        self.kind: TextKind = "picture"
        self.samples: BatchedDataset = self

    def __getitems__(self, indices: Sequence[int]) -> list[ImageSample]:
        """Several samples at once. Their label means nothing."""
        return [ImageSample(self._transform(self.open(row)), [0], row) for row in indices]

    def collate(self, samples: Sequence[ImageSample]) -> ImageBatch:
        """A batch of samples, whose indices are rows."""
        return collate_images(samples)
