"""The configs that all runs share, and those of runs on images with texts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vl_absvit.config.checks import require
from vl_absvit.config.model import FusionConfig, PriorConfig, TextConfig, VisionConfig
from vl_absvit.config.training import DataConfig, LossConfig, OptimConfig, RunConfig
from vl_absvit.variants import VARIANTS

# Earlier names of keys. torchrun reads abbreviations of its own options even after a script's name: ``--start`` is one
# of ``--start-method``.
RENAMED = {"start": "from_checkpoint"}


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """The config of every task."""

    streams: ClassVar[bool] = False
    """Whether the task can train on ``data.stream``."""
    compiles: ClassVar[bool] = False
    """Whether the task can train with ``run.compile``."""
    keeps_frozen: ClassVar[bool] = False
    """Whether the task can train with ``data.keep_frozen``."""
    earlier: ClassVar[Mapping[str, Any]] = {}
    """Values for runs that are older than a key, if they differ from its default."""

    task: str
    """What the run is for: a name such as vqa, by which ``vl-absvit train`` and ``vl-absvit plan`` know the config."""
    data: DataConfig
    run: RunConfig
    vision: VisionConfig = field(default_factory=VisionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        data, run = self.data, self.run
        require(self.streams or data.stream is None, f"data.stream {data.stream} is for finetuning on VQA alone")
        require(self.compiles or not run.compile, "run.compile is for finetuning on VQA alone")
        require(
            self.keeps_frozen or data.keep_frozen is None,
            f"data.keep_frozen {data.keep_frozen} is for finetuning on VQA and retrieval",
        )
        require(
            not (run.compile and self.vision.gradient_checkpointing),
            "run.compile and vision.gradient_checkpointing exclude each other: what is compiled decides itself what to "
            "compute again",
        )


@dataclass(frozen=True, kw_only=True)
class VisionLanguageConfig(TaskConfig):
    """The config of every task on images with texts."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    from_checkpoint: str | None = None
    """Checkpoint folder, or its name on the hub (``lab/absvit-vqa``, ``lab/absvit-vqa@REVISION``), whose weights the
    whole model starts from, in place of ``vision.weights`` and the weights of ``text.model``. A head of another kind
    stays random; of other answers, those of the same text keep their rows."""
    text: TextConfig = field(default_factory=TextConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        vision, prior, data = self.vision, self.prior, self.data
        require(
            vision.mask == "cosine" or prior.look == "first",
            f"vision.mask calibrated is calibrated on the first look, but prior.look is {prior.look}; set vision.mask "
            f"to cosine",
        )
        require(
            prior.look == "first" or VARIANTS[vision.top_down].looks_again_for_the_text,
            f"prior.look is second, but vision.top_down {vision.top_down} has no second look that depends on the text",
        )
        require(
            data.augmentation != "imagenet",
            "data.augmentation imagenet mirrors pictures and cuts things off, and texts speak of left, right and all "
            "of them; it is for pretraining",
        )
        require(data.augmentation != "pixels", "data.augmentation pixels is for segmentation alone")
        if data.keep_frozen is not None:
            self._check_frozen()
        require(
            self.optim.batch_size % data.samples_per_image == 0,
            f"optim.batch_size {self.optim.batch_size} is no multiple of data.samples_per_image "
            f"{data.samples_per_image}",
        )

    def _check_frozen(self) -> None:
        """Refuse ``data.keep_frozen`` where frozen encoders would make something else in every step."""
        rates, sentence = self.optim.rates, self.prior.sentence
        require(
            rates.vision == 0,
            "data.keep_frozen keeps first looks, which change with the trunk; expected vision in optim.freeze, got a "
            f"learning rate of {rates.vision}",
        )
        require(
            self.vision.drop_path == 0,
            f"data.keep_frozen keeps one first look at each image, but vision.drop_path {self.vision.drop_path} draws "
            "the blocks of every look anew; set it to 0",
        )
        require(
            rates.text > 0 or sentence != "padded_mean",
            "data.keep_frozen keeps the vectors of texts without those of padding, which prior.sentence padded_mean "
            "needs; train the text encoder, or take another sentence vector",
        )
