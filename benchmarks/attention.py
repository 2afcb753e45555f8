"""One layer of softmax attention, Performer and VARS-D in turns: what it takes against the number of tokens.

A layer is what stands between a block's normed tokens and its residual sum: queries to output projection, in fp32, in
evaluation. Its seconds are this process's own, so that other work on the machine counts little; ratios are taken round
by round. Shapes: R rounds.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks.measure import Measurements, Stage, describe_machine, spread, take_turns
from benchmarks.tables import number, span, table_of
from vl_absvit.cli import progress
from vl_absvit.data.json_files import make_room, write_json
from vl_absvit.models.attention import attention_layer

KINDS = ("softmax", "performer", "vars_d")
LAYERS = {"RVT-Ti": (192, 6), "DeiT-Ti*": (192, 3), "RVT-S, DeiT-S*": (384, 6)}
"""Of which trunks' blocks at 224 pixels: width and heads."""


class Key(NamedTuple):
    """What a stage belongs to."""

    layer: str
    side: int  # of the grid of tokens
    kind: str


def run(*, sides: Sequence[int], images: int, repeats: int, output: Path | None) -> None:
    """Measure, print the table, write the JSON; the arguments are the command's options."""
    if output is not None:
        make_room(output)
    sides = sorted(set(sides))
    with progress() as bar:
        task = bar.add_task("rounds", total=len(LAYERS) * len(sides) * (repeats + 1))
        rows = [
            row
            for layer in LAYERS
            for side in sides
            for row in measure(layer, side, images, repeats, lambda: bar.advance(task))
        ]
    show(Console(), rows)
    if output is not None:
        told = {"benchmark": "attention", "images": images, "repeats": repeats, "precision": "fp32"}
        write_json(output, told | {"machine": describe_machine(torch.device("cpu")), "results": rows}, indent=1)


@torch.no_grad()
def measure(layer: str, side: int, images: int, repeats: int, advance: Any) -> list[dict[str, Any]]:
    """All kinds of one layer on one grid."""
    torch.manual_seed(0)
    width, heads = LAYERS[layer]
    tokens = torch.randn(images, side**2, width)
    turns = [
        partial(
            attend, Key(layer, side, kind), attention_layer("none", kind)(width, heads, qkv_bias=True).eval(), tokens
        )
        for kind in KINDS
    ]
    return summarise(take_turns(turns, tokens.device, repeats, advance, process_time), images)


def attend(key: Key, attention: nn.Module, tokens: Tensor, stage: Stage) -> None:
    """One layer on all images."""
    with stage(key):
        attention(tokens)


def summarise(measured: Measurements, images: int) -> list[dict[str, Any]]:
    """Processor seconds and operations of an image by every kind, and their ratios to softmax's."""
    seconds = {key: np.array(values) / images for key, values in measured.seconds.items()}  # (R,) each
    rows = []
    for key, values in seconds.items():
        softmax = key._replace(kind="softmax")
        rows.append(
            key._asdict()
            | {
                "processor_seconds": spread(values)._asdict(),
                "ratio": spread(values / seconds[softmax])._asdict(),
                "multiply_adds": measured.flops[key] // (2 * images),
                "ratio_of_multiply_adds": measured.flops[key] / measured.flops[softmax],
            }
        )
    return rows


def show(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """A row for every layer and grid."""
    columns = [f"{kind}{of}" for kind in KINDS[1:] for of in (" / softmax", "")]
    table = table_of("", "tokens", "softmax, ms", *columns)
    for start in range(0, len(rows), len(KINDS)):
        softmax, *others = rows[start : start + len(KINDS)]
        cells = [cell for row in others for cell in (span(row["ratio"]), f"({number(row['ratio_of_multiply_adds'])})")]
        tokens = f"{softmax['side']} x {softmax['side']}"
        table.add_row(softmax["layer"], tokens, span(softmax["processor_seconds"], 1e3), *cells)
    console.print(table)
    console.print("Ratios of processor seconds, median (least-most) of rounds; in brackets of counted multiply-adds.")
