"""Predictions of pixels as pictures, in the form that a data set's server or script takes."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vl_absvit.data.files import write_whole
from vl_absvit.data.segmentation_labels import Colour


def write_prediction(
    path: Path, prediction: np.ndarray, colours: Sequence[Colour], value_of: Mapping[int, int] | None = None
) -> None:
    """Write the class of every pixel, (H, W) uint8, as a PNG file.

    Args:
        colours: of the classes.
        value_of: class -> value in the file, in grey; None writes class numbers with a palette of the colours.

    Raises:
        InputError: the file cannot be written.
    """
    if value_of is None:
        picture = Image.fromarray(prediction, mode="P")
        picture.putpalette([channel for colour in colours for channel in colour])
    else:
        table = np.zeros(256, np.uint8)
        table[list(value_of)] = list(value_of.values())
        picture = Image.fromarray(table[prediction])
    content = io.BytesIO()
    picture.save(content, format="PNG")
    write_whole(path, lambda stream: stream.write(content.getvalue()))
