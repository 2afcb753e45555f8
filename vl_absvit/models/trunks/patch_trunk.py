"""What trunks of patches alone share: no CLS token, and the mean of all tokens is classified.

Shapes: I images, N tokens in raster order, D width.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from timm.layers import Mlp, to_2tuple
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from vl_absvit.errors import ConfigError, InputError
from vl_absvit.models.attention import KINDS, TopDownAttention, TopDownBlock, VARSSBlock, attention_layer
from vl_absvit.models.token_norms import MapBatchNorm
from vl_absvit.models.trunks.base import Grid, Trunk
from vl_absvit.variants import TopDown

LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class PatchTrunk(Trunk):
    """The frame of these trunks. A trunk calls ``make_head`` when its stages are there.

    Args:
        img_size: side of the images, or height and width, in pixels.
        fc_norm: whether the final norm follows the mean, as in the releases; None: where there is a classifier.
            Without one every token is normed.
        num_classes: of the classifier; 0 for none.
        global_pool: ``avg``, timm's name of the mean.
    """

    num_prefix_tokens = 0

    def __init__(self, *, img_size: int | Grid, num_classes: int, global_pool: str, fc_norm: bool | None) -> None:
        super().__init__()
        if global_pool != "avg":
            raise ConfigError(f"pooling {global_pool}: this trunk has no CLS token; pooling avg takes the mean")
        self._image_size = to_2tuple(img_size)
        self.num_classes = num_classes
        self.norm_follows = num_classes > 0 if fc_norm is None else fc_norm

    def make_head(self) -> None:
        """Final norm, classifier, and what timm wants to know of the levels of features."""
        self.norm = LayerNorm(self.width)
        self.reset_classifier(self.num_classes)
        self.feature_info = self._feature_info()

    @property
    def image_size(self) -> tuple[int, int]:
        return self._image_size

    def check_size(self, images: Tensor) -> None:
        """Raise ``InputError`` for images of another size than the trunk's, (I, 3, height, width)."""
        if (size := tuple(images.shape[2:])) != self._image_size:
            raise InputError(
                f"images: expected {self._image_size} pixels, the size this trunk was made for, got {size}"
            )

    def final_norm(self, tokens: Tensor) -> Tensor:
        return tokens if self.norm_follows else self.norm(tokens)

    def forward_head(self, tokens: Tensor, pre_logits: bool = False) -> Tensor:
        """Pooled features (I, D) or logits, of tokens of a look (I, N, D)."""
        features = tokens.mean(dim=1)
        if self.norm_follows:
            features = self.norm(features)
        return features if pre_logits else self.head(features)

    def no_weight_decay(self) -> set[str]:
        """timm's name for the parameters that the releases exempt from weight decay, beside norms and biases."""
        return set()

    def get_classifier(self) -> nn.Module:
        """timm's name for the head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Make a new head for as many classes; 0 for none."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.width, num_classes) if num_classes else nn.Identity()

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the head. A second look needs the whole first one, and a first look is kept whole, too."""
        if prune_head:
            self.reset_classifier(0)
        wanted = indices if isinstance(indices, int) else list(indices)
        return feature_take_indices(len(self.feature_info), wanted)[0]

    def _feature_info(self) -> list[dict[str, Any]]:
        """timm's facts about each level of ``forward_intermediates``: stages if there are several, or else blocks."""
        numbers = range(len(self.stages)) if len(self.stages) > 1 else [0] * len(self.all_blocks)
        return [
            {
                "num_chs": self.stages[stage].width,
                "reduction": self._image_size[0] / self.grids()[stage][0],
                "module": f"level.{level}",
            }
            for level, stage in enumerate(numbers)
        ]


def channels_last(images: Tensor) -> Tensor:
    """The same images, (I, 3, height, width), in the order in memory by which an embedding's layers are fast.

    On a CPU pooling and convolutions of few channels take about half the time where channels come last.
    """
    return images.contiguous(memory_format=torch.channels_last) if images.device.type == "cpu" else images


class ConvEmbedding(nn.Module):
    """RVT's embedding: convolution 7x7, BN, pooling, convolution 4x4, in all one token for 16 x 16 pixels."""

    patch_size = 16

    def __init__(self, width: int, in_chans: int = 3) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, 32, kernel_size=7, stride=2, padding=2),
            MapBatchNorm(32),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
            nn.Conv2d(32, width, kernel_size=4, stride=4),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(I, 3, height, width) -> (I, N, D)."""
        return self.proj(channels_last(images)).flatten(2).mT

    def grid(self, image_size: Grid) -> Grid:
        """Rows and columns of the tokens of images of this height and width."""
        rows, columns = (((((side - 3) // 2 + 1) - 1) // 2 + 1 - 4) // 4 + 1 for side in image_size)
        return rows, columns


def per_stage(*sizes: int | list[int]) -> list[list[int]]:
    """Each size as a list with an entry per stage; one number is that of a single stage."""
    return [[size] if isinstance(size, int) else list(size) for size in sizes]


def check_patch_size(name: str, patch_size: int) -> None:
    """Raise ``ConfigError`` unless it is that of RVT's embedding."""
    if patch_size != ConvEmbedding.patch_size:
        raise ConfigError(f"vision.patch_size: {name}'s embedding has patches of 16 pixels alone, got {patch_size}")


def make_block(
    width: int,
    num_heads: int,
    *,
    top_down: TopDown,
    attention: str,
    options: Mapping[str, Any],
    grid: Grid,
    mlp_ratio: float,
    drop_path: float,
    mlp_layer: Any = Mlp,
    block: type[TopDownBlock] = TopDownBlock,
) -> TopDownBlock:
    """A block whose attention is of a kind in ``KINDS``.

    Args:
        options: arguments of the attention layer's own.
        grid: rows and columns of the tokens.
        block: the block around the attention; VARS-S has one of its own.
    """
    made = VARSSBlock if attention == "vars_s" else block
    return made(
        width,
        num_heads,
        mlp_ratio,
        qkv_bias=True,
        drop_path=drop_path,
        norm_layer=LayerNorm,  # type: ignore[arg-type]  # timm says class and takes what makes one
        attn_layer=layer_on_grid(top_down, attention, options, grid),
        mlp_layer=mlp_layer,
    )


def layer_on_grid(top_down: TopDown, attention: str, options: Mapping[str, Any], grid: Grid) -> type[TopDownAttention]:
    """``attention_layer`` for tokens of a grid of rows and columns."""
    of_grid = {"grid": grid} if KINDS[attention].needs_grid else {}
    return attention_layer(top_down, attention, **options, **of_grid)


def in_words(attention: str, options: Mapping[str, Any]) -> str:
    """A kind of attention and the options that it was given."""
    return " ".join([attention, *(f"{name}={value}" for name, value in options.items())])
