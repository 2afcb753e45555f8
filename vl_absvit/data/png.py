"""PNG files that hold numbers, not pictures."""

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from vl_absvit.data.rgb import MAX_PIXELS
from vl_absvit.errors import InputError, one_line


def load_png(content: bytes) -> Image.Image:
    """The image in a PNG file, with its own mode.

    Raises:
        InputError: the content is no PNG, damaged or too large. The message is the reason alone.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large images are checked here
            image = Image.open(io.BytesIO(content), formats=("PNG",))
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{image.width} x {image.height} pixels, the limit is {MAX_PIXELS:,}")
            image.load()
    except UnidentifiedImageError as error:
        raise InputError("empty file" if not content else "not a PNG image") from error
    except InputError:
        raise
    except Exception as error:  # a decoder may raise anything on a hostile file
        raise InputError(f"cannot be decoded: {one_line(error)}") from error
    return image


def encode_grey(grey: np.ndarray) -> bytes:
    """8-bit grey values, (height, width), as a PNG file, with fast compression."""
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()
