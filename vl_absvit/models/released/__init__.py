"""Convert the authors' checkpoints. Every key is used, ignored for a stated reason, or listed as new."""

from vl_absvit.models.released.files import ReleasedFile, read_released
from vl_absvit.models.released.imagenet import convert_imagenet, rebuild_classifier
from vl_absvit.models.released.key_map import Conversion, Entry, Option
from vl_absvit.models.released.vision_language import convert_vision_language

__all__ = ["Conversion", "Entry", "Option", "ReleasedFile", "convert", "read_released", "rebuild_classifier"]


def convert(released: ReleasedFile, num_heads: int | None = None, text_heads: int | None = None) -> Conversion:
    """A released file in our names.

    Args:
        num_heads: attention heads of the visual encoder; None takes heads of width 64 at standard widths.
        text_heads: the same for the text encoder.

    Raises:
        InputError: it is not a whole model of the releases.
        ConfigError: a number of heads is missing or impossible.
    """
    location = str(released.path)
    if released.form == "imagenet":
        return convert_imagenet(released.state, num_heads, location)
    return convert_vision_language(released.state, released.config, num_heads, text_heads, location)
