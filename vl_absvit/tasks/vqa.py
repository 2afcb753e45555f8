"""Visual question answering: prepared data, the whole model, its losses, and the official accuracy."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate.utils import send_to_device
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from vl_absvit.config import VQAConfig
from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.data.collate import VQABatch
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.data.loaders import evaluation_loader, samples_per_pass, training_loader
from vl_absvit.data.records import read_annotations, read_manifest
from vl_absvit.data.transforms import image_transform
from vl_absvit.data.vqa import VQADataset, check_disjoint
from vl_absvit.distributed import gather_objects, rank, world_size
from vl_absvit.errors import InputError
from vl_absvit.evaluation.vqa_accuracy import vqa_scores
from vl_absvit.losses import vqa_loss
from vl_absvit.models.build import build_vqa_model, image_statistics
from vl_absvit.models.vl_model import VLAbSViT
from vl_absvit.tasks.base import complete_batches
from vl_absvit.tasks.prior import global_prior_loss

ANSWERS, PREPROCESSING = "answers.json", "preprocessor_config.json"


class Preprocessing(NamedTuple):
    """How a checkpoint's inputs are made; saved as ``preprocessor_config.json``."""

    image_size: int
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    max_tokens: int


class VQACheckpoint(NamedTuple):
    """Everything that answering a question needs."""

    model: VLAbSViT
    tokenizer: PreTrainedTokenizerBase
    vocabulary: AnswerVocabulary
    preprocessing: Preprocessing


class VQATask:
    """Finetuning on VQA; see ``tasks.base.Task`` for what each method owes the loop."""

    select_metric = "accuracy"

    def __init__(self, config: VQAConfig) -> None:
        self.config = config
        data, text = config.data, config.text
        read_manifest(data.root)
        self.tokenizer = load_tokenizer(text.tokenizer or text.model)
        self.vocabulary = AnswerVocabulary.load(Path(data.root) / ANSWERS)
        self.preprocessing = Preprocessing(config.vision.image_size, *image_statistics(config.vision), text.max_tokens)
        self.train_set = make_dataset(
            data.root, data.train_splits, self.tokenizer, len(self.vocabulary), self.preprocessing,
            augmentation=data.augmentation, training=True, seed=config.run.seed,
        )  # fmt: skip
        self.select_set, self._annotations = None, []
        if data.select_split is not None:
            self.select_set = make_dataset(
                data.root, [data.select_split], self.tokenizer, len(self.vocabulary), self.preprocessing
            )
            check_disjoint(self.train_set, self.select_set)
            answerable = set(self.select_set.question_ids.tolist())
            annotations = read_annotations(data.root, [data.select_split])
            self._annotations = [record for record in annotations if record["question_id"] in answerable]
        torch.manual_seed(config.run.seed)
        self.model = build_vqa_model(config, len(self.vocabulary), self.tokenizer)

    def steps_per_epoch(self, world_size: int) -> int:
        return complete_batches(len(self.train_set), self.config.optim.batch_size)

    def passes_per_step(self, world_size: int) -> int:
        return self.config.optim.batch_size // (world_size * self._samples_per_pass(world_size))

    def train_batches(self, epoch: int, start_step: int, rank: int, world_size: int) -> Iterable[VQABatch]:
        return training_loader(
            self.train_set,
            batch_size=self.config.optim.batch_size,
            micro_batch_size=self.config.optim.micro_batch_size,
            rank=rank,
            world_size=world_size,
            seed=self.config.run.seed,
            epoch=epoch,
            start_step=start_step,
            num_workers=self.config.data.num_workers,
        )

    def losses(self, model: nn.Module, batch: VQABatch) -> dict[str, Tensor]:
        weights = self.config.loss
        out = model(
            batch.images,
            batch.token_ids,
            batch.is_token,
            batch.image_index,
            need_reconstruction=weights.reconstruction > 0,
        )
        terms = {"vqa": vqa_loss(out.logits, batch.soft_answers)}
        if weights.prior and out.prior is not None:
            terms["prior"] = weights.prior * global_prior_loss(
                out, batch.image_index, batch.image_ids, self.config.prior
            )
        if out.reconstruction is not None:
            terms["reconstruction"] = weights.reconstruction * out.reconstruction
        return terms

    def evaluate(self, model: nn.Module) -> dict[str, float] | None:
        """Official accuracy on the selection split, in percent: overall and per answer type."""
        if self.select_set is None:
            return None
        loader = evaluation_loader(
            self.select_set,
            batch_size=self._samples_per_pass(world_size()),
            rank=rank(),
            world_size=world_size(),
            num_workers=self.config.data.num_workers,
        )
        predictions = gather_objects(list(predict_answers(model, loader, self.vocabulary)))
        scores = vqa_scores(self._annotations, predictions)
        return {"accuracy": scores.overall} | {
            f"accuracy/{name}": score for name, score in scores.per_answer_type.items()
        }

    def lr_of(self) -> dict[str, float]:
        rates = self.config.optim.learning_rates
        lr_of = {"vision": rates.vision, "text": rates.text, "fusion": rates.fusion, "head": rates.head}
        if self.model.prior is not None:
            lr_of |= {"vision.decoders": rates.feedback, "prior": rates.prior}
        return lr_of

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.vocabulary.save(folder / ANSWERS)
        write_json(folder / PREPROCESSING, self.preprocessing._asdict(), indent=1)

    def check_saved(self, folder: Path) -> None:
        saved = AnswerVocabulary.load(folder / ANSWERS)
        if saved.sha256 != self.vocabulary.sha256:
            raise InputError(
                f"{self.config.data.root} has another answer vocabulary ({len(self.vocabulary)} answers, "
                f"sha256 {self.vocabulary.sha256:.12}) than checkpoint {folder} ({len(saved)}, {saved.sha256:.12})"
            )

    def _samples_per_pass(self, world_size: int) -> int:
        return samples_per_pass(self.config.optim.batch_size, self.config.optim.micro_batch_size, world_size)


