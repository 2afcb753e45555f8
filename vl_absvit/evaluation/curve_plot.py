"""Curves as a picture: a panel for each measure, a line for each row."""

from collections.abc import Mapping, Sequence
from pathlib import Path

PANEL = (4.2, 3.2)  # inches
Curve = tuple[Sequence[float], Sequence[float]]
"""Places on both axes, of the same length."""


def draw_curves(path: Path, panels: Mapping[str, Mapping[str, Curve]], across: Sequence[str]) -> None:
    """Write a PNG.

    Args:
        panels: title -> row -> curve. Rows of one name have one colour in all panels.
        across: what the horizontal axes show, from the first panel on; the last one holds for all further panels.
    """
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(len(panels) * PANEL[0] + 1.8, PANEL[1]), layout="constrained")
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    names = list(dict.fromkeys(name for rows in panels.values() for name in rows))
    shades = matplotlib.colormaps["turbo"]([number / max(1, len(names) - 1) for number in range(len(names))])
    colours = dict(zip(names, shades, strict=True))
    for number, (place, (title, rows)) in enumerate(zip(places, panels.items(), strict=True)):
        for name, (x, y) in rows.items():
            place.plot(x, y, color=colours[name], linewidth=1.4, label=name.replace("_", " "))
        place.set_title(title, fontsize=10)
        place.set_xlabel(across[min(number, len(across) - 1)], fontsize=9)
        place.grid(alpha=0.25)
    handles, labels = places[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)
