"""Scores of a gallery's images and captions: the dual encoder's for all pairs, the whole model's for all or the best.

Texts and first looks are encoded once. Images are worked through in chunks; every process takes the chunks of one
contiguous part, so that nothing is padded or doubled and scores do not depend on the number of processes. On the device
are one chunk and one batch of pairs; token vectors of all captions and the first looks at a process's images wait in
host memory. Shapes: I images, C captions, N image tokens, D vision width, W text width.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from vl_absvit.data.captions import CaptionGallery
from vl_absvit.data.loaders import batch_loader
from vl_absvit.distributed import gather_with_grad, rank, world_size
from vl_absvit.evaluation.retrieval_metrics import consecutive_folds, listed_pairs
from vl_absvit.models.absvit import FirstLook
from vl_absvit.models.vl_model import Pairs, Texts, VLAbSViT

IMAGES_PER_CHUNK = 8
TEXTS_PER_COMPARISON = 4096


class GalleryScores(NamedTuple):
    """What was computed, the same on every process."""

    similarity: np.ndarray  # (I, C) float32, the dual encoder's
    pairs: np.ndarray | None  # (I, C) float32, the whole model's; NaN where no shortlist asks; None for the first look


class ChunkStore(Protocol):
    """Where finished chunks are kept between two starts of the same evaluation."""

    def get(self, name: str) -> np.ndarray | None: ...
    def put(self, name: str, array: np.ndarray) -> None: ...


class _NoStore:
    def get(self, name: str) -> None:
        return None

    def put(self, name: str, array: np.ndarray) -> None:
        pass


@torch.no_grad()
def score_gallery(
    model: VLAbSViT,
    gallery: CaptionGallery,
    *,
    look: Literal["first", "second"],
    size: int | None,
    bar: Progress,
    folds: int = 1,
    batch_size: int = 64,
    num_workers: int = 0,
    store: ChunkStore | None = None,
) -> GalleryScores:
    """Score the gallery's pairs.

    Args:
        model: in evaluation mode.
        look: ``first`` compares priors with first looks; ``second`` also has the whole model judge pairs.
        size: candidates per query, in both directions, that the whole model judges; None means all pairs.
        bar: shows the progress.
        folds: parts of consecutive images; the whole model judges pairs of one part only.
        batch_size: texts, and pairs, per forward pass.
        num_workers: loader processes per process.
        store: finished chunks of an interrupted evaluation.
    """
    scorer = GalleryScorer(model, gallery, batch_size, bar, store)
    similarity = scorer.compare(keep=look == "second", num_workers=num_workers)
    if look == "first":
        return GalleryScores(similarity, None)
    fold_of_image = consecutive_folds(len(similarity), folds)
    return GalleryScores(
        similarity, scorer.judge(listed_pairs(similarity, size, gallery.image_of_caption, fold_of_image))
    )


class GalleryScorer:
    """One process's share of an evaluation."""

    def __init__(
        self,
        model: VLAbSViT,
        gallery: CaptionGallery,
        batch_size: int,
        bar: Progress,
        store: ChunkStore | None = None,
    ) -> None:
        self.model, self.gallery, self.batch_size, self.bar = model, gallery, batch_size, bar
        self.store = _NoStore() if store is None else store
        parameter = next(model.vision.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        chunks = -(-len(gallery.image_ids) // IMAGES_PER_CHUNK)
        self.chunks = np.array_split(np.arange(chunks), world_size())[rank()].tolist()
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}  # chunk -> z_0 and first-look tokens in host memory
        self.texts = _encode_texts(model, gallery, batch_size, self.device, bar)

    def compare(self, keep: bool, num_workers: int) -> np.ndarray:
        """The dual encoder's scores, (I, C) on every process; with ``keep`` the first looks stay for ``judge``."""
        done = {chunk: self.store.get(_name("similarity", chunk)) for chunk in self.chunks}
        todo = [
            chunk
            for chunk in self.chunks
            if done[chunk] is None or (keep and self.store.get(_name("pairs", chunk)) is None)
        ]
        loader = batch_loader(self.gallery.images, [self._rows(chunk).tolist() for chunk in todo], num_workers)
        shown = self.bar.add_task("first looks", total=len(self.chunks), completed=len(self.chunks) - len(todo))
        for chunk, images in zip(todo, loader, strict=True):
            first = self.model.vision.look_once(images.to(self.device, self.dtype))
            done[chunk] = self._similarity(first)
            self.store.put(_name("similarity", chunk), done[chunk])
            if keep:
                self.kept[chunk] = (first.embedded.tokens.cpu(), first.tokens.cpu())
            self.bar.update(shown, advance=1)
        return self._gather([done[chunk] for chunk in self.chunks])

    def judge(self, listed: np.ndarray) -> np.ndarray:
        """The whole model's scores of the listed pairs, (I, C) on every process, NaN elsewhere."""
        rows = [listed[self._rows(chunk)] for chunk in self.chunks]
        total = sum(int(part.sum()) for part in rows)
        shown = self.bar.add_task("pairs", total=total)
        tables = []
        for chunk, part in zip(self.chunks, rows, strict=True):
            scores = self.store.get(_name("pairs", chunk))
            if scores is None:
                scores = self._judge_chunk(chunk, part)
                self.store.put(_name("pairs", chunk), scores)
            tables.append(scores)
            self.bar.update(shown, advance=int(part.sum()))
        return self._gather(tables)

    def _judge_chunk(self, chunk: int, listed: np.ndarray) -> np.ndarray:
        """Scores of one chunk's images and all captions, (images, C)."""
        z_0, tokens = self.kept.pop(chunk)
        scores = np.full(listed.shape, np.nan, dtype=np.float32)
        for row, wanted in enumerate(listed):
            captions = np.flatnonzero(wanted)
            captions = captions[np.argsort(self.gallery.lengths[captions], kind="stable")]  # little padding
            embedded = self.model.vision.start(z_0[row : row + 1].to(self.device))
            first = FirstLook(embedded, tokens[row : row + 1].to(self.device), states=[])
            for start in range(0, len(captions), self.batch_size):
                batch = captions[start : start + self.batch_size]
                about = torch.zeros(len(batch), dtype=torch.long, device=self.device)
                pairs = Pairs(self.texts.take(batch), about)
                scores[row, batch] = self.model.read(first, pairs).logits.rank.float().cpu().numpy()
        return scores

    def _similarity(self, first: FirstLook) -> np.ndarray:
        priors = self.texts.priors.split(TEXTS_PER_COMPARISON)
        parts = [self.model.compare(prior, first).T for prior in priors]
        return torch.cat(parts, dim=1).cpu().numpy()

    def _rows(self, chunk: int) -> np.ndarray:
        return np.arange(chunk * IMAGES_PER_CHUNK, min((chunk + 1) * IMAGES_PER_CHUNK, len(self.gallery.image_ids)))

    def _gather(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Rows of all processes, which follow each other as the images do."""
        own = np.concatenate(parts) if parts else np.empty((0, len(self.gallery.caption_ids)), dtype=np.float32)
        return gather_with_grad(torch.from_numpy(own).to(self.device)).cpu().numpy()


def _name(kind: str, chunk: int) -> str:
    return f"{kind}-{chunk:06d}"


class _EncodedCaptions:
    """Token vectors of all captions without padding, in host memory, and their priors on the device."""

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
        lengths = torch.from_numpy(self._lengths[rows])
        is_token = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
        places = (torch.from_numpy(self._starts[rows]).unsqueeze(1) + torch.arange(is_token.shape[1]))[is_token]
        tokens = self._tokens.new_zeros(*is_token.shape, self._tokens.shape[1])
        tokens[is_token] = self._tokens[places]
        device = self.priors.device
        return Texts(tokens.to(device), is_token.to(device), self.priors[torch.from_numpy(rows).to(device)])


def _encode_texts(
    model: VLAbSViT, gallery: CaptionGallery, batch_size: int, device: torch.device, bar: Progress
) -> _EncodedCaptions:
    """Encode every caption once: the processes share the work, and each then has all of it."""
    order = np.argsort(gallery.lengths, kind="stable")  # captions of a length together: little padding
    batches = np.split(order, range(batch_size, len(order), batch_size))
    mine = np.array_split(np.arange(len(batches)), world_size())[rank()].tolist()
    width = model.text.width
    dtype = next(model.text.parameters()).dtype
    tokens, priors = [torch.empty(0, width, dtype=dtype)], [torch.empty(0, model.vision.embed_dim, dtype=dtype)]
    for batch in bar.track([batches[k] for k in mine], description="captions"):
        token_ids, is_token = (tensor.to(device) for tensor in gallery.texts(batch))
        texts = model.encode_texts(token_ids, is_token)
        tokens.append(texts.tokens[is_token].to(dtype).cpu())
        priors.append(texts.prior.to(dtype).cpu())
    gathered = gather_with_grad(torch.cat(priors).to(device))
    in_place = torch.empty_like(gathered)
    in_place[torch.from_numpy(order).to(device)] = gathered
    all_tokens = gather_with_grad(torch.cat(tokens).to(device)).cpu()
    return _EncodedCaptions(all_tokens, in_place, order, gallery.lengths)
