"""Visual question answering: prepared data, the whole model, its losses, and the accuracy."""

import logging
from collections.abc import Callable, Iterable
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
from vl_absvit.data.corruptions import Corruption
from vl_absvit.data.records import VQAV2, read_annotations, read_manifest, read_vocabulary
from vl_absvit.data.stream_loader import questions_per_shard
from vl_absvit.data.streaming import StreamedQuestions
from vl_absvit.data.transforms import Augmentation
from vl_absvit.data.vqa import VQADataset
from vl_absvit.distributed import gather_objects
from vl_absvit.errors import InputError
from vl_absvit.evaluation.accuracy_rules import accuracy_rule
from vl_absvit.evaluation.vqa_accuracy import vqa_scores
from vl_absvit.losses import vqa_loss
from vl_absvit.models.labels import LabelMatch, match_labels
from vl_absvit.models.vl_model import VLAbSViT
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.base import About, new_run_from, selection_loader
from vl_absvit.tasks.facts import Facts, sum_of_counts
from vl_absvit.tasks.prior_losses import StepPriorLoss
from vl_absvit.tasks.vision_language import VisionLanguageTask, made_up_images, made_up_texts
from vl_absvit.tasks.vl_checkpoint import Preprocessing, VLCheckpoint, head_of, load_parts

log = logging.getLogger(__name__)

ANSWERS = "answers.json"


class VQACheckpoint(NamedTuple):
    """Everything that answering a question needs."""

    model: VLAbSViT
    tokenizer: PreTrainedTokenizerBase
    preprocessing: Preprocessing
    training: dict[str, Any]
    vocabulary: AnswerVocabulary

    def described(self) -> list[tuple[str, str]]:
        """The parts beside the visual encoder, in words."""
        return [*VLCheckpoint(*self[:4]).described(), ("answers", f"{len(self.vocabulary):,}")]


class VQATask(VisionLanguageTask):
    """Finetuning on VQA; ``Task`` describes the methods."""

    kind = head_kind = "vqa"
    about = About(
        "visual question answering",
        "visual-question-answering",
        "vl-absvit evaluate-vqa --checkpoint {name} --data OUT --split val --output predictions.json",
    )
    config_class = VQAConfig
    select_metric = "accuracy"
    usual_labels = (3129, "answers, VQAv2's")

    def read_data(self) -> tuple[VQADataset | StreamedQuestions, VQADataset | None]:
        data = self.config.data
        self.vocabulary = read_vocabulary(data.root)
        self.num_labels = len(self.vocabulary)
        self._rule = accuracy_rule(read_manifest(data.root))
        self.select_metric = self._rule.metric
        train_set, select_set = self._training_set(), None
        if data.select_split is not None:
            select_set = make_dataset(
                data.root, [data.select_split], self.tokenizer, self.num_labels, self.preprocessing, images=data.images
            )
            answerable = set(select_set.question_ids.tolist())
            annotations = read_annotations(data.root, [data.select_split])
            self._annotations = [record for record in annotations if record["question_id"] in answerable]
        return train_set, select_set

    @classmethod
    def head(cls, config: VQAConfig, labels: int | None) -> dict[str, Any]:
        return {"kind": "vqa", "num_answers": labels}

    def match_labels(self, folder: str) -> LabelMatch | None:
        return match_answers(folder, self.vocabulary)

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

    def losses(self, model: nn.Module, batch: VQABatch, step_prior: StepPriorLoss | None = None) -> dict[str, Tensor]:
        out = self.read(model, batch)
        assert isinstance(out.logits, Tensor), "the head gives a logit per answer"
        return {"vqa": vqa_loss(out.logits, batch.soft_answers)} | self.auxiliary_terms(out, batch, step_prior)

    def evaluate(self, model: nn.Module) -> dict[str, float] | None:
        """Accuracy on the selection split, in percent: overall and per answer type; official if so called."""
        if self.select_set is None:
            return None
        loader = selection_loader(self.config, self.select_set)
        device = next(model.parameters()).device
        self.model.vision.fold()
        with arithmetic(self.config.run.precision, device):
            predictions = gather_objects(list(predict_answers(model, loader, self.vocabulary)))
        scores = vqa_scores(self._annotations, predictions, self._rule.of_question)
        return {self._rule.metric: scores.overall} | {
            f"{self._rule.metric}/{name}": score for name, score in scores.per_answer_type.items()
        }

    def save(self, folder: Path) -> None:
        super().save(folder)
        self.vocabulary.save(folder / ANSWERS)

    def check_saved(self, folder: Path) -> None:
        saved = AnswerVocabulary.load(folder / ANSWERS)
        if saved.sha256 != self.vocabulary.sha256:
            raise InputError(
                f"{self.config.data.root} has another answer vocabulary ({len(self.vocabulary)} answers, "
                f"sha256 {self.vocabulary.sha256:.12}) than checkpoint {folder} ({len(saved)}, {saved.sha256:.12}); "
                f"bring back the data as it was to go on, or {new_run_from(folder)}"
            )
        super().check_saved(folder)

    @classmethod
    def load(cls, folder: Path) -> VQACheckpoint:
        return load_checkpoint(folder)

    @classmethod
    def data_sizes(cls, config: VQAConfig) -> tuple[int, int]:
        samples = sum_of_counts(config.data, VQAV2, "kept_for_training")
        return samples, len(read_vocabulary(config.data.root))

    @classmethod
    def made_up_batch(cls, config: VQAConfig, facts: Facts, samples: int) -> VQABatch:
        rows, images = torch.arange(samples), made_up_images(config, facts, samples)
        texts = made_up_texts(config, facts, samples)
        assert facts.labels is not None, "the head tells answers apart"
        return VQABatch(images, rows, rows, *texts, torch.zeros(samples, facts.labels), rows)


def match_answers(folder: str, vocabulary: AnswerVocabulary) -> LabelMatch | None:
    """How a vocabulary matches that of the checkpoint to start from. Differences are logged.

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
    model: nn.Module,
    loader: DataLoader,
    vocabulary: AnswerVocabulary,
    attacked: Callable[[VQABatch], VQABatch] | None = None,
) -> Iterable[dict[str, int | str]]:
    """The most probable answer of every question in ``loader``, as EvalAI records; ``model`` is in evaluation mode.

    Args:
        attacked: what happens to the pictures of a batch before.
    """
    device = next(model.parameters()).device
    for batch in loader:
        question_ids = batch.question_ids.tolist()
        batch = send_to_device(batch, device, non_blocking=True)
        if attacked is not None:
            batch = attacked(batch)
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
    augmentation: Augmentation = "none",
    training: bool = False,
    seed: int = 0,
    images: str | Path | None = None,
    corruption: Corruption | None = None,
) -> VQADataset:
    """The named splits of a prepared folder, with inputs made as ``preprocessing`` says.

    Args:
        images: folder of the raw images; None looks where the folder's manifest says.
        corruption: of every image.
    """
    transform, max_tokens = preprocessing.transform(augmentation, corruption), preprocessing.max_tokens
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
