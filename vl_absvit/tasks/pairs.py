"""Pretraining on pairs of text and image: hidden words are guessed, and true pairs told from false ones.

METER's objectives (Dou et al., CVPR 2022, section 3) with one first look for both: the second look at a masked
caption's image is steered by what is left of the caption, that of image-text matching by the whole caption. The prior
loss compares whole captions with the images of the global batch; from its similarities hard false images and captions
are drawn. Shapes: B captions, I distinct images, T tokens, M hidden tokens, V words of the vocabulary.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from vl_absvit.config import PairsConfig
from vl_absvit.data.identity import content_of
from vl_absvit.data.pairs import FALSE_CAPTION, FALSE_IMAGE, SHOWN, TRUE, PairBatch, PairDataset, PairFolder
from vl_absvit.data.records import CAPTIONS, read_manifest
from vl_absvit.data.transfer import to_device
from vl_absvit.distributed import gather_objects
from vl_absvit.evaluation.pair_metrics import JudgedCaptions, pair_scores
from vl_absvit.losses import itm_loss, masked_word_losses
from vl_absvit.models.architecture import text_config
from vl_absvit.models.looks import FirstLook, VisualEncoder
from vl_absvit.models.strength import is_steerable, strength
from vl_absvit.models.token_norms import statistics_kept
from vl_absvit.models.vl_model import HiddenWords, Pairs, Texts, VLAbSViT
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.base import About, decoder_losses_of, decoder_terms, selection_loader
from vl_absvit.tasks.facts import Facts, sum_of_counts
from vl_absvit.tasks.hard_negatives import Draw
from vl_absvit.tasks.prior_losses import (
    Compared,
    StepPriorLoss,
    Wordings,
    compared,
    global_prior_loss,
    looks_up_to,
    step_prior_losses,
)
from vl_absvit.tasks.retrieval_pairs import (
    Found,
    HardNegatives,
    Needed,
    find_hard,
    join_texts,
    step_hard_negatives,
    take_hard,
)
from vl_absvit.tasks.vision_language import VisionLanguageTask, made_up_images, made_up_texts

log = logging.getLogger(__name__)


class StepAhead(NamedTuple):
    """Facts about the whole optimizer step that a forward pass needs where the step has several."""

    prior: StepPriorLoss | None
    hard: HardNegatives
    hidden: float  # hidden tokens of all processes and passes, over passes and processes


class PairsTask(VisionLanguageTask):
    """Pretraining on pairs; ``Task`` describes the methods."""

    kind, head_kind = "pairs", "pretraining"
    about = About("pretraining on pairs of text and image", None)
    config_class = PairsConfig
    select_metric = "accuracy"

    def __init__(self, config: PairsConfig, checkpoint: Path | None = None) -> None:
        super().__init__(config, checkpoint)
        if checkpoint is None:
            self.training["start"] = _further_links(self.config, self.training["start"])

    def describe_data(self) -> dict[str, Any]:
        described = super().describe_data()
        for source in self.config.sources:
            found = content_of(source.data, [*source.splits, *([source.select_split] if source.select_split else [])])
            described["content"] |= {f"{Path(source.data).name}/{split}": hashed for split, hashed in found.items()}
        return described

    def read_data(self) -> tuple[PairDataset, PairDataset | None]:
        config, data = self.config, self.config.data
        self.num_labels = text_config(config.text, self.tokenizer).vocab_size
        folders = _folders(config, training=True)
        weights = [config.weight, *(source.weight for source in config.sources)]
        train_set = PairDataset(
            folders, self.tokenizer, config.text.max_tokens, self.preprocessing.transform(data.augmentation),
            share=config.hidden_share, weights=weights, seed=config.run.seed,
        )  # fmt: skip
        repeats = train_set.mixture.repeats(config.optim.batch_size, config.optim.epochs)
        for folder, times in zip(folders, repeats, strict=True):
            log.info("%s is read %.2f times", folder.root, times)
        log.info("hidden: %.1f %% of the words' tokens", 100 * train_set.hidden_share())
        held_out = _folders(config, training=False)
        if not held_out:
            return train_set, None
        self._selected = [Path(folder.root).name for folder in held_out]
        return train_set, PairDataset(
            held_out, self.tokenizer, config.text.max_tokens, self.preprocessing.transform(),
            share=config.hidden_share, seed=config.run.seed, evaluation=True,
        )  # fmt: skip

    @classmethod
    def head(cls, config: PairsConfig, labels: int | None) -> dict[str, Any]:
        return {"kind": "pretraining", "vocab_size": labels}

    @classmethod
    def sentence(cls, config: PairsConfig) -> str:
        return config.prior.sentence  # of every encoder, for the dual encoder

    @property
    def _draw(self) -> Draw:
        prior = self.config.prior
        return Draw(True, 1, prior.pool, prior.temperature, self.config.run.seed)

    def wordings(self, batch: PairBatch) -> Wordings:
        """Images of captions of the same words are no negatives."""
        return Wordings(batch.words, torch.ones_like(batch.words, dtype=torch.bool))

    def _compared(self, batch: PairBatch, prior: Tensor, looks: Any) -> Compared:
        own = compared(self.model.vision, prior, looks, batch.image_index, batch.image_ids, "first")
        return own._replace(wordings=self.wordings(batch))

    @torch.no_grad()
    def look_ahead(self, batches: Sequence[PairBatch], seeds: Sequence[int]) -> list[StepAhead]:
        vision, passes = self.model.vision, []
        with arithmetic(self.config.run.precision, batches[0].images.device), statistics_kept():
            for batch, seed in zip(batches, seeds, strict=True):
                torch.manual_seed(seed)
                priors = self.model.encode_texts(*texts_of(batch)).prior
                assert priors is not None, "the dual encoder compares priors"
                prior = priors[: len(batch.image_index)]
                looks = looks_up_to("first", vision, batch.images, prior, batch.image_index)
                passes.append(self._compared(batch, prior, looks))
        hard = step_hard_negatives(
            passes, batches, self._draw,
            candidates=1, pad_id=self.model.text.roberta.config.pad_token_id, needed=list(map(_needed, batches)),
        )  # fmt: skip
        losses: Sequence[StepPriorLoss | None] = [None] * len(batches)
        if self.config.loss.prior:
            losses = step_prior_losses(passes, self.config.prior)
        hidden = _hidden_per_pass(batches)
        return [StepAhead(loss, of_pass, hidden) for loss, of_pass in zip(losses, hard, strict=True)]

    def losses(self, model: nn.Module, batch: PairBatch, ahead: StepAhead | None = None) -> dict[str, Tensor]:
        weights = self.config.loss

        def pair(texts: Texts, first: FirstLook) -> tuple[FirstLook, Pairs]:
            whole: Any = getattr(model, "module", model)  # without a wrapper such as DDP
            if ahead is None:
                hard = self.draw_false(whole, texts, first, batch)
            else:
                hard = take_hard(whole, first, ahead.hard)
            return hard.first, pairs_of(texts, batch, hard)

        with arithmetic(self.config.run.precision, batch.images.device):
            needed = decoder_losses_of(self.config, self.model.vision)
            out = model(batch.images, *texts_of(batch), pair=pair, **needed)
        hidden = _hidden_per_pass([batch]) if ahead is None else ahead.hidden
        assert out.words is not None and out.prior is not None, "words are guessed, and priors compared"
        is_match = to_device(torch.from_numpy(batch.shown == TRUE), out.logits.device)
        terms = {
            "mlm": weights.mlm * masked_word_losses(out.words, batch.answers).sum() / max(hidden, 1e-9),
            "itm": weights.itm * itm_loss(out.logits, is_match),
        }
        if weights.prior:
            first = out.looks.first
            looks = out.looks._replace(first=first._replace(tokens=first.tokens[: len(batch.images)]))
            own_pass = self._compared(batch, out.prior, looks)
            step = None if ahead is None else ahead.prior
            loss = global_prior_loss(own_pass, self.config.prior) if step is None else step.at(own_pass)
            terms["prior"] = weights.prior * loss
        return terms | decoder_terms(self.config, out)

    def draw_false(self, model: VLAbSViT, texts: Texts, first: FirstLook, batch: PairBatch) -> Found:
        """False captions and images where a step is one pass.

        Args:
            texts: captions, and then the same with hidden words, (2B, T).
            first: at the batch's images.
        """
        own = texts.take(slice(len(batch.image_index)))
        return find_hard(model, own, first, batch, self._draw, _needed(batch))

    @torch.no_grad()
    def evaluate(self, model: VLAbSViT) -> dict[str, float] | None:
        """Hidden words guessed and pairs told apart on held-out captions, always the same words and pairs.

        Every caption is judged with its image and with a false one. Its hidden words are guessed as the model was
        trained, with the prior of another caption, and without a top-down signal. ``pair_metrics`` has the scores.
        """
        if self.select_set is None:
            return None
        self.model.vision.fold()
        device, judged = next(model.parameters()).device, []
        with arithmetic(self.config.run.precision, device):
            for batch in selection_loader(self.config, self.select_set):
                on_device = send_to_device(batch, device, non_blocking=True)
                judged += judge_captions(model, self.model.vision, on_device)
        captions = JudgedCaptions(*np.array(gather_objects(judged)).T)
        scores = pair_scores(captions)
        if len(self._selected) > 1:
            for number, name in enumerate(self._selected):
                of_source = pair_scores(captions.of(number))
                scores |= {f"{metric}/{name}": value for metric, value in of_source.items()}
        return scores

    @classmethod
    def find_facts(cls, config: PairsConfig) -> Facts:
        facts = super().find_facts(config)
        assert facts.text is not None, "there is a text encoder"
        return facts._replace(labels=facts.text.vocab_size)

    @classmethod
    def data_sizes(cls, config: PairsConfig) -> tuple[int, None]:
        of_source = [config.data, *(replace(config.data, root=each.data, train_splits=each.splits, select_split=None)
                                    for each in config.sources)]  # fmt: skip
        return sum(sum_of_counts(data, CAPTIONS, "captions", "without_image") for data in of_source), None

    @classmethod
    def made_up_batch(cls, config: PairsConfig, facts: Facts, samples: int) -> PairBatch:
        rows, own = torch.arange(samples), np.arange(samples)
        token_ids, is_token = made_up_texts(config, facts, samples)
        hidden = math.ceil(samples * token_ids.shape[1] * config.hidden_share)
        return PairBatch(
            made_up_images(config, facts, samples), rows, rows, token_ids, is_token, token_ids,
            positions=torch.arange(hidden), answers=token_ids.flatten()[:hidden], words=rows,
            false_index=rows[:0], other_ids=token_ids[:0], is_other=is_token[:0],
            caption_ids=own, captioned_ids=np.arange(max(samples, 2)), wordings=own,
            shown=np.resize(SHOWN, samples), sources=0 * own, texts=own, said=[own[:0]] * samples,
        )  # fmt: skip

    @classmethod
    def least_samples(cls, config: PairsConfig) -> int:
        return 2  # false images and captions are those of other samples


def pairs_of(texts: Texts, batch: PairBatch, hard: Found) -> Pairs:
    """Masked captions with their images, then captions and images as they are shown in image-text matching, 2B pairs.

    Args:
        texts: the captions, then the same with hidden words, (2B, T).
        hard: false captions and images of those that need one.
    """
    captions, length = len(batch.image_index), batch.token_ids.shape[1]
    own, device = texts.take(slice(captions)), texts.tokens.device
    rows, about, needed = np.arange(captions), batch.image_index.clone(), _needed(batch)
    shown = own
    if hard.captions is not None:
        shown = join_texts(own, hard.captions)
        rows[needed.captions] = captions + np.arange(len(needed.captions or ()))
    if hard.images is not None:
        false = needed.images or []
        about[to_device(torch.tensor(false, dtype=torch.long), device)] = hard.images[: len(false)]
    shown = shown.take(to_device(torch.from_numpy(rows), device))
    together = join_texts(texts.take(slice(captions, None)), shown)
    longer = together.is_token.shape[1]
    positions = batch.positions // length * longer + batch.positions % length
    return Pairs(together, torch.cat([batch.image_index, about]), HiddenWords(captions, positions), compared=own.prior)


def texts_of(batch: PairBatch) -> tuple[Tensor, Tensor]:
    """Whole captions and then those with hidden words, (2B, T), and their mask."""
    return torch.cat([batch.token_ids, batch.hidden_ids]), batch.is_token.repeat(2, 1)


def _needed(batch: PairBatch) -> Needed:
    return Needed(*(np.flatnonzero(batch.shown == how).tolist() for how in (FALSE_CAPTION, FALSE_IMAGE)))


def _hidden_per_pass(batches: Sequence[PairBatch]) -> float:
    """Hidden tokens in the passes of all processes, over the number of these passes."""
    counts = gather_objects([len(batch.answers) for batch in batches])
    return sum(counts) / len(counts)


def judge_captions(model: nn.Module, vision: VisualEncoder, batch: PairBatch) -> list[tuple[float, ...]]:
    """Of every caption of a batch, (B,), what ``JudgedCaptions`` has.

    Args:
        model: wrapped or not.
        vision: its visual encoder.
        batch: of evaluation.
    """
    captions, length = len(batch.image_index), batch.token_ids.shape[1]
    own_rows, guesses = batch.image_index, 1 + vision.uses_prior

    def pair(texts: Texts, first: FirstLook) -> tuple[FirstLook, Pairs]:
        own, masked, others = (texts.take(slice(start, start + captions)) for start in range(0, 3 * captions, captions))
        to_guess = [masked, masked._replace(prior=others.prior)][:guesses]
        positions = torch.cat([batch.positions + number * captions * length for number in range(guesses)])
        about = torch.cat([*[own_rows] * guesses, own_rows, batch.false_index])
        return first, Pairs(join_texts(*to_guess, own, own), about, HiddenWords(guesses * captions, positions))

    together, their_mask = texts_of(batch)
    out = model(
        batch.images,
        torch.cat([together, batch.other_ids]),
        torch.cat([their_mask, batch.is_other]),
        pair=pair,
    )
    assert out.words is not None and isinstance(out.logits, Tensor), "words are guessed and pairs judged"
    words, *with_other_prior = out.words.chunk(guesses)
    of_caption = batch.positions // length

    def summed(values: Tensor) -> Tensor:
        return torch.zeros(captions, device=values.device).index_add_(0, of_caption, values.float())

    def right(guessed: Tensor) -> Tensor:
        return summed(guessed.argmax(dim=1) == batch.answers)

    scores = (out.logits[:, 1] - out.logits[:, 0]).float()
    unknown = torch.full_like(scores[:captions], math.nan)
    columns = [
        summed(torch.ones_like(batch.positions)),
        summed(masked_word_losses(words, batch.answers)),
        right(words),
        right(_words_without_prior(model, vision, batch)) if is_steerable(vision.variant) else unknown,
        right(with_other_prior[0]) if with_other_prior else unknown,
        *scores.split(captions),
    ]
    rows = torch.stack(columns, dim=1).tolist()  # the host waits for all of them once
    return [(source, *row) for source, row in zip(batch.sources.tolist(), rows, strict=True)]


def _words_without_prior(model: nn.Module, vision: VisualEncoder, batch: PairBatch) -> Tensor:
    """Logits of the hidden words, (M, V), where the second look has no top-down signal."""

    def pair(texts: Texts, first: FirstLook) -> tuple[FirstLook, Pairs]:
        judged = texts.take(slice(1))  # the head judges something in every pass
        about = torch.cat([batch.image_index, batch.image_index[:1]])
        return first, Pairs(join_texts(texts, judged), about, HiddenWords(len(batch.image_index), batch.positions))

    with strength(vision, 0.0):
        return model(batch.images, batch.hidden_ids, batch.is_token, pair=pair).words


def _folders(config: PairsConfig, training: bool) -> list[PairFolder]:
    """The folders to train on, or those with a split to evaluate."""
    data = config.data
    every: list[tuple[str, tuple[str, ...], str | None, str | None]] = [
        (data.root, data.train_splits, data.select_split, data.images)
    ]
    every += [(source.data, source.splits, source.select_split, source.images) for source in config.sources]
    return [
        PairFolder(root, splits if training else (select or "",), place, images)
        for place, (root, splits, select, images) in enumerate(every)
        if training or select is not None
    ]


def _further_links(config: PairsConfig, start: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A history with a link for each further source, so that whoever reads it knows what a model has seen."""
    for source in config.sources:
        manifest = read_manifest(source.data)
        start = {
            "task": f"{PairsTask.kind}, together with what follows",
            "dataset": manifest.get("dataset", manifest.get("kind")),
            "splits": list(source.splits),
            "selected_on": source.select_split,
            "sources": manifest.get("sources", {}),
            "vision_weights": None,
            "text_model": None,
            "start": start,
        }
    return start
