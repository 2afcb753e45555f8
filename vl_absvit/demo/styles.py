"""A second demo world: shapes in four drawing styles, in PACS's form, to train on three and test on the fourth.

``make_style_world`` writes ``kfold/STYLE/SHAPE/*.png`` and the lists ``STYLE_{train,crossval,test}_kfold.txt``. Objects
are those of the other world, one to a picture of 32 x 32 pixels. Styles are drawn independently of each other; every
tenth sheet of nine pictures is held out.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from vl_absvit.data.files import write_text
from vl_absvit.demo.made_whole import Track, make_whole, workers_of
from vl_absvit.demo.scene import (
    CELL,
    COLOURS,
    PLAIN,
    SHAPES,
    SIDE,
    TEXTURES,
    Style,
    Thing,
    blend,
    draw,
    generator,
    masks,
    sample_sheet,
    shrink,
)

FORMAT = 1
HELD_OUT = 10  # of so many sheets one is held out
LABELS = {shape: label for label, shape in enumerate(sorted(SHAPES), start=1)}
CANVAS = Style(ground=(120, 170), tint=30, noise=14.0, brightness=0.8, outline=0, gap=0.5)
PEN, BRUSH = 2, 5  # pixels: width of a line, and side of the square within which paint runs together


def draw_photo(things: Sequence[Thing], rng: np.random.Generator) -> Image.Image:
    """As the scenes of the other world."""
    return draw(things, PLAIN, rng)


def draw_painting(things: Sequence[Thing], rng: np.random.Generator) -> Image.Image:
    """On a bright, tinted ground, in strokes as broad as the brush."""
    return draw(things, CANVAS, rng).filter(ImageFilter.ModeFilter(BRUSH))


def draw_cartoon(things: Sequence[Thing], rng: np.random.Generator) -> Image.Image:
    """Flat colours within black lines, on one pale colour."""
    canvas = np.empty((SIDE, SIDE, 3), dtype=np.float32)
    canvas[:] = rng.integers(170, 235, size=3)
    for thing in things:
        inside, dark = masks(thing)
        line = inside * (1 - shrink(inside, PEN))
        colour = np.array(COLOURS[thing.colour], dtype=np.float32)
        paint = colour * (1 - 0.4 * dark)[..., None] * (1 - line)[..., None]
        x0, y0, _, _ = thing.box
        blend(canvas, paint, inside, x0 - 1, y0 - 1)
    return Image.fromarray(canvas.clip(0, 255).round().astype(np.uint8), "RGB")


def draw_sketch(things: Sequence[Thing], rng: np.random.Generator) -> Image.Image:
    """Outlines alone, grey on white; colours and textures are lost."""
    canvas = np.full((SIDE, SIDE, 3), 250, dtype=np.float32)
    for thing in things:
        inside, _ = masks(thing)
        line = inside * (1 - shrink(inside, PEN))
        x0, y0, _, _ = thing.box
        blend(canvas, np.full((*line.shape, 3), rng.integers(20, 90), dtype=np.float32), line, x0 - 1, y0 - 1)
    return Image.fromarray(canvas.clip(0, 255).round().astype(np.uint8), "RGB")


STYLES: dict[str, Callable[[Sequence[Thing], np.random.Generator], Image.Image]] = {
    "cartoon": draw_cartoon, "painting": draw_painting, "photo": draw_photo, "sketch": draw_sketch
}  # fmt: skip


def make_style_world(output: Path, *, seed: int, pictures: int, workers: int, track: Track) -> bool:
    """Write the world to ``output``, or leave it alone where the same world is there already.

    Args:
        pictures: of each style; rounded up to whole sheets of nine, ten at least.
        workers: processes that draw.

    Returns:
        True if the world was written, False if it was there.

    Raises:
        InputError: ``output`` holds something else.
    """
    arguments = {"format": FORMAT, "seed": seed, "styles": pictures}

    def write(folder: Path) -> dict[str, int]:
        with workers_of(workers) as pool:
            return {f"{style}/images": _write_style(folder, style, seed, pictures, pool, track) for style in STYLES}

    return make_whole(output, arguments, write)


def _write_style(folder: Path, style: str, seed: int, pictures: int, pool: Executor, track: Track) -> int:
    """All pictures and the three lists of a style. Returns their number."""
    for shape in SHAPES:
        (folder / "kfold" / style / shape).mkdir(parents=True)
    sheets = max(HELD_OUT, -(-pictures // 9))
    work = pool.map(partial(_make_sheet, folder / "kfold", style, seed), range(sheets), chunksize=16)
    files = list(track(work, sheets, style))
    held_out = [number % HELD_OUT == HELD_OUT - 1 for number in range(sheets)]
    for part, wanted in (("train", (False,)), ("crossval", (True,)), ("test", (False, True))):
        lines = [
            line for of_sheet, is_out in zip(files, held_out, strict=True) if is_out in wanted for line in of_sheet
        ]
        write_text(folder / f"{style}_{part}_kfold.txt", "".join(f"{line}\n" for line in sorted(lines)))
    return 9 * sheets


def _make_sheet(folder: Path, style: str, seed: int, number: int) -> list[str]:
    """Nine objects drawn in one image, which is cut into its cells. Returns their lines in a list."""
    rng = generator(seed, f"style_{style}", number)
    colours, textures = rng.choice(list(COLOURS), size=9), rng.choice(TEXTURES, size=9)
    shapes = [SHAPES[(9 * number + cell) % len(SHAPES)] for cell in rng.permutation(9)]
    kinds = [
        (str(colour), str(texture), shape) for colour, texture, shape in zip(colours, textures, shapes, strict=True)
    ]
    image, lines = STYLES[style](sample_sheet(rng, kinds), rng), []
    for cell, shape in enumerate(shapes):
        x, y = CELL * (cell % 3), CELL * (cell // 3)
        file = f"{style}/{shape}/{number:05d}_{cell}.png"
        image.crop((x, y, x + CELL, y + CELL)).save(folder / file, compress_level=1)
        lines.append(f"{file} {LABELS[shape]}")
    return lines
