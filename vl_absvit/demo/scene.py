"""Scenes of the demo world: a few objects on a cluttered ground, and how they are drawn.

Everything is a pure function of a numpy ``Generator``. Coordinates are pixels, x to the right and y down, boxes are
(x0, y0, x1, y1) with the far edges excluded.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import cos, pi, sin
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE = 96
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = {
    "red": (222, 36, 36),
    "green": (40, 176, 60),
    "blue": (40, 76, 232),
    "yellow": (246, 222, 40),
    "purple": (168, 40, 200),
    "cyan": (50, 214, 226),
    "white": (248, 248, 248),
}
TEXTURES = ("solid", "striped", "dotted")
SIZES = {"small": (22, 24), "large": (28, 30)}
CELL, JITTER = SIDE // 3, 2
"""Objects stand in the cells of a 3 x 3 grid, off their middle by at most this much; all in pixels."""
MIDDLE_ROW_ENDS = (3, 5)
"""The left and the right cell of the grid's middle row, cells counted in raster order."""

_FINE = 4  # every object is drawn this many times larger and then averaged down


@dataclass(frozen=True)
class Thing:
    """One object of a scene; ``extent`` is the side of its bounding square and ``x``, ``y`` its centre, in pixels."""

    shape: str
    colour: str
    texture: str
    size: str
    x: int
    y: int
    extent: int
    angle: float
    """Counter-clockwise rotation in radians."""

    @property
    def box(self) -> list[int]:
        left, top = self.x - self.extent // 2, self.y - self.extent // 2
        return [left, top, left + self.extent, top + self.extent]


@dataclass(frozen=True, kw_only=True)
class Style:
    """The look of a world. Two worlds with the same objects differ in it."""

    ground: tuple[int, int]
    """Range of the ground's mean grey value."""
    tint: int
    """Largest deviation of a ground channel from grey."""
    noise: float
    """Standard deviation of the pixel noise, in grey values."""
    brightness: float
    """Factor on the objects' colours."""
    outline: int
    """Width of a dark line around every object in pixels; 0 draws none."""
    gap: float
    """Brightness of stripes and dots relative to the object."""


PLAIN = Style(ground=(60, 110), tint=8, noise=6.0, brightness=1.0, outline=0, gap=0.3)
PAPER = Style(ground=(150, 185), tint=14, noise=11.0, brightness=0.85, outline=1, gap=0.45)


def generator(seed: int, part: str, number: int) -> np.random.Generator:
    """The random generator of one item of one part of the world; independent of all others."""
    return np.random.default_rng([seed, number, *part.encode()])


def save_jpeg(image: Image.Image, path: Path) -> None:
    """High quality and no colour subsampling: small objects keep their colours. The name may have any ending."""
    image.save(path, "JPEG", quality=95, subsampling=0)


def split_of(combination: Sequence[tuple[str, str]]) -> str:
    """The only split in which a combination of (shape, colour) pairs may occur: 80 % train, 13 % val, 7 % test."""
    text = ";".join(f"{colour} {shape}" for shape, colour in sorted(combination))
    bucket = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 100
    return "train" if bucket < 80 else "val" if bucket < 93 else "test"


def sample_scene(rng: np.random.Generator, split: str | None = None) -> tuple[Thing, ...]:
    """Three to five objects; no two share both colour and shape, many share one of the two.

    Args:
        split: "train", "val" or "test" keeps only combinations that belong there; None takes any.
    """
    while True:
        kinds = _sample_kinds(rng, int(rng.choice([3, 4, 5], p=[0.3, 0.38, 0.32])))
        if split is None or split_of(kinds) == split:
            return _place(rng, kinds)


def sample_pair(rng: np.random.Generator) -> tuple[Thing, Thing]:
    """Two objects of different colours and shapes, in the left and in the right cell of the middle row."""
    colours, shapes = rng.permutation(list(COLOURS))[:2], rng.permutation(SHAPES)[:2]
    left, right = (
        _stand(rng, str(shape), str(colour), cell)
        for shape, colour, cell in zip(shapes, colours, MIDDLE_ROW_ENDS, strict=True)
    )
    return left, right


