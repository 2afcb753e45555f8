"""From logits on a coarse grid to a class for every pixel of a picture, a few classes at a time.

A picture is seen in one or several views: at a scale, mirrored or not, whole or window after window. What the windows
of a view say is averaged as logits, what the views say as probabilities, as mmsegmentation does. Only some classes are
ever enlarged at once: 150 classes at 2,100 x 2,100 pixels would be 2.6 GB.
Shapes: C classes, h x w the grid of logits.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Border = Literal["cut", "stretched"]
"""What becomes of logits over the zeros that fill up a picture's last patches: they are cut off, or, as in the authors'
release, all are squeezed into the picture, which shifts them."""
Size = tuple[int, int]
"""Height and width in pixels."""
AT_ONCE, NUMBERS_AT_ONCE = 10, 1 << 24
"""Largest number of classes that are enlarged together, and of their scores: fewer classes of a larger picture."""


class Window(NamedTuple):
    """Logits of a part of a view."""

    logits: Tensor  # (C, h, w)
    top: int
    left: int
    size: Size  # of the part
    covered: Size  # of the pixels that the logits are about: the part, filled up to whole patches


class View(NamedTuple):
    """Logits of a picture at one scale."""

    windows: list[Window]
    size: Size  # of the picture at this scale
    is_mirrored: bool = False


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side: every ``stride`` pixels, the last one pulled back to end at the border.

    A side that is shorter than a window has one.
    """
    if length <= window:
        return [0]
    return [min(start * stride, length - window) for start in range(-(-(length - window) // stride) + 1)]


def windows_of(size: Size, window: Size | None, stride: Size | None) -> list[tuple[int, int, Size]]:
    """Top, left and size of every window on a picture; None for the window takes the picture whole."""
    if window is None or stride is None:
        return [(0, 0, size)]
    cut = (min(size[0], window[0]), min(size[1], window[1]))
    rows, columns = (window_starts(*sides) for sides in zip(size, window, stride, strict=True))
    return [(top, left, cut) for top in rows for left in columns]


def enlarge(logits: Tensor, size: Size) -> Tensor:
    """Logits (..., C, h, w) at another size, bilinearly."""
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def scores_of(view: View, classes: slice, size: Size, border: Border = "cut") -> Tensor:
    """What a view says of some classes in every pixel of a picture of ``size``, (classes, *size): mean logits.

    They are enlarged twice, to the size of the view and to that of the picture, as mmsegmentation does.
    """
    if len(view.windows) == 1:
        mean = _of_window(view.windows[0], classes, border)
    else:
        number = torch.zeros(view.size, device=view.windows[0].logits.device)
        mean = number.new_zeros(len(view.windows[0].logits[classes]), *view.size, dtype=view.windows[0].logits.dtype)
        for window in view.windows:
            place = (
                slice(window.top, window.top + window.size[0]), slice(window.left, window.left + window.size[1])
            )  # fmt: skip
            mean[:, *place] += _of_window(window, classes, border)
            number[place] += 1
        mean /= number
    if view.size != size:
        mean = enlarge(mean[None], size)[0]
    return mean.flip(-1) if view.is_mirrored else mean


def _of_window(window: Window, classes: slice, border: Border) -> Tensor:
    """Logits of some classes at the size of a window, (classes, height, width)."""
    if border == "stretched":
        return enlarge(window.logits[None, classes], window.size)[0]
    height, width = window.size
    return enlarge(window.logits[None, classes], window.covered)[0, :, :height, :width]


def classify(views: Sequence[View], size: Size, border: Border = "cut", at_once: int | None = None) -> Tensor:
    """The class of every pixel of a picture of ``size``, uint8: the first one of those with the highest score.

    Args:
        views: of the picture, with logits of at most 255 classes.
        at_once: classes that are enlarged together; None takes as many as memory should hold.
    """
    number = len(views[0].windows[0].logits)
    if at_once is None:
        largest = max(height * width for height, width in (size, *(view.size for view in views)))
        at_once = max(1, min(AT_ONCE, NUMBERS_AT_ONCE // largest))
    parts = [slice(start, min(start + at_once, number)) for start in range(0, number, at_once)]
    scores = _logits(views[0], size, border) if len(views) == 1 else _probabilities(views, size, border, parts)
    best: Tensor | None = None
    for part in parts:
        score, place = scores(part).max(dim=0)
        if best is None:
            best, found = score, place.to(torch.uint8)
            continue
        is_better = score > best
        best = torch.where(is_better, score, best)
        found = torch.where(is_better, (place + part.start).to(torch.uint8), found)
    return found


def _logits(view: View, size: Size, border: Border) -> Callable[[slice], Tensor]:
    return lambda part: scores_of(view, part, size, border)


def _probabilities(
    views: Sequence[View], size: Size, border: Border, parts: Sequence[slice]
) -> Callable[[slice], Tensor]:
    """Sums over views of the probabilities of some classes. The views are gone through once more for the divisors."""
    divisors = [_log_sum(view, size, border, parts) for view in views]

    def scores(part: slice) -> Tensor:
        of_views: Iterator[Tensor] = (
            (scores_of(view, part, size, border) - divisor).exp() for view, divisor in zip(views, divisors, strict=True)
        )
        total = next(of_views)
        for more in of_views:
            total += more
        return total

    return scores


def _log_sum(view: View, size: Size, border: Border, parts: Sequence[slice]) -> Tensor:
    """The logarithm of the sum of exponentials over all classes, (*size)."""
    total: Tensor | None = None
    for part in parts:
        of_part = scores_of(view, part, size, border).logsumexp(dim=0)
        total = of_part if total is None else torch.logaddexp(total, of_part)
    assert total is not None, "there are classes"
    return total