@torch.no_grad()
def predict_answers(
    model: nn.Module, loader: DataLoader, vocabulary: AnswerVocabulary
) -> Iterable[dict[str, int | str]]:
    """The most probable answer of every question in ``loader``, as EvalAI records; ``model`` is in evaluation mode."""
    device = next(model.parameters()).device
    for batch in loader:
        batch = send_to_device(batch, device)
        logits = model(batch.images, batch.token_ids, batch.is_token, batch.image_index).logits
        for question_id, label in zip(batch.question_ids.tolist(), logits.argmax(dim=1).tolist(), strict=True):
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
) -> VQADataset:
    """The named splits of a prepared folder, with inputs made as ``preprocessing`` says."""
    transform = image_transform(
        preprocessing.image_size, preprocessing.image_mean, preprocessing.image_std, augmentation
    )
    return VQADataset(
        root, list(splits), vocabulary_size, tokenizer, preprocessing.max_tokens, transform, training, seed
    )


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub name."""
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"text.tokenizer {name}: no tokenizer there: {str(error).strip().splitlines()[0]}") from error


def load_checkpoint(folder: str | Path) -> VQACheckpoint:
    """Read a checkpoint folder of a VQA run.

    Raises ``InputError`` where a part is missing, the weights do not fit, or the folder holds something else.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(f"checkpoint {folder}: there is no {name}; expected a folder such as RUN/checkpoints/best")
    content = read_json(folder / PREPROCESSING, dict)
    vocabulary = AnswerVocabulary.load(folder / ANSWERS)
    try:
        preprocessing = Preprocessing(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
        )
        model = VLAbSViT.from_pretrained(folder)
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())
        raise InputError(f"checkpoint {folder} is not a VQA model of this architecture: {reason:.300}") from error
    if model.architecture["num_answers"] != len(vocabulary):
        raise InputError(
            f"{folder}: the head has {model.architecture['num_answers']} answers, {ANSWERS} {len(vocabulary)}"
        )
    return VQACheckpoint(model.eval(), load_tokenizer(str(folder)), vocabulary, preprocessing)
