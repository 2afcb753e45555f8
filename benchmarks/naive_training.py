"""Training as its formulas stand: every question and every caption is a pair with an image of its own.

Batches are made with loops, every pair is read as ``naive_forward`` reads it, and the losses are spelled out: those of
``tasks.vqa`` and ``tasks.retrieval`` with a run's defaults. Shapes: B samples, P pairs, C captions per sample, the own
one first, K hard images per caption, T tokens, N image tokens, D width, A answers.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.naive import RETRIEVAL_TOKENS, VQA_TOKENS, NaiveOutput
from benchmarks.synthetic import PAD
from vl_absvit.config import RetrievalConfig, VQAConfig
from vl_absvit.data.collate import RetrievalBatch, RetrievalSample, VQASample, wording
from vl_absvit.tasks.hard_negatives import Draw, choose_hard_negatives, exchange_samples
from vl_absvit.tasks.prior_losses import Compared

Read = Callable[[Tensor, Tensor, Tensor], NaiveOutput]
"""``naive_forward`` of a model: images, token ids and their mask, of P pairs."""


class Pairs(NamedTuple):
    """Texts and their images, which repeat."""

    images: Tensor  # (P, 3, height, width)
    image_ids: Tensor  # (P,)
    token_ids: Tensor  # (P, T)
    is_token: Tensor  # (P, T)


class NaiveQuestions(NamedTuple):
    """A batch of VQA."""

    pairs: Pairs
    targets: Tensor  # (P, A)


class NaiveCaptions(NamedTuple):
    """A batch of retrieval."""

    pairs: Pairs  # B x C, a sample's captions next to each other
    caption_ids: np.ndarray  # (B,), of the own captions
    captioned_ids: np.ndarray  # (B,), of their images
    wordings: np.ndarray  # (B,), equal where the own captions are


def question_batch(samples: Sequence[VQASample], answers: int, device: torch.device) -> NaiveQuestions:
    """Questions padded to a fixed length; the score of every answer is set on its own."""
    targets = torch.zeros(len(samples), answers, device=device)
    for row, sample in enumerate(samples):
        for label, score in zip(sample.labels, sample.scores, strict=True):
            targets[row, label] = score
    return NaiveQuestions(_pairs(samples, [sample.token_ids for sample in samples], VQA_TOKENS, device), targets)


def caption_batch(samples: Sequence[RetrievalSample], device: torch.device) -> NaiveCaptions:
    """Captions padded to a fixed length, each with the image of its sample."""
    repeated = [sample for sample in samples for _ in sample.texts]
    texts = [text for sample in samples for text in sample.texts]
    caption_ids, image_ids = (
        np.array([getattr(sample, name) for sample in samples]) for name in ("caption_id", "image_id")
    )
    wordings = np.array([wording(sample.texts[0]) for sample in samples])
    return NaiveCaptions(_pairs(repeated, texts, RETRIEVAL_TOKENS, device), caption_ids, image_ids, wordings)


def _pairs(
    samples: Sequence[VQASample | RetrievalSample], texts: Sequence[list[int]], length: int, device: torch.device
) -> Pairs:
    token_ids = [text + [PAD] * (length - len(text)) for text in texts]
    is_token = [[position < len(text) for position in range(length)] for text in texts]
    return Pairs(
        torch.stack([sample.image for sample in samples]).to(device),
        torch.tensor([sample.image_id for sample in samples], device=device),
        torch.tensor(token_ids, device=device),
        torch.tensor(is_token, device=device),
    )


def question_losses(read: Read, batch: NaiveQuestions, config: VQAConfig) -> dict[str, Tensor]:
    """Weighted terms of VQA."""
    images, image_ids, token_ids, is_token = batch.pairs
    out = read(images, token_ids, is_token)
    answers = batch.targets.shape[1]
    return {
        "vqa": F.binary_cross_entropy_with_logits(out.logits, batch.targets) * answers,
        "prior": config.loss.prior * prior_error(out.prior, out.first, image_ids, config.prior.temperature),
        "reconstruction": config.loss.reconstruction * out.reconstruction,
    }


def caption_losses(read: Read, batch: NaiveCaptions, config: RetrievalConfig) -> dict[str, Tensor]:
    """Weighted terms of retrieval; a hard caption of every image, and hard images of every caption, are further pairs,
    with text and image anew.
    """
    images, image_ids, token_ids, is_token = batch.pairs
    out = read(images, token_ids, is_token)
    samples, loss, prior, number = len(batch.caption_ids), config.loss, config.prior, config.negative_images
    scores = out.logits.rank.view(samples, -1)  # (B, C)
    own = torch.arange(samples, device=scores.device) * scores.shape[1]
    each = torch.arange(samples, device=scores.device)
    known = exchange_samples([_own_samples(batch, own)])
    compared = Compared(out.prior[own], out.first[own], each, image_ids[own], prefix_tokens=1)
    chosen = choose_hard_negatives([compared], known, Draw(True, number, "mean", prior.temperature, config.run.seed))
    assert chosen.captions is not None and chosen.images is not None, "both are drawn"
    captions, shown = own[chosen.captions[0]], own[chosen.images[0].flatten()]
    wrong = read(images[own], token_ids[captions], is_token[captions])
    asking = own.repeat_interleave(number)
    elsewhere = read(images[shown], token_ids[asking], is_token[asking])
    of_images = torch.cat([scores[:, :1], elsewhere.logits.rank.view(samples, -1)], dim=1)  # (B, 1 + K)
    itm = torch.cat([out.logits.itm[own], wrong.logits.itm, elsewhere.logits.itm])
    matches = torch.zeros(len(itm), dtype=torch.long, device=itm.device)
    matches[:samples] = 1
    pairs = torch.tensor([float(len(part.prior)) for part in (out, wrong, elsewhere)])
    reconstructions = zip(pairs / pairs.sum(), (out, wrong, elsewhere), strict=True)
    return {
        "ranking": loss.ranking * F.cross_entropy(scores, torch.zeros_like(own)),
        "image_ranking": loss.ranking * F.cross_entropy(of_images, torch.zeros_like(own)),
        "itm": loss.itm * F.cross_entropy(itm, matches),
        "prior": loss.prior * prior_error(out.prior[own], out.first[own], image_ids[own], prior.temperature),
        "reconstruction": loss.reconstruction * sum(share * part.reconstruction for share, part in reconstructions),
    }


def _own_samples(batch: NaiveCaptions, own: Tensor) -> RetrievalBatch:
    """The own captions, each with its image, as the draw of hard negatives knows them."""
    images, image_ids, token_ids, is_token = (part[own] for part in batch.pairs)
    each = torch.arange(len(own), device=own.device)
    return RetrievalBatch(
        images, each, image_ids, token_ids, is_token, batch.caption_ids, batch.captioned_ids, batch.wordings
    )


def prior_error(prior: Tensor, tokens: Tensor, image_ids: Tensor, temperature: float) -> Tensor:
    """-log p_xi(z) of every prior (P, D) and its image among all images, of which the mean patch counts.

    Args:
        tokens: of every pair's image, CLS first, (P, N, D).
        image_ids: (P,); an image that several pairs have counts once.
    """
    mean_patches = tokens[:, 1:].mean(dim=1)
    similarity = F.normalize(prior, dim=-1) @ F.normalize(mean_patches, dim=-1).T  # (P priors, P images)
    first = (image_ids.unsqueeze(1) == image_ids).int().argmax(dim=1)  # the first pair that has the same image
    is_repeat = first != torch.arange(len(first), device=first.device)
    return F.cross_entropy((similarity / temperature).masked_fill(is_repeat, float("-inf")), first)
