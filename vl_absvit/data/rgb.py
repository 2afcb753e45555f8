"""From the bytes of an image file to 8-bit RGB: one rule for preparation and for loading.

EXIF rotation is applied; transparency is laid over white; 16-bit pixels are scaled, not clipped; an animation is its
first frame. Images that cannot be read or resized are refused.

Only ``FORMATS`` are read, because files may be hostile. Pillow's other formats are programs (Ghostscript runs EPS) or
hardly tested.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vl_absvit.data.bounded import read_picture
from vl_absvit.data.jpeg_outline import jpeg_outline
from vl_absvit.errors import InputError, one_line

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Recognised by a file's content, not by its name."""
MIN_SIDE = 2
"""Smallest side in pixels; thinner images are refused."""
MAX_ASPECT = 100
"""Largest ratio of the longer to the shorter side. Beyond it, resizing would make the longer side huge."""
MAX_PIXELS = 89_478_485
"""Largest width times height: Pillow's own bound against decompression bombs (a quarter of a gigabyte as RGB)."""


class Reduced(NamedTuple):
    """A picture, or fewer pixels of it."""

    picture: Image.Image  # 8-bit RGB, upright
    by: int  # a side of the file's picture is so many times as long: 1, 2, 4 or 8


def open_rgb(path: Path) -> Image.Image:
    """The picture in a file as 8-bit RGB, upright; raises ``InputError`` as ``open_picture``."""
    return open_picture(path, decode_rgb)


def open_picture(path: Path, decode: Callable[[bytes], Any]) -> Any:
    """What ``decode`` makes of a file.

    Raises:
        InputError: the file cannot be read, or its content is refused; the message names the file.
    """
    try:
        return decode(read_picture(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def decode_rgb(content: bytes) -> Image.Image:
    """The picture in ``content`` as 8-bit RGB, upright.

    Raises:
        InputError: the content is not an image, truncated, too small, too long for its width, or too large. The message
            is the reason alone; the caller adds the file.
    """
    return _decode(content, None).picture


def decode_reduced(content: bytes, enough: int) -> Reduced:
    """The same at 1/2, 1/4 or 1/8 of its size, where the content is a JPEG and its sides keep ``enough`` pixels.

    A JPEG's blocks are then decoded at that scale, which averages fine detail and saves time.
    """
    return _decode(content, enough)


def _decode(content: bytes, enough: int | None) -> Reduced:
    with _refusals(content):
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        width, height = image.size
        _check_size(width, height)
        drafted = image.draft(None, (enough, enough)) if enough else None
        by = round(width / drafted[1][2]) if drafted else 1
        ImageOps.exif_transpose(image, in_place=True)
        return Reduced(_to_rgb(image), by)


def rgb_size(content: bytes) -> tuple[int, int]:
    """Width and height of ``decode_rgb(content)``, which costs a tenth for an ordinary JPEG.

    Raises:
        InputError: exactly as ``decode_rgb``.
    """
    outline = jpeg_outline(content)
    if outline is not None:
        try:
            with _refusals(outline):
                return _jpeg_size(outline)
        except InputError:
            pass  # the whole file tells the reason
    return decode_rgb(content).size


def _jpeg_size(outline: bytes) -> tuple[int, int]:
    """Upright width and height of a JPEG, of which a grey eighth is decoded."""
    image = Image.open(io.BytesIO(outline), formats=("JPEG",))
    _check_size(*image.size)
    width, height = image.size
    image.draft(None, (1, 1))
    _to_rgb(ImageOps.exif_transpose(image))
    on_its_side = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return (height, width) if on_its_side else (width, height)


@contextmanager
def _refusals(content: bytes) -> Iterator[None]:
    """Turn every complaint about an image into an ``InputError``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities of EXIF and palettes; large images are checked on their own
            yield
    except InputError:
        raise
    except UnidentifiedImageError as error:
        known = f"not an image of a known format ({', '.join(FORMATS)})"
        raise InputError(known if content else "empty file") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"more than {2 * MAX_PIXELS:,} pixels, the limit is {MAX_PIXELS:,}") from error
    except Exception as error:  # a decoder may raise anything on a hostile file
        raise InputError(f"cannot be decoded: {one_line(error)}") from error


def _check_size(width: int, height: int) -> None:
    short, long = sorted((width, height))
    if width * height > MAX_PIXELS:
        raise InputError(f"{width} x {height} pixels, the limit is {MAX_PIXELS:,}")
    if short < MIN_SIDE:
        raise InputError(f"{width} x {height} pixels, at least {MIN_SIDE} x {MIN_SIDE} are needed")
    if long > MAX_ASPECT * short:
        raise InputError(f"{width} x {height} pixels, one side is more than {MAX_ASPECT} times the other")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _eight_bit(image).convert("RGB")
    if image.mode == "F":
        raise InputError("floating-point pixels, whose range is unknown")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")  # a copy would take a fifth of the time


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey, which Pillow would clip at 255, scaled to 8 bits."""
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise InputError("pixels of more than 16 bits, whose range is unknown")
    return Image.fromarray(np.rint(pixels.astype(np.float32) / 257).astype(np.uint8))
