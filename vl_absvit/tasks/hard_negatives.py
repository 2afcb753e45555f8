"""Hard negatives, drawn from the global batch: a caption for each image, and images for each caption.

As in ALBEF (Li et al., "Align before Fuse", NeurIPS 2021, section 3.2), by the dual encoder's similarity and in both
directions, but over the forward passes of all ranks, so that the draw does not depend on how many there are. Shapes: B
samples in a pass of this rank, A in all passes of all ranks, one caption and one image each; P passes in an optimizer
step; K hard images per caption.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vl_absvit.data.collate import RetrievalBatch
from vl_absvit.data.pairs import PairBatch
from vl_absvit.data.transfer import to_device
from vl_absvit.distributed import gather_objects, rank, world_size
from vl_absvit.errors import ConfigError
from vl_absvit.tasks.prior_losses import Compared, global_similarity, joined

LAST_RESORT = -1e30
"""Logit of a false candidate that may well be true: drawn where there is no other."""
ELSEWHERE = 1_000.0
"""What candidates of other sources are less similar by: they are drawn where the own source has no false one."""


class Draw(NamedTuple):
    """Numbers of hard negatives, and the distribution that they are drawn from."""

    captions: bool  # whether every image gets a caption of another
    images: int  # K
    pool: Literal["lse", "max", "mean", "cls"]  # what stands for an image
    temperature: float  # divides the similarity before the softmax that is drawn from
    seed: int  # of the run


class StepSamples(NamedTuple):
    """Facts about a step's samples that every host knows without reading from a device."""

    samples: list[int]  # of every rank, in all its passes
    images: list[int]  # of every rank, likewise
    caption_ids: list[int]  # (A,), of the samples' own captions in the order of the batch
    captioned_ids: list[int]  # (A,), of their images
    wordings: list[int]  # (A,), equal where the captions' texts are
    sources: list[int]  # (A,)
    texts: list[int]  # (A,), numbers of the captions' texts
    said: list[list[int]]  # A x (any,), numbers of texts that are said of the image, whether the step has them or not
    text_length: int  # of the longest text, padding included


class Chosen(NamedTuple):
    """The hard negatives of this rank's samples."""

    captions: Tensor | None  # (P, B) rows of the samples of all ranks, of which each has its passes below each other
    images: Tensor | None  # (P, B, K) rows of the images of all ranks, likewise


def exchange_samples(batches: Sequence[RetrievalBatch | PairBatch]) -> StepSamples:
    """Facts about the passes of all ranks; ``batches`` are those of this rank."""
    own_passes = [
        (batch.caption_ids.tolist(), batch.captioned_ids.tolist(), batch.wordings.tolist(), *_told(batch),
         len(batch.image_ids), batch.token_ids.shape[1])
        for batch in batches
    ]  # fmt: skip
    ranks = gather_objects([own_passes])
    # Ranks hold parts of every pass, but the batch has pass after pass: its order is what the draw depends on.
    in_order = [passes[number] for number in range(len(batches)) for passes in ranks]
    captions, captioned, wordings, sources, texts, said, _, lengths = zip(*in_order, strict=True)
    return StepSamples(
        samples=[sum(len(captions) for captions, *_ in passes) for passes in ranks],
        images=[sum(images for *_, images, _ in passes) for passes in ranks],
        caption_ids=sum(captions, []),
        captioned_ids=sum(captioned, []),
        wordings=sum(wordings, []),
        sources=sum(sources, []),
        texts=sum(texts, []),
        said=sum(said, []),
        text_length=max(lengths),
    )


def _told(batch: RetrievalBatch | PairBatch) -> tuple[list[int], list[int], list[list[int]]]:
    """Source and text of every caption, and what is said of its image elsewhere. Retrieval has one source."""
    if isinstance(batch, PairBatch):
        return batch.sources.tolist(), batch.texts.tolist(), [numbers.tolist() for numbers in batch.said]
    zeros = [0] * len(batch.caption_ids)
    return zeros, zeros, [[] for _ in zeros]


