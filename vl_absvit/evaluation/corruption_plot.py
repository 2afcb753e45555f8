"""Error under corruption as a picture: a panel per corruption, the error over its severities."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vl_absvit.data.corruptions import SEVERITIES

COLUMNS = 5
PANEL = (2.1, 1.7)  # inches


def draw_corruptions(path: Path, corruptions: Mapping[str, Mapping[str, Any]], clean_error: float | None) -> None:
    """Write a PNG.

    Args:
        corruptions: by name, with ``error`` by severity in percent.
        clean_error: on the images as they are, drawn as a line in every panel, if it is known.
    """
    from matplotlib.figure import Figure

    rows = -(-len(corruptions) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * PANEL[0], rows * PANEL[1]), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).flatten()
    for panel, (name, scores) in zip(panels, corruptions.items(), strict=False):
        severities, errors = zip(*sorted(scores["error"].items()), strict=True)
        panel.plot(severities, errors, marker="o", markersize=3)
        if clean_error is not None:
            panel.axhline(clean_error, color="grey", linewidth=0.8, linestyle="dashed")
        panel.set_title(name.replace("_", " "), fontsize=9)
    for panel in panels[len(corruptions) :]:
        panel.set_axis_off()
    panels[0].set(xticks=SEVERITIES, ylim=(0, 100))
    figure.supxlabel("severity", fontsize=9)
    figure.supylabel("error (%)" + ("" if clean_error is None else ", dashed: as they are"), fontsize=9)
    figure.savefig(path, dpi=150)
