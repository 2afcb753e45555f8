"""Where the patch grid lies in the original picture.

Evaluation resizes the shorter side and cuts out the centre, which is the model's input. These functions undo both.
Coordinates are pixels of the upright picture (after EXIF rotation), x to the right, y down; boxes are (x0, y0, x1, y1).
"""

import numpy as np

Box = tuple[float, float, float, float]


def seen_box(width: int, height: int, image_size: int, resized_to: int | None = None) -> Box:
    """The part of a picture that the model sees. Its patch grid covers the same part.

    The numbers are those of torchvision's ``Resize`` and ``CenterCrop``. The longer side is rounded to whole pixels, so
    that its scale differs a little from the shorter side's. The crop begins at a whole pixel.

    Args:
        width: of the picture.
        height: of the picture.
        image_size: side of the model's input.
        resized_to: pixels of the shorter side before the centre is cut out; None where that is ``image_size``.
    """
    (short, long), resized_short = sorted((width, height)), resized_to or image_size
    resized_long = int(resized_short * long / short)
    resized_width, resized_height = (resized_short, resized_long) if width <= height else (resized_long, resized_short)
    left, top = round((resized_width - image_size) / 2), round((resized_height - image_size) / 2)
    x_scale, y_scale = width / resized_width, height / resized_height
    return left * x_scale, top * y_scale, (left + image_size) * x_scale, (top + image_size) * y_scale


def scaled(box: Box, factor: float) -> Box:
    """A box of a picture, in pixels of the same picture enlarged by ``factor``."""
    x0, y0, x1, y1 = box
    return factor * x0, factor * y0, factor * x1, factor * y1


def cell_centres(box: Box, rows: int, columns: int) -> np.ndarray:
    """Centre (x, y) of every cell of a grid that covers ``box``: (rows, columns, 2)."""
    x0, y0, x1, y1 = box
    x = x0 + (np.arange(columns) + 0.5) * (x1 - x0) / columns
    y = y0 + (np.arange(rows) + 0.5) * (y1 - y0) / rows
    return np.stack(np.meshgrid(x, y), axis=-1)
