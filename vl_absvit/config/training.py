"""Training of a model: losses, optimizer, data, and the run itself."""

from dataclasses import dataclass, field, replace
from typing import Literal

from vl_absvit.config.checks import below_one, not_negative, positive, require

Precision = Literal["fp32", "bf16"]
"""Precision of a forward pass in training, as defined in ``precision.py``."""
EvaluationPrecision = Literal["fp32", "bf16", "int8"]
"""Precision of a forward pass of a checkpoint."""


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
        not_negative("loss", prior=self.prior, reconstruction=self.reconstruction, transform=self.transform)


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """Peak learning rate of each part of the model; 0 freezes a part. The defaults are the AbSViT recipe's."""

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
    """AdamW with linear warm-up, then decay, both computed from the optimizer step."""

    batch_size: int = 512
    """Samples per optimizer step, summed over all processes and accumulation steps."""
    micro_batch_size: int | None = None
    """Samples per process and forward pass; None runs one forward pass per optimizer step."""
    epochs: int = 10
    """Passes over the training split."""
    learning_rates: LearningRates = field(default_factory=LearningRates)
    """Peak learning rate per module."""
    freeze: tuple[Literal["vision", "text", "fusion", "head", "feedback", "prior"], ...] = ()
    """Parts that stay as they start, whatever their learning rate: no gradients, no moments."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's moment decay rates."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    weight_decay: float = 0.01
    """AdamW's weight decay, for weights of two or more dimensions; others are exempt, but see ``decay_vectors``."""
    decay_positions: bool = True
    """Decay the encoder's position table and CLS token, too, as METER; false exempts them, as DeiT, GFNet, FAN and the
    ImageNet release."""
    decay_vectors: bool = False
    """Decay biases, batch norms, the trainable query and whatever else has one dimension, too, as mmsegmentation and
    the authors' segmentation code; layer norms stay exempt."""
    warmup_fraction: float = 0.1
    """Share of all optimizer steps spent on linear warm-up, in [0, 1)."""
    schedule: Literal["linear", "linear_throughout", "cosine", "timm", "timm_late"] = "linear"
    """Fall of the learning rates after the warm-up: along a line, or along half a cosine. ``linear_throughout``: along
    a line from the first step on, which the warm-up multiplies, so that the peak rates never come, as in mmsegmentation
    before 1.0 and the authors' segmentation code. ``timm``: as timm's cosine scheduler, a rate for every whole epoch
    and a cosine that begins with the first one. ``timm_late``: the same, set by the number of the epoch before, as in
    the code of DeiT, GFNet, RVT, VARS and AbSViT; so the first two epochs both have the first rate, and the last
    epoch's never comes."""
    first_share: float = 0.0
    """Share of the peak rates at the first step, where the warm-up begins, in [0, 1]."""
    last_share: float = 0.0
    """Share of the peak rates to which they fall, in [0, 1]."""
    max_grad_norm: float | None = 1.0
    """Gradients are clipped to this global norm; None does not clip."""

    def __post_init__(self) -> None:
        positive("optim", batch_size=self.batch_size, micro_batch_size=self.micro_batch_size, epochs=self.epochs)
        positive("optim", eps=self.eps, max_grad_norm=self.max_grad_norm)
        not_negative("optim", weight_decay=self.weight_decay)
        below_one("optim", warmup_fraction=self.warmup_fraction, **{f"betas[{i}]": b for i, b in enumerate(self.betas)})
        for name in ("first_share", "last_share"):
            require(0 <= (share := getattr(self, name)) <= 1, f"optim.{name} must be in [0, 1], got {share}")
        warmup = self.epochs * self.warmup_fraction
        require(
            not self.schedule.startswith("timm") or abs(warmup - round(warmup)) < 1e-3,
            f"optim.schedule {self.schedule} has a rate for every whole epoch, but optim.warmup_fraction "
            f"{self.warmup_fraction} of {self.epochs} epochs is {warmup:g} epochs of warm-up",
        )

    @property
    def rates(self) -> LearningRates:
        """``learning_rates``, 0 for the parts of ``freeze``."""
        return replace(self.learning_rates, **dict.fromkeys(self.freeze, 0.0))


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
    augmentation: Literal["none", "randaugment", "randaugment_fast", "imagenet", "pixels"] = "randaugment"
    """Training images: as in evaluation; with RandAugment (n=2, m=9) as METER; nearly so in half the time, from JPEG
    files decoded at a reduced scale; in pretraining alone, a random part of the picture (8 to 100 % of its area),
    mirrored or not, and what the group ``augmentation`` adds to it; or, in segmentation alone, a part of the picture at
    a random scale, mirrored or not, in other colours, with its label."""
    stream: str | None = None
    """Folder of shards that ``vl-absvit write-stream-shards`` wrote of ``train_splits`` (VQA alone): training reads
    questions and images from them, each process from shards of its own, with a few megabytes of each in memory. None
    reads ``root``, in any order. Selection is on ``root`` either way."""
    samples_per_image: int = 1
    """Questions (or captions) on one image that a batch takes together, at most; they share its decoding and its first
    look. Every sample is still seen once per epoch and as likely in any step, but a batch has fewer images. 1 draws
    samples independently."""
    keep_frozen: str | None = None
    """Folder for what frozen encoders make of the training set, in bf16: the first look at every image and, if the text
    encoder is frozen, too, the vectors of every text. It is made once, before the first step, and then read in place of
    pictures and texts, by later runs as well. Needs a frozen trunk (``optim.freeze: [vision]``), images without
    augmentation and trunks without ``vision.drop_path``. For VQA and retrieval; None keeps nothing."""
    num_workers: int = 4
    """Loader processes per training process; 0 loads in the training process. Batches do not depend on it."""

    def __post_init__(self) -> None:
        require(len(self.train_splits) > 0, "data.train_splits is empty")
        is_once = len(set(self.train_splits)) == len(self.train_splits)
        require(is_once, f"data.train_splits names a split more than once: {', '.join(self.train_splits)}")
        require(
            self.select_split not in self.train_splits,
            f"data.select_split {self.select_split!r} is also trained on; "
            "set it to null to give up checkpoint selection",
        )
        positive("data", samples_per_image=self.samples_per_image)
        require(
            self.stream is None or self.samples_per_image == 1,
            f"data.samples_per_image is {self.samples_per_image}, but data.stream {self.stream} has its own order",
        )
        require(
            self.keep_frozen is None or self.augmentation == "none",
            f"data.keep_frozen keeps one first look at each image, but data.augmentation {self.augmentation} makes "
            "another image in every epoch; set it to none",
        )
        require(
            self.keep_frozen is None or self.stream is None,
            f"data.keep_frozen finds first looks by the ids of images, but data.stream {self.stream} is read from "
            "beginning to end; leave one of them out",
        )
        not_negative("data", num_workers=self.num_workers)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Output and execution of a run."""

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
        positive("run", log_every=self.log_every, evaluations_per_epoch=self.evaluations_per_epoch)
        not_negative("run", seed=self.seed)
