"""A run's configuration: frozen dataclasses; every default lives here once.

The docstring under a field is its documentation in ``--help``. Contradictions raise ``ConfigError`` when the config is
made. Names used in comments: B image-text pairs, N vision tokens, D vision width.
"""

from dataclasses import dataclass, field
from typing import Literal

from vl_absvit.errors import ConfigError
from vl_absvit.variants import VARIANTS, TopDown

Precision = Literal["fp32", "bf16"]
"""Of the arithmetic of a forward pass; ``precision.py`` says what they mean."""
# Earlier names of keys. torchrun reads abbreviations of its own options even behind a script's name, and ``--start`` is
# one of ``--start-method``.
RENAMED = {"start": "from_checkpoint"}
EARLIER = {"negative_images": 0, "vision.mask": "cosine"}
"""What runs did that were started before a key existed, where its default is something else."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _positive(group: str, **values: float | None) -> None:
    for name, value in values.items():
        _require(value is None or value > 0, f"{group}.{name} must be positive, got {value}")


def _not_negative(group: str, **values: float) -> None:
    for name, value in values.items():
        _require(value >= 0, f"{group}.{name} must be at least 0, got {value}")


def _below_one(group: str, **values: float) -> None:
    for name, value in values.items():
        _require(0 <= value < 1, f"{group}.{name} must be in [0, 1), got {value}")


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """The visual encoder: an AbSViT, or one of its baselines."""

    model: str = "absvit_base_patch16_224"
    """Registered timm name: ``absvit_{tiny,small,base}_patch{16,8}_224``; sizes can be changed by the fields below."""
    image_size: int = 224
    """Side of the square input, in pixels; the position table is resampled to it."""
    patch_size: int | None = None
    """Side of a patch in pixels; None keeps the model's own."""
    width: int | None = None
    """Token width D; None keeps the model's own."""
    depth: int | None = None
    """Number of blocks; None keeps the model's own."""
    num_heads: int | None = None
    """Attention heads per block; None keeps the model's own."""
    top_down: TopDown = "absvit"
    """AbSViT or one of its baselines, all on the same trunk weights. ``none``: the plain ViT, which looks once.
    ``perceiver_io``: its output tokens, reweighted by the prior. ``feedback``: tokens fed back without reweighting, so
    that the second look knows no text. ``mask_att``: the prior mask multiplies the values of the second look.
    ``absvit``: reweighted tokens, fed back to the values. ``absvit_qkv``: to queries, keys and values."""
    modulation: Literal["reweight", "reweight_project"] = "reweight"
    """Form of step 2 where a prior reweights tokens (``perceiver_io``, ``absvit``, ``absvit_qkv``): the paper's, or the
    rank-one form of the released vision-language code."""
    gain: float = 10.0
    """Strength of the top-down signal: alpha of ``reweight`` (paper: 1 on ImageNet, 10 here), 5 for
    ``reweight_project``. ``feedback`` multiplies what it feeds back by it, ``perceiver_io`` the tokens that it gives;
    ``none`` and ``mask_att`` do not use it."""
    mask: Literal["cosine", "calibrated"] = "cosine"
    """The prior mask m of step 2. ``cosine``: the cosine of prior and token, clamped at 0 (paper). ``calibrated``: how
    far it is above a threshold that the prior loss trains, in [0, 1]: open on what is asked for, 0 elsewhere."""
    weights: str | None = None
    """Start weights of the trunk: a file (``.safetensors``; ``.pth``, ``.pt`` or ``.bin`` of tensors alone), a folder
    with ``model.safetensors`` or ``pytorch_model.bin``, written by this project, timm, DeiT, MAE, DINO or transformers'
    ViT, or a safetensors one's name on the hub (``hf-hub:timm/vit_base_patch16_224.augreg_in1k``). ``timm`` downloads
    the ImageNet weights of the ``vit_`` twin; None starts from random weights.
    Positions and patches are resampled; a classifier keeps the rows of classes that a pretraining's folder names."""
    decoders: Literal["closed_form", "random"] = "closed_form"
    """How feedback decoders start where the start weights of the trunk hold none. ``closed_form``: fitted to what the
    trunk sees in images of the training set, so that what is fed back is what was seen there. ``random`` (paper):
    random weights, as without start weights."""
    image_statistics: Literal["backbone", "clip", "imagenet"] = "backbone"
    """Mean and standard deviation of pixels: the backbone's own, CLIP's (released vision-language weights), or
    ImageNet's (released ImageNet weights)."""
    drop_path: float = 0.0
    """Largest stochastic depth rate, reached in the last block, in [0, 1)."""
    gradient_checkpointing: bool = False
    """Recompute block activations in the backward pass: less memory, more time."""

    def __post_init__(self) -> None:
        known = ", ".join(VARIANTS)
        _require(self.top_down in VARIANTS, f"vision.top_down must be one of {known}, got {self.top_down}")
        _positive("vision", image_size=self.image_size, patch_size=self.patch_size)
        _positive("vision", width=self.width, depth=self.depth, num_heads=self.num_heads)
        _not_negative("vision", gain=self.gain)
        _below_one("vision", drop_path=self.drop_path)


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The text encoder: a RoBERTa, loaded or from scratch."""

    model: str | None = "roberta-base"
    """Folder or hub name (``roberta-base``, ``NAME@REVISION``) of a ``RobertaModel`` with its tokenizer; None builds
    one from scratch with the sizes below."""
    tokenizer: str | None = None
    """Folder or hub name of the tokenizer; None means the one beside ``model``, whose vocabulary another one must
    share."""
    width: int = 768
    """Token width when built from scratch."""
    depth: int = 12
    """Number of layers when built from scratch."""
    num_heads: int = 12
    """Attention heads per layer when built from scratch."""
    dropout: float = 0.1
    """Dropout of hidden states and attention when built from scratch."""
    max_tokens: int = 50
    """Longest text in tokens, ``<s>`` and ``</s>`` included; longer texts are cut and counted."""

    def __post_init__(self) -> None:
        _positive("text", width=self.width, depth=self.depth, num_heads=self.num_heads)
        _below_one("text", dropout=self.dropout)
        _require(self.max_tokens >= 3, f"text.max_tokens must be at least 3, got {self.max_tokens}")
        _require(
            self.model is not None or self.tokenizer is not None,
            "text.tokenizer is needed when text.model is null: a model from scratch has no tokenizer of its own",
        )
        _require(
            self.width % self.num_heads == 0, f"text.width {self.width} does not divide into {self.num_heads} heads"
        )


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """The prior xi: where it comes from and what trains it."""

    sentence: Literal["cls", "masked_mean", "eos", "padded_mean"] = "cls"
    """Sentence vector t: the ``<s>`` token (paper), the mean over real tokens, the first ``</s>`` token (released
    retrieval), or the mean over all positions, padding included (released VQA weights only)."""
    look: Literal["first", "second"] = "first"
    """Which look's tokens the prior loss compares with the prior."""
    pool: Literal["max", "mean", "cls"] = "max"
    """What stands for an image in the prior loss: its best-matching patch, its mean patch, or its CLS token."""
    temperature: float = 0.07
    """Temperature of the contrastive prior loss."""
    blank_negatives: bool = False
    """Count as many blank images (cosine 0) as images as negatives, which keeps the best patch above the clamp's 0."""

    def __post_init__(self) -> None:
        _positive("prior", temperature=self.temperature)


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """The co-attention fusion encoder, trained from scratch."""

    width: int = 768
    """Width of both streams."""
    num_layers: int = 6
    """Co-attention layers per stream."""
    num_heads: int = 12
    """Attention heads per layer."""
    mlp_ratio: float = 4.0
    """Width of the feed-forward part over ``width``."""
    dropout: float = 0.1
    """Dropout of hidden states and attention weights."""

    def __post_init__(self) -> None:
        _positive("fusion", width=self.width, num_layers=self.num_layers, num_heads=self.num_heads)
        _positive("fusion", mlp_ratio=self.mlp_ratio)
        _below_one("fusion", dropout=self.dropout)
        _require(
            self.width % self.num_heads == 0, f"fusion.width {self.width} does not divide into {self.num_heads} heads"
        )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the auxiliary losses; 0 removes a loss and its computation."""

    prior: float = 1.0
    """Weight of the contrastive prior loss."""
    reconstruction: float = 0.3
    """Weight of the feedback decoders' reconstruction loss (paper: 0.1 on ImageNet, 0.3 for vision and language)."""
    transform: float = 0.0
    """Weight of the loss that holds what the decoders T_l make of a reconstruction to the block's normed input, as the
    reconstruction loss holds the reconstruction to the input (paper: none)."""

    def __post_init__(self) -> None:
        _not_negative("loss", prior=self.prior, reconstruction=self.reconstruction, transform=self.transform)