def sample_sheet(rng: np.random.Generator, classes: Sequence[tuple[str, str, str] | None]) -> tuple[Thing, ...]:
    """Nine cells in raster order, each with an object of the given (colour, texture, shape), or with nothing."""
    return tuple(
        replace(_stand(rng, name[2], name[0], cell), texture=name[1]) for cell, name in enumerate(classes) if name
    )


def draw(things: Sequence[Thing], style: Style, rng: np.random.Generator) -> Image.Image:
    """The scene as an RGB image of 96 x 96 pixels, on a ground of noise, gradient and clutter."""
    canvas = ground(style, rng)  # (96, 96, 3)
    for thing in things:
        inside, dark = masks(thing)  # 2 x (extent + 2, extent + 2), in [0, 1]
        colour = style.brightness * np.array(COLOURS[thing.colour], dtype=np.float32)
        paint = colour * (1 - (1 - style.gap) * dark)[..., None]
        x0, y0, _, _ = thing.box
        if style.outline:
            rim = inside * (1 - shrink(inside, style.outline))
            paint = paint * (1 - 0.9 * rim)[..., None]
        blend(canvas, paint, inside, x0 - 1, y0 - 1)
    return Image.fromarray(canvas.clip(0, 255).round().astype(np.uint8), "RGB")


