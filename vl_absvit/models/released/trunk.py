"""The visual encoder of both releases: its keys, its sizes, and the conversion of its variants to our form."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from vl_absvit.errors import ConfigError, InputError
from vl_absvit.models.load_report import part_of
from vl_absvit.models.released.key_map import Entry, Option
from vl_absvit.models.trunks.vit_forms import in_our_form

KEYS = {
    "cls_token": "vision.cls_token",
    "pos_embed": "vision.pos_embed",
    "patch_embed.proj.*": "vision.patch_embed.proj.*",
    "blocks.{n}.*": "vision.blocks.{n}.*",
    "norm.*": "vision.norm.*",
    "decoders.{n}.linear.weight": "vision.decoders.{n}.reconstruct.weight",
    "decoders.{n}.linear2.weight": "vision.decoders.{n}.transform.weight",
}
LAYER_SCALE = {
    "blocks.{n}.ls1.gamma": "LayerScale: multiplied into attn.proj before it",
    "blocks.{n}.ls2.gamma": "LayerScale: multiplied into mlp.fc2 before it",
}
NO_BIAS = "the release has no such bias here; zeros"
SIZE_NAMES = {192: "tiny", 384: "small", 768: "base"}
WIDTH_OF_A_HEAD = 64


class TrunkShape(NamedTuple):
    """Sizes of a visual encoder."""

    image_size: int
    patch_size: int
    width: int
    depth: int
    num_heads: int
    has_feedback: bool

    def as_config(self, **options: Any) -> dict[str, Any]:
        """The keys of ``VisionConfig`` with all sizes. The model's name is that of the nearest sizes."""
        patch = self.patch_size if self.patch_size in (8, 16) else 16
        return {
            "model": f"absvit_{SIZE_NAMES.get(self.width, 'tiny')}_patch{patch}_224",
            "image_size": self.image_size,
            "patch_size": self.patch_size,
            "width": self.width,
            "depth": self.depth,
            "num_heads": self.num_heads,
            "top_down": "absvit" if self.has_feedback else "none",
            **options,
        }


def trunk_shape(state: Mapping[str, Tensor], num_heads: int | None, location: str) -> TrunkShape:
    """Sizes of the encoder in ``state`` (our names).

    Args:
        num_heads: attention heads, which the weights do not determine; None means width 64 at standard widths.

    Raises:
        InputError: the encoder is not a ViT of the released kind.
        ConfigError: the number of heads is missing, or does not divide the width.
    """
    for key in ("vision.patch_embed.proj.weight", "vision.pos_embed", "vision.cls_token"):
        if key not in state:
            raise InputError(f"{location}: no ViT of the release in it, there is no {key.removeprefix('vision.')}")
    kernel, positions = (tuple(state[f"vision.{name}"].shape) for name in ("patch_embed.proj.weight", "pos_embed"))
    if len(kernel) != 4 or kernel[1] != 3 or not kernel[2] == kernel[3] > 0 or len(positions) != 3:
        raise InputError(f"{location}: expected square RGB patches, got {kernel}, and positions, got {positions}")
    width, patch = kernel[0], kernel[2]
    side = math.isqrt(max(positions[1] - 1, 0))
    if side == 0 or side**2 != positions[1] - 1:
        raise InputError(f"{location}: expected positions of CLS and a square grid, got {positions[1]}")
    return TrunkShape(
        image_size=side * patch,
        patch_size=patch,
        width=width,
        depth=count_layers(state, "vision.blocks.", location),
        num_heads=count_heads(width, num_heads, tuple(SIZE_NAMES), "the visual encoder", "--num-heads"),
        has_feedback=any(key.startswith("vision.decoders.") for key in state),
    )


def count_layers(state: Mapping[str, Tensor], prefix: str, location: str) -> int:
    """Number of layers whose keys begin with ``prefix`` and a number. Gaps are errors, and so is no layer."""
    numbers = {int(key.removeprefix(prefix).split(".", 1)[0]) for key in state if key.startswith(prefix)}
    if not numbers or max(numbers) != len(numbers) - 1:
        raise InputError(f"{location}: not all of a released model: {len(numbers)} layers {prefix}* with gaps, or none")
    return len(numbers)


def count_heads(width: int, given: int | None, standard: tuple[int, ...], part: str, option: str) -> int:
    """Attention heads of a part: the given number, or heads of width 64 at standard widths."""
    if given is None and width not in standard:
        names = ", ".join(map(str, standard))
        raise ConfigError(
            f"{option} is needed: weights do not tell the number of heads, and the width {width} of {part} is none of "
            f"the standard {names}"
        )
    heads = given or width // WIDTH_OF_A_HEAD
    if width % heads:
        raise ConfigError(f"{option}: the width {width} of {part} does not divide into {heads} heads")
    return heads


def settle(state: dict[str, Tensor], depth: int, location: str) -> tuple[dict[str, Tensor], list[Entry]]:
    """The same encoder in our form of block (``trunks/vit_forms.py``), and the entries of new biases."""
    state, new = in_our_form(state, "vision.blocks.", depth, location)
    return state, [Entry("new", name, part_of(name), state[name].numel(), NO_BIAS) for name in new]


def options_of_form(released: Mapping[str, Tensor]) -> list[Option]:
    """The changes that ``settle`` makes to a released state (in released names), in words."""
    options = []
    if any(key.endswith((".ls1.gamma", ".ls2.gamma")) for key in released):
        options.append(
            Option("LayerScale", "multiplied in", "the same function; training goes on without scales of their own")
        )
    if not any(key.endswith("attn.qkv.bias") for key in released):
        options.append(Option("attn.qkv.bias", "zeros", "the release has none; the same function, but ours can learn"))
    return options