@torch.no_grad()
def choose_hard_negatives(passes: Sequence[Compared], known: StepSamples, wanted: Draw) -> Chosen:
    """Draw hard negatives for all samples, and keep those of this rank's.

    Args:
        passes: priors of the samples' own captions, and first looks.
        known: of the same passes, and those of the other ranks.

    Raises:
        ConfigError: there are too few images.
    """
    _require_others(known, wanted)
    scores = global_similarity(*joined(passes)[:5], [wanted.pool])
    device, columns = scores.similarity.device, scores.own_column
    order = torch.arange(len(columns), device=device)
    order = order.view(world_size(), len(passes), -1).transpose(0, 1).flatten()  # of the batch
    columns = columns[order]
    similarity, image_ids = scores.similarity[0, order][:, columns], scores.column_ids[columns]
    wordings = to_device(torch.tensor(known.wordings), device)
    may_be_true = may_describe(wordings, image_ids)
    if any(known.said):
        may_be_true = may_be_true | to_device(are_said(known.texts, known.said), device)
    if len(set(known.sources)) > 1:
        sources = to_device(torch.tensor(known.sources), device)
        similarity = similarity - ELSEWHERE * (sources.unsqueeze(1) != sources)
    captions, images = None, None
    if wanted.captions:
        is_own = image_ids.unsqueeze(1) == image_ids
        seed = _seed(wanted.seed, known.caption_ids)
        drawn = draw_candidates(similarity.T, is_own, may_be_true.T, 1, wanted.temperature, seed)
        captions = _of_this_rank(order[drawn[:, 0]], len(passes))
    if wanted.images:
        # An image that several samples have is one image: the first of them stands for it.
        first = _first_like(image_ids)
        is_barred = (image_ids.unsqueeze(1) == image_ids) | (first != torch.arange(len(first), device=device))
        drawn = draw_candidates(
            similarity, is_barred, may_be_true, wanted.images, wanted.temperature,
            _seed(f"{wanted.seed} images", known.caption_ids),
        )  # fmt: skip
        images = _of_this_rank(columns[drawn], len(passes))
    return Chosen(captions, images)


def draw_candidates(
    similarity: Tensor, is_barred: Tensor, may_be_true: Tensor, number: int, temperature: float, seed: int
) -> Tensor:
    """For every query some distinct candidates, with probability softmax(similarity / temperature), one by one.

    Args:
        similarity: of A queries to A candidates, (A, A).
        is_barred: candidates that are never drawn, (A, A) bool; ``number`` others are left to every query.
        may_be_true: candidates that are drawn only where there are no others, (A, A) bool.
        seed: of the draw.

    Returns:
        Candidates of each query, (A, number).
    """
    generator = torch.Generator().manual_seed(seed)
    gumbel = -torch.log(-torch.log(torch.rand(similarity.shape, generator=generator).clamp(1e-12, 1 - 1e-7)))
    logits = similarity.float() / temperature + to_device(gumbel, similarity.device)
    logits = logits.masked_fill(may_be_true, LAST_RESORT).masked_fill(is_barred, -torch.inf)
    return logits.topk(number, dim=1).indices


def may_describe(wordings: Tensor, image_ids: Tensor) -> Tensor:
    """Whether some sample pairs the image with a caption of the same wording, (A captions, A samples' images).

    Args:
        wordings: of the captions, (A,), equal where their texts are.
        image_ids: (A,).
    """
    text, image = _first_like(wordings), _first_like(image_ids)
    is_pair = torch.zeros(len(text), len(image), dtype=torch.bool, device=text.device)
    is_pair[text, image] = True
    return is_pair[text][:, image]


def are_said(texts: Sequence[int], said: Sequence[Sequence[int]]) -> Tensor:
    """Whether a text is said of an image, (A texts, A images) bool; arguments as ``StepSamples``."""
    rows_of: dict[int, list[int]] = {}
    for row, text in enumerate(texts):
        rows_of.setdefault(text, []).append(row)
    pairs = [(row, image) for image, true in enumerate(said) for text in true for row in rows_of.get(text, ())]
    found = torch.zeros(len(texts), len(said), dtype=torch.bool)
    if pairs:
        found[tuple(torch.tensor(pairs).T)] = True
    return found


def _first_like(ids: Tensor) -> Tensor:
    """The first row that has the same id, for every row."""
    return (ids.unsqueeze(1) == ids).int().argmax(dim=1)


def _of_this_rank(rows: Tensor, passes: int) -> Tensor:
    """This rank's part of rows about all samples in the order of the batch, (A, ...) to (P, B, ...)."""
    return rows.unflatten(0, (passes, world_size(), -1))[:, rank()]


def _require_others(known: StepSamples, wanted: Draw) -> None:
    others = len(set(known.captioned_ids)) - 1
    if wanted.captions and not others:
        raise ConfigError("loss.itm needs captions of another image in every batch; increase optim.batch_size")
    if wanted.images > others:
        raise ConfigError(
            f"negative_images {wanted.images} needs as many other images in every batch, but one has {others}; "
            "increase optim.batch_size or lower negative_images"
        )


def _seed(run_seed: int | str, caption_ids: Sequence[int]) -> int:
    """The same for the same captions in the same order, whichever ranks hold them."""
    return int.from_bytes(hashlib.sha256(f"{run_seed} {list(caption_ids)}".encode()).digest()[:7])
