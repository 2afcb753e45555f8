"""One question about one picture, answered while somebody waits, with maps of where the model looked if wanted.

Shapes: h x w patches.
"""

import time
from contextlib import nullcontext
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import send_to_device
from PIL import Image
from torch import Tensor

from vl_absvit.config import EvaluationPrecision
from vl_absvit.data.collate import VQASample, collate_vqa
from vl_absvit.data.rgb import decode_rgb
from vl_absvit.data.texts import encode_one, prepare_tokenizer
from vl_absvit.errors import InputError
from vl_absvit.looking.explanation import MapChoice, choose_maps, explain
from vl_absvit.looking.geometry import Box, scaled, seen_box
from vl_absvit.looking.overlay import overlay, resized
from vl_absvit.looking.predictions import AnswerPrediction
from vl_absvit.models.looks import FirstLook, VisualEncoder
from vl_absvit.models.strength import is_steerable, strength, trained_strength
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.vqa import VQACheckpoint

SHOWN = ("prior_mask", "top_down", "bottom_up", "cross")
"""Maps of an answer; a plain ViT has no prior mask and no top-down map."""
TOP = 5
"""Answers shown, at most."""
PICTURE_SIDE = 512
"""Longer side of the picture under the maps, in pixels."""
KEPT_LOOKS = 4
"""Pictures whose first look is kept, the last ones asked about (base size, 384 px, fp32: 30 MB each)."""


class Reply(NamedTuple):
    """The model's answers to a question and its maps."""

    answers: list[AnswerPrediction]  # the most confident first
    maps: dict[str, np.ndarray]  # name -> (h, w); none if they are not asked for
    picture: Image.Image  # RGB, upright, its longer side ``PICTURE_SIDE``
    box: Box  # part of ``picture`` that the model saw and the maps cover
    size: tuple[int, int]  # width and height of the whole picture, upright
    seconds: float
    looked_before: bool  # whether the first look was there already
    is_cut: bool  # whether the question is longer than the model reads

    def overlays(self, strength: float) -> dict[str, Image.Image]:
        """The maps over the picture, by name; ``strength`` as in ``overlay.overlay``."""
        return {name: overlay(self.picture, grid, self.box, strength=strength) for name, grid in self.maps.items()}


class _Seen(NamedTuple):
    """A picture that the model has looked at once."""

    picture: Image.Image  # as in ``Reply``
    box: Box  # as in ``Reply``
    size: tuple[int, int]  # as in ``Reply``
    image: Tensor  # (3, H, W), what the model sees
    first: FirstLook


class LiveModel:
    """A VQA model that is asked one question after the other, mostly about the same picture."""

    def __init__(
        self,
        checkpoint: VQACheckpoint,
        device: torch.device,
        precision: EvaluationPrecision = "fp32",
        *,
        top: int = TOP,
        with_maps: bool = True,
        kept_looks: int = KEPT_LOOKS,
    ) -> None:
        """
        Args:
            top: answers to a question, at most.
            with_maps: whether replies have maps. Without them a kept look takes a fifth of the memory.
            kept_looks: pictures whose first look is kept, the last ones asked about.
        """
        self._precision, self._top, self._kept_looks = precision, top, kept_looks
        prepare_tokenizer(checkpoint.tokenizer)
        self._model, self._tokenizer, self._device = checkpoint.model.to(device), checkpoint.tokenizer, device
        self._answers, self._max_tokens = checkpoint.vocabulary.answers, checkpoint.preprocessing.max_tokens
        self._transform, self._image_size = checkpoint.preprocessing.transform(), checkpoint.preprocessing.image_size
        vision = self._model.vision
        vision.fold()
        self._choice = _shown_maps(vision) if with_maps else MapChoice(())
        self._kept: dict[bytes, _Seen] = {}  # by the file's content, the last one asked about at the end
        self._busy = Lock()

    @property
    def alpha(self) -> float | None:
        """The trained strength of the top-down signal; None for an encoder that no prior steers with a strength."""
        vision = self._model.vision
        return trained_strength(vision) if is_steerable(vision.variant) else None

    def ask(self, content: bytes, question: str, alpha: float | None = None) -> Reply:
        """Answer a question about the picture in ``content``, as in evaluation; white space around it does not count.

        The first look knows no question: it is computed with the first one about a picture, and kept.

        Args:
            alpha: strength of the top-down signal; None is the trained one.

        Raises:
            InputError: the question is empty or the picture cannot be used; the message is the reason alone.
        """
        token_ids, is_cut = encode_one(question, self._tokenizer, self._max_tokens, "question")
        with self._busy, torch.no_grad(), arithmetic(self._precision, self._device):
            start = time.perf_counter()
            seen = self._kept.pop(content, None)
            looked_before = seen is not None
            seen = seen or self._look(content)
            self._kept[content] = seen
            while len(self._kept) > self._kept_looks:
                del self._kept[next(iter(self._kept))]
            sample = VQASample(0, 0, seen.image, token_ids, [], [])
            batch = collate_vqa([sample], pad_id=self._tokenizer.pad_token_id, vocabulary_size=0)
            steered = nullcontext() if alpha is None else strength(self._model.vision, alpha)
            with steered:
                explanation = explain(self._model, send_to_device(batch, self._device), self._choice, seen.first)
            answers = self._best(explanation.logits[0].float().cpu())
            maps = {name: grids[0].float().cpu().numpy() for name, grids in explanation.maps.items()}
            seconds = time.perf_counter() - start
        return Reply(answers, maps, seen.picture, seen.box, seen.size, seconds, looked_before, is_cut)

    def _look(self, content: bytes) -> _Seen:
        picture = decode_rgb(content)
        image = self._transform(picture)
        first = self._model.vision.look_once(image[None].to(self._device))
        if not self._choice.names:
            first = first.rows(slice(None))  # states are for maps alone
        scale = PICTURE_SIDE / max(picture.size)
        box = scaled(seen_box(*picture.size, self._image_size), scale)
        return _Seen(resized(picture, scale), box, picture.size, image, first)

    def _best(self, logits: Tensor) -> list[AnswerPrediction]:
        """The most probable answers; of equal ones, those that come first in the vocabulary."""
        if not logits.isfinite().all():
            raise InputError("the model's scores are not numbers: the checkpoint's weights are damaged")
        order = logits.argsort(descending=True, stable=True)[: self._top].tolist()
        confidence = logits.sigmoid().tolist()
        return [AnswerPrediction(self._answers[label], confidence[label]) for label in order]


def _shown_maps(vision: VisualEncoder) -> MapChoice:
    """Those of ``SHOWN`` that the encoder has."""
    names = choose_maps(vision, None).names
    return choose_maps(vision, [name for name in SHOWN if name in names])
