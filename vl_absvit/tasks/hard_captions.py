"""Hard captions for image-text matching, drawn from the global batch by the dual encoder's similarity.

As in ALBEF (Li et al., "Align before Fuse", NeurIPS 2021, section 3.2), but over the forward passes of all ranks, so
that the draw does not depend on how many there are. Captions travel to the images, which keeps the work of every rank
the same. Shapes: B samples in a pass of this rank, A in all passes of all ranks, one caption and one image each;
P passes in an optimizer step; T tokens.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vl_absvit.data.collate import RetrievalBatch
from vl_absvit.data.transfer import to_device
from vl_absvit.distributed import gather_objects, gather_with_grad, rank, world_size
from vl_absvit.errors import ConfigError
from vl_absvit.models.absvit import FirstLook
from vl_absvit.models.vl_model import Texts
from vl_absvit.tasks.prior import Compared, global_similarity, joined


def hard_captions(
    own: Texts,
    first: FirstLook,
    batch: RetrievalBatch,
    *,
    pool: Literal["max", "mean", "cls"],
    temperature: float,
    seed: int,
) -> Texts:
    """For every sample of this rank, a caption of another image, with gradient.

    Args:
        own: the samples' own captions, (B, T).
        first: first looks at the batch's images.
        batch: where the captions come from.
        pool: what stands for an image.
        temperature: divides the similarity before the softmax that is drawn from.
        seed: of the run.
    """
    mine = Compared(own.prior, first.tokens, batch.image_index, batch.image_ids)
    known = exchange([batch])
    (rows,) = choose([mine], known, pool=pool, temperature=temperature, seed=seed)
    return _gather(own, known).take(rows)


class HardCaptions(NamedTuple):
    """What a forward pass has to read beside its own captions."""

    token_ids: Tensor  # (B, T)
    is_token: Tensor  # (B, T)


def step_hard_captions(
    passes: Sequence[Compared],
    batches: Sequence[RetrievalBatch],
    *,
    candidates: int,
    pad_id: int,
    pool: Literal["max", "mean", "cls"],
    temperature: float,
    seed: int,
) -> list[HardCaptions]:
    """For every pass of an optimizer step what ``hard_captions`` would draw, had the step one pass alone.

    Args:
        passes: priors of the samples' own captions, and first looks.
        batches: of the same passes.
        candidates: captions per sample.
        pad_id: fills shorter texts.
    """
    known = exchange(batches)
    chosen = choose(passes, known, pool=pool, temperature=temperature, seed=seed)
    length = known.text_length
    padded = []
    for batch in batches:
        missing = 0, length - batch.token_ids.shape[1]
        own_ids, own_is_token = batch.token_ids[::candidates], batch.is_token[::candidates].long()
        padded.append((F.pad(own_ids, missing, value=pad_id), F.pad(own_is_token, missing)))
    token_ids, is_token = (gather_with_grad(torch.cat(parts), known.samples) for parts in zip(*padded, strict=True))
    return [HardCaptions(token_ids[rows], is_token[rows].bool()) for rows in chosen]


class Known(NamedTuple):
    """What the hosts know of a step's captions, so that nothing of it has to be read from a device."""

    samples: list[int]  # of every rank, in all its passes
    caption_ids: list[int]  # (A,), of the samples' own captions in the order of the batch
    captioned_ids: list[int]  # (A,), of their images
    text_length: int  # of the longest text, padding included


def exchange(batches: Sequence[RetrievalBatch]) -> Known:
    """What all ranks know of their passes; ``batches`` are those of this rank's."""
    mine = [(batch.caption_ids.tolist(), batch.captioned_ids.tolist(), batch.token_ids.shape[1]) for batch in batches]
    ranks = gather_objects([mine])
    # Ranks hold parts of every pass, but the batch has pass after pass: its order is what the draw depends on.
    in_order = [passes[number] for number in range(len(batches)) for passes in ranks]
    return Known(
        samples=[sum(len(captions) for captions, _, _ in passes) for passes in ranks],
        caption_ids=[caption for captions, _, _ in in_order for caption in captions],
        captioned_ids=[image for _, images, _ in in_order for image in images],
        text_length=max(length for _, _, length in in_order),
    )


def choose(
    passes: Sequence[Compared],
    known: Known,
    *,
    pool: Literal["max", "mean", "cls"],
    temperature: float,
    seed: int,
) -> Tensor:
    """Which sample's caption each sample of this rank gets.

    Args:
        passes: priors of the samples' own captions, and first looks.
        known: of the same passes, and those of the other ranks.

    Returns:
        Rows of the samples of all ranks, of which each has its passes below each other, (P, B).

    Raises:
        ConfigError: all captions are of one image.
    """
    if len(set(known.captioned_ids)) == 1:
        raise ConfigError("loss.itm needs captions of another image in every batch; increase optim.batch_size")
    with torch.no_grad():
        scores = global_similarity(*joined(passes), pool)
    similarity, image_ids = scores.similarity[:, scores.own_column].T, scores.column_ids[scores.own_column]
    order = torch.arange(len(image_ids), device=image_ids.device)
    order = order.view(world_size(), len(passes), -1).transpose(0, 1).flatten()  # of the batch
    drawn = draw_hard_captions(
        similarity[order][:, order], image_ids[order], temperature, seed=_seed(seed, known.caption_ids)
    )
    return order[drawn].view(len(passes), world_size(), -1)[:, rank()]


def draw_hard_captions(similarity: Tensor, image_ids: Tensor, temperature: float, seed: int) -> Tensor:
    """For every image one caption of another, with probability softmax(similarity / temperature).

    Args:
        similarity: of the A samples' images (rows) to their captions, (A, A).
        image_ids: of the samples, (A,), at least two different ones.
        seed: of the draw.

    Returns:
        Rows of the captions, (A,).
    """
    is_own = image_ids.unsqueeze(1) == image_ids
    generator = torch.Generator().manual_seed(seed)
    gumbel = -torch.log(-torch.log(torch.rand(similarity.shape, generator=generator).clamp(1e-12, 1 - 1e-7)))
    logits = similarity.float() / temperature + to_device(gumbel, similarity.device)
    return logits.masked_fill(is_own, -torch.inf).argmax(dim=1)


def join(first: Texts, second: Texts) -> Texts:
    """Both one below the other, padded to the longer."""
    length = max(first.is_token.shape[1], second.is_token.shape[1])
    return Texts(*(torch.cat(parts) for parts in zip(_pad(first, length), _pad(second, length), strict=True)))


def _gather(own: Texts, known: Known) -> Texts:
    """The texts of all ranks, with gradient."""
    texts, rows = _pad(own, known.text_length), known.samples
    is_token = gather_with_grad(texts.is_token.long(), rows).bool()
    return Texts(gather_with_grad(texts.tokens, rows), is_token, gather_with_grad(texts.prior, rows))


def _pad(texts: Texts, length: int) -> Texts:
    missing = length - texts.is_token.shape[1]
    return Texts(F.pad(texts.tokens, (0, 0, 0, missing)), F.pad(texts.is_token, (0, missing)), texts.prior)


def _seed(run_seed: int, caption_ids: Sequence[int]) -> int:
    """The same for the same captions in the same order, whichever ranks hold them."""
    return int.from_bytes(hashlib.sha256(f"{run_seed} {list(caption_ids)}".encode()).digest()[:7])
