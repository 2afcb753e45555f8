"""Image-text retrieval: captions, the whole model, its losses, and recall on the selection split.

Shapes: B samples (one caption of an image each), C candidate captions per sample, the own one first, K hard images per
caption, I distinct images, T tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from vl_absvit.cli import progress
from vl_absvit.config import RetrievalConfig
from vl_absvit.data.captions import CaptionDataset, CaptionGallery
from vl_absvit.data.collate import RetrievalBatch
from vl_absvit.data.corruptions import Corruption
from vl_absvit.data.records import CAPTIONS
from vl_absvit.evaluation.retrieval_metrics import retrieval_recalls
from vl_absvit.losses import itm_loss, ranking_loss
from vl_absvit.models.looks import FirstLook
from vl_absvit.models.token_norms import statistics_kept
from vl_absvit.models.vl_model import Pairs, Texts, VLAbSViT
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.base import About, decoder_losses_of, decoder_terms
from vl_absvit.tasks.facts import Facts, sum_of_counts
from vl_absvit.tasks.hard_negatives import Draw
from vl_absvit.tasks.prior_losses import StepPriorLoss, compared, global_prior_loss, looks_up_to, step_prior_losses
from vl_absvit.tasks.retrieval_pairs import HardNegatives, find_hard, make_pairs, step_hard_negatives, take_hard
from vl_absvit.tasks.retrieval_scores import score_gallery
from vl_absvit.tasks.vision_language import VisionLanguageTask, made_up_images, made_up_texts
from vl_absvit.tasks.vl_checkpoint import Preprocessing


class StepAhead(NamedTuple):
    """Facts about the whole optimizer step that a forward pass needs where the step has several."""

    prior: StepPriorLoss | None
    hard: HardNegatives


class RetrievalTask(VisionLanguageTask):
    """Finetuning on retrieval; ``Task`` describes the methods."""

    kind = "retrieval"
    head_kind = "matching"
    about = About(
        "image-text retrieval",
        None,
        "vl-absvit evaluate-retrieval --checkpoint {name} --data OUT --split test --output scores.json",
    )
    config_class = RetrievalConfig
    select_metric = "mean_recall"

    def read_data(self) -> tuple[CaptionDataset, CaptionGallery | None]:
        config, data = self.config, self.config.data
        train_set = CaptionDataset(
            data.root, data.train_splits, self.tokenizer, config.text.max_tokens,
            self.preprocessing.transform(data.augmentation), config.negatives, config.run.seed, data.images,
        )  # fmt: skip
        if data.select_split is None:
            return train_set, None
        return train_set, make_gallery(data.root, data.select_split, self.tokenizer, self.preprocessing, data.images)

    @classmethod
    def head(cls, config: RetrievalConfig, labels: int | None) -> dict[str, Any]:
        # Where nothing trains a score to rank by, the matching logits rank, as in ALBEF.
        return {"kind": "matching"} | ({} if config.loss.ranking else {"ranks_by": "itm"})

    @classmethod
    def sentence(cls, config: RetrievalConfig) -> str:
        return config.prior.sentence  # of every encoder, for the dual encoder

    @classmethod
    def leave_untrained(cls, config: RetrievalConfig, model: VLAbSViT) -> None:
        for layer, weight in ((model.head.rank, config.loss.ranking), (model.head.itm, config.loss.itm)):
            layer.requires_grad_(weight > 0)

    @property
    def _draw(self) -> Draw:
        """The hard negatives that the losses need."""
        config, prior = self.config, self.config.prior
        return Draw(config.loss.itm > 0, config.negative_images, prior.pool, prior.temperature, config.run.seed)

    @property
    def _candidates(self) -> int:
        """Captions of a sample that are read: where they are not ranked, its own."""
        return 1 + self.config.negatives if self.config.loss.ranking else 1

    def _texts(self, batch: RetrievalBatch) -> tuple[Tensor, Tensor]:
        """The captions that are read, (B * C, T), and their mask."""
        step = 1 if self._candidates > 1 else 1 + self.config.negatives
        return batch.token_ids[::step], batch.is_token[::step]

    def _own_captions(self, batch: RetrievalBatch) -> Tensor:
        """Rows of the images' own captions among those that are read."""
        return torch.arange(len(batch.image_index), device=batch.images.device) * self._candidates

    @torch.no_grad()
    def look_ahead(self, batches: Sequence[RetrievalBatch], seeds: Sequence[int]) -> list[StepAhead]:
        weights, config, wanted, vision = self.config.loss, self.config.prior, self._draw, self.model.vision
        look: Literal["first", "second"] = config.look if weights.prior else "first"
        passes, first_looks = [], []
        if weights.prior or wanted.captions or wanted.images:
            with arithmetic(self.config.run.precision, batches[0].images.device), statistics_kept():
                for batch, seed in zip(batches, seeds, strict=True):
                    torch.manual_seed(seed)
                    priors = self.model.encode_texts(*self._texts(batch)).prior
                    assert priors is not None, "the dual encoder compares priors"
                    prior = priors[self._own_captions(batch)]
                    about = batch.image_index, batch.image_ids
                    looks = looks_up_to(look, vision, batch.images, prior, batch.image_index)
                    passes.append(compared(vision, prior, looks, *about, look))
                    first_looks.append(compared(vision, prior, looks, *about, "first"))
        hard = [HardNegatives(None, None)] * len(batches)
        if wanted.captions or wanted.images:
            hard = step_hard_negatives(
                first_looks, batches, wanted,
                candidates=1 + self.config.negatives, pad_id=self.model.text.roberta.config.pad_token_id,
            )  # fmt: skip
        losses: Sequence[StepPriorLoss | None] = [None] * len(batches)
        if weights.prior:
            losses = step_prior_losses(passes, config)
        return list(map(StepAhead, losses, hard))

    def losses(self, model: nn.Module, batch: RetrievalBatch, ahead: StepAhead | None = None) -> dict[str, Tensor]:
        weights, prior, wanted = self.config.loss, self.config.prior, self._draw
        samples, own = len(batch.image_index), self._own_captions(batch)
        token_ids, is_token = self._texts(batch)

        def pair(texts: Texts, first: FirstLook) -> tuple[FirstLook, Pairs]:
            whole: Any = getattr(model, "module", model)  # without a wrapper such as DDP
            if ahead is None:
                hard = find_hard(whole, texts.take(own), first, batch, wanted)
            else:
                hard = take_hard(whole, first, ahead.hard)
            return hard.first, make_pairs(texts, own, batch.image_index, hard)

        with arithmetic(self.config.run.precision, batch.images.device):
            needed = decoder_losses_of(self.config, self.model.vision)
            out = model(batch.images, token_ids, is_token, pair=pair, **needed)
        terms, candidates, mistaken = {}, len(token_ids), len(out.logits.rank) - samples * wanted.images
        if weights.ranking:
            scores = out.logits.rank[:candidates].unflatten(0, (samples, -1))  # (B, C)
            terms["ranking"] = weights.ranking * ranking_loss(scores)
            if wanted.images:
                false = out.logits.rank[mistaken:].unflatten(0, (samples, -1))  # (B, K)
                terms["image_ranking"] = weights.ranking * ranking_loss(torch.cat([scores[:, :1], false], dim=1))
        if weights.itm:
            logits = torch.cat([out.logits.itm[own], out.logits.itm[candidates:]])
            is_match = torch.arange(len(logits), device=logits.device) < samples
            terms["itm"] = weights.itm * itm_loss(logits, is_match)
        if weights.prior:
            looks = out.looks
            if prior.look == "second":
                looks = looks._replace(second=looks.second._replace(tokens=looks.second.tokens[own]))
            looks = looks._replace(first=looks.first._replace(tokens=looks.first.tokens[: len(batch.images)]))
            about = batch.image_index, batch.image_ids, prior.look
            own_pass = compared(self.model.vision, out.prior[own], looks, *about)
            step = None if ahead is None else ahead.prior
            loss = global_prior_loss(own_pass, prior) if step is None else step.at(own_pass)
            terms["prior"] = weights.prior * loss
        return terms | decoder_terms(self.config, out)

    def evaluate(self, model: VLAbSViT) -> dict[str, float] | None:
        """Recalls on the selection split in percent, the whole model ranking the dual encoder's shortlist."""
        if self.select_set is None:
            return None
        size, device = self.config.select_shortlist, next(model.parameters()).device
        with arithmetic(self.config.run.precision, device), progress() as bar:
            scores = score_gallery(
                model, self.select_set, look="second", size=size, num_workers=self.config.data.num_workers, bar=bar
            )
        assert scores.pairs is not None, "a second look judges pairs"
        recalls = retrieval_recalls(scores.pairs, self.select_set.image_of_caption, scores.similarity, size)
        return {"mean_recall": sum(recalls.values()) / len(recalls)} | recalls

    @classmethod
    def data_sizes(cls, config: RetrievalConfig) -> tuple[int, None]:
        return sum_of_counts(config.data, CAPTIONS, "captions", "without_image"), None

    @classmethod
    def made_up_batch(cls, config: RetrievalConfig, facts: Facts, samples: int) -> RetrievalBatch:
        rows, own = torch.arange(samples), np.arange(samples)
        texts = made_up_texts(config, facts, samples * (1 + config.negatives))
        # Other processes and passes have other images.
        captioned = np.arange(max(samples, 2, 1 + config.negative_images))
        images = made_up_images(config, facts, samples)
        return RetrievalBatch(images, rows, rows, *texts, own, captioned, own)

    @classmethod
    def least_samples(cls, config: RetrievalConfig) -> int:
        # Hard captions and images are those of other samples of the same pass.
        return 1 + max(config.loss.itm > 0, config.negative_images)


def make_gallery(
    root: str | Path,
    split: str,
    tokenizer: PreTrainedTokenizerBase,
    preprocessing: Preprocessing,
    images: str | Path | None = None,
    corruption: Corruption | None = None,
) -> CaptionGallery:
    """A split of a prepared folder to rank, with inputs made as ``preprocessing`` says.

    Args:
        images: folder of the raw images; None looks where the folder's manifest says.
        corruption: of every image.
    """
    transform = preprocessing.transform(corruption=corruption)
    return CaptionGallery(root, split, tokenizer, preprocessing.max_tokens, transform, images)
