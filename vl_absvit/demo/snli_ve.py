"""Hypotheses about drawn pictures, in SNLI-VE's official form: entailment, neutral or contradiction.

Some objects of a picture are silhouettes: their shape is to be seen, their colour and texture are not. "There is a red
ring" is entailed by a red ring, left open by a ring in silhouette where there is no red one, and contradicted
otherwise. Every hypothesis occurs equally often with each of the three labels, so that the text alone tells nothing.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from vl_absvit.data.files import write_text
from vl_absvit.demo.captions import list_things
from vl_absvit.demo.language import ATTRIBUTES, matching, phrase, pick
from vl_absvit.demo.made_whole import Track
from vl_absvit.demo.scene import PLAIN, Thing, blend, draw, generator, masks, sample_scene, save_jpeg

SPLITS = {"train": ("train", 4), "dev": ("val", 40), "test": ("test", 20)}
"""Split -> that of its scenes, and of how many captioned pictures there is one picture."""
LEAST_PICTURES = 12
LABELS = ("entailment", "neutral", "contradiction")
DARK = 12.0
"""Grey value of a silhouette."""
HYPOTHESES = [
    {name: value, "shape": shape}
    for shape in ATTRIBUTES["shape"]
    for name in ("colour", "texture")
    for value in ATTRIBUTES[name]
]
_ENTAILED_SHARE = 0.4  # of what pictures entail, so many become hypotheses, each with one of either other label
_OPENINGS = ("There is a {} in the picture.", "There is a {}.", "This image shows a {}.", "We see a {}.")


class Picture(NamedTuple):
    """What is on a picture."""

    image_id: int
    seen: tuple[Thing, ...]
    silhouettes: tuple[Thing, ...]
    caption: str


class Hypothesis(NamedTuple):
    """A text about a picture, by its place among those of its split."""

    picture: int
    text: str
    label: str


def write_snli_ve(folder: Path, seed: int, pictures: int, pool: Executor, track: Track) -> dict[str, int]:
    """Images and ``snli_ve_{train,dev,test}.jsonl``, for as many captioned pictures. Returns counts."""
    (folder / "flickr30k-images").mkdir(parents=True)
    counts: dict[str, int] = {}
    for split, (_, share) in SPLITS.items():
        number = max(LEAST_PICTURES, pictures // share)
        work = pool.map(partial(_make_picture, folder, split, seed), range(number), chunksize=16)
        made = list(track(work, number, f"snli_ve/{split}"))
        found = choose(made, generator(seed, f"snli_ve_{split}_texts", 0))
        lines = "".join(f"{json.dumps(record)}\n" for record in _records(made, found))
        write_text(folder / f"snli_ve_{split}.jsonl", lines)
        counts |= {f"snli_ve/{split}/images": number, f"snli_ve/{split}/statements": len(found)}
    return counts


def label_of(picture: Picture, words: dict[str, str]) -> str:
    """What a picture says of the hypothesis that there is a thing with these attributes, its shape among them."""
    if matching(picture.seen, words):
        return "entailment"
    return "neutral" if matching(picture.silhouettes, {"shape": words["shape"]}) else "contradiction"


def choose(pictures: Sequence[Picture], rng: np.random.Generator) -> list[Hypothesis]:
    """Hypotheses in the order of their pictures, every text equally often with each label.

    What is contradicted is near: its shape is there, or what it says of it.
    """
    chosen = []
    for words in HYPOTHESES:
        of_label: dict[str, list[int]] = {label: [] for label in LABELS}
        for place, picture in enumerate(pictures):
            label = label_of(picture, words)
            if label != "contradiction" or any(matching(picture.seen, {name: words[name]}) for name in words):
                of_label[label].append(place)
        wanted = ceil(_ENTAILED_SHARE * len(of_label["entailment"]))
        number = min(wanted, *(len(places) for places in of_label.values()))
        texts = [pick(rng, _OPENINGS).format(phrase(words)) for _ in range(number)]
        for label, places in of_label.items():
            drawn = rng.permutation(places)[:number].tolist()
            chosen += [Hypothesis(place, text, label) for place, text in zip(drawn, texts, strict=True)]
    return sorted(chosen, key=lambda each: each.picture)


def draw_picture(picture: Picture, rng: np.random.Generator) -> Image.Image:
    """The look of the first world, with silhouettes."""
    canvas = np.array(draw(picture.seen, PLAIN, rng), dtype=np.float32)
    for thing in picture.silhouettes:
        inside, _ = masks(thing)
        x0, y0, _, _ = thing.box
        blend(canvas, np.full((*inside.shape, 3), DARK, dtype=np.float32), inside, x0 - 1, y0 - 1)
    return Image.fromarray(canvas.clip(0, 255).round().astype(np.uint8), "RGB")


def sample_picture(rng: np.random.Generator, split: str, image_id: int) -> Picture:
    """One silhouette, or two among more than three objects."""
    scene = sample_scene(rng, split)
    number = 1 if len(scene) == 3 else int(rng.integers(1, 2, endpoint=True))
    mixed = [scene[k] for k in rng.permutation(len(scene))]
    hidden, seen = tuple(mixed[:number]), tuple(mixed[number:])
    caption = list_things(seen, rng)
    return Picture(image_id, seen, hidden, f"{caption[0].upper()}{caption[1:]}.")


def _make_picture(folder: Path, split: str, seed: int, number: int) -> Picture:
    rng = generator(seed, f"snli_ve_{split}", number)
    image_id = 2_000_000_011 + 34 * number + list(SPLITS).index(split)
    picture = sample_picture(rng, SPLITS[split][0], image_id)
    save_jpeg(draw_picture(picture, rng), folder / f"flickr30k-images/{image_id}.jpg")
    return picture


def _records(pictures: Sequence[Picture], hypotheses: Sequence[Hypothesis]) -> Iterator[dict]:
    """The official records without parses."""
    told: Counter[int] = Counter()
    for place, text, label in hypotheses:
        picture, number = pictures[place], told[place]
        told[place] += 1
        caption_id = f"{picture.image_id}.jpg#0"
        yield {
            "Flickr30K_ID": str(picture.image_id),
            "annotator_labels": [label],
            "captionID": caption_id,
            "gold_label": label,
            "pairID": f"{caption_id}r{number}{label[0]}",
            "sentence1": picture.caption,
            "sentence2": text,
        }