@dataclass(frozen=True, kw_only=True)
class RetrievalLossConfig:
    """Weights of the retrieval losses; 0 removes a loss, its computation and what it alone trains from training."""

    ranking: float = 1.0
    """Weight of the softmax over an image's own and its false captions, and of that over a caption's own and its hard
    images, scored by the whole model. Without it, the model ranks by its matching logits."""
    itm: float = 1.0
    """Weight of image-text matching against a hard caption and hard images of the batch."""
    prior: float = 1.0
    """Weight of the contrastive prior loss, which also trains the dual encoder."""
    reconstruction: float = 0.3
    """Weight of the feedback decoders' reconstruction loss."""
    transform: float = 0.0
    """Weight of the loss that holds what the decoders T_l make of a reconstruction to the block's normed input, as the
    reconstruction loss holds the reconstruction to the input (paper: none)."""

    def __post_init__(self) -> None:
        _not_negative("loss", ranking=self.ranking, itm=self.itm, prior=self.prior)
        _not_negative("loss", reconstruction=self.reconstruction, transform=self.transform)
        _require(self.ranking > 0 or self.itm > 0, "loss.ranking and loss.itm are both 0: nothing trains the fusion")


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """Peak learning rate of each part of the model; 0 leaves a part as it is. The defaults are the AbSViT recipe's."""

    vision: float = 1e-5
    """Trunk of the visual encoder."""
    text: float = 1e-5
    """Text encoder."""
    fusion: float = 5e-5
    """Fusion encoder (5 times the base rate)."""
    head: float = 5e-4
    """Task head (50 times the base rate for VQA, as METER)."""
    feedback: float = 3e-5
    """Feedback decoders R_l and T_l (3 times the base rate)."""
    prior: float = 3e-5
    """Prior projection P (3 times the base rate)."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with linear warm-up, then decay to zero, both computed from the optimizer step."""

    batch_size: int = 512
    """Samples per optimizer step, summed over all processes and accumulation steps."""
    micro_batch_size: int | None = None
    """Samples per process and forward pass; None runs one forward pass per optimizer step."""
    epochs: int = 10
    """Passes over the training split."""
    learning_rates: LearningRates = field(default_factory=LearningRates)
    """Peak learning rate per module."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's moment decay rates."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    weight_decay: float = 0.01
    """AdamW's weight decay, for weights of two or more dimensions; norms and biases are exempt."""
    decay_positions: bool = True
    """Decay the encoder's position table and CLS token, too, as METER; false exempts them, as DeiT and the ImageNet
    release."""
    warmup_fraction: float = 0.1
    """Share of all optimizer steps spent on linear warm-up, in [0, 1)."""
    schedule: Literal["linear", "cosine"] = "linear"
    """How the learning rates fall to zero after the warm-up: along a line, or along half a cosine."""
    max_grad_norm: float | None = 1.0
    """Gradients are clipped to this global norm; None does not clip."""

    def __post_init__(self) -> None:
        _positive("optim", batch_size=self.batch_size, micro_batch_size=self.micro_batch_size, epochs=self.epochs)
        _positive("optim", eps=self.eps, max_grad_norm=self.max_grad_norm)
        _not_negative("optim", weight_decay=self.weight_decay)
        _below_one(
            "optim", warmup_fraction=self.warmup_fraction, **{f"betas[{i}]": b for i, b in enumerate(self.betas)}
        )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Prepared data and how it is read."""

    root: str
    """Folder written by a script of ``data_prep`` (VQA), or an ImageFolder with ``train`` and ``val`` (pretraining)."""
    images: str | None = None
    """Folder of the raw images of prepared data; None looks for them beside ``root`` as they were at preparation, then
    where they were."""
    train_splits: tuple[str, ...] = ("train",)
    """Splits to train on. Training on everything for a leaderboard is ``[train, minival, val]`` with
    ``select_split: null``."""
    select_split: str | None = "minival"
    """Split that tunes and picks the best checkpoint; never one that is reported. None selects nothing and keeps
    ``last`` only."""
    augmentation: Literal["none", "randaugment", "imagenet"] = "randaugment"
    """Training images: as in evaluation; with RandAugment (n=2, m=9) as METER; or, in pretraining alone, a random part
    of the picture (8 to 100 % of its area), mirrored or not, and what the group ``augmentation`` adds to it."""
    stream: str | None = None
    """Folder of shards that ``data_prep/write_stream_shards.py`` wrote of ``train_splits`` (VQA alone): training reads
    questions and images from them, each process from shards of its own, with a few megabytes of each in memory. None
    reads ``root``, in any order. Selection is on ``root`` either way."""
    samples_per_image: int = 1
    """Questions (or captions) on one image that a batch takes together, at most; they share its decoding and its first
    look. Every sample is still seen once per epoch and as likely in any step, but a batch has fewer images. 1 draws
    samples independently."""
    num_workers: int = 4
    """Loader processes per training process; 0 loads in the training process. Batches do not depend on it."""

    def __post_init__(self) -> None:
        _require(len(self.train_splits) > 0, "data.train_splits is empty")
        is_once = len(set(self.train_splits)) == len(self.train_splits)
        _require(is_once, f"data.train_splits names a split more than once: {', '.join(self.train_splits)}")
        _require(
            self.select_split not in self.train_splits,
            f"data.select_split {self.select_split!r} is also trained on; "
            "set it to null to give up checkpoint selection",
        )
        _positive("data", samples_per_image=self.samples_per_image)
        _require(
            self.stream is None or self.samples_per_image == 1,
            f"data.samples_per_image is {self.samples_per_image}, but data.stream {self.stream} has its own order",
        )
        _not_negative("data", num_workers=self.num_workers)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where a run writes, and how it executes."""

    output: str
    """Run folder: config, metrics, console log and checkpoints."""
    seed: int = 0
    """Seed of initialization, order and augmentation."""
    precision: Precision = "bf16"
    """Arithmetic of forward passes, in training and in its evaluations; weights, optimizer states and whatever is
    compared stay fp32."""
    compile: bool = False
    """Compile the forward and backward pass of finetuning on VQA (``torch.compile``): the first steps take minutes, the
    others less time on a GPU. Evaluations are not compiled."""
    log_every: int = 20
    """Optimizer steps between two lines of ``metrics.jsonl``."""
    evaluations_per_epoch: int = 1
    """How often per epoch the selection split is evaluated and ``last`` is saved."""
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ("tensorboard",)
    """Experiment trackers that also receive the metrics."""
    project: str | None = None
    """W&B's project; null takes ``WANDB_PROJECT``, else ``vl_absvit``."""
    name: str | None = None
    """Name of the run in W&B; null takes ``WANDB_NAME``, else the run folder's name."""
    resume: bool = False
    """Go on from ``checkpoints/last``; without it a folder that already holds a run is an error."""

    def __post_init__(self) -> None:
        _positive("run", log_every=self.log_every, evaluations_per_epoch=self.evaluations_per_epoch)
        _not_negative("run", seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class VQAConfig:
    """Finetuning on visual question answering."""

    data: DataConfig
    run: RunConfig
    from_checkpoint: str | None = None
    """Checkpoint folder, or its name on the hub (``lab/absvit-vqa``, ``lab/absvit-vqa@REVISION``), whose weights the
    whole model starts from, in place of ``vision.weights`` and the weights of ``text.model``. A head of another kind
    stays random; of other answers, those of the same text keep their rows."""
    vision: VisionConfig = field(default_factory=lambda: VisionConfig(mask="calibrated"))
    text: TextConfig = field(default_factory=TextConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        _require_compared_look(self.vision, self.prior)
        _require_unmirrored(self.data)
        _require_whole_slots(self.data, self.optim)
        _require(
            not (self.run.compile and self.vision.gradient_checkpointing),
            "run.compile and vision.gradient_checkpointing exclude each other: what is compiled decides itself what to "
            "compute again",
        )


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """Finetuning on image-text retrieval."""

    data: DataConfig
    """Its splits hold captions; ``select_split`` is ``val``, never ``test``."""
    run: RunConfig
    from_checkpoint: str | None = None
    """Checkpoint folder, or its name on the hub (``lab/absvit-vqa``, ``lab/absvit-vqa@REVISION``), whose weights the
    whole model starts from, in place of ``vision.weights`` and the weights of ``text.model``. A head of another kind
    stays random."""
    vision: VisionConfig = field(default_factory=lambda: VisionConfig(mask="calibrated"))
    text: TextConfig = field(default_factory=lambda: TextConfig(max_tokens=40))
    prior: PriorConfig = field(default_factory=PriorConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
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
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        _positive("config", negatives=self.negatives, select_shortlist=self.select_shortlist)
        _not_negative("config", negative_images=self.negative_images)
        _require_no_stream(self.data)
        _require_uncompiled(self.run)
        _require_compared_look(self.vision, self.prior)
        _require_unmirrored(self.data)
        _require_whole_slots(self.data, self.optim)
        _require(
            self.loss.prior > 0 or VARIANTS[self.vision.top_down].uses_prior,
            f"loss.prior is 0, but nothing else trains the prior where vision.top_down is {self.vision.top_down}",
        )


def _require_compared_look(vision: VisionConfig, prior: PriorConfig) -> None:
    _require(
        vision.mask == "cosine" or (prior.look, prior.pool) == ("first", "max"),
        f"vision.mask calibrated is calibrated on the best patch of the first look, but prior.look is {prior.look} and "
        f"prior.pool {prior.pool}; set vision.mask to cosine",
    )
    _require(
        prior.look == "first" or VARIANTS[vision.top_down].looks_again_for_the_text,
        f"prior.look is second, but vision.top_down {vision.top_down} has no second look that depends on the text",
    )


def _require_no_stream(data: DataConfig) -> None:
    _require(data.stream is None, f"data.stream {data.stream} is for finetuning on VQA alone")


def _require_uncompiled(run: RunConfig) -> None:
    _require(not run.compile, "run.compile is for finetuning on VQA alone")


def _require_unmirrored(data: DataConfig) -> None:
    _require(
        data.augmentation != "imagenet",
        "data.augmentation imagenet mirrors pictures and cuts things off, and texts speak of left, right and all of "
        "them; it is for pretraining",
    )


def _require_whole_slots(data: DataConfig, optim: OptimConfig) -> None:
    _require(
        optim.batch_size % data.samples_per_image == 0,
        f"optim.batch_size {optim.batch_size} is no multiple of data.samples_per_image {data.samples_per_image}",
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

    def __post_init__(self) -> None:
        _not_negative("augmentation", color_jitter=self.color_jitter, mixup=self.mixup, cutmix=self.cutmix)
        _require(
            0 <= self.random_erasing <= 1, f"augmentation.random_erasing must be in [0, 1], got {self.random_erasing}"
        )
        _below_one("augmentation", label_smoothing=self.label_smoothing)

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed."""
        return self.mixup > 0 or self.cutmix > 0


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Pretraining the visual encoder on image classification, with a trainable query as prior."""

    data: DataConfig
    run: RunConfig
    vision: VisionConfig = field(default_factory=lambda: VisionConfig(gain=1.0))
    pooling: Literal["token", "avg"] = "token"
    """What the classifier reads: the CLS token, or the mean patch."""
    mosaic: int = 1
    """Side n of a mosaic: training images are n x n mosaics of the folder's images, their targets the mean of the n x n
    labels. Above 1 the encoder learns to keep what it sees where it sees it."""
    crop_pct: float = 1.0
    """Share of the shorter side that is seen in evaluation, in (0, 1], from the middle: 0.875 resizes to 256 pixels and
    cuts out 224. The checkpoint keeps it."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    loss: LossConfig = field(default_factory=lambda: LossConfig(prior=0.0, reconstruction=0.1))
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        _require_no_stream(self.data)
        _require_uncompiled(self.run)
        _require(
            self.data.images is None,
            f"data.images is {self.data.images}, but in pretraining data.root is the folder of images itself",
        )
        _require(
            self.data.samples_per_image == 1,
            f"data.samples_per_image is {self.data.samples_per_image}, but in pretraining an image is one sample",
        )
        _require(
            self.vision.mask == "cosine",
            "vision.mask calibrated needs texts to be calibrated by; in pretraining it is cosine",
        )
        _require(self.mosaic > 0, f"mosaic must be positive, got {self.mosaic}")
        _require(
            self.vision.image_size % self.mosaic == 0,
            f"vision.image_size {self.vision.image_size} does not divide into a mosaic of "
            f"{self.mosaic} x {self.mosaic}",
        )
        _require(0 < self.crop_pct <= 1, f"crop_pct must be in (0, 1], got {self.crop_pct}")
        augmentation = self.augmentation
        _require(
            self.mosaic == 1 or not augmentation.mixes,
            f"mosaic {self.mosaic} and augmentation.mixup {augmentation.mixup} or cutmix {augmentation.cutmix} exclude "
            "each other: a mosaic is mixed already",
        )
        for name, off in (("auto_augment", "none"), ("color_jitter", 0), ("random_erasing", 0)):
            value = getattr(augmentation, name)
            _require(
                value == off or self.data.augmentation == "imagenet",
                f"augmentation.{name} {value} needs data.augmentation imagenet, got {self.data.augmentation}",
            )
