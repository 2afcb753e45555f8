"""Image-text retrieval: captions, the whole model, its losses, and recall on the selection split.

Shapes: B samples (one caption of an image each), C candidate captions per sample, the own one first, I distinct images,
T tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from vl_absvit.cli import progress
from vl_absvit.config import RetrievalConfig
from vl_absvit.data.captions import CaptionDataset, CaptionGallery
from vl_absvit.data.collate import RetrievalBatch
from vl_absvit.data.pictures import check_disjoint
from vl_absvit.evaluation.retrieval_metrics import retrieval_recalls
from vl_absvit.losses import itm_loss, ranking_loss
from vl_absvit.models.absvit import FirstLook
from vl_absvit.models.build import build_retrieval_model, image_statistics
from vl_absvit.models.vl_model import Pairs, Texts
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.base import say_what_is_left_out
from vl_absvit.tasks.checkpoint import (
    Preprocessing,
    VLCheckpoint,
    check_same_tokenizer,
    describe_data,
    describe_training,
    save_parts,
    tokenizer_of,
)
from vl_absvit.tasks.decoder_fit import decoder_fit
from vl_absvit.tasks.going_on import check_same_data, history, model_as_saved, without_sources
from vl_absvit.tasks.hard_captions import HardCaptions, hard_captions, join, step_hard_captions
from vl_absvit.tasks.prior import StepPriorLoss, compared, global_prior_loss, look_as_far_as, step_prior_losses
from vl_absvit.tasks.retrieval_scores import score_gallery
from vl_absvit.tasks.sources import fetched
from vl_absvit.tasks.start_config import say_other_use


class StepAhead(NamedTuple):
    """What a forward pass has to know of the whole optimizer step, where that has several."""

    prior: StepPriorLoss | None
    hard: HardCaptions | None


class RetrievalTask:
    """Finetuning on retrieval; see ``tasks.base.Task`` for what each method owes the loop."""

    select_metric = "mean_recall"

    def __init__(self, config: RetrievalConfig, checkpoint: Path | None = None) -> None:
        """
        Args:
            checkpoint: of this run, to go on from.
        """
        config = self.config = fetched(config) if checkpoint is None else without_sources(config, checkpoint)
        data, text = config.data, config.text
        self.tokenizer = tokenizer_of(text)
        self.preprocessing = Preprocessing(config.vision.image_size, *image_statistics(config.vision), text.max_tokens)
        self.train_set = CaptionDataset(
            data.root, data.train_splits, self.tokenizer, text.max_tokens,
            self.preprocessing.transform(data.augmentation), config.negatives, config.run.seed,
            data.images,
        )  # fmt: skip
        self.select_set = None
        if data.select_split is not None:
            self.select_set = make_gallery(
                data.root, data.select_split, self.tokenizer, self.preprocessing, data.images
            )
            check_disjoint(self.train_set, self.select_set)
        self._data = describe_data(config)
        torch.manual_seed(config.run.seed)
        if checkpoint is None:
            self.training = describe_training(config, self._data)
            if config.from_checkpoint is not None:
                check_same_tokenizer(config.from_checkpoint, self.tokenizer)
            fit = decoder_fit(self.train_set, self.preprocessing.transform(), config.run.seed)
            self.model = build_retrieval_model(config, self.tokenizer, fit)
            say_other_use(config.from_checkpoint, self.model.architecture)
        else:
            self.training, self.model = history(checkpoint, self._data), model_as_saved(config, checkpoint)
        say_what_is_left_out(config, self.model, has_prior=True)

    @torch.no_grad()
    def look_ahead(self, batches: Sequence[RetrievalBatch], seeds: Sequence[int]) -> list[StepAhead]:
        weights, config, nothing = self.config.loss, self.config.prior, [None] * len(batches)
        look = config.look if weights.prior else "first"
        passes, first_looks = [], []
        if weights.prior or weights.itm:
            with arithmetic(self.config.run.precision, batches[0].images.device):
                for batch, seed in zip(batches, seeds, strict=True):
                    torch.manual_seed(seed)
                    prior = self.model.encode_texts(batch.token_ids, batch.is_token).prior[self._own_captions(batch)]
                    about = batch.image_index, batch.image_ids
                    looks = look_as_far_as(look, self.model.vision, batch.images, prior, batch.image_index)
                    passes.append(compared(prior, looks, *about, look))
                    first_looks.append(compared(prior, looks, *about, "first"))
        hard = nothing
        if weights.itm:
            hard = step_hard_captions(
                first_looks, batches,
                candidates=1 + self.config.negatives, pad_id=self.model.text.roberta.config.pad_token_id,
                pool=config.pool, temperature=config.temperature, seed=self.config.run.seed,
            )  # fmt: skip
        priors = step_prior_losses(passes, config) if weights.prior else nothing
        return [StepAhead(*each) for each in zip(priors, hard, strict=True)]

    def _own_captions(self, batch: RetrievalBatch) -> Tensor:
        """Rows of the images' own captions among the candidates."""
        candidates = 1 + self.config.negatives
        return torch.arange(len(batch.image_index), device=batch.images.device) * candidates

    def losses(self, model: nn.Module, batch: RetrievalBatch, ahead: StepAhead | None = None) -> dict[str, Tensor]:
        weights, prior = self.config.loss, self.config.prior
        samples, candidates, own = len(batch.image_index), 1 + self.config.negatives, self._own_captions(batch)

        def pair(texts: Texts, first: FirstLook) -> Pairs:
            """Every image with its candidates and, for matching, with a hard caption of the global batch."""
            about = batch.image_index.repeat_interleave(candidates)
            if not weights.itm:
                return Pairs(texts, about)
            if ahead is None:
                hard = hard_captions(
                    texts.take(own), first, batch,
                    pool=prior.pool, temperature=prior.temperature, seed=self.config.run.seed,
                )  # fmt: skip
            else:
                # The random numbers that follow have to be those that were drawn in looking ahead.
                device = first.tokens.device
                with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
                    hard = getattr(model, "module", model).encode_texts(*ahead.hard)
            return Pairs(join(texts, hard), torch.cat([about, batch.image_index]))

        with arithmetic(self.config.run.precision, batch.images.device):
            out = model(
                batch.images, batch.token_ids, batch.is_token, pair=pair, need_reconstruction=weights.reconstruction > 0
            )
        terms = {}
        if weights.ranking:
            scores = out.logits.rank[: samples * candidates].unflatten(0, (samples, candidates))
            terms["ranking"] = weights.ranking * ranking_loss(scores)
        if weights.itm:
            logits = torch.cat([out.logits.itm[own], out.logits.itm[samples * candidates :]])
            is_match = torch.arange(2 * samples, device=logits.device) < samples
            terms["itm"] = weights.itm * itm_loss(logits, is_match)
        if weights.prior:
            looks = out.looks
            if prior.look == "second":
                looks = looks._replace(second=looks.second._replace(tokens=looks.second.tokens[own]))
            mine = compared(out.prior[own], looks, batch.image_index, batch.image_ids, prior.look)
            terms["prior"] = weights.prior * (global_prior_loss(mine, prior) if ahead is None else ahead.prior.at(mine))
        if out.reconstruction is not None:
            terms["reconstruction"] = weights.reconstruction * out.reconstruction
        return terms

    def evaluate(self, model: nn.Module) -> dict[str, float] | None:
        """Recalls on the selection split in percent, the whole model ranking the dual encoder's shortlist."""
        if self.select_set is None:
            return None
        size, device = self.config.select_shortlist, next(model.parameters()).device
        with arithmetic(self.config.run.precision, device), progress() as bar:
            scores = score_gallery(
                model, self.select_set, look="second", size=size, num_workers=self.config.data.num_workers, bar=bar
            )
        recalls = retrieval_recalls(scores.pairs, self.select_set.image_of_caption, scores.similarity, size)
        return {"mean_recall": sum(recalls.values()) / len(recalls)} | recalls

    def lr_of(self) -> dict[str, float]:
        rates = self.config.optim.learning_rates
        lr_of = {"vision": rates.vision, "text": rates.text, "fusion": rates.fusion, "head": rates.head}
        if self.model.vision.feeds_back:
            lr_of["vision.decoders"] = rates.feedback
        return lr_of | {"prior": rates.prior}

    def save(self, folder: Path) -> None:
        save_parts(folder, VLCheckpoint(self.model, self.tokenizer, self.preprocessing, self.training))

    def check_saved(self, folder: Path) -> None:
        check_same_data(self._data, self.config.data.root, folder)


def make_gallery(
    root: str | Path,
    split: str,
    tokenizer: PreTrainedTokenizerBase,
    preprocessing: Preprocessing,
    images: str | Path | None = None,
) -> CaptionGallery:
    """A split of a prepared folder to rank, with inputs made as ``preprocessing`` says.

    Args:
        images: folder of the raw images; None looks where the folder's manifest says.
    """
    return CaptionGallery(root, split, tokenizer, preprocessing.max_tokens, preprocessing.transform(), images)
