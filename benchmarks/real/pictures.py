"""Pictures of two things side by side, of photographs and of cut-out stamps. Things are drawn by a seed."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

from benchmarks.real.encoders import SIDE
from vl_absvit.data.rgb import open_rgb
from vl_absvit.errors import InputError

HALF = (SIDE // 2, SIDE)
STAMPS = (
    "animals/birds", "animals/fish", "animals/insects", "animals/mammals", "clothes", "food/fruit", "food/vegetables",
    "household/tools", "plants/flowers",
)  # fmt: skip


class Pair(NamedTuple):
    """What is side by side."""

    groups: tuple[str, str]  # of the left and of the right one
    files: tuple[Path, Path]


class Things(NamedTuple):
    """Pictures of things of some groups; no picture is in both."""

    examples: dict[str, list[Path]]  # to make class prototypes of
    shown: dict[str, list[Path]]  # to put side by side


def photo_groups(folder: Path) -> Things:
    """The photographs in ``examples/GROUP`` and ``pairs/GROUP``.

    Raises:
        InputError: there are none, or not of the same groups.
    """
    found = [
        {each.name: sorted(each.glob("*.jpg")) for each in sorted((folder / part).glob("*")) if each.is_dir()}
        for part in ("examples", "pairs")
    ]
    things = Things(*found)
    if len(things.shown) < 2 or things.examples.keys() != things.shown.keys():
        raise InputError(f"{folder}: expected photographs of the same groups in examples/GROUP and pairs/GROUP")
    return things


def stamps(folder: Path) -> Things:
    """Tux Paint's stamps of nine kinds of things that are no cartoons, every second one of a kind an example.

    Raises:
        InputError: a kind has fewer than two.
    """
    of_kind = {kind: sorted((folder / kind).glob("*.png")) for kind in STAMPS}
    for kind, files in of_kind.items():
        if len(files) < 2:
            raise InputError(f"{folder / kind}: expected Tux Paint's stamps, got {len(files)}")
    return Things({kind: own[::2] for kind, own in of_kind.items()}, {kind: own[1::2] for kind, own in of_kind.items()})


def draw_pairs(shown: Mapping[str, Sequence[Path]], number: int, seed: int) -> list[Pair]:
    """Draw pairs of things of different groups."""
    chance, pairs = random.Random(seed), []
    for _ in range(number):
        left, right = chance.sample(sorted(shown), 2)
        pairs.append(Pair((left, right), (chance.choice(shown[left]), chance.choice(shown[right]))))
    return pairs


def photograph(file: Path, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A photograph that fills a size, what is over cut off on both sides alike."""
    return ImageOps.fit(open_rgb(file), size, Image.Resampling.BICUBIC)


def stamp(file: Path, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A cut-out on mid-grey, whole."""
    with Image.open(file) as opened:
        cut_out = ImageOps.contain(opened.convert("RGBA"), size, Image.Resampling.BICUBIC)
    ground = Image.new("RGBA", size, (128, 128, 128, 255))
    ground.alpha_composite(cut_out, ((size[0] - cut_out.width) // 2, (size[1] - cut_out.height) // 2))
    return ground.convert("RGB")


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures of the size ``HALF`` as one of side ``SIDE``."""
    picture = Image.new("RGB", (SIDE, SIDE))
    picture.paste(left, (0, 0))
    picture.paste(right, (HALF[0], 0))
    return picture
