"""A training step of pretraining on pairs: batch, forward pass with all losses, backward pass, optimizer.

The naive side makes two complete passes, as METER: masked captions with their images, whose decoder guesses a word at
every token, and whole captions with true or false images, which are looked at anew. Ours shares the first look, leaves
out what nobody reads in the last fusion layer, and guesses hidden words alone. Both have the same false pairs.
Shapes: B captions, T tokens.
"""

from functools import partial
from typing import Any, Literal, NamedTuple, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from torch import Tensor

from benchmarks.contest import NAIVE, OURS, compare_with_fp32, measure_cases
from benchmarks.contest_tables import show
from benchmarks.measure import Turns
from benchmarks.naive import VQA_TOKENS, naive_forward, naive_words, pad
from benchmarks.session import Common, run_session
from benchmarks.synthetic import PAD, VOCABULARY, SyntheticImages, caption_lengths, random_model, random_text
from benchmarks.training import Trainee, in_precision, make_optimizers, nowhere, training_case
from vl_absvit.config import PairLossConfig, PairsConfig, Precision
from vl_absvit.data.collate import distinct_images, pad_texts, wording
from vl_absvit.data.pairs import SHOWN, TRUE, PairBatch
from vl_absvit.tasks.pairs import PairsTask, pairs_of, texts_of

SHARE = 0.15


class NaivePairs(NamedTuple):
    """Captions of two passes."""

    images: Tensor  # (B, 3, H, W)
    token_ids: Tensor  # (B, T)
    is_token: Tensor  # (B, T)
    hidden_ids: Tensor  # (B, T)
    answers: Tensor  # (B, T), -100 where no word is hidden
    text_row: Tensor  # (B,), of the caption that a pair is shown with
    image_row: Tensor  # (B,), and of the image
    is_match: Tensor  # (B,) long


def run(*, size: Literal["tiny", "base"], images: int, **common: Unpack[Common]) -> None:
    """Measure, print the tables, write the JSON; the arguments are the command's options.

    Raises: as ``run_session``.
    """
    told = {"benchmark": "train-pairs", "size": size, "images": images}
    run_session(told, partial(measure, size, images), compare_with_fp32, show, **common)


def measure(size: Literal["tiny", "base"], images: int, turns: Turns) -> dict[str, Any]:
    """Everything about one precision."""
    model = random_model(size, {"kind": "pretraining", "vocab_size": VOCABULARY}).to(turns.device)
    task = PairsTask.without_data(pairs_config(turns.precision), model)
    sides = make_trainees(task, made_up_pairs(images, model.vision.image_size[0]), turns.precision)
    optimizers = make_optimizers(task, sides)
    case = training_case(f"{images} captions", 1, task, sides, optimizers, turns.precision)
    return measure_cases([case], turns)


def pairs_config(precision: Precision = "fp32") -> PairsConfig:
    """METER's two losses, and the decoders'."""
    return PairsConfig(loss=PairLossConfig(prior=0.0), **nowhere(precision))


def made_up_pairs(number: int, resolution: int, words: int = VOCABULARY, seed: int = 0) -> PairBatch:
    """Captions as long as real ones with hidden words, each with an image of its own."""
    generator = np.random.default_rng(seed)
    texts = [random_text(length, generator, words) for length in caption_lengths(number, generator)]
    token_ids, is_token = pad_texts(texts, PAD)
    hidden_ids, positions = token_ids.clone(), []
    for row, text in enumerate(texts):
        count = max(1, int(SHARE * (len(text) - 2) + generator.random()))
        for place in sorted(1 + generator.choice(len(text) - 2, count, replace=False)):
            positions.append(row * token_ids.shape[1] + int(place))
    flat = torch.tensor(positions)
    hidden_ids.view(-1)[flat] = words - 1
    images = SyntheticImages(number, resolution, seed).__getitems__(range(number))
    ids, wordings = np.arange(number), np.array([wording(text) for text in texts])
    return PairBatch(
        **distinct_images(list(enumerate(images)))._asdict(), token_ids=token_ids, is_token=is_token,
        hidden_ids=hidden_ids, positions=flat, answers=token_ids.view(-1)[flat], words=torch.from_numpy(wordings),
        false_index=torch.arange(0), other_ids=token_ids[:0], is_other=is_token[:0], caption_ids=ids,
        captioned_ids=ids, wordings=wordings, shown=np.resize(SHOWN, number), sources=0 * ids, texts=ids,
        said=[ids[:0]] * number,
    )  # fmt: skip


def make_trainees(task: PairsTask, batch: PairBatch, precision: Precision) -> dict[str, Trainee]:
    """Both sides on the same captions."""
    model, device = task.model, next(task.model.parameters()).device
    batch = send_to_device(batch, device)
    naive = naive_pairs(task, batch)
    words, read = (in_precision(partial(each, model), precision, device) for each in (naive_words, naive_forward))
    return {
        NAIVE: Trainee(lambda: naive, lambda of_naive: pair_losses(words, read, of_naive, task.config)),
        OURS: Trainee(lambda: batch, lambda of_ours: task.losses(model, of_ours)),
    }


@torch.no_grad()
def naive_pairs(task: PairsTask, batch: PairBatch) -> NaivePairs:
    """The captions of a batch, padded as METER's, with the false pairs that ours draws."""
    model, captions = task.model.eval(), len(batch.image_index)
    texts, first = model.encode_texts(*texts_of(batch)), model.vision.look_once(batch.images)
    shown = pairs_of(texts, batch, task.draw_false(model, texts, first, batch))
    assert shown.image_index is not None, "pairs say their images"
    priors = shown.texts.prior
    assert priors is not None and texts.prior is not None, "the dual encoder compares priors"
    text_row = (priors[captions:].unsqueeze(1) - texts.prior[:captions]).abs().sum(dim=-1).argmin(dim=1)
    token_ids, is_token = pad(model, batch.token_ids, batch.is_token, VQA_TOKENS)
    hidden_ids, _ = pad(model, batch.hidden_ids, batch.is_token, VQA_TOKENS)
    length = batch.token_ids.shape[1]
    answers = torch.full_like(token_ids, -100)
    answers[batch.positions // length, batch.positions % length] = batch.answers
    is_match = torch.from_numpy((batch.shown == TRUE).astype(np.int64)).to(token_ids.device)
    return NaivePairs(
        batch.images[batch.image_index], token_ids, is_token, hidden_ids, answers, text_row,
        shown.image_index[captions:], is_match,
    )  # fmt: skip


def pair_losses(words: Any, read: Any, batch: NaivePairs, config: PairsConfig) -> dict[str, Tensor]:
    """Weighted terms of two complete passes.

    Args:
        words, read: ``naive_words`` and ``naive_forward`` of the model.
    """
    guessed = words(batch.images, batch.hidden_ids, batch.is_token)
    judged = read(batch.images[batch.image_row], batch.token_ids[batch.text_row], batch.is_token[batch.text_row])
    loss = config.loss
    return {
        "mlm": loss.mlm * F.cross_entropy(guessed.logits.flatten(0, 1), batch.answers.flatten(), ignore_index=-100),
        "itm": loss.itm * F.cross_entropy(judged.logits, batch.is_match),
        "reconstruction": loss.reconstruction * (guessed.reconstruction + judged.reconstruction) / 2,
    }
