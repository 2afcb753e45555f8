"""Captions of the demo world's scenes, and the two caption worlds in Karpathy's layout.

Both worlds show the same kinds of objects and differ in look: ``coco`` looks like the demo world's VQA scenes,
``flickr30k`` is brighter, noisier and outlined. Every caption tells of at least two objects.
"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vl_absvit.data.json_files import write_json
from vl_absvit.demo.language import PLURALS, Scene, pick
from vl_absvit.demo.scene import PAPER, PLAIN, Style, Thing, draw, generator, sample_scene, save_jpeg

CAPTIONS_PER_IMAGE = 5
_COUNT_WORDS = ("no", "one", "two", "three", "four", "five")
_OPENINGS = ("", "", "a picture of ", "there is ", "this image shows ", "we see ")


class World(NamedTuple):
    """One caption data set: its look, its files, and how many images per thousand VQA scenes each split has."""

    dataset: str
    style: Style
    splits: dict[str, int]
    folder_of: Callable[[str], str]  # split -> image folder
    file_of: Callable[[str, int], str]  # image folder, number -> file name
    has_filepath: bool


def _coco_id(number: int) -> int:
    return 4 * number + 4


WORLDS = (
    World(
        "coco",
        PLAIN,
        {"train": 250, "restval": 25, "val": 17, "test": 34},
        lambda split: "train2014" if split == "train" else "val2014",
        lambda folder, number: f"COCO_{folder}_{_coco_id(number):012d}.jpg",
        True,
    ),
    World(
        "flickr30k",
        PAPER,
        {"train": 100, "val": 17, "test": 34},
        lambda split: "flickr30k-images",
        lambda folder, number: f"{1000000007 + 31 * number}.jpg",
        False,
    ),
)


def describe(scene: Scene, rng: np.random.Generator, count: int = CAPTIONS_PER_IMAGE) -> list[str]:
    """``count`` different captions of one scene, each true of it."""
    captions: dict[str, None] = {}
    makers = (list_things, _relate, _relate, _pair_up, _group)
    while len(captions) < count:
        text = pick(rng, makers)(scene, rng)
        captions.setdefault(text[0].upper() + text[1:] + ".")
    return list(captions)


def words_of(raw: str) -> list[str]:
    """Karpathy's tokens: lower-case words without punctuation."""
    return re.findall(r"[a-z0-9]+", raw.lower())


def write_captions(folder: Path, world: World, seed: int, scenes: int, pool: Executor, track: Callable) -> list[dict]:
    """One caption world: images and ``dataset_<name>.json``; returns the image records, splits in order."""
    plan = [
        (split, number) for split, share in world.splits.items() for number in range(max(2, share * scenes // 1000))
    ]
    for split in world.splits:
        (folder / world.folder_of(split)).mkdir(parents=True, exist_ok=True)
    work = pool.map(partial(_make_image, folder, WORLDS.index(world), seed), range(len(plan)), plan, chunksize=32)
    images = list(track(work, len(plan), world.dataset))
    write_json(folder / f"dataset_{world.dataset}.json", {"images": images, "dataset": world.dataset})
    return images


def _make_image(folder: Path, world_number: int, seed: int, number: int, place: tuple[str, int]) -> dict:
    split, number_in_split = place
    world = WORLDS[world_number]
    rng = generator(seed, f"{world.dataset} {split}", number_in_split)
    scene = sample_scene(rng, "train" if split == "restval" else split)
    subfolder = world.folder_of(split)
    name = world.file_of(subfolder, number)
    save_jpeg(draw(scene, world.style, rng), folder / subfolder / name)
    sentids = list(range(number * CAPTIONS_PER_IMAGE, (number + 1) * CAPTIONS_PER_IMAGE))
    sentences = [
        {"tokens": words_of(raw), "raw": raw, "imgid": number, "sentid": sentid}
        for sentid, raw in zip(sentids, describe(scene, rng), strict=True)
    ]
    record = {"sentids": sentids, "imgid": number, "sentences": sentences, "split": split, "filename": name}
    return record | {"filepath": subfolder, "cocoid": _coco_id(number)} if world.has_filepath else record


def _name(thing: Thing, rng: np.random.Generator) -> str:
    """Colour and shape, often with size or texture: "small dotted red star"."""
    extra = pick(rng, [(), (), ("size",), ("texture",), ("size", "texture")])
    return " ".join([getattr(thing, name) for name in extra] + [thing.colour, thing.shape])


def _join(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _mixed(scene: Scene, rng: np.random.Generator) -> list[Thing]:
    return [scene[k] for k in rng.permutation(len(scene))]


def list_things(scene: Scene, rng: np.random.Generator) -> str:
    """All objects, at least two, by colour and shape: "a red star, a small dotted blue ring and a green cross"."""
    return pick(rng, _OPENINGS) + _join([f"a {_name(thing, rng)}" for thing in _mixed(scene, rng)])


def _relate(scene: Scene, rng: np.random.Generator) -> str:
    first, second, third = _mixed(scene, rng)[:3]
    dx, dy = first.x - second.x, first.y - second.y
    if abs(dx) > abs(dy):
        side = pick(rng, ["left of", "to the left of"] if dx < 0 else ["right of", "to the right of"])
    else:
        side = "above" if dy < 0 else pick(rng, ["below", "under"])
    tail = pick(
        rng, ["", "", f", with a {_name(third, rng)} in the same picture", f", and there is a {_name(third, rng)}"]
    )
    return f"a {_name(first, rng)} is {side} a {_name(second, rng)}{tail}"


def _pair_up(scene: Scene, rng: np.random.Generator) -> str:
    first, second, third = (_name(thing, rng) for thing in _mixed(scene, rng)[:3])
    return pick(
        rng,
        [
            f"a {first} and a {second} among {_COUNT_WORDS[len(scene)]} objects",
            f"a {first} together with a {second} and a {third}",
            f"{_COUNT_WORDS[len(scene)]} objects, one of them a {first}, another a {second}",
        ],
    )


def _group(scene: Scene, rng: np.random.Generator) -> str:
    """Objects of one shape counted, the others named: "two rings, a red star and a blue cross"."""
    shape = pick(rng, scene).shape
    same = [thing for thing in _mixed(scene, rng) if thing.shape == shape]
    if len(same) == 1 or len(same) == len(scene):
        return list_things(scene, rng)
    others = [f"a {_name(thing, rng)}" for thing in scene if thing.shape != shape]
    colours = _join([thing.colour for thing in same])
    counted = f"{_COUNT_WORDS[len(same)]} {PLURALS[shape]} in {colours}"
    return _join([counted, *others]) if len(others) > 1 else f"{counted}, and {others[0]}"
