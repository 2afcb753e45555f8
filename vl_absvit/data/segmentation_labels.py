"""Labels of pixels as pictures: class numbers, and 255 where a pixel has no class."""

from collections.abc import Sequence

import numpy as np

from vl_absvit.data.png import load_png
from vl_absvit.errors import InputError

VOID = 255
"""Value of pixels that have no class. They count in no loss and in no metric."""

Colour = tuple[int, int, int]


def decode_label(content: bytes) -> np.ndarray:
    """The values of a label's pixels, (H, W), uint8: the indices of a palette picture, or the values of a grey one.

    Raises:
        InputError: the content is no PNG, damaged, too large, or has no class numbers. The message is the reason alone.
    """
    image = load_png(content)
    if image.mode not in ("P", "L"):
        others = {"I": "numbers of 16 bits, as those of instances are", "1": "black and white"}
        got = others.get(image.mode[0], "colours")
        raise InputError(f"expected class numbers of 8 bits (a palette or grey picture), got {got} (mode {image.mode})")
    return np.asarray(image)


def standard_colours(number: int) -> list[Colour]:
    """The colours of PASCAL VOC's development kit for ``number`` values from 0 on.

    Bits 0, 1 and 2 of a value are the highest bits of red, green and blue, bits 3 to 5 the next ones, and so on.
    """
    return [_standard_colour(value) for value in range(number)]


def _standard_colour(value: int) -> Colour:
    red, green, blue = (
        sum((value >> 3 * place + channel & 1) << 7 - place for place in range(8)) for channel in range(3)
    )
    return red, green, blue


def in_colours(label: np.ndarray, colours: Sequence[Colour], void: Colour = (224, 224, 192)) -> np.ndarray:
    """A label (H, W) as a picture (H, W, 3), uint8; ``void`` is the colour of every value beyond ``colours``."""
    table = np.full((256, 3), void, np.uint8)
    table[: len(colours)] = colours
    return table[label]
