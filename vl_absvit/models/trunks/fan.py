"""FAN as a trunk: ``absvit_fan_{tiny,small,base,large}``.

Zhou et al., "Understanding the Robustness in Vision Transformers", ICML 2022 [FAN]. The top-down input on it is ours:
the rule of the released ViT carried over. It enters the values of the token mixing; the class attention ends each look.
Shapes: I images, N tokens of a grid in raster order, D width; lists have an entry per stage.
"""

import re
from collections.abc import Mapping
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, cast

import torch
from timm.models.xcit import ClassAttentionBlock
from torch import Tensor, nn

from vl_absvit.errors import ConfigError
from vl_absvit.models.attention import TopDownBlock
from vl_absvit.models.channel_processing import ChannelProcessing
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.token_norms import MapBatchNorm
from vl_absvit.models.trunks.base import Dropped, ForeignTrunk, Grid, Stage, TrunkModel
from vl_absvit.models.trunks.patch_trunk import LayerNorm, PatchTrunk, channels_last, in_words, layer_on_grid, per_stage
from vl_absvit.models.trunks.registering import register_twins, without_weights
from vl_absvit.variants import TopDown

HALVINGS = {16: 4, 8: 3, 4: 2}
"""Side of a patch -> convolutions of the embedding."""
FREQUENCIES = 32
ATTENTIONS = ("softmax", "performer", "vars_d", "vars_sd")
FUSED = "queries, keys and values in one"
CLASS_ATTENTION = ("cls_token", "cls_attn_blocks.")
NO_CLASS_ATTENTION = "class attention, which this model leaves out"


