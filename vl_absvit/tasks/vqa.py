"""Visual question answering: prepared data, the whole model, its losses, and the official accuracy."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from vl_absvit.config import VQAConfig
from vl_absvit.data.answers import AnswerVocabulary, normalise_answer
from vl_absvit.data.collate import VQABatch
from vl_absvit.data.image_loader import check_disjoint
from vl_absvit.data.loaders import evaluation_loader, samples_per_pass
from vl_absvit.data.records import read_annotations, read_vocabulary
from vl_absvit.data.stream_loader import questions_per_shard
from vl_absvit.data.streaming import StreamedQuestions
from vl_absvit.data.vqa import VQADataset
from vl_absvit.distributed import gather_objects, rank, world_size
from vl_absvit.errors import InputError
from vl_absvit.evaluation.vqa_accuracy import vqa_scores
from vl_absvit.losses import vqa_loss
from vl_absvit.models.build import build_vqa_model, image_statistics
from vl_absvit.models.labels import LabelMatch, match_labels
from vl_absvit.models.vl_model import VLAbSViT
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.base import (
    decoder_losses_of,
    decoder_terms,
    leave_at_rest,
    new_run_from,
    say_what_is_left_out,
)
from vl_absvit.tasks.checkpoint import (
    Preprocessing,
    VLCheckpoint,
    check_same_tokenizer,
    describe_data,
    describe_training,
    head_of,
    load_parts,
    save_parts,
    tokenizer_of,
)
from vl_absvit.tasks.decoder_fit import decoder_fit
from vl_absvit.tasks.going_on import check_same_data, history, model_as_saved, without_sources
from vl_absvit.tasks.prior import StepPriorLoss, compared, global_prior_loss, look_as_far_as, step_prior_losses
from vl_absvit.tasks.sources import fetched
from vl_absvit.tasks.start_config import say_other_use

log = logging.getLogger(__name__)

ANSWERS = "answers.json"


class VQACheckpoint(NamedTuple):
    """Everything that answering a question needs."""

    model: VLAbSViT
    tokenizer: PreTrainedTokenizerBase
    preprocessing: Preprocessing
    training: dict[str, Any]
    vocabulary: AnswerVocabulary


class VQATask:
    """Finetuning on VQA; see ``tasks.base.Task`` for what each method owes the loop."""

    select_metric = "accuracy"

    def __init__(self, config: VQAConfig, checkpoint: Path | None = None) -> None:
        """
        Args:
            checkpoint: of this run, to go on from.
        """
        config = self.config = fetched(config) if checkpoint is None else without_sources(config, checkpoint)
        data, text = config.data, config.text
        self.vocabulary = read_vocabulary(data.root)
        self.tokenizer = tokenizer_of(text)
        self.preprocessing = Preprocessing(config.vision.image_size, *image_statistics(config.vision), text.max_tokens)
        self.train_set = self._training_set()
        self.select_set, self._annotations = None, []
        if data.select_split is not None:
            self.select_set = make_dataset(
                data.root, [data.select_split], self.tokenizer, len(self.vocabulary), self.preprocessing,
                images=data.images,
            )  # fmt: skip
            check_disjoint(self.train_set, self.select_set)
            answerable = set(self.select_set.question_ids.tolist())
            annotations = read_annotations(data.root, [data.select_split])
            self._annotations = [record for record in annotations if record["question_id"] in answerable]
        self._data = describe_data(config)
        torch.manual_seed(config.run.seed)
        if checkpoint is None:
            self.training = describe_training(config, self._data)
            answers = None
            if config.from_checkpoint is not None:
                check_same_tokenizer(config.from_checkpoint, self.tokenizer)
                answers = match_answers(config.from_checkpoint, self.vocabulary)
            fit = decoder_fit(self.train_set, self.preprocessing.transform(), config.run.seed)
            self.model = build_vqa_model(config, len(self.vocabulary), self.tokenizer, answers, fit)
            say_other_use(config.from_checkpoint, self.model.architecture)
        else:
            self.training, self.model = history(checkpoint, self._data), model_as_saved(config, checkpoint)
        say_what_is_left_out(config, self.model, has_prior=self.model.prior is not None)
        leave_at_rest(config, self.model, self.lr_of())

    def _training_set(self) -> VQADataset | StreamedQuestions:
        config, data, preprocessing = self.config, self.config.data, self.preprocessing
        if data.stream is None:
            return make_dataset(
                data.root, data.train_splits, self.tokenizer, len(self.vocabulary), preprocessing,
                augmentation=data.augmentation, training=True, seed=config.run.seed, images=data.images,
            )  # fmt: skip
        stream = StreamedQuestions(
            data.stream, data.train_splits, self.vocabulary, self.tokenizer, preprocessing.max_tokens,
            preprocessing.transform(data.augmentation), config.run.seed,
        )  # fmt: skip
        questions_per_shard(len(stream.shards), config.optim.batch_size)  # complains now rather than after the model
        return stream

    @torch.no_grad()
    def look_ahead(self, batches: Sequence[VQABatch], seeds: Sequence[int]) -> list[StepPriorLoss | None]:
        if not self.config.loss.prior or self.model.prior is None:
            return [None] * len(batches)
        passes = []
        with arithmetic(self.config.run.precision, batches[0].images.device):
            for batch, seed in zip(batches, seeds, strict=True):
                torch.manual_seed(seed)
                texts = self.model.encode_texts(batch.token_ids, batch.is_token)
                index = batch.image_index
                looks = look_as_far_as(self.config.prior.look, self.model.vision, batch.images, texts.prior, index)
                passes.append(compared(texts.prior, looks, index, batch.image_ids, self.config.prior.look))
        return step_prior_losses(passes, self.config.prior)

    def losses(self, model: nn.Module, batch: VQABatch, step_prior: StepPriorLoss | None = None) -> dict[str, Tensor]:
        weights, prior = self.config.loss, self.config.prior
        with arithmetic(self.config.run.precision, batch.images.device):
            out = model(
                batch.images,
                batch.token_ids,
                batch.is_token,
                batch.image_index,
                **decoder_losses_of(self.config, self.model.vision),
            )
        terms = {"vqa": vqa_loss(out.logits, batch.soft_answers)}
        if weights.prior and out.prior is not None:
            mine = compared(out.prior, out.looks, batch.image_index, batch.image_ids, prior.look)
            terms["prior"] = weights.prior * (
                global_prior_loss(mine, prior) if step_prior is None else step_prior.at(mine)
            )
        return terms | decoder_terms(self.config, out)

    def evaluate(self, model: nn.Module) -> dict[str, float] | None:
        """Official accuracy on the selection split, in percent: overall and per answer type."""
        if self.select_set is None:
            return None
        optim = self.config.optim
        loader = evaluation_loader(
            self.select_set,
            batch_size=samples_per_pass(optim.batch_size, optim.micro_batch_size, world_size()),
            rank=rank(),
            world_size=world_size(),
            num_workers=self.config.data.num_workers,
        )
        device = next(model.parameters()).device
        with arithmetic(self.config.run.precision, device), self.model.vision.weights_stay():
            predictions = gather_objects(list(predict_answers(model, loader, self.vocabulary)))
        scores = vqa_scores(self._annotations, predictions)
        return {"accuracy": scores.overall} | {
            f"accuracy/{name}": score for name, score in scores.per_answer_type.items()
        }

    def lr_of(self) -> dict[str, float]:
        rates = self.config.optim.learning_rates
        lr_of = {"vision": rates.vision, "text": rates.text, "fusion": rates.fusion, "head": rates.head}
        if self.model.vision.feeds_back:
            lr_of["vision.decoders"] = rates.feedback
        if self.model.vision.mask is not None:
            lr_of["vision.mask"] = rates.prior
        if self.model.prior is not None:
            lr_of["prior"] = rates.prior
        return lr_of

    def save(self, folder: Path) -> None:
        save_parts(folder, VLCheckpoint(self.model, self.tokenizer, self.preprocessing, self.training))
        self.vocabulary.save(folder / ANSWERS)

    def check_saved(self, folder: Path) -> None:
        saved = AnswerVocabulary.load(folder / ANSWERS)
        if saved.sha256 != self.vocabulary.sha256:
            raise InputError(
                f"{self.config.data.root} has another answer vocabulary ({len(self.vocabulary)} answers, "
                f"sha256 {self.vocabulary.sha256:.12}) than checkpoint {folder} ({len(saved)}, {saved.sha256:.12}); "
                f"bring back the data as it was to go on, or {new_run_from(folder)}"
            )
        check_same_data(self._data, self.config.data.root, folder)


def match_answers(folder: str, vocabulary: AnswerVocabulary) -> LabelMatch | None:
    """A vocabulary beside that of the checkpoint to start from, and a line on what differs.

    Answers are the same where their texts are, or where the official evaluator takes them for the same.

    Args:
        folder: the checkpoint's.

    Returns:
        None where the checkpoint answers no questions.

    Raises:
        InputError: nobody knows which answer each row of its head stands for.
    """
    if head_of(folder) != "vqa":
        return None
    if not (Path(folder) / ANSWERS).is_file():
        raise InputError(
            f"from_checkpoint {folder}: there is no {ANSWERS}, so nobody knows which answer a row of its head stands "
            f"for; put the {ANSWERS} of the data that it was trained on there"
        )
    answers = match_labels(AnswerVocabulary.load(Path(folder) / ANSWERS).answers, vocabulary.answers, normalise_answer)
    if not answers.is_identity:
        log.info("from_checkpoint %s has other answers: %s", folder, answers.describe("answers"))
    return answers


@torch.no_grad()
def predict_answers(
    model: nn.Module, loader: DataLoader, vocabulary: AnswerVocabulary
) -> Iterable[dict[str, int | str]]:
    """The most probable answer of every question in ``loader``, as EvalAI records; ``model`` is in evaluation mode."""
    device = next(model.parameters()).device
    for batch in loader:
        question_ids = batch.question_ids.tolist()
        batch = send_to_device(batch, device, non_blocking=True)
        logits = model(batch.images, batch.token_ids, batch.is_token, batch.image_index).logits
        for question_id, label in zip(question_ids, logits.argmax(dim=1).tolist(), strict=True):
            yield {"question_id": question_id, "answer": vocabulary.answers[label]}


def make_dataset(
    root: str | Path,
    splits: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    vocabulary_size: int,
    preprocessing: Preprocessing,
    *,
    augmentation: str = "none",
    training: bool = False,
    seed: int = 0,
    images: str | Path | None = None,
) -> VQADataset:
    """The named splits of a prepared folder, with inputs made as ``preprocessing`` says.

    Args:
        images: folder of the raw images; None looks where the folder's manifest says.
    """
    transform, max_tokens = preprocessing.transform(augmentation), preprocessing.max_tokens
    return VQADataset(root, list(splits), vocabulary_size, tokenizer, max_tokens, transform, training, seed, images)


def load_checkpoint(folder: str | Path) -> VQACheckpoint:
    """Read a checkpoint folder of a VQA run.

    Raises ``InputError`` where a part is missing, the weights do not fit, or the folder holds something else.
    """
    return with_answers(load_parts(folder, "vqa"), folder)


def with_answers(parts: VLCheckpoint, folder: str | Path) -> VQACheckpoint:
    """The parts of a VQA run's checkpoint folder, and the answers of its head; raises ``InputError`` as above."""
    vocabulary = AnswerVocabulary.load(Path(folder) / ANSWERS)
    answers = parts.model.architecture["head"]["num_answers"]
    if answers != len(vocabulary):
        raise InputError(f"checkpoint {folder}: the model has {answers} answers, {ANSWERS} says {len(vocabulary)}")
    return VQACheckpoint(*parts, vocabulary)
