"""Masks of objects as PNG files of numbers: a palette's indices, grey values, or black and white."""

from pathlib import Path

import numpy as np

from vl_absvit.data.bounded import read_picture
from vl_absvit.data.png import load_png
from vl_absvit.data.segmentation_labels import decode_label
from vl_absvit.errors import InputError


def find_masks(folder: Path) -> list[str]:
    """Paths of all PNG files below a folder, relative to it.

    Raises:
        InputError: there is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected masks *.png in it")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() == ".png")
    names = [file.as_posix() for file in files if not any(part.startswith(".") for part in file.parts)]
    if not names:
        raise InputError(f"{folder}: expected masks *.png, found none")
    return names


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The numbers of a mask, (height, width), uint8; black and white are 0 and 1.

    Args:
        size: width and height of its picture.

    Raises:
        InputError: it cannot be read, holds colours, or has another size; the message names the file.
    """
    try:
        content = read_picture(path)
        image = load_png(content)
        numbers = np.asarray(image).astype(np.uint8) if image.mode == "1" else decode_label(content)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if numbers.shape != size[::-1]:
        got = f"{numbers.shape[1]} x {numbers.shape[0]}"
        raise InputError(f"{path}: expected {size[0]} x {size[1]} pixels as its picture has, got {got}")
    return numbers
