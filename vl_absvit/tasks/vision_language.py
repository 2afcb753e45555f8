"""The base of tasks on images with texts: how they start, go on and save, and the planner's made-up batches.

Shapes: B samples, T tokens.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vl_absvit.config import VisionLanguageConfig
from vl_absvit.data.collate import PAD_MULTIPLE
from vl_absvit.data.image_loader import check_disjoint
from vl_absvit.data.loaders import TrainingDataset, WithImageIds
from vl_absvit.data.streaming import StreamedQuestions
from vl_absvit.models.architecture import (
    architecture_of,
    build_from_architecture,
    build_vision,
    image_statistics,
    text_config,
)
from vl_absvit.models.build import build_model
from vl_absvit.models.labels import LabelMatch
from vl_absvit.models.token_norms import statistics_kept
from vl_absvit.models.vl_model import VLAbSViT, VLOutput
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.base import Task, decoder_losses_of, decoder_terms, freeze_zero_rates, log_left_out_losses
from vl_absvit.tasks.changed_use import log_changed_use
from vl_absvit.tasks.facts import Facts, Words, text_sizes
from vl_absvit.tasks.fetching import fetched
from vl_absvit.tasks.first_look_fit import first_look_fit
from vl_absvit.tasks.keeping import Keeping, keep_frozen
from vl_absvit.tasks.prior_losses import (
    StepPriorLoss,
    Wordings,
    compared,
    global_prior_loss,
    looks_up_to,
    step_prior_losses,
)
from vl_absvit.tasks.resuming import check_same_data, history, model_as_saved, without_sources
from vl_absvit.tasks.tokenizers import check_same_tokenizer, tokenizer_of
from vl_absvit.tasks.vl_checkpoint import (
    Preprocessing,
    VLCheckpoint,
    describe_data,
    describe_training,
    kind_of_head,
    load_parts,
    save_parts,
)
from vl_absvit.variants import VARIANTS


class VisionLanguageTask(Task):
    """A task of the whole model. Subclasses add the data, the head, losses and evaluation."""

    head_kind: ClassVar[str]
    """Kind of its head in ``config.json``."""

    config: Any  # a VisionLanguageConfig
    model: VLAbSViT
    num_labels: int | None = None
    """Number of labels of the head, known once the data is read; None without labels."""

    def __init__(self, config: VisionLanguageConfig, checkpoint: Path | None = None) -> None:
        """
        Args:
            checkpoint: of this run, to go on from.
        """
        config = self.config = fetched(config) if checkpoint is None else without_sources(config, checkpoint)
        self.tokenizer = tokenizer_of(config.text)
        statistics = image_statistics(config.vision)
        self.preprocessing = Preprocessing(config.vision.image_size, *statistics, config.text.max_tokens)
        self.train_set, self.select_set = self.read_data()
        if self.select_set is not None:
            assert isinstance(self.train_set, WithImageIds), "questions and captions are about images with ids"
            check_disjoint(self.train_set, self.select_set)
        self._data = self.describe_data()
        torch.manual_seed(config.run.seed)
        if checkpoint is None:
            self.training = describe_training(config, self.kind, self._data)
            self.model = self._started_model()
        else:
            self.training, self.model = history(checkpoint, self._data), model_as_saved(config, checkpoint)
        self.leave_untrained(config, self.model)
        log_left_out_losses(config, self.model, has_prior=self.model.prior is not None)
        freeze_zero_rates(config, self.model, self.lr_of())

    def _started_model(self) -> VLAbSViT:
        config, labels = self.config, None
        if config.from_checkpoint is not None:
            check_same_tokenizer(config.from_checkpoint, self.tokenizer)
            labels = self.match_labels(config.from_checkpoint)
        fit = first_look_fit(self.train_set, self.preprocessing.transform(), config.run.seed)
        head, sentence = self.head(config, self.num_labels), self.sentence(config)
        model = build_model(config, head, sentence, self.tokenizer, labels, fit)
        log_changed_use(config.from_checkpoint, model.architecture)
        return model

    def describe_data(self) -> dict[str, Any]:
        """What the run trains and selects on, by its content, see ``vl_checkpoint.describe_data``."""
        return describe_data(self.config)

    @abstractmethod
    def read_data(self) -> tuple[TrainingDataset | StreamedQuestions, Any | None]:
        """The training set, and the selection set if there is one."""

    @classmethod
    @abstractmethod
    def head(cls, config: Any, labels: int | None) -> dict[str, Any]:
        """The head's part of the architecture, for a number of labels."""

    @classmethod
    def sentence(cls, config: Any) -> str | None:
        """The vector of a text that becomes its prior; None where no prior steers the encoder."""
        return config.prior.sentence if VARIANTS[config.vision.top_down].uses_prior else None

    @classmethod
    def leave_untrained(cls, config: Any, model: VLAbSViT) -> None:
        """Freeze parameters that none of the configured losses reaches."""

    def match_labels(self, folder: str) -> LabelMatch | None:
        """How the head's labels match those of the checkpoint to start from; None where these are of another kind."""
        return None

    def get_ready(self) -> None:
        if self.config.data.keep_frozen is not None:
            assert isinstance(self.train_set, Keeping), "what is kept is found by the ids of images"
            keep_frozen(self.config, self.model, self.train_set, self.preprocessing)

    @torch.no_grad()
    def look_ahead(self, batches: Sequence[Any], seeds: Sequence[int]) -> Sequence[Any]:
        """The prior losses of a step's passes, whose samples have one text each, as ``VQABatch``."""
        config, vision = self.config, self.model.vision
        if not config.loss.prior or self.model.prior is None:
            return [None] * len(batches)
        passes = []
        with arithmetic(config.run.precision, batches[0].images.device), statistics_kept():
            for batch, seed in zip(batches, seeds, strict=True):
                torch.manual_seed(seed)
                prior = self.model.encode_texts(batch.token_ids, batch.is_token).prior
                assert prior is not None, "the model makes priors of texts"
                looks = looks_up_to(config.prior.look, vision, batch.images, prior, batch.image_index)
                one_pass = compared(vision, prior, looks, batch.image_index, batch.image_ids, config.prior.look)
                passes.append(one_pass._replace(wordings=self.wordings(batch)))
        return step_prior_losses(passes, config.prior)

    def wordings(self, batch: Any) -> Wordings | None:
        """The wordings of a batch's texts for the prior loss; None where all texts are true of their images."""
        return None

    def read(self, model: nn.Module, batch: Any) -> VLOutput:
        """A forward pass of samples that have one text each, as ``VQABatch``."""
        with arithmetic(self.config.run.precision, batch.images.device):
            needed = decoder_losses_of(self.config, self.model.vision)
            return model(batch.images, batch.token_ids, batch.is_token, batch.image_index, **needed)

    def auxiliary_terms(self, out: VLOutput, batch: Any, step_prior: StepPriorLoss | None) -> dict[str, Tensor]:
        """The weighted losses of an output of ``read`` that need no labels.

        Args:
            step_prior: of this pass, where the step has several.
        """
        config, terms = self.config, {}
        if config.loss.prior and out.prior is not None:
            about = batch.image_index, batch.image_ids, config.prior.look
            own_pass = compared(self.model.vision, out.prior, out.looks, *about)
            own_pass = own_pass._replace(wordings=self.wordings(batch))
            loss = global_prior_loss(own_pass, config.prior) if step_prior is None else step_prior.at(own_pass)
            terms["prior"] = config.loss.prior * loss
        return terms | decoder_terms(config, out)

    def lr_of(self) -> dict[str, float]:
        rates = self.config.optim.rates
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

    def check_saved(self, folder: Path) -> None:
        check_same_data(self._data, self.config.data.root, folder)

    @classmethod
    def holds(cls, content: Mapping[str, Any]) -> bool:
        return kind_of_head(content) == cls.head_kind

    @classmethod
    def load(cls, folder: Path) -> Any:
        return load_parts(folder, cls.head_kind)

    @classmethod
    def find_facts(cls, config: Any) -> Facts:
        facts = super().find_facts(config)
        text, assumed = text_sizes(config.text)
        first_look = None
        if config.data.keep_frozen is not None:
            with torch.device("meta"):
                first_look = build_vision(config.vision, num_classes=0).numbers_to_keep
        return facts._replace(text=text, assumed=facts.assumed + assumed, first_look=first_look)

    @classmethod
    def random_model(cls, config: Any, facts: Facts) -> VLAbSViT:
        text = facts.text
        if text is None or isinstance(text, Words):
            text = text_config(replace(config.text, model=None, tokenizer="none"), text)
        architecture = architecture_of(config, text, cls.head(config, facts.labels), cls.sentence(config))
        model = build_from_architecture(architecture, location="config")
        cls.leave_untrained(config, model)
        return model