def fourier_positions(grid: Grid) -> Tensor:
    """Sines and cosines of rows and columns, (N, 64), fp64.

    Of row i = 1 ... n: i / (n + 1e-6) * 2 pi / T_j, T_j = 10000^(2 floor(j / 2) / 32), sine at even j, cosine at odd
    j; then the same of the column.
    """
    index = torch.arange(FREQUENCIES, dtype=torch.float64)
    periods = 10000 ** (2 * (index // 2) / FREQUENCIES)
    sides = []
    for length in grid:
        angles = torch.arange(1, length + 1, dtype=torch.float64)[:, None] / (length + 1e-6) * 2 * torch.pi / periods
        sides.append(torch.where(index % 2 == 0, angles.sin(), angles.cos()))
    rows, columns = sides
    spread = rows[:, None].expand(*grid, -1), columns[None].expand(*grid, -1)
    return torch.cat(spread, dim=-1).flatten(0, 1)


class FourierPositions(nn.Module):
    """A linear map of ``fourier_positions``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token_projection = nn.Conv2d(2 * FREQUENCIES, width, kernel_size=1)

    def forward(self, grid: Grid) -> Tensor:
        """(N, D)."""
        weight, bias = self.token_projection.weight, self.token_projection.bias
        return nn.functional.linear(fourier_positions(grid).to(weight), weight[:, :, 0, 0], bias)


class ConvStem(nn.Module):
    """Convolutions 3x3 with stride 2, each with a batch norm, GELU between them."""

    def __init__(self, width: int, patch_size: int, in_chans: int) -> None:
        super().__init__()
        if patch_size not in HALVINGS:
            raise ConfigError(f"vision.patch_size: expected one of {', '.join(map(str, HALVINGS))}, got {patch_size}")
        number = HALVINGS[patch_size]
        # The narrowest layer has an eighth or a quarter of the width; the last one has all of it.
        halves = [width // 8, width // 4, width // 2] if number == 4 else [width // 4, width // 2][: number - 1]
        layers: list[nn.Module] = []
        for before, after in pairwise([in_chans, *halves, width]):
            convolution = nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, bias=False)
            layers += [nn.Sequential(convolution, MapBatchNorm(after)), nn.GELU()]
        self.proj = nn.Sequential(*layers[:-1])
        self.number = number

    def forward(self, images: Tensor) -> Tensor:
        """(I, 3, height, width) -> (I, N, D)."""
        return self.proj(channels_last(images)).flatten(2).mT

    def grid(self, image_size: Grid) -> Grid:
        """Rows and columns of the tokens of images of this height and width."""
        rows, columns = (-(-side // 2**self.number) for side in image_size)
        return rows, columns


class Downsample(nn.Module):
    """A convolution between stages, which halves rows and columns, and a norm."""

    def __init__(self, width_before: int, width: int, grid_before: Grid) -> None:
        super().__init__()
        self.proj = nn.Conv2d(width_before, width, kernel_size=3, stride=2, padding=1)
        self.norm = nn.LayerNorm(width)
        self.grid_before = grid_before

    def forward(self, tokens: Tensor) -> Tensor:
        """(I, N, D) of one stage to those of the next."""
        return self.norm(self.proj(tokens.mT.unflatten(-1, self.grid_before)).flatten(2).mT)


class FAN(PatchTrunk):
    """Blocks of token mixing, which is softmax attention unless another kind is named, and channel processing.

    Args:
        patch_size: 16, 8 or 4.
        embed_dim, depth, num_heads: one number, or one per stage.
        channel_heads: of the channel processing; None: as many as ``num_heads``.
        global_pool: ``token``, the class attention of the release, or ``avg``, the mean of normed tokens, which leaves
            the class attention out. Tokens of a look are patches in both; with ``token`` they are not normed.
        drop_path_rate: of every block, as in the release.
        attention: kind of the token mixing in all blocks, one of ``ATTENTIONS``.
        attention_options: arguments of the attention layer's own.
        top_down: as in ``Trunk``; the others: as in ``PatchTrunk``.
    """

    family = "FAN"

    def __init__(
        self,
        *,
        top_down: TopDown,
        img_size: int | Grid = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int | list[int],
        depth: int | list[int],
        num_heads: int | list[int],
        channel_heads: int | list[int] | None = None,
        mlp_ratio: float = 4.0,
        num_classes: int = 1000,
        global_pool: str = "token",
        fc_norm: bool = False,
        drop_path_rate: float = 0.0,
        attention: str = "softmax",
        attention_options: Mapping[str, Any] | None = None,
    ) -> None:
        attends_to_class = global_pool == "token"
        super().__init__(
            img_size=img_size,
            num_classes=num_classes,
            global_pool="avg" if attends_to_class else global_pool,
            fc_norm=attends_to_class or fc_norm,
        )
        self.attends_to_class = attends_to_class
        self.attention, self.attention_options = attention, dict(attention_options or {})
        channel_heads = num_heads if channel_heads is None else channel_heads
        self.widths, self.depths, self.heads, of_channels = per_stage(embed_dim, depth, num_heads, channel_heads)
        self.patch_embed = ConvStem(self.widths[0], patch_size, in_chans)
        self.pos_embed = FourierPositions(self.widths[0])
        grids = self.grids()
        self.blocks = nn.ModuleList(
            TopDownBlock(
                width,
                heads,
                mlp_ratio,
                qkv_bias=True,
                init_values=1.0,
                drop_path=drop_path_rate,
                norm_layer=LayerNorm,  # type: ignore[arg-type]  # timm says class and takes what makes one
                attn_layer=layer_on_grid(top_down, attention, self.attention_options, grid),
                mlp_layer=partial(ChannelProcessing, num_heads=channels, grid=grid),  # type: ignore[arg-type]
            )
            for width, number, heads, channels, grid in zip(
                self.widths, self.depths, self.heads, of_channels, grids, strict=True
            )
            for _ in range(number)
        )
        self.downsamples = nn.ModuleList(
            Downsample(before, after, grid) for (before, after), grid in zip(pairwise(self.widths), grids, strict=False)
        )
        if self.attends_to_class:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, self.width))
            self.cls_attn_blocks = nn.ModuleList(
                ClassAttentionBlock(
                    self.width,
                    self.heads[-1],
                    mlp_ratio,
                    qkv_bias=True,
                    eta=1.0,
                    tokens_norm=True,
                    norm_layer=LayerNorm,  # type: ignore[arg-type]
                )
                for _ in range(2)
            )
            nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.make_head()
        self._init_weights()

    def _init_weights(self) -> None:
        """The release's: linears truncated normal, depthwise convolutions normal with variance 2 / fan-out."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.Conv2d) and layer.groups > 1:
                nn.init.normal_(layer.weight, std=(2 / 9) ** 0.5)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    @property
    def stages(self) -> list[Stage]:
        ends = [0, *accumulate(self.depths)]
        blocks = cast("list[TopDownBlock]", list(self.blocks))
        return [
            Stage(blocks[start:end], width, entrance=entrance)
            for (start, end), width, entrance in zip(
                pairwise(ends), self.widths, [None, *self.downsamples], strict=True
            )
        ]

    @property
    def pools_token(self) -> bool:
        return self.attends_to_class

    def no_weight_decay(self) -> set[str]:
        return {"cls_token"} if self.attends_to_class else set()

    def grids(self, image_size: Grid | None = None) -> list[Grid]:
        found = [self.patch_embed.grid(image_size or self.image_size)]
        for _ in self.widths[1:]:
            rows, columns = found[-1]
            found.append((-(-rows // 2), -(-columns // 2)))
        return found

    def embed_images(self, images: Tensor) -> Tensor:
        self.check_size(images)
        return self.patch_embed(images) + self.positions()

    def positions(self) -> Tensor:
        return self.pos_embed(self.grids()[0])

    def forward_head(self, tokens: Tensor, pre_logits: bool = False) -> Tensor:
        """Pooled features (I, D) or logits, of patches (I, N, D); the class token looks at them first, if there is one.

        The class attention doubles the patches on its way, as the release's does.
        """
        if not self.attends_to_class:
            return super().forward_head(tokens, pre_logits)
        with_class = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        for block in self.cls_attn_blocks:
            with_class = block(with_class)
        features = self.norm(with_class[:, 0])
        return features if pre_logits else self.head(features)

    def read_foreign(self, state: Mapping[str, Tensor]) -> ForeignTrunk:
        """The trunk in a file of this project, or of FAN's release."""
        found = super().read_foreign(state)
        state, remarks = dict(found.state), dict(found.remarks)
        for name in [name for name in state if re.fullmatch(r"blocks\.[0-9]+\.attn\.q\.(weight|bias)", name)]:
            pair, fused = name.replace(".q.", ".kv."), name.replace(".q.", ".qkv.")
            if pair in state:
                state[fused], remarks[fused] = torch.cat([state.pop(name), state.pop(pair)]), FUSED
        stages = {end - 1: stage for stage, end in enumerate(accumulate(self.depths))}
        renamed = {_our_name(name, stages): value for name, value in state.items()}
        left_out = [] if self.attends_to_class else [name for name in renamed if name.startswith(CLASS_ATTENTION)]
        dropped = [Dropped(found.prefix + name, renamed.pop(name).numel(), NO_CLASS_ATTENTION) for name in left_out]
        return found._replace(state=renamed, remarks=remarks, dropped=[*found.dropped, *dropped])

    def describe(self) -> str:
        stages = (
            f"{depth} blocks {width} wide with {heads} heads"
            for depth, width, heads in zip(self.depths, self.widths, self.heads, strict=True)
        )
        return f"{', then '.join(stages)}, {in_words(self.attention, self.attention_options)}"


def _our_name(name: str, stages: Mapping[int, int]) -> str:
    """A parameter's name here, of the release's.

    Args:
        stages: number of a stage's last block -> the stage.
    """
    if match := re.fullmatch(r"(blocks\.[0-9]+)\.gamma([12])", name):
        return f"{match[1]}.ls{match[2]}.gamma"
    if (match := re.fullmatch(r"blocks\.([0-9]{1,4})\.downsample\.(.+)", name)) and int(match[1]) in stages:
        return f"downsamples.{stages[int(match[1])]}.{match[2]}"
    return name


class AbSFAN(VisualEncoder, FAN):
    """A FAN that looks twice; arguments are those of ``VisualEncoder`` and ``FAN``."""


SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"patch_size": 16, "embed_dim": 192, "depth": 12, "num_heads": 4},
    "small": {"patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 8},
    "base": {"patch_size": 16, "embed_dim": 448, "depth": 18, "num_heads": 8},
    "large": {"patch_size": 16, "embed_dim": 480, "depth": 24, "num_heads": 10},
}
# A model without a classifier of its own has no use for the class attention.
MODELS = {
    f"absvit_fan_{size}": TrunkModel(sizes, f"fan_{size}", {"global_pool": "avg"}, attentions=ATTENTIONS)
    for size, sizes in SIZES.items()
}
FORMS = {f"fan_{size}": sizes for size, sizes in SIZES.items()}
default_cfgs = without_weights(FORMS)
register_twins(__name__, AbSFAN, FORMS)
