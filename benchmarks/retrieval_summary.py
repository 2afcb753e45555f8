"""What the measured stages of the retrieval benchmark mean for a gallery. Shapes: R rounds."""

from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from benchmarks.measure import MATMUL, Measurements, spread
from benchmarks.naive import RETRIEVAL_TOKENS
from benchmarks.tables import number, span, table_of

FLICKR30K = (1000, 5000)  # images and captions of the test split
STAGES = {"naive": ("naive",), "exact": ("texts", "images", "pairs"), "shortlist": ("shortlist",)}  # of each side
PARTS = {"naive": "naive pair", "texts": "text", "images": "image", "pairs": "pair"}


class Counts(NamedTuple):
    """What was worked on."""

    images: int
    captions: int
    shortlist: int  # captions per image
    naive_pairs: int  # of the naive sample
    exact_pairs: int  # judged by the exact side


def summarise(counts: Counts, measured: Measurements) -> dict[str, Any]:
    """Seconds, ratios and operations per side and per part of the work.

    Args:
        measured: stages ``matmul``, ``naive`` (twice a round), ``texts``, ``images``, ``pairs``, ``shortlist``.
    """
    flops, seconds = measured.flops, {name: np.array(values) for name, values in measured.seconds.items()}
    pairs = counts.images * counts.captions
    of_naive, of_exact = pairs / counts.naive_pairs, pairs / counts.exact_pairs
    naive = seconds["naive"].reshape(-1, 2) * of_naive  # (R, 2): timed before the exact side, and before the shortlist
    exact = seconds["texts"] + seconds["images"] + seconds["pairs"] * of_exact
    exact_flops = flops["texts"] + flops["images"] + flops["pairs"] * of_exact
    sides = {
        "naive": _side(naive.ravel(), naive.ravel(), flops["naive"] * of_naive, pairs),
        "exact": _side(exact, naive[:, 0], exact_flops, pairs),
        "shortlist": _side(seconds["shortlist"], naive[:, 1], flops["shortlist"], pairs),
    }
    for name, side in sides.items():
        side["floor"] = sides["naive"]["flop_per_gallery"] / side["flop_per_gallery"]
        side["peak_bytes"] = max(measured.peak_bytes.get(stage, 0) for stage in STAGES[name]) or None
    rate = spread(flops[MATMUL] / seconds[MATMUL])
    numbers = dict(naive=counts.naive_pairs, texts=counts.captions, images=counts.images, pairs=counts.exact_pairs)
    parts: dict[str, dict[str, Any]] = {
        name: {
            "number": number,
            "flop_each": flops[name] / number,
            "seconds_each": spread(seconds[name] / number)._asdict(),
            "share_of_matmul_rate": flops[name] / float(np.median(seconds[name])) / rate.median,
        }
        for name, number in numbers.items()
    }
    return {
        "sides": sides,
        "parts": parts,
        "matmul_flop_per_second": rate._asdict(),
        "measured": {
            "naive": f"{counts.naive_pairs} of {pairs} pairs, texts padded to {RETRIEVAL_TOKENS} tokens",
            "exact": f"all texts and first looks, {counts.exact_pairs} of {pairs} pairs",
            "shortlist": f"all of it: texts, first looks, each image with its best {counts.shortlist} captions",
        },
        "flickr30k": _flickr30k(
            counts.shortlist, {name: part["seconds_each"]["median"] for name, part in parts.items()}
        ),
    }


def _side(seconds: np.ndarray, naive: np.ndarray, flops: float, pairs: int) -> dict[str, Any]:
    """One side's rounds for the gallery, and the naive rounds timed beside them."""
    return {
        "seconds_per_pair": spread(seconds / pairs)._asdict(),
        "seconds_per_gallery": spread(seconds)._asdict(),
        "ratio": spread(naive / seconds)._asdict(),
        "flop_per_gallery": flops,
        "flop_per_second": flops / float(np.median(seconds)),
    }


def _flickr30k(shortlist: int, seconds: dict[str, float]) -> dict[str, float]:
    """Seconds for the test split, extrapolated from those of each part; with the shortlists of both directions."""
    images, captions = FLICKR30K
    once = captions * seconds["texts"] + images * seconds["images"]
    listed = min(shortlist * (images + captions), images * captions)  # at most, for the two directions overlap
    return {
        "images": images,
        "captions": captions,
        "shortlist_pairs": listed,
        "naive_seconds": images * captions * seconds["naive"],
        "exact_seconds": once + images * captions * seconds["pairs"],
        "shortlist_seconds": once + listed * seconds["pairs"],
    }


def compare_with_fp32(results: dict[str, dict]) -> None:
    """Add to every side how it stands to the naive side in fp32, and the floor of that, if that was measured."""
    if "fp32" not in results:
        return
    fp32 = results["fp32"]
    naive = fp32["sides"]["naive"]["seconds_per_gallery"]["median"]
    for result in results.values():
        faster = result["matmul_flop_per_second"]["median"] / fp32["matmul_flop_per_second"]["median"]
        for side in result["sides"].values():
            side["ratio_to_fp32_naive"] = naive / side["seconds_per_gallery"]["median"]
            side["floor_to_fp32_naive"] = side["floor"] * faster


def show(console: Console, precision: str, result: dict) -> None:
    """The sides, the parts of their work, and what the test split of Flickr30K would take."""
    agreement, flickr30k = result["agreement"], result["flickr30k"]
    has_memory = any(side["peak_bytes"] for side in result["sides"].values())
    ratios = ("naive / this", "by operations", "naive fp32 / this", "by operations and rate")
    table = table_of(precision, "s per gallery", *ratios, "GFLOP/s", *["GiB at most"] * has_memory)
    for name, side in result["sides"].items():
        row = (
            span(side["seconds_per_gallery"]),
            span(side["ratio"]),
            f"{side['floor']:.2f}",
            *(f"{side[key]:.2f}" if key in side else "" for key in ("ratio_to_fp32_naive", "floor_to_fp32_naive")),
            number(side["flop_per_second"] / 1e9),
        )
        table.add_row(name, *row, *[f"{(side['peak_bytes'] or 0) / 2**30:.2f}"] * has_memory)
    console.print(table)
    for name, text in result["measured"].items():
        console.print(f"{name}: measured {text}")
    console.print(
        f"scores of {agreement['pairs']} pairs differ by at most {agreement['largest_difference']:.1e}, "
        f"correlation {agreement['correlation']:.6f}"
    )
    table = table_of("each", "ms", "GFLOP", "GFLOP/s of a matmul's")
    for name, part in result["parts"].items():
        share = f"{part['share_of_matmul_rate']:.0%}"
        table.add_row(PARTS[name], span(part["seconds_each"], 1e3), f"{part['flop_each'] / 1e9:.2f}", share)
    console.print(table)
    console.print(f"a plain matrix product: {number(result['matmul_flop_per_second']['median'] / 1e9)} GFLOP/s")
    hours = {name: f"{flickr30k[f'{name}_seconds'] / 3600:,.2f} h" for name in STAGES}
    console.print(
        f"extrapolated to Flickr30K, {flickr30k['images']:,} x {flickr30k['captions']:,} pairs: "
        f"naive {hours['naive']}, exact {hours['exact']}, "
        f"shortlists of both directions (at most {flickr30k['shortlist_pairs']:,} pairs) {hours['shortlist']}\n"
    )
