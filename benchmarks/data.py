"""How fast images are decoded, transformed and loaded, per core, and how many loader processes a GPU needs.

Training's transforms take turns with METER's, written down plainly, and with timm's RandAugment as this project used it
before: interpolated over the whole picture. In a round equal pictures get equal random numbers, others in the next.

JPEG files of COCO's and Flickr30K's sizes are made up and written to a temporary folder. PyTorch is held to one thread,
as in a loader process. What one core does is timed by the process's own seconds, so that other programs matter little;
whole loaders by the wall's. Reading files that the system has just written does not wait for a disk. Texts are
questions as long as VQAv2's, in batches of a tokenizer of RoBERTa's kind.
"""

import io
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from timm.data import create_transform
from timm.data.auto_augment import RandAugment, rand_augment_ops
from torch import Tensor

from benchmarks.data_tables import show
from benchmarks.measure import Spread, Stage, describe_machine, spread, take_turns
from benchmarks.meter_pictures import OPERATIONS, meter_pictures
from benchmarks.pictures import Size, write_pictures
from benchmarks.texts import AHEAD, ON_THE_FLY, made_up_questions, text_side
from vl_absvit.cli import progress
from vl_absvit.config import VisionConfig
from vl_absvit.data.captions import GalleryImages
from vl_absvit.data.image_loader import ImageLoader
from vl_absvit.data.json_files import make_room, write_json
from vl_absvit.data.loaders import batch_loader
from vl_absvit.data.records import ImageTable
from vl_absvit.data.rgb import decode_rgb
from vl_absvit.data.transforms import ImageTransform, image_transform, seeded
from vl_absvit.models.architecture import image_statistics

SIZES: tuple[Size, ...] = ((640, 480), (500, 375))
DECODING, REDUCED, EVALUATION = "decoding", "decoding at reduced scale", "evaluation"
TRAINING, FAST, INTERPOLATED = "randaugment", "randaugment_fast", "interpolated RandAugment"
METER, METER_RGB = "METER's clip_randaug", "METER's imagenet_randaug"
Way = Callable[[bytes], Tensor]
"""From a file's content to the model's input."""
OTHERS = (METER, METER_RGB, INTERPOLATED)  # what training's transforms are compared with
IMAGES_PER_BATCH = 16
TEXTS = 2048
TOO_MANY = 10**9  # images to be kept in memory
FETCHED_AHEAD = 2  # batches per loader process, PyTorch's default


def run(
    *,
    images: int,
    image_size: int,
    workers: Sequence[int],
    gpu_rate: Sequence[int],
    repeats: int,
    output: Path | None,
) -> None:
    """Measure, print the tables, write the JSON; the arguments are the command's options."""
    if output is not None:
        make_room(output)
    with progress() as bar, one_thread(), tempfile.TemporaryDirectory() as folder:
        task = bar.add_task("rounds", total=(repeats + 1) * (1 + 2 * len(workers)))
        results = measure(Path(folder), images, image_size, workers, gpu_rate, repeats, lambda: bar.advance(task))
    show(Console(), results)
    if output is not None:
        told = {"benchmark": "data", "images": images, "image_size": image_size, "repeats": repeats}
        write_json(output, told | {"machine": describe_machine(torch.device("cpu")), "results": results}, indent=1)


def measure(
    folder: Path,
    images: int,
    image_size: int,
    workers: Sequence[int],
    gpu_rates: Sequence[int],
    repeats: int,
    advance: Callable[[], object],
) -> dict[str, Any]:
    """Rates of every step and of whole loaders.

    Args:
        folder: to write the pictures into.
        images: of each size.
        image_size: side of the model's input, in pixels.
        workers: numbers of loader processes, each in turn.
        gpu_rates: images per second that a GPU trains on.
        repeats: timed rounds.
        advance: called after every round.
    """
    contents = write_pictures(folder, SIZES, images)
    mean, std = image_statistics(VisionConfig())
    plain = image_transform(image_size, mean, std)
    training = {
        TRAINING: image_transform(image_size, mean, std, "randaugment"),
        FAST: image_transform(image_size, mean, std, "randaugment_fast"),
    }
    ways = {name: whole(transform) for name, transform in ({EVALUATION: plain} | training).items()} | {
        METER: meter_pictures(image_size, mean, std, alpha=True),
        METER_RGB: meter_pictures(image_size, mean, std, alpha=False),
        INTERPOLATED: interpolated(image_size, mean, std),
    }
    sides: list[Callable[[Stage], object]] = [
        partial(take_steps, size, files, ways, image_size, count()) for size, files in contents.items()
    ]
    sides.append(text_side(made_up_questions(TEXTS)))
    seconds = take_turns(sides, torch.device("cpu"), repeats, advance, time.process_time).seconds
    core = {name: per_core(seconds, images, name) for name in ways}
    return {
        "sizes": {
            f"{width} x {height}": {
                "bytes_per_image": sum(map(len, files)) / images,
                "images_per_second": {
                    name: spread(images / np.array(seconds[size, name]))._asdict()
                    for name in (DECODING, REDUCED, *ways)
                },
                "times_as_fast": {
                    name: {other: faster(seconds[size, name], seconds[size, other])._asdict() for other in OTHERS}
                    for name in training
                },
                "reduced": compare_reduced(files, plain, image_size, std),
            }
            for size, files in contents.items()
            for width, height in [size]
        },
        "per_core": {name: rate._asdict() for name, rate in core.items()},
        "texts": compare_texts(seconds, core[TRAINING].median),
        "loaders": {
            name: {str(number): load(folder, transform, number, repeats, advance)._asdict() for number in workers}
            for name, transform in training.items()
        },
        "workers_needed": {
            str(rate): {name: workers_needed(rate, core[name].median) for name in (*training, METER)}
            for rate in gpu_rates
        },
    }


