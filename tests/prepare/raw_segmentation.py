"""A small data set of labelled pixels in the form of a folder of one's own."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ground", "red", "blue")
COLOURS = ((90, 140, 90), (200, 40, 40), (40, 60, 200))


def write_small_segmentation(root: Path, splits: dict[str, int], side: int = 32) -> Path:
    """Write pictures of rectangles on a ground, as long as they are wide and a bit, with labels that have void rows."""
    for split, number in splits.items():
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        for place in range(number):
            draw = np.random.default_rng([len(split), place])
            label = np.zeros((side, side + place % 3), np.uint8)
            for value in (1, 2):
                top, left = draw.integers(side // 2, size=2)
                label[top : top + side // 2, left : left + side // 2] = value
            noise = draw.integers(-9, 10, size=(*label.shape, 3))
            picture = (np.array(COLOURS)[label] + noise).clip(0, 255).astype(np.uint8)
            label[:2] = 255
            Image.fromarray(picture).save(root / f"images/{split}/{split}_{place}.png")
            Image.fromarray(label).save(root / f"labels/{split}/{split}_{place}.png")
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return root
