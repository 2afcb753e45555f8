"""What each task has to be told beyond what all runs are."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from vl_absvit.config.checks import below_one, not_negative, positive, require
from vl_absvit.config.model import TextConfig, VisionConfig
from vl_absvit.config.runs import TaskConfig, VisionLanguageConfig
from vl_absvit.config.training import DataConfig, LossConfig
from vl_absvit.variants import VARIANTS


@dataclass(frozen=True, kw_only=True)
class VQAConfig(VisionLanguageConfig):
    """Finetuning on visual question answering."""

    streams: ClassVar[bool] = True
    compiles: ClassVar[bool] = True
    keeps_frozen: ClassVar[bool] = True
    earlier: ClassVar[Mapping[str, Any]] = {"vision.mask": "cosine"}

    task: Literal["vqa"] = "vqa"
    vision: VisionConfig = field(default_factory=lambda: VisionConfig(mask="calibrated"))
    """A question asks about one thing, on which this mask is open alone; captions and statements tell of several."""


@dataclass(frozen=True, kw_only=True)
class StatementConfig(VisionLanguageConfig):
    """What finetuning on statements about images, NLVR2's and SNLI-VE's, shares."""

    blind: bool = False
    """Show the mean colour in place of every image, in training and evaluation: what the texts alone give away."""


@dataclass(frozen=True, kw_only=True)
class NLVR2Config(StatementConfig):
    """Finetuning on NLVR2: is a sentence true of two images."""

    task: Literal["nlvr2"] = "nlvr2"
    loss: LossConfig = field(default_factory=lambda: LossConfig(prior=0.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.loss.prior == 0,
            f"loss.prior is {self.loss.prior}, but a sentence of NLVR2 is about two images, of which neither is its "
            "positive; set it to 0",
        )
        require(
            self.data.samples_per_image == 1,
            f"data.samples_per_image is {self.data.samples_per_image}, but a sentence of NLVR2 is about two images",
        )


@dataclass(frozen=True, kw_only=True)
class SNLIVEConfig(StatementConfig):
    """Finetuning on SNLI-VE: does an image entail a hypothesis, contradict it, or leave it open."""

    task: Literal["snli_ve"] = "snli_ve"


@dataclass(frozen=True, kw_only=True)
class RetrievalLossConfig(LossConfig):
    """Weights of the retrieval losses; 0 removes a loss, its computation and what it alone trains from training."""

    prior: float = 1.0
    """Weight of the contrastive prior loss, which also trains the dual encoder."""
    ranking: float = 1.0
    """Weight of the softmax over an image's own and its false captions, and of that over a caption's own and its hard
    images, scored by the whole model. Without it, the model ranks by its matching logits."""
    itm: float = 1.0
    """Weight of image-text matching against a hard caption and hard images of the batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative("loss", ranking=self.ranking, itm=self.itm)
        require(self.ranking > 0 or self.itm > 0, "loss.ranking and loss.itm are both 0: nothing trains the fusion")


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig(VisionLanguageConfig):
    """Finetuning on image-text retrieval."""

    keeps_frozen: ClassVar[bool] = True
    earlier: ClassVar[Mapping[str, Any]] = {"negative_images": 0}

    task: Literal["retrieval"] = "retrieval"
    data: DataConfig
    """Its splits hold captions; ``select_split`` is ``val``, never ``test``."""
    text: TextConfig = field(default_factory=lambda: TextConfig(max_tokens=40))
    negatives: int = 15
    """False captions each image's own caption is ranked against, drawn anew in every epoch."""
    negative_images: int = 1
    """Hard images of the global batch that each caption's own image is ranked against and told from, drawn the likelier
    the more similar the first look finds them. Each costs one pair more (a second look and a fusion) and, unless a step
    is one pass of one process, one first look more. 0 trains on false captions only, which leaves the scores of
    different images incomparable."""
    select_shortlist: int = 16
    """Candidates of each query that the whole model scores when the selection split is evaluated."""
    loss: RetrievalLossConfig = field(default_factory=RetrievalLossConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("config", negatives=self.negatives, select_shortlist=self.select_shortlist)
        not_negative("config", negative_images=self.negative_images)
        require(
            self.loss.prior > 0 or VARIANTS[self.vision.top_down].uses_prior,
            f"loss.prior is 0, but nothing else trains the prior where vision.top_down is {self.vision.top_down}",
        )


@dataclass(frozen=True, kw_only=True)
class PairLossConfig(LossConfig):
    """Weights of the losses on pairs of text and image; 0 removes an auxiliary loss and its computation."""

    mlm: float = 1.0
    """Weight of guessing hidden words, given the image and the other words."""
    itm: float = 1.0
    """Weight of telling true pairs from false ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("loss", mlm=self.mlm, itm=self.itm)


@dataclass(frozen=True, kw_only=True)
class PairSource:
    """A further prepared folder of captions to pretrain on."""

    data: str
    """Folder written by ``vl-absvit prepare-pairs`` or ``prepare-captions``."""
    splits: tuple[str, ...] = ("train",)
    """Splits to train on."""
    weight: float | None = None
    """Its share of every batch is this over the sum of all weights; None is its number of captions."""
    select_split: str | None = None
    """Split that is evaluated with that of ``data.root``."""
    images: str | None = None
    """Folder of its raw images; None looks where the folder's manifest says."""

    def __post_init__(self) -> None:
        positive("sources", weight=self.weight)
        require(len(self.splits) > 0, f"sources: {self.data}: splits are empty; name those to train on")
        require(self.select_split not in self.splits, f"sources: {self.data}: {self.select_split} is also trained on")


@dataclass(frozen=True, kw_only=True)
class PairsConfig(VisionLanguageConfig):
    """Pretraining of the whole model on pairs of text and image: hidden words, and true pairs told from false ones."""

    task: Literal["pairs"] = "pairs"
    data: DataConfig
    """Its splits hold captions; ``select_split`` is ``val``, never ``test``."""
    sources: tuple[PairSource, ...] = ()
    """Further data beside ``data.root``."""
    weight: float | None = None
    """That of ``data.root``, as ``PairSource.weight``."""
    hidden_share: float = 0.15
    """Share of every caption's words that are hidden; at least one word is."""
    loss: PairLossConfig = field(default_factory=PairLossConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("config", weight=self.weight, hidden_share=self.hidden_share)
        below_one("config", hidden_share=self.hidden_share)
        are_weighted = {weight is not None for weight in (self.weight, *(source.weight for source in self.sources))}
        require(len(are_weighted) == 1, "weight and sources: some have a weight, some have none; give all or none")
        roots = [self.data.root, *(source.data for source in self.sources)]
        places = {os.path.realpath(root) for root in roots}
        require(len(places) == len(roots), f"data.root and sources name a folder twice: {', '.join(roots)}")
        require(self.prior.look == "first", f"prior.look is {self.prior.look}, but pretraining shares the first look")
        require(
            self.optim.batch_size % 2 == 0,
            f"optim.batch_size is {self.optim.batch_size}, but half of the pairs are false; expected an even number",
        )
        require(
            self.data.samples_per_image == 1,
            f"data.samples_per_image is {self.data.samples_per_image}, but pretraining mixes sources by step",
        )
        require(
            self.loss.prior > 0 or VARIANTS[self.vision.top_down].uses_prior,
            f"loss.prior is 0, but nothing else trains the prior where vision.top_down is {self.vision.top_down}",
        )


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """What ImageNet's recipe does to training images and labels; nothing unless asked for."""

    auto_augment: Literal["none", "rand-m9-mstd0.5-inc1", "original"] = "none"
    """Random operations on a picture, by their name in timm: RandAugment as DeiT and the ImageNet release, or
    AutoAugment's learned policy. Needs ``data.augmentation: imagenet``."""
    color_jitter: float = 0.0
    """Largest relative change of brightness, contrast and saturation; 0 changes none. Needs ``data.augmentation:
    imagenet``."""
    random_erasing: float = 0.0
    """Probability that a rectangle of an image becomes noise. Needs ``data.augmentation: imagenet``."""
    mixup: float = 0.0
    """Mixup's alpha: images of a batch are blended in pairs by a share drawn from Beta(alpha, alpha); 0 blends none."""
    cutmix: float = 0.0
    """CutMix' alpha: a rectangle comes from the other image of the pair; 0 cuts none. With Mixup, every batch gets the
    one or the other, by even chance."""
    label_smoothing: float = 0.0
    """Share of every target that is spread evenly over all classes, in [0, 1)."""
    repeats: int = 1
    """Repeated augmentation: a batch has every image as often, each time augmented anew, and an epoch as many times
    fewer images, others each time. DeiT, RVT, VARS and AbSViT's code: 3."""

    def __post_init__(self) -> None:
        positive("augmentation", repeats=self.repeats)
        not_negative("augmentation", color_jitter=self.color_jitter, mixup=self.mixup, cutmix=self.cutmix)
        require(
            0 <= self.random_erasing <= 1, f"augmentation.random_erasing must be in [0, 1], got {self.random_erasing}"
        )
        below_one("augmentation", label_smoothing=self.label_smoothing)

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed."""
        return self.mixup > 0 or self.cutmix > 0


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TaskConfig):
    """Pretraining the visual encoder on image classification, with a trainable query as prior."""

    task: Literal["pretraining"] = "pretraining"
    vision: VisionConfig = field(default_factory=lambda: VisionConfig(gain=1.0))
    pooling: Literal["token", "avg"] = "token"
    """What the classifier reads: the CLS token, or the mean patch."""
    mosaic: int = 1
    """Side n of a mosaic: training images are n x n mosaics of the folder's images, and every cell is classified by the
    mean of its own patches. Above 1 the encoder learns to keep what it sees where it sees it."""
    crop_pct: float = 1.0
    """Share of the shorter side that is seen in evaluation, in (0, 1], from the middle: 0.875 resizes to 256 pixels and
    cuts out 224. The checkpoint keeps it."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    loss: LossConfig = field(default_factory=lambda: LossConfig(prior=0.0, reconstruction=0.1))

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.data.images is None,
            f"data.images is {self.data.images}, but in pretraining data.root is the folder of images itself",
        )
        require(
            self.data.samples_per_image == 1,
            f"data.samples_per_image is {self.data.samples_per_image}, but in pretraining an image is one sample",
        )
        require(self.data.augmentation != "pixels", "data.augmentation pixels is for segmentation alone")
        absent = [part for part in self.optim.freeze if part in ("text", "fusion")]
        require(not absent, f"optim.freeze names {', '.join(absent)}, which pretraining does not have")
        require(
            self.vision.mask == "cosine",
            "vision.mask calibrated needs texts to be calibrated by; in pretraining it is cosine",
        )
        require(self.mosaic > 0, f"mosaic must be positive, got {self.mosaic}")
        require(
            self.vision.image_size % self.mosaic == 0,
            f"vision.image_size {self.vision.image_size} does not divide into a mosaic of "
            f"{self.mosaic} x {self.mosaic}",
        )
        require(0 < self.crop_pct <= 1, f"crop_pct must be in (0, 1], got {self.crop_pct}")
        augmentation = self.augmentation
        require(
            self.mosaic == 1 or not augmentation.mixes,
            f"mosaic {self.mosaic} and augmentation.mixup {augmentation.mixup} or cutmix {augmentation.cutmix} exclude "
            "each other: a mosaic is mixed already",
        )
        require(
            augmentation.repeats == 1 or (self.mosaic == 1 and self.data.augmentation != "none"),
            f"augmentation.repeats {augmentation.repeats} needs data.augmentation, got {self.data.augmentation}, and "
            f"no mosaic, got {self.mosaic}",
        )
        require(
            self.mosaic == 1 or self.pooling == "avg",
            f"mosaic {self.mosaic} needs pooling avg, got {self.pooling}: the mean of a cell's patches is classified",
        )
        for name, off in (("auto_augment", "none"), ("color_jitter", 0), ("random_erasing", 0)):
            value = getattr(augmentation, name)
            require(
                value == off or self.data.augmentation == "imagenet",
                f"augmentation.{name} {value} needs data.augmentation imagenet, got {self.data.augmentation}",
            )
