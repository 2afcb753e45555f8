"""A sentence against a large gallery of random vectors, one of each picture: block by block, and all at once.

Vectors lie in a file of an index's form, as ``vl-absvit search`` reads them, in the system's cache. The plain side has
them in memory, multiplies and sorts all scores. Processor time tells what the machine was not there for.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.measure import describe_machine, spread
from benchmarks.tables import span, table_of
from vl_absvit.cli import progress
from vl_absvit.data.json_files import make_room, write_json
from vl_absvit.data.picture_folder import PictureFile
from vl_absvit.search.gallery import Nearest, nearest
from vl_absvit.search.segments import Layout, Row, SegmentWriter, open_vectors

TOP, ROWS_AT_ONCE = 10, 16_384


def run(*, pictures: int, width: int, texts: int, repeats: int, output: Path | None) -> None:
    """Measure, print the table, write the JSON; the arguments are the command's options."""
    if output is not None:
        make_room(output)
    with tempfile.TemporaryDirectory() as folder, progress() as bar:
        task = bar.add_task("rounds", total=repeats + 1)
        result = measure(Path(folder), pictures, width, texts, repeats, lambda: bar.advance(task))
    console = Console()
    console.print(f"{pictures:,} pictures, {width} wide, {texts} at a time")
    table = table_of("", "seconds", "processor seconds")
    for side, numbers in result.items():
        table.add_row(side, span(numbers["seconds"]), span(numbers["processor"]))
    console.print(table)
    if output is not None:
        told = {"benchmark": "search", "pictures": pictures, "width": width, "texts": texts, "repeats": repeats}
        write_json(output, told | {"machine": describe_machine(torch.device("cpu")), "results": result}, indent=1)


def measure(
    folder: Path, pictures: int, width: int, texts: int, repeats: int, advance: Callable[[], object]
) -> dict[str, Any]:
    """Seconds of both sides, which take turns; the first round is not timed, and compares them."""
    layout = Layout("", 1, width, "float32")
    vectors = write_gallery(folder, pictures, layout)
    memory = torch.from_numpy(np.array(vectors[:, 0]))
    priors = torch.nn.functional.normalize(torch.randn(texts, width), dim=-1)
    sides: dict[str, Callable[[], Nearest]] = {
        "block by block, from the file": lambda: nearest(
            priors, [open_vectors(folder, "gallery", pictures, layout)], "mean", TOP
        ),
        "all at once, in memory": lambda: plain(priors, memory),
    }
    ours, theirs = (side() for side in sides.values())
    if not np.allclose(ours.similarity, theirs.similarity, atol=1e-5):
        raise RuntimeError("the sides do not find the same")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    processor: dict[str, list[float]] = {name: [] for name in sides}
    advance()
    for _ in range(repeats):
        for name, side in sides.items():
            begun, used = time.perf_counter(), time.process_time()
            side()
            seconds[name].append(time.perf_counter() - begun)
            processor[name].append(time.process_time() - used)
        advance()
    return {
        name: {"seconds": spread(seconds[name])._asdict(), "processor": spread(processor[name])._asdict()}
        for name in sides
    }


def plain(priors: torch.Tensor, vectors: torch.Tensor) -> Nearest:
    """The best of all scores, of unit vectors, (B, D) and (I, D)."""
    best = (priors @ vectors.T).topk(TOP, dim=1)
    return Nearest(best.values.numpy(), best.indices.numpy())


def write_gallery(folder: Path, pictures: int, layout: Layout) -> np.ndarray:
    """A segment of random unit vectors, (I, 1, D)."""
    writer = SegmentWriter(folder, "gallery", layout)
    for start in range(0, pictures, ROWS_AT_ONCE):
        number = min(ROWS_AT_ONCE, pictures - start)
        made = torch.nn.functional.normalize(torch.randn(number, 1, layout.width), dim=-1)
        writer.add([Row(PictureFile(str(row), 0, 0), "") for row in range(number)], made.numpy())
    writer.close()
    return open_vectors(folder, "gallery", pictures, layout)