def whole(transform: ImageTransform) -> Way:
    """A transform with its decoding."""
    return lambda content: transform(transform.decode(content))


def interpolated(image_size: int, mean: Sequence[float], std: Sequence[float]) -> Way:
    """What ``randaugment`` was before: timm's, at METER's magnitude, which moves pixels bicubically."""
    settings = {
        "translate_const": 100,
        "img_mean": tuple(round(255 * channel) for channel in mean),
        "interpolation": Image.Resampling.BICUBIC,
    }
    transform = create_transform(
        (3, image_size, image_size), interpolation="bicubic", mean=tuple(mean), std=tuple(std), crop_pct=1.0
    )
    operations = rand_augment_ops(3.0, prob=1.0, hparams=settings, transforms=list(OPERATIONS))
    transform.transforms.insert(0, RandAugment(operations, num_layers=2))
    return lambda content: transform(decode_rgb(content))


def faster(seconds: Sequence[float], others: Sequence[float]) -> Spread:
    """How many times as fast, round by round."""
    return spread([other / own for own, other in zip(seconds, others, strict=True)])


def take_steps(
    size: Size, files: Sequence[bytes], ways: Mapping[str, Way], image_size: int, rounds: Iterator[int], stage: Stage
) -> None:
    """Either decoding, and every way from file to tensor, on all pictures of one size, each a stage."""
    number = next(rounds)
    with stage((size, DECODING)):
        for content in files:
            decode_rgb(content)
    with stage((size, REDUCED)):
        for content in files:
            decode_reduced(content, image_size)
    for name, way in ways.items():
        with stage((size, name)):
            for row, content in enumerate(files):
                with seeded(number, row):
                    way(content)


def decode_reduced(content: bytes, side: int) -> Image.Image:
    """A JPEG at 1/2, 1/4 or 1/8 of its size, as small as its shorter side of at least ``side`` pixels allows."""
    image = Image.open(io.BytesIO(content))
    image.draft("RGB", (side, side))
    return image.convert("RGB")


def compare_reduced(
    files: Sequence[bytes], transform: ImageTransform, image_size: int, std: Sequence[float]
) -> dict[str, Any]:
    """How far the model's inputs differ between whole and reduced decoding, in steps of 8-bit pixels."""
    reduced = [decode_reduced(content, image_size) for content in files]
    steps = 255 * torch.tensor(std).view(3, 1, 1)
    differences = torch.stack(
        [
            (transform(decode_rgb(content)) - transform(picture)).abs() * steps
            for content, picture in zip(files, reduced, strict=True)
        ]
    )
    return {
        "size": list(reduced[0].size),
        "largest_difference": float(differences.max()),
        "mean_difference": float(differences.mean()),
    }


def per_core(seconds: Mapping[tuple[Size, str], Sequence[float]], images: int, way: str) -> Spread:
    """Images per second that one core takes from file to tensor, as many of each size."""
    total = np.sum([seconds[size, way] for size in SIZES], axis=0)
    return spread(images * len(SIZES) / total)


def compare_texts(seconds: Mapping[str, Sequence[float]], images_per_second: float) -> dict[str, Any]:
    """Texts per second of one core either way, and what tokenising ahead would save of an image and its question.

    Args:
        images_per_second: that one core decodes and transforms in training.
    """
    rates = {name: spread(TEXTS / np.array(seconds[name])) for name in (ON_THE_FLY, AHEAD)}
    on_the_fly, ahead = (1 / rate.median for rate in rates.values())
    saved = (on_the_fly - ahead) / (1 / images_per_second + on_the_fly)
    return {"per_second": {name: rate._asdict() for name, rate in rates.items()}, "saved_share": saved}


def load(folder: Path, transform: ImageTransform, workers: int, repeats: int, advance: Callable[[], object]) -> Spread:
    """Images per second that arrive from a loader with so many processes, once it has started."""
    table = ImageTable(folder)
    images = GalleryImages(ImageLoader(table, transform, TOO_MANY), table.available)
    rows = np.random.default_rng(0).permutation(len(images)).tolist()  # both sizes in every batch
    batches = [rows[start : start + IMAGES_PER_BATCH] for start in range(0, len(rows), IMAGES_PER_BATCH)]
    # Further ones are on their way at the end, too: what was fetched ahead would otherwise seem to arrive at once.
    further = (batches * (FETCHED_AHEAD * workers))[: FETCHED_AHEAD * workers]
    arriving = iter(batch_loader(images, batches * (repeats + 1) + further, workers))
    ends = []
    for _ in range(repeats + 1):
        for _ in batches:
            next(arriving)
        ends.append(time.perf_counter())
        advance()
    return spread(len(rows) / np.diff(ends))


def workers_needed(gpu_rate: float, per_core_rate: float) -> int:
    """Loader processes, each on a core of its own, that keep up with a GPU; both in images per second."""
    return math.ceil(gpu_rate / per_core_rate)


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on a single thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
