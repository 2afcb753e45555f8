"""Made-up samples to train on and to answer: questions and captions as long as real ones, about made-up images.

Samples of an image share its tensor, as a data set's do.
"""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from benchmarks.synthetic import VOCABULARY, SyntheticImages, caption_lengths, random_text
from vl_absvit.data.collate import RetrievalSample, VQASample

ANSWERS = 3129  # VQAv2's
SHORTEST_QUESTION, LONGEST_QUESTION = 5, 22
SCORES = (0.3, 0.6, 0.9, 1.0)
MOST_LABELS = 5


class Workload(NamedTuple):
    """How much there is to do."""

    images: int
    per_image: int  # questions, or captions, the own one included
    resolution: int  # side of the images, in pixels

    def named(self, text: str) -> str:
        """In words: ``2 images x 4 questions``."""
        return " x ".join(f"{n} {noun}{'s' * (n > 1)}" for n, noun in ((self.images, "image"), (self.per_image, text)))


def question_lengths(number: int, generator: np.random.Generator) -> np.ndarray:
    """Tokens of questions, ``<s>`` and ``</s>`` included: 9.4 on average and within 2 of it mostly, as in VQAv2."""
    lengths = np.rint(6 + generator.gamma(3, 1.14, number))
    return np.clip(lengths, SHORTEST_QUESTION, LONGEST_QUESTION).astype(np.int64)


def questions_about(
    work: Workload, vocabulary_size: int = ANSWERS, words: int = VOCABULARY, seed: int = 0
) -> list[VQASample]:
    """Questions with soft answers, those about an image next to each other."""
    generator = np.random.default_rng(seed)
    images = _images(work, seed)
    samples: list[VQASample] = []
    for length in question_lengths(work.images * work.per_image, generator):
        labels = generator.choice(vocabulary_size, generator.integers(1, MOST_LABELS + 1), replace=False).tolist()
        scores = generator.choice(SCORES, len(labels)).tolist()
        text, image_id = random_text(length, generator, words), len(samples) // work.per_image
        samples.append(VQASample(len(samples), image_id, images[image_id], text, labels, scores))
    return samples


def captioned_images(work: Workload, words: int = VOCABULARY, seed: int = 0) -> list[RetrievalSample]:
    """One sample per image, with the image's own caption and false ones."""
    generator = np.random.default_rng(seed)
    lengths = caption_lengths(work.images * work.per_image, generator).reshape(work.images, work.per_image)
    return [
        RetrievalSample(row, row, image, [random_text(length, generator, words) for length in lengths[row]])
        for row, image in enumerate(_images(work, seed))
    ]


def _images(work: Workload, seed: int) -> list[Tensor]:
    return SyntheticImages(work.images, work.resolution, seed).__getitems__(range(work.images))
