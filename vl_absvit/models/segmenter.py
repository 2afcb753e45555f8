"""A visual encoder with UPerNet: a class for every pixel.

Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018, arXiv:1807.10221. The heads are those of
transformers, with the dropout and the first weights of mmsegmentation, which AbSViT's authors used.
Shapes: I images of H x W pixels, C classes, D width, h x w the grid of a map.
"""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import UperNetConfig
from transformers.models.upernet.modeling_upernet import UperNetConvModule, UperNetFCNHead, UperNetHead

from vl_absvit.errors import ConfigError
from vl_absvit.models.looks import TwoLooks, VisionModel, VisualEncoder
from vl_absvit.models.necks import NECKS, Neck
from vl_absvit.models.token_norms import MapBatchNorm
from vl_absvit.precision import always_fp32

POOL_SCALES = (1, 2, 3, 6)
MAPS = 4
AUXILIARY_MAP: dict[Neck, int] = {"none": 3, "feature2pyramid": 2, "multilevel": 3}
"""The map that the auxiliary head reads: the last one; the third where a pyramid halves the last one."""
CLASSIFIER_DEVIATION = 0.01


class SegmenterOutput(NamedTuple):
    """Logits of pixels on the grid of the neck's first map, and losses of the encoder."""

    logits: Tensor  # (I, C, h, w)
    auxiliary_logits: Tensor | None  # (I, C, h', w'), if requested
    reconstruction: Tensor | None = None  # (), the reconstruction loss if requested
    transform: Tensor | None = None  # (), the transform loss if requested


class PixelClassifier(nn.Conv2d):
    """The last layer of a head, in fp32: its outputs are compared."""

    def __init__(self, before: nn.Conv2d) -> None:
        super().__init__(before.in_channels, before.out_channels, kernel_size=1)
        nn.init.normal_(self.weight, std=CLASSIFIER_DEVIATION)
        assert self.bias is not None, "a classifier has a bias"
        nn.init.zeros_(self.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(I, D, h, w) -> (I, C, h, w)."""
        return _convolve(features, self.weight, self.bias)


_convolve = always_fp32(F.conv2d)


class Segmenter(VisionModel):
    """An encoder, a neck, UPerNet's head on four maps, and an auxiliary head for training.

    Args:
        vision: the encoder, with its trainable query where it uses a prior.
        num_classes: C.
        channels: width of UPerNet.
        auxiliary_channels: width of the auxiliary head; None leaves it out.
        dropout: of whole channels before each head's last layer.
        neck: makes a pyramid of the maps.
        maps: the blocks, counted from 0, whose outputs are the four maps; the last block is among them as the last one.
            None takes them evenly spaced.
    """

    def __init__(
        self,
        vision: VisualEncoder,
        num_classes: int,
        *,
        channels: int,
        auxiliary_channels: int | None,
        dropout: float,
        neck: Neck,
        maps: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        blocks = len(vision.all_blocks)
        self.maps = evenly_spaced(blocks) if maps is None else list(maps)
        check_maps(self.maps, blocks)
        self.vision, self.num_classes = vision, num_classes
        width_of_block = [stage.width for stage in vision.stages for _ in stage.blocks]
        self.neck = NECKS[neck]([width_of_block[block] for block in self.maps])
        config = UperNetConfig(
            num_labels=num_classes,
            hidden_size=channels,
            pool_scales=list(POOL_SCALES),
            auxiliary_channels=auxiliary_channels or channels,
            auxiliary_num_convs=1,
            auxiliary_concat_input=False,
        )
        self.head = UperNetHead(config, self.neck.widths)
        self.auxiliary_head: nn.Module | None = None
        if auxiliary_channels is not None:
            self.auxiliary_head = UperNetFCNHead(config, self.neck.widths, in_index=AUXILIARY_MAP[neck])
        for head in filter(None, (self.head, self.auxiliary_head)):
            _start(head)
            head.classifier = nn.Sequential(nn.Dropout2d(dropout), PixelClassifier(head.classifier))

    def forward(
        self,
        images: Tensor,
        need_auxiliary: bool = False,
        need_reconstruction: bool = False,
        need_transform: bool = False,
        prior: Tensor | None = None,
    ) -> SegmenterOutput:
        """Images (I, 3, H, W) to logits.

        Args:
            need_auxiliary: whether the auxiliary head is used, if there is one.
            prior: one for each image, (I, D), in place of the trainable query.
        """
        looks = self.vision.look_twice(images, prior)
        maps = self.neck(self.feature_maps(looks, images))
        auxiliary = self.auxiliary_head(maps) if need_auxiliary and self.auxiliary_head is not None else None
        if looks.second is None or not looks.second.states:
            return SegmenterOutput(self.head(maps), auxiliary)
        losses = self.vision.decoder_losses(looks.second.states, need_reconstruction, need_transform)
        return SegmenterOutput(self.head(maps), auxiliary, **losses._asdict())

    @property
    def takes_any_size(self) -> bool:
        """Whether images may have another size than the encoder's own."""
        return bool(getattr(self.vision, "dynamic_img_size", False))

    def feature_maps(self, looks: TwoLooks, images: Tensor) -> list[Tensor]:
        """The last look's four maps, (I, D, h, w): outputs of blocks, the last one after the final norm.

        Args:
            looks: at these images, (I, 3, H, W).
        """
        looks_again = looks.second is not None and looks.second.states
        states = looks.second_states(None) if looks_again else looks.first.states
        outputs = [*self.vision.outputs(states)[:-1], looks.seen(None)]
        height, width = images.shape[-2:]
        grids = self.vision.grids((height, width))
        grid_of_block = [grid for stage, grid in zip(self.vision.stages, grids, strict=True) for _ in stage.blocks]
        prefix = self.vision.num_prefix_tokens
        return [outputs[block][:, prefix:].mT.unflatten(2, grid_of_block[block]) for block in self.maps]


def evenly_spaced(blocks: int) -> list[int]:
    """Four blocks of some number, as evenly spaced as can be, the last one among them: 2, 5, 8, 11 of twelve."""
    return [ceil(blocks * part / MAPS) - 1 for part in range(1, MAPS + 1)]


def check_maps(maps: Sequence[int], blocks: int) -> None:
    """Refuse blocks for maps that are not four, in order, up to the last block.

    Raises:
        ConfigError: says what was expected.
    """
    is_right = len(maps) == MAPS and list(maps) == sorted(maps) and maps[0] >= 0 and maps[-1] == blocks - 1
    if not is_right:
        raise ConfigError(
            f"maps: expected {MAPS} blocks counted from 0, in order, the last of which is {blocks - 1}, got "
            f"{', '.join(map(str, maps)) or 'none'}"
        )


def _start(head: nn.Module) -> None:
    """Give a head's convolutions mmsegmentation's first weights, Kaiming's normal ones by outgoing connections, and
    batch norms that stand still while they are frozen."""
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(layer, UperNetConvModule):
            layer.batch_norm = MapBatchNorm(layer.batch_norm.num_features)
