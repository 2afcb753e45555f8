"""Visual question answering: prepared data, the whole model, its losses, and the official accuracy."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate.utils import send_to_device
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, PreTrainedTokenizerBase, RobertaTokenizerFast

from vl_absvit.config import VQAConfig
from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.data.collate import VQABatch
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.data.loaders import evaluation_loader, samples_per_pass, training_loader
from vl_absvit.data.records import read_annotations, read_vocabulary
from vl_absvit.data.transforms import image_transform
from vl_absvit.data.vqa import VQADataset, check_disjoint
from vl_absvit.distributed import gather_objects, rank, world_size
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.evaluation.vqa_accuracy import vqa_scores
from vl_absvit.losses import vqa_loss
from vl_absvit.models.build import build_vqa_model, image_statistics
from vl_absvit.models.vl_model import VLAbSViT
from vl_absvit.tasks.base import complete_batches
from vl_absvit.tasks.prior import global_prior_loss

log = logging.getLogger(__name__)

ANSWERS, PREPROCESSING = "answers.json", "preprocessor_config.json"


class Preprocessing(NamedTuple):
    """How a checkpoint's inputs are made; saved as ``preprocessor_config.json``."""

    image_size: int
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    max_tokens: int

    @classmethod
    def load(cls, path: Path) -> "Preprocessing":
        """Read what was saved; anything else raises ``InputError``."""
        content = read_json(path, dict)
        if sorted(content) != sorted(cls._fields):
            raise InputError(f"{path}: expected {', '.join(cls._fields)}, got {', '.join(content) or 'nothing'}")
        for name in ("image_size", "max_tokens"):
            if type(content[name]) is not int or content[name] < 1:
                raise InputError(f"{path}: expected {name} to be a positive integer, got {content[name]!r:.60}")
        for name in ("image_mean", "image_std"):
            channels = content[name] if isinstance(content[name], list) else []
            if len(channels) != 3 or not all(type(channel) in (int, float) for channel in channels):
                raise InputError(f"{path}: expected {name} to be three numbers, got {content[name]!r:.60}")
            content[name] = tuple(channels)
        return cls(**content)


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
        self.vocabulary = read_vocabulary(data.root)
        self.tokenizer = load_tokenizer(text.tokenizer or text.model)
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
        if config.vision.top_down == "none" and (config.loss.prior or config.loss.reconstruction):
            log.info("vision.top_down is none: there is no prior and no feedback, their losses are left out")
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
    """The tokenizer of a folder or hub name.

    A folder that holds RoBERTa's original ``vocab.json`` and ``merges.txt`` alone does not say what it is; it is read
    as RoBERTa's.

    Raises:
        InputError: there is none, or it knows no words: transformers makes such a one where files are missing.
    """
    folder = Path(name)
    telling = ("tokenizer.json", "tokenizer_config.json", "config.json")
    is_original = (folder / "vocab.json").is_file() and not any((folder / file).is_file() for file in telling)
    try:
        tokenizer = (RobertaTokenizerFast if is_original else AutoTokenizer).from_pretrained(name)
    except Exception as error:  # the tokenizers library raises nothing more specific
        lacking = "no tokenizer there" if folder.is_dir() else "no such folder, and not to be had by that name"
        raise InputError(f"tokenizer {name}: {lacking}: {str(error).strip().splitlines()[0]}") from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise InputError(
            f"tokenizer {name}: nothing but special tokens there; expected tokenizer.json, or vocab.json and merges.txt"
        )
    return tokenizer


def load_checkpoint(folder: str | Path) -> VQACheckpoint:
    """Read a checkpoint folder of a VQA run.

    Raises ``InputError`` where a part is missing, the weights do not fit, or the folder holds something else.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(f"checkpoint {folder}: there is no {name}; expected a folder such as RUN/checkpoints/best")
    preprocessing = Preprocessing.load(folder / PREPROCESSING)
    vocabulary = AnswerVocabulary.load(folder / ANSWERS)
    read_json(folder / "config.json", dict)
    try:
        model = VLAbSViT.from_pretrained(folder)
    except ConfigError as error:
        raise InputError(f"{folder / 'config.json'}: {error}") from error
    except InputError:
        raise
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"checkpoint {folder} is not a VQA model of this architecture: {reason:.300}") from error
    expected = {
        "answers": (model.architecture["num_answers"], ANSWERS, len(vocabulary)),
        "pixels a side": (model.architecture["vision"]["image_size"], PREPROCESSING, preprocessing.image_size),
    }
    for what, (ours, file, theirs) in expected.items():
        if ours != theirs:
            raise InputError(f"checkpoint {folder}: the model has {ours} {what}, {file} says {theirs}")
    if preprocessing.max_tokens > model.text.max_tokens:
        raise InputError(
            f"checkpoint {folder}: the model has {model.text.max_tokens} positions for tokens, "
            f"{PREPROCESSING} says {preprocessing.max_tokens}"
        )
    return VQACheckpoint(model.eval(), load_tokenizer(str(folder)), vocabulary, preprocessing)
