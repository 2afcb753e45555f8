"""Pages of classified pixels: picture, prediction, label and mistakes; and what a class as a prior brings out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from vl_absvit.data.segmentation_labels import VOID, Colour, in_colours
from vl_absvit.looking.overlay import overlay, resized
from vl_absvit.looking.sheet import Group, Tile, draw_sheet

OPACITY = 0.6
RIGHT, WRONG, NOTHING = (60, 160, 80), (215, 45, 45), (150, 150, 150)
"""Colours of pixels that are right, wrong and without a class."""
SIDE = 320
"""Longest side of a picture on a page, in pixels."""
LISTED = 6


class Steered(NamedTuple):
    """What a class as a prior brings out of a picture of H x W pixels."""

    name: str
    mask: np.ndarray  # (H, W), the prior mask
    found: np.ndarray  # (H, W) bool, pixels of the class under its own prior
    before: np.ndarray  # (H, W) bool, likewise under the trained query


def laid_over(picture: Image.Image, classes: np.ndarray, colours: Sequence[Colour]) -> Image.Image:
    """A picture under the colours of its pixels' classes, (H, W); void stays as it is."""
    return _blend(picture, in_colours(classes, colours), classes != VOID)


def mistakes(picture: Image.Image, prediction: np.ndarray, label: np.ndarray) -> Image.Image:
    """A picture under what is right, wrong, and without a class."""
    table = np.array([WRONG, RIGHT, NOTHING], np.uint8)
    kind = np.where(label == VOID, 2, prediction == label).astype(np.intp)
    return _blend(picture, table[kind], np.ones_like(label, bool))


def alone(picture: Image.Image, chosen: np.ndarray) -> Image.Image:
    """A picture of which only some pixels, (H, W) bool, keep their colours; the others are faint."""
    pixels = np.asarray(picture)
    faint = (0.25 * pixels.mean(axis=-1, keepdims=True) + 0.75 * 255).astype(np.uint8)
    return Image.fromarray(np.where(chosen[..., None], pixels, faint))


def _blend(picture: Image.Image, colours: np.ndarray, where: np.ndarray) -> Image.Image:
    pixels = np.asarray(picture, dtype=np.float32)
    mixed = np.where(where[..., None], OPACITY * colours + (1 - OPACITY) * pixels, pixels)
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def page(
    picture: Image.Image,
    prediction: np.ndarray,
    label: np.ndarray | None,
    names: Sequence[str],
    colours: Sequence[Colour],
    steered: Sequence[Steered],
    heading: str,
) -> Image.Image:
    """One picture's page.

    Args:
        picture: RGB, of H x W pixels.
        prediction: class of every pixel, (H, W).
        label: true class or void, (H, W); None where it is held back.
        names, colours: of the classes.
        steered: for every class that was asked for.
    """
    tiles = [Tile(picture, "picture"), Tile(laid_over(picture, prediction, colours), _listed(prediction, names))]
    if label is not None:
        wrong = mistakes(picture, prediction, label)
        tiles += [Tile(laid_over(picture, label, colours), f"label: {_listed(label, names)}"), Tile(wrong, "mistakes")]
    rows = [[Group([_small(tile) for tile in tiles], heading)]]
    height, width = prediction.shape
    for one in steered:
        mask = overlay(picture, one.mask, (0, 0, width, height))
        shown = [Tile(alone(picture, one.before), "trained query"), Tile(mask, "prior mask of the class"),
                 Tile(alone(picture, one.found), "the class as prior")]  # fmt: skip
        rows.append([Group([_small(tile) for tile in shown], f"asked for: {one.name}")])
    return draw_sheet(rows)


def _small(tile: Tile) -> Tile:
    assert tile.picture is not None, "every tile has one"
    return tile._replace(picture=resized(tile.picture, SIDE / max(tile.picture.size)))


def _listed(classes: np.ndarray, names: Sequence[str]) -> str:
    """Names of the classes in a label, those of most pixels first."""
    counts = np.bincount(classes[classes != VOID].ravel(), minlength=len(names))
    order = [number for number in np.argsort(-counts, kind="stable").tolist() if counts[number]]
    more = f" and {len(order) - LISTED} more" if len(order) > LISTED else ""
    words = ", ".join(names[number] for number in order[:LISTED]) + more
    return words if len(words) <= 40 else f"{words[:39]}…"
