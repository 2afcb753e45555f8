"""A third demo world: scenes with a mask of their objects and made-up eye fixations, to compare maps with.

``make_masked_world`` writes ``pictures/{train,val}/*.png``, scenes as those of the first world; below ``masks`` a grey
PNG of the same name for each, where 0 is the ground and 1 to 6 are the shapes in ``SHAPES``, as ``classes.txt`` says;
and ``fixations.csv``.
Observers begin in the middle, where the picture appears, and then look at object after object, at large ones rather
earlier.
"""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from vl_absvit.data.files import write_text
from vl_absvit.demo.made_whole import Track, make_whole, workers_of
from vl_absvit.demo.scene import PLAIN, SHAPES, SIDE, Thing, draw, generator, masks, sample_scene

FORMAT = 3
TRAIN_SHARE = 0.5
OBSERVERS = 5
LOOKS = (2, 4)
"""Fewest and most objects that an observer looks at."""
OFF_CENTRE, OFF_OBJECT = 5.0, 3.0
"""Standard deviation of a fixation around the middle and around an object, in pixels."""
MILLISECONDS = 250


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
        fixations = ["image,observer,x,y,t"]
        with workers_of(workers) as pool:
            for split, number in counts.items():
                for part in ("pictures", "masks"):
                    (folder / part / split).mkdir(parents=True)
                work = pool.map(partial(_make_picture, folder, split, seed), range(number), chunksize=16)
                fixations += [line for lines in track(work, number, f"masked/{split}") for line in lines]
        write_text(folder / "classes.txt", "".join(f"{name}\n" for name in ("ground", *SHAPES)))
        write_text(folder / "fixations.csv", "".join(f"{line}\n" for line in fixations))
        return {f"{split}/images": number for split, number in counts.items()}

    return make_whole(output, {"format": FORMAT, "seed": seed, "masked": pictures}, write)


def _make_picture(folder: Path, split: str, seed: int, number: int) -> list[str]:
    """Draw a picture and its mask; returns the lines of its fixations."""
    rng = generator(seed, f"masked_{split}", number)
    things, name = sample_scene(rng, split), f"{split}_{number:05d}.png"
    draw(things, PLAIN, rng).save(folder / "pictures" / split / name)
    Image.fromarray(mask_of(things)).save(folder / "masks" / split / name)
    return [
        f"{split}/{name},{observer},{x:.1f},{y:.1f},{time * MILLISECONDS}"
        for observer in range(1, OBSERVERS + 1)
        for time, (x, y) in enumerate(look_around(things, rng))
    ]


def look_around(things: tuple[Thing, ...], rng: np.random.Generator) -> np.ndarray:
    """Fixations of one observer in their order, (F, 2), on the picture."""
    areas = np.array([thing.extent**2 for thing in things], dtype=float)
    number = min(int(rng.integers(*LOOKS, endpoint=True)), len(things))
    order = rng.choice(len(things), size=number, replace=False, p=areas / areas.sum())
    targets = [(SIDE / 2, SIDE / 2), *((things[place].x, things[place].y) for place in order)]
    spread = np.array([OFF_CENTRE, *[OFF_OBJECT] * number])[:, None]
    return (np.array(targets) + spread * rng.standard_normal((number + 1, 2))).clip(0, SIDE - 0.1)


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
