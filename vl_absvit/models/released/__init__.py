"""Convert the authors' checkpoints. Every key is used, ignored for a stated reason, or listed as new."""

from collections.abc import Mapping
from typing import Any

from vl_absvit.errors import ConfigError
from vl_absvit.models.released.files import ReleasedFile, read_released
from vl_absvit.models.released.imagenet import convert_imagenet, rebuild_classifier
from vl_absvit.models.released.key_map import Conversion, Entry, Option
from vl_absvit.models.released.other_trunks import convert_trunk
from vl_absvit.models.released.segmentation import convert_segmenter
from vl_absvit.models.released.vision_language import convert_vision_language

__all__ = ["Conversion", "Entry", "Option", "ReleasedFile", "convert", "read_released", "rebuild_classifier"]


def convert(
    released: ReleasedFile,
    num_heads: int | None = None,
    text_heads: int | None = None,
    vision: Mapping[str, Any] | None = None,
) -> Conversion:
    """A released file in our names.

    Args:
        num_heads: attention heads of the visual encoder; None takes heads of width 64 at standard widths.
        text_heads: the same for the text encoder.
        vision: fields of ``VisionConfig`` that describe a trunk which is no ViT; None for a ViT, which needs none.

    Raises:
        InputError: it is not a whole model of the releases.
        ConfigError: something is missing that the file does not tell, or is impossible.
    """
    location = str(released.path)
    if vision is None and released.form == "trunk":
        raise ConfigError(
            f"--model is needed: {location} is of the releases of RVT, VARS, FAN or GFNet, and does not tell which "
            "trunk, such as absvit_rvt_tiny"
        )
    if vision is not None and released.form != "trunk":
        raise ConfigError(f"--model: {location} is of none of the releases of RVT, VARS, FAN and GFNet")
    if vision is not None:
        return convert_trunk(released.state, vision, location)
    if released.form == "imagenet":
        return convert_imagenet(released.state, num_heads, location)
    if released.form == "mmsegmentation":
        return convert_segmenter(released.state, released.config, num_heads, location)
    return convert_vision_language(released.state, released.config, num_heads, text_heads, location)