def made_up_images(config: VisionLanguageConfig, facts: Facts, number: int) -> Tensor:
    """Random images (number, 3, H, W), or what is kept of the first look at them."""
    if facts.first_look is not None:
        return torch.rand(number, facts.first_look, dtype=torch.bfloat16)
    return torch.rand(number, 3, config.vision.image_size, config.vision.image_size)


def made_up_texts(config: VisionLanguageConfig, facts: Facts, number: int) -> tuple[Tensor, Tensor]:
    """Token ids (number, T) and their mask of random texts, as long as the config allows, nearly full of words.

    If the vectors of texts are kept, these stand in for the ids.
    """
    most = config.text.max_tokens
    length = -(-most // PAD_MULTIPLE) * PAD_MULTIPLE
    is_token = (torch.arange(length) < min(most, length - 1)).expand(number, -1)
    text = facts.text
    assert text is not None and text.pad_token_id is not None, "a text encoder reads padded words"
    if config.data.keep_frozen is not None and config.optim.rates.text == 0:
        width = config.text.width if isinstance(text, Words) else text.hidden_size
        return torch.rand(number, length, width, dtype=torch.bfloat16), is_token
    words = torch.randint(text.vocab_size - 1, (number, length))
    return torch.where(is_token, words + (words >= text.pad_token_id), text.pad_token_id), is_token
