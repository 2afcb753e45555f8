"""Scores of a gallery's images and captions: the dual encoder's for all pairs, the whole model's for all or the best.

Texts and first looks are encoded once. Images are worked through in chunks; every process takes the chunks of one
contiguous part, so that nothing is padded or doubled and scores do not depend on the number of processes. On the device
are one chunk and one batch of pairs, and as far as there is room the token vectors of all captions and the first looks
at a process's images; the rest of them waits in host memory. Shapes: I images, C captions, N image tokens, D vision
width, W text width.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from vl_absvit.data.captions import CaptionGallery
from vl_absvit.data.loaders import batch_loader
from vl_absvit.data.transfer import to_device
from vl_absvit.distributed import gather_objects, gather_with_grad, rank, world_size
from vl_absvit.evaluation.chunk_store import FileChunkStore
from vl_absvit.evaluation.retrieval_metrics import consecutive_folds, listed_pairs
from vl_absvit.models.heads import MatchScores
from vl_absvit.models.looks import FirstLook
from vl_absvit.models.vl_model import Pairs, Texts, VLAbSViT

IMAGES_PER_CHUNK = 8
TEXTS_PER_COMPARISON = 4096
PAIRS_AT_ONCE = {"cpu": 64, "cuda": 256}
"""Pairs of a forward pass, if not said otherwise: a GPU has enough to do, and at base size holds 2 to 4 GB for them."""
KEPT_ON_DEVICE = 4 * 2**30
"""Bytes of tokens that a GPU keeps, at most, and a quarter of what is free."""


class GalleryScores(NamedTuple):
    """The scores of a gallery, the same on every process."""

    similarity: np.ndarray  # (I, C) float32, the dual encoder's
    pairs: np.ndarray | None  # (I, C) float32, the whole model's; NaN where no shortlist asks; None for the first look


@torch.no_grad()
def score_gallery(
    model: VLAbSViT,
    gallery: CaptionGallery,
    *,
    look: Literal["first", "second"],
    size: int | None,
    bar: Progress,
    folds: int = 1,
    batch_size: int | None = None,
    num_workers: int = 0,
    store: FileChunkStore | None = None,
) -> GalleryScores:
    """Score the gallery's pairs.

    Args:
        model: in evaluation mode.
        look: ``first`` compares priors with first looks; ``second`` also has the whole model judge pairs.
        size: candidates per query, in both directions, that the whole model judges; None means all pairs.
        bar: shows the progress.
        folds: parts of consecutive images; the whole model judges pairs of one part only.
        batch_size: texts, and pairs, per forward pass; None takes what suits the device.
        num_workers: loader processes per process.
        store: finished chunks of an interrupted evaluation.
    """
    model.vision.fold()
    scorer = GalleryScorer(model, gallery, batch_size, bar, store)
    similarity = scorer.compare(keep=look == "second", num_workers=num_workers)
    if look == "first":
        return GalleryScores(similarity, None)
    fold_of_image = consecutive_folds(len(similarity), folds)
    listed = listed_pairs(similarity, size, gallery.image_of_caption, fold_of_image)
    return GalleryScores(similarity, scorer.judge(listed))


def pairs_at_once(device: torch.device) -> int:
    """Pairs of a forward pass that suit a device."""
    return PAIRS_AT_ONCE.get(device.type, PAIRS_AT_ONCE["cpu"])


class GalleryScorer:
    """One process's share of an evaluation."""

    def __init__(
        self,
        model: VLAbSViT,
        gallery: CaptionGallery,
        batch_size: int | None,
        bar: Progress,
        store: FileChunkStore | None = None,
    ) -> None:
        self.model, self.gallery, self.bar = model, gallery, bar
        self.store = store
        parameter = next(model.vision.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.batch_size = batch_size or pairs_at_once(self.device)
        self.room = _Room(self.device)
        chunks = -(-len(gallery.image_ids) // IMAGES_PER_CHUNK)
        self.chunks = np.array_split(np.arange(chunks), world_size())[rank()].tolist()
        self.kept: dict[int, list[Tensor]] = {}  # chunk -> the second look's start, first-look tokens
        self.texts = _encode_texts(model, gallery, self.batch_size, self.room, bar)

    def compare(self, keep: bool, num_workers: int) -> np.ndarray:
        """The dual encoder's scores, (I, C) on every process; with ``keep`` the first looks stay for ``judge``."""
        stored = ((chunk, self._stored("similarity", chunk)) for chunk in self.chunks)
        done = {chunk: similarity for chunk, similarity in stored if similarity is not None}
        todo = [chunk for chunk in self.chunks if chunk not in done or (keep and self._stored("pairs", chunk) is None)]
        loader = batch_loader(self.gallery.images, [self._rows(chunk).tolist() for chunk in todo], num_workers)
        bar_task = self.bar.add_task("first looks", total=len(self.chunks), completed=len(self.chunks) - len(todo))
        for chunk, images in zip(todo, loader, strict=True):
            first = self.model.vision.look_once(to_device(images, self.device).to(self.dtype))
            parts = [self.model.compare(priors, first).T for priors in self.texts.priors.split(TEXTS_PER_COMPARISON)]
            done[chunk] = similarity = torch.cat(parts, dim=1).cpu().numpy()
            self._store("similarity", chunk, similarity)
            if keep:
                self.kept[chunk] = [self.room.keep(tokens) for tokens in (first.start.tokens, first.tokens)]
            self.bar.update(bar_task, advance=1)
        return self._gather([done[chunk] for chunk in self.chunks])

    def judge(self, listed: np.ndarray) -> np.ndarray:
        """The whole model's scores of the listed pairs, (I, C) on every process, NaN elsewhere."""
        rows = [listed[self._rows(chunk)] for chunk in self.chunks]
        total = sum(int(part.sum()) for part in rows)
        bar_task = self.bar.add_task("pairs", total=total)
        tables = []
        for chunk, part in zip(self.chunks, rows, strict=True):
            scores = self._stored("pairs", chunk)
            if scores is None:
                scores = self._judge_chunk(chunk, part)
                self._store("pairs", chunk, scores)
            tables.append(scores)
            self.bar.update(bar_task, advance=int(part.sum()))
        return self._gather(tables)

    def _stored(self, kind: str, chunk: int) -> np.ndarray | None:
        """A chunk that an interrupted evaluation has finished."""
        return None if self.store is None else self.store.get(f"{kind}-{chunk:06d}")

    def _store(self, kind: str, chunk: int, scores: np.ndarray) -> None:
        if self.store is not None:
            self.store.put(f"{kind}-{chunk:06d}", scores)

    def _judge_chunk(self, chunk: int, listed: np.ndarray) -> np.ndarray:
        """Scores of one chunk's images and all captions, (images, C)."""
        start, tokens = (to_device(kept, self.device) for kept in self.kept.pop(chunk))
        vision = self.model.vision
        first = FirstLook(vision.start(start), tokens, [], vision.num_prefix_tokens)
        scores = np.full(listed.shape, np.nan, dtype=np.float32)
        batches = list(pair_batches(listed, self.gallery.lengths, self.batch_size))
        found = [self._read(first, rows, captions) for rows, captions in batches]
        if batches:
            pairs = tuple(map(np.concatenate, zip(*batches, strict=True)))
            scores[pairs] = torch.cat(found).cpu().numpy()
        return scores

    def _read(self, first: FirstLook, rows: np.ndarray, captions: np.ndarray) -> Tensor:
        """The whole model's scores of pairs: images, by row of ``first``, and captions, each (pairs,)."""
        if (rows == rows[0]).all():  # of one image alone, which then need not be copied for every caption
            first, rows = first.rows(slice(rows[0], rows[0] + 1)), np.zeros_like(rows)
        pairs = Pairs(self.texts.take(captions), to_device(torch.from_numpy(rows), self.device))
        scores = self.model.read(first, pairs).logits
        assert isinstance(scores, MatchScores), "the head matches texts and images"
        return scores.rank.float()

    def _rows(self, chunk: int) -> np.ndarray:
        return np.arange(chunk * IMAGES_PER_CHUNK, min((chunk + 1) * IMAGES_PER_CHUNK, len(self.gallery.image_ids)))

    def _gather(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Rows of all processes, which follow each other as the images do."""
        own = np.concatenate(parts) if parts else np.empty((0, len(self.gallery.caption_ids)), dtype=np.float32)
        return np.concatenate(gather_objects([own]))


def pair_batches(listed: np.ndarray, lengths: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of the listed pairs, ``size`` at a time, with captions of a length together: little padding.

    An image that has enough captions is read alone; what is left of all images is read together.

    Args:
        listed: (images, C) bool.
        lengths: tokens of each caption, (C,).
    """
    left = []
    for row, wanted in enumerate(listed):
        captions = np.flatnonzero(wanted)
        captions = captions[np.argsort(lengths[captions], kind="stable")]
        whole = len(captions) // size * size
        for start in range(0, whole, size):
            yield np.full(size, row), captions[start : start + size]
        left.append((np.full(len(captions) - whole, row), captions[whole:]))
    rows, captions = map(np.concatenate, zip(*left, strict=True))
    order = np.argsort(lengths[captions], kind="stable")
    for start in range(0, len(order), size):
        part = order[start : start + size]
        yield rows[part], captions[part]


def batches_of_a_length(lengths: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Rows of captions, at most ``size`` at a time and all of one length, which need no padding; shortest first.

    Args:
        lengths: tokens of each caption, (C,).
    """
    order = np.argsort(lengths, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        yield from np.split(rows, range(size, len(rows), size))


class _Room:
    """A store of tensors: on the device while there is room, then in host memory."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._left = KEPT_ON_DEVICE
        if device.type == "cuda" and torch.cuda.is_available():
            self._left = min(KEPT_ON_DEVICE, torch.cuda.mem_get_info(device)[0] // 4)

    def keep(self, tensor: Tensor) -> Tensor:
        """The tensor, where it may stay."""
        if tensor.nbytes > self._left:
            return tensor.cpu()
        self._left -= tensor.nbytes
        return tensor


class _EncodedCaptions:
    """Token vectors of all captions without padding, and their priors, which are on the device."""

    def __init__(self, tokens: Tensor, priors: Tensor, order: np.ndarray, lengths: np.ndarray) -> None:
        """
        Args:
            tokens: of the captions one after the other in ``order``, (sum of lengths, W).
            priors: in the gallery's order, (C, D).
            order: captions as they follow each other in ``tokens``, (C,).
            lengths: tokens of each caption in the gallery's order, (C,).
        """
        self._tokens, self.priors, self._lengths = tokens, priors, lengths
        self._starts = np.empty_like(lengths)
        self._starts[order] = np.cumsum(lengths[order]) - lengths[order]

    def take(self, rows: np.ndarray) -> Texts:
        """Some captions, padded to the longest, on the device."""
        device, lengths, starts = self.priors.device, self._lengths[rows, None], self._starts[rows, None]
        positions = np.arange(lengths.max())
        mask = positions < lengths
        places = torch.from_numpy(np.where(mask, starts + positions, 0))  # padding takes any token, and then none
        tokens = to_device(self._tokens[to_device(places, self._tokens.device)], device)
        is_token = to_device(torch.from_numpy(mask), device)
        tokens = tokens.masked_fill(~is_token.unsqueeze(-1), 0.0)
        return Texts(tokens, is_token, self.priors[to_device(torch.from_numpy(rows), device)])


def _encode_texts(
    model: VLAbSViT, gallery: CaptionGallery, batch_size: int, room: _Room, bar: Progress
) -> _EncodedCaptions:
    """Encode every caption once: the processes share the work, and each then has all of it."""
    batches = list(batches_of_a_length(gallery.lengths, batch_size))
    order = np.concatenate(batches)
    own_batches = np.array_split(np.arange(len(batches)), world_size())[rank()].tolist()
    device, dtype = room.device, next(model.text.parameters()).dtype
    # The fusion casts what it reads before it does anything else: so small, tokens hold all that it sees.
    token_dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else dtype
    tokens = [torch.empty(0, model.text.width, dtype=token_dtype, device=device)]
    priors = [torch.empty(0, model.vision.width, dtype=dtype, device=device)]
    for batch in bar.track([batches[number] for number in own_batches], description="captions"):
        own = slice(gallery.lengths[batch[0]])
        token_ids, is_token = (to_device(tensor[:, own], device) for tensor in gallery.texts(batch))
        texts = model.encode_texts(token_ids, is_token)
        tokens.append(texts.tokens.flatten(0, 1).to(token_dtype))
        assert texts.prior is not None, "the dual encoder compares priors"
        priors.append(texts.prior.to(dtype))
    gathered = gather_with_grad(torch.cat(priors))
    in_place = torch.empty_like(gathered)
    in_place[to_device(torch.from_numpy(order), device)] = gathered
    return _EncodedCaptions(room.keep(gather_with_grad(torch.cat(tokens))), in_place, order, gallery.lengths)
