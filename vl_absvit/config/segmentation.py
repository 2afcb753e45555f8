"""What finetuning on labelled pixels has to be told beyond what all runs are."""

from dataclasses import dataclass, field
from typing import Literal

from vl_absvit.config.checks import below_one, not_negative, positive, require
from vl_absvit.config.model import VisionConfig
from vl_absvit.config.runs import TaskConfig
from vl_absvit.config.training import LossConfig

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class SegmentationLossConfig(LossConfig):
    """Weights of the losses of labelled pixels; 0 removes a loss and its computation."""

    prior: float = 0.0
    reconstruction: float = 0.1
    """Weight of the feedback decoders' reconstruction loss (the authors' segmentation code: 0)."""
    auxiliary: float = 0.4
    """Weight of the auxiliary head's loss; 0 leaves the head out."""
    mean: Literal["valid", "all"] = "valid"
    """Pixels of the global batch over which losses are means: those that have a class, or all, as in mmsegmentation and
    the authors' release, where void and padding weaken a batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative("loss", auxiliary=self.auxiliary)


@dataclass(frozen=True, kw_only=True)
class UPerNetConfig:
    """UPerNet on four maps of the encoder."""

    neck: Literal["none", "feature2pyramid", "multilevel"] = "none"
    """What becomes of the maps before the head: nothing (the authors' release), or a pyramid by transposed convolutions
    (BEiT, MAE) or by interpolation (mmsegmentation's ViT)."""
    maps: tuple[int, ...] | None = None
    """The blocks, counted from 0, whose outputs are the four maps, the last block among them; None takes them evenly
    spaced (2, 5, 8, 11 of twelve)."""
    channels: int = 512
    """Width of the head."""
    auxiliary_channels: int = 256
    """Width of the auxiliary head."""
    dropout: float = 0.1
    """Rate at which whole channels are dropped before a head's last layer."""
    positions: Literal["timm", "release"] = "timm"
    """How a ViT's table of positions is resampled: with antialiasing (timm), or without (the authors' release)."""

    def __post_init__(self) -> None:
        positive("head", channels=self.channels, auxiliary_channels=self.auxiliary_channels)
        below_one("head", dropout=self.dropout)


@dataclass(frozen=True, kw_only=True)
class PicturesConfig:
    """Sizes of pictures, in pixels: height before width."""

    longest: int = 2048
    """Limit of a picture's longer side. It is resized, as large as both limits allow, and keeps its proportions."""
    shortest: int = 512
    """Limit of its shorter side."""
    crop: Size | None = None
    """Height and width of training images, cut out of pictures that are 0.5 to 2 times as large; None is a square of
    ``vision.image_size``."""
    window: Size | None = None
    """Height and width of the windows that evaluation moves over a picture; None shows it whole."""
    stride: Size | None = None
    """Steps of the window; None takes two thirds of it."""
    border: Literal["cut", "stretched"] = "cut"
    """What becomes of logits over the zeros that fill up a picture's last patches: they are cut off, or, as in the
    authors' release, all are squeezed into the picture."""

    def __post_init__(self) -> None:
        positive("pictures", longest=self.longest, shortest=self.shortest)
        for name in ("crop", "window", "stride"):
            value = getattr(self, name)
            positive("pictures", **{name: None if value is None else list(value)})
        require(self.shortest <= self.longest, f"pictures.shortest {self.shortest} is more than longest {self.longest}")
        require(
            self.stride is None or self.window is not None,
            f"pictures.stride is {self.stride}, but there is no pictures.window to move",
        )
        if self.window is not None and self.stride is not None:
            is_covered = all(step <= side for step, side in zip(self.stride, self.window, strict=True))
            require(is_covered, f"pictures.stride {self.stride} leaves out pixels between windows of {self.window}")


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig(TaskConfig):
    """Finetuning on labelled pixels, with a trainable query as prior."""

    task: Literal["segmentation"] = "segmentation"
    vision: VisionConfig = field(default_factory=lambda: VisionConfig(gain=1.0, image_size=512))
    from_checkpoint: str | None = None
    """Checkpoint folder of a segmenter, or its name on the hub, whose weights the whole model starts from, in place of
    ``vision.weights``. Classes of the same name keep their rows of the heads."""
    head: UPerNetConfig = field(default_factory=UPerNetConfig)
    pictures: PicturesConfig = field(default_factory=PicturesConfig)
    loss: SegmentationLossConfig = field(default_factory=SegmentationLossConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        data = self.data
        require(
            data.augmentation in ("none", "pixels"),
            f"data.augmentation {data.augmentation} changes pictures without their labels; in segmentation it is "
            "pixels or none",
        )
        require(
            data.samples_per_image == 1,
            f"data.samples_per_image is {data.samples_per_image}, but in segmentation an image is one sample",
        )
        absent = [part for part in self.optim.freeze if part in ("text", "fusion")]
        require(not absent, f"optim.freeze names {', '.join(absent)}, which segmentation does not have")
        require(
            self.vision.mask == "cosine",
            "vision.mask calibrated needs texts to be calibrated by; in segmentation it is cosine",
        )

    @property
    def crop(self) -> Size:
        """Height and width of training images."""
        return self.pictures.crop or (self.vision.image_size, self.vision.image_size)
