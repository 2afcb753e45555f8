"""How time and memory grow, as a table and as a picture."""

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from rich.console import Console

from benchmarks.tables import number, span, table_of

QUANTITIES = {"seconds": "time", "flop": "operations", "bytes": "memory"}
PANEL = 2.6  # inches


def show(console: Console, result: dict[str, Any]) -> None:
    """All points, and under each axis its slopes."""
    for name, axis in result["axes"].items():
        table = table_of(name, "s", "GFLOP", "of a matmul's rate", f"MiB, {axis['memory']}")
        for point in axis["points"]:
            share = f"{point['share_of_matmul_rate']:.0%}"
            numbers = number(point["flop"] / 1e9), share, number(point["bytes"] / 2**20)
            table.add_row(str(point["x"]), span(point["seconds"]), *numbers)
        console.print(table)
        grows = ", ".join(
            f"{QUANTITIES[key]} ~ x^{value:.2f}" for key, value in axis["slopes"].items() if value is not None
        )
        console.print(f"{axis['work']}; {grows or 'one point has no slope'}\n")
    console.print(f"a plain matrix product: {number(result['matmul_flop_per_second']['median'] / 1e9)} GFLOP/s")


def draw(result: dict[str, Any], file: Path) -> None:
    """A column for every axis: time above with its spread, memory below; dashed what proportion would be."""
    axes = result["axes"]
    figure = Figure(figsize=(PANEL * len(axes), 2 * PANEL), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(axes), squeeze=False, sharex="col")
    for column, (name, axis) in enumerate(axes.items()):
        points = axis["points"]
        xs = [point["x"] for point in points]
        seconds = [point["seconds"] for point in points]
        medians = [value["median"] for value in seconds]
        memory = [point["bytes"] / 2**20 for point in points]
        operations = [medians[0] * point["flop"] / points[0]["flop"] for point in points]
        above, below = panels[:, column]
        low = [value["median"] - value["low"] for value in seconds]
        high = [value["high"] - value["median"] for value in seconds]
        above.errorbar(xs, medians, yerr=[low, high], marker="o", label="measured")
        above.plot(xs, operations, color="tab:orange", label="as operations grow")
        below.plot(xs, memory, marker="o", color="tab:green")
        for panel, values in ((above, medians), (below, memory)):
            shrinks = points[-1]["flop"] < points[0]["flop"]
            straight = [values[0] * (xs[0] / x if shrinks else x / xs[0]) for x in xs]
            panel.plot(xs, straight, linestyle="--", color="grey", label="in proportion")
            panel.set(xscale="log", yscale="log")
            panel.set_xticks(xs, map(str, xs))
            panel.set_yticks(values, map(number, values), fontsize=7)
            panel.xaxis.set_minor_locator(NullLocator())
            panel.yaxis.set_minor_locator(NullLocator())
            panel.grid(alpha=0.3)
        slopes = {key: value for key, value in axis["slopes"].items() if value is not None}
        above.set_title("\n".join([name, *_told(slopes, "seconds", "flop")]), fontsize=8)
        below.set_title("\n".join([*_told(slopes, "bytes"), f"({axis['memory']})"]), fontsize=8)
        below.set_xlabel(name)
    panels[0, 0].set_ylabel("seconds")
    panels[1, 0].set_ylabel("MiB")
    panels[0, 0].legend(fontsize=7)
    figure.savefig(file, dpi=110)


def _told(slopes: dict[str, float], *keys: str) -> list[str]:
    return [", ".join(f"{QUANTITIES[key]} ~ x^{slopes[key]:.2f}" for key in keys if key in slopes)]