def _sample_kinds(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Distinct (shape, colour) pairs in which later ones often repeat the shape or the colour of an earlier one."""
    colours = tuple(COLOURS)
    theme = rng.choice(["shape", "colour", "both"], p=[0.3, 0.3, 0.4])
    kinds: list[tuple[str, str]] = []
    while len(kinds) < count:
        shape, colour = str(rng.choice(SHAPES)), str(rng.choice(colours))
        if kinds and rng.random() < 0.6:
            like = kinds[int(rng.integers(len(kinds)))]
            copies_shape = rng.random() < 0.5 if theme == "both" else theme == "shape"
            shape, colour = (like[0], colour) if copies_shape else (shape, like[1])
        if (shape, colour) not in kinds:
            kinds.append((shape, colour))
    return kinds


def _place(rng: np.random.Generator, kinds: Sequence[tuple[str, str]]) -> tuple[Thing, ...]:
    """Objects of the given shapes and colours in distinct cells."""
    cells = rng.permutation(9)[: len(kinds)]
    return tuple(_stand(rng, shape, colour, int(cell)) for (shape, colour), cell in zip(kinds, cells, strict=True))


def _stand(rng: np.random.Generator, shape: str, colour: str, cell: int) -> Thing:
    """An object in a cell, with size, texture, jitter and angle of its own."""
    size = str(rng.choice(list(SIZES)))
    extent = int(rng.integers(*SIZES[size], endpoint=True)) // 2 * 2
    reach = min(JITTER, (CELL - extent) // 2)
    x, y = CELL // 2 + CELL * np.array([cell % 3, cell // 3]) + rng.integers(-reach, reach, size=2, endpoint=True)
    texture, angle = str(rng.choice(TEXTURES, p=[0.6, 0.2, 0.2])), float(rng.uniform(-0.1, 0.1))
    return Thing(shape=shape, colour=colour, texture=texture, size=size, x=int(x), y=int(y), extent=extent, angle=angle)


def ground(style: Style, rng: np.random.Generator) -> np.ndarray:
    level = rng.integers(*style.ground) + rng.integers(-style.tint, style.tint, size=3, endpoint=True)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE - 0.5
    angle = rng.uniform(0, 2 * pi)
    slope = rng.uniform(10, 40) * (cos(angle) * x + sin(angle) * y)  # (96, 96)
    clutter = Image.new("L", (SIDE * 2, SIDE * 2), 128)
    pen = ImageDraw.Draw(clutter)
    for _ in range(int(rng.integers(8, 14))):
        cx, cy = rng.integers(0, [2 * SIDE, 2 * SIDE])
        dx, dy = rng.integers(-8, 8, size=2, endpoint=True)
        grey = int(128 + rng.choice([-1, 1]) * rng.integers(15, 45))
        if rng.random() < 0.5:
            pen.line([(cx, cy), (cx + dx, cy + dy)], fill=grey, width=2)
        else:
            pen.ellipse([cx, cy, cx + abs(dx) + 2, cy + abs(dy) + 2], fill=grey)
    bits = np.asarray(clutter.reduce(2), dtype=np.float32) - 128
    noise = rng.standard_normal((SIDE, SIDE, 3), dtype=np.float32) * style.noise
    return level.astype(np.float32) + (slope + bits)[..., None] + noise


def masks(thing: Thing) -> tuple[np.ndarray, np.ndarray]:
    """Share of every pixel that the object covers, and the share of that which its texture darkens."""
    side = (thing.extent + 2) * _FINE
    mask, texture = Image.new("L", (side, side)), Image.new("L", (side, side))
    pen, radius, middle = ImageDraw.Draw(mask), thing.extent * _FINE / 2, side / 2
    if thing.shape in ("circle", "ring"):
        pen.ellipse([middle - radius, middle - radius, middle + radius, middle + radius], fill=255)
        if thing.shape == "ring":
            hole = 0.5 * radius
            pen.ellipse([middle - hole, middle - hole, middle + hole, middle + hole], fill=0)
    else:
        pen.polygon(_corners(thing.shape, radius, middle, thing.angle), fill=255)
    pen = ImageDraw.Draw(texture)
    if thing.texture == "striped":
        for start in range(-side, 2 * side, 7 * _FINE):
            pen.line([(start, -_FINE), (start + side, side + _FINE)], fill=255, width=int(2.6 * _FINE))
    elif thing.texture == "dotted":
        step, dot = 6 * _FINE, 1.7 * _FINE
        for row in range(-1, side // step + 2):
            for column in range(-1, side // step + 2):
                x, y = (column + 0.5 * (row % 2)) * step + _FINE, row * step + _FINE
                pen.ellipse([x - dot, y - dot, x + dot, y + dot], fill=255)
    covered, darkened = (np.asarray(image.reduce(_FINE), dtype=np.float32) / 255 for image in (mask, texture))
    return covered, darkened


def _corners(shape: str, radius: float, middle: float, angle: float) -> list[tuple[float, float]]:
    """Corners of a polygon that just fits into the square of half side ``radius`` before it is turned."""
    if shape == "square":
        points = [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)]
    elif shape == "triangle":
        points = [(0, -1), (0.98, 0.8), (-0.98, 0.8)]
    elif shape == "cross":
        arm = 0.33
        quarter = [(arm, -1), (arm, -arm), (1, -arm)]
        turns = ((1, 0), (0, 1), (-1, 0), (0, -1))  # cosine and sine
        points = [(a * x - b * y, b * x + a * y) for a, b in turns for x, y in quarter]
    else:
        spokes = ((1.05 if k % 2 == 0 else 0.45, k * pi / 5) for k in range(10))
        points = [(length * sin(turn), -length * cos(turn)) for length, turn in spokes]
    c, s = cos(angle), -sin(angle)
    return [(middle + radius * (c * x - s * y), middle + radius * (s * x + c * y)) for x, y in points]


def shrink(mask: np.ndarray, pixels: int) -> np.ndarray:
    """The mask without its outermost pixels: the minimum over a cross-shaped neighbourhood, repeated."""
    for _ in range(pixels):
        padded = np.pad(mask, 1)
        mask = np.minimum.reduce([mask, padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    return mask


def blend(canvas: np.ndarray, paint: np.ndarray, alpha: np.ndarray, x0: int, y0: int) -> None:
    """Lay ``paint`` over the canvas in place, its top left corner at (x0, y0); what sticks out is cut off."""
    height, width = alpha.shape
    top, left = max(0, -y0), max(0, -x0)
    bottom, right = min(height, canvas.shape[0] - y0), min(width, canvas.shape[1] - x0)
    part = canvas[y0 + top : y0 + bottom, x0 + left : x0 + right]
    weight = alpha[top:bottom, left:right, None]
    part[:] = part * (1 - weight) + paint[top:bottom, left:right] * weight
