"""A third demo world: scenes with a mask of their objects, to compare maps with.

``make_masked_world`` writes ``pictures/{train,val}/*.png``, scenes as those of the first world, and below ``masks`` a
grey PNG of the same name for each: 0 is the ground, 1 to 6 are the shapes in ``SHAPES``.
"""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from vl_absvit.demo.made_whole import Track, make_whole, workers_of
from vl_absvit.demo.scene import PLAIN, SHAPES, SIDE, Thing, draw, generator, masks, sample_scene

FORMAT = 1
TRAIN_SHARE = 0.5


def make_masked_world(output: Path, *, seed: int, pictures: int, workers: int, track: Track) -> bool:
    """Write the world to ``output``, or leave it alone where the same world is there already.

    Args:
        pictures: of both splits together, at least two; half of them are for training.
        workers: processes that draw.

    Returns:
        True if the world was written, False if it was there.

    Raises:
        InputError: ``output`` holds something else.
    """
    train = round(TRAIN_SHARE * pictures)

    def write(folder: Path) -> dict[str, int]:
        counts = {"train": train, "val": pictures - train}
        with workers_of(workers) as pool:
            for split, number in counts.items():
                for part in ("pictures", "masks"):
                    (folder / part / split).mkdir(parents=True)
                work = pool.map(partial(_make_picture, folder, split, seed), range(number), chunksize=16)
                list(track(work, number, f"masked/{split}"))
        return {f"{split}/images": number for split, number in counts.items()}

    return make_whole(output, {"format": FORMAT, "seed": seed, "masked": pictures}, write)


def _make_picture(folder: Path, split: str, seed: int, number: int) -> None:
    rng = generator(seed, f"masked_{split}", number)
    things, name = sample_scene(rng, split), f"{split}_{number:05d}.png"
    draw(things, PLAIN, rng).save(folder / "pictures" / split / name)
    Image.fromarray(mask_of(things)).save(folder / "masks" / split / name)


def mask_of(things: tuple[Thing, ...]) -> np.ndarray:
    """The shape at each pixel of a scene, 0 for the ground, (96, 96), uint8; a pixel half covered is an object's."""
    numbers = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for thing in things:
        covered, _ = masks(thing)
        x0, y0, _, _ = thing.box
        rows, columns = np.nonzero(covered >= 0.5)
        rows, columns = rows + y0 - 1, columns + x0 - 1
        inside = (rows >= 0) & (rows < SIDE) & (columns >= 0) & (columns < SIDE)
        numbers[rows[inside], columns[inside]] = 1 + SHAPES.index(thing.shape)
    return numbers
