"""Draw a sheet: rows of pictures, a title below each, and texts above them. ``pages.py`` has the pages."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from PIL import Image, ImageDraw, ImageFont, ImageOps

GAP, MARGIN = 14, 22
"""Space between two pictures, and margin of the sheet, in pixels."""
PAPER, INK, FAINT = "#ffffff", "#1d2330", "#767e8e"
TITLE_MIDDLE = 13
"""From the middle of a title to the end of its room, in pixels."""
MAX_LINES = 3
"""Largest number of lines of a heading."""


class Style(NamedTuple):
    """Sizes of a sheet's texts, in pixels."""

    heading: int  # of its letters
    line: int  # height of a line above the pictures
    space: int  # between these lines and the pictures
    above: int  # least height of both together
    title: int  # of its letters
    below: int  # height of a title, and of the note
    note: int  # of its letters
    is_centred: bool  # whether a title stands below the middle of its picture, or below the left edge


LARGE = Style(heading=18, line=25, space=7, above=0, title=15, below=26, note=15, is_centred=True)
SMALL = Style(heading=14, line=20, space=1, above=44, title=13, below=24, note=12, is_centred=False)


class Tile(NamedTuple):
    """A picture on a sheet."""

    picture: Image.Image | None  # RGB, as large as it is drawn; None leaves its place empty
    title: str = ""


class Remark(NamedTuple):
    """A remark below a heading, such as "model red"."""

    about: str
    words: str
    colour: str = INK


class Group(NamedTuple):
    """Tiles side by side, and the texts above them."""

    tiles: Sequence[Tile]
    heading: str = ""
    remarks: Sequence[Remark] = ()


def draw_sheet(
    rows: Sequence[Sequence[Group]], *, style: Style = LARGE, least_width: int = 0, note: str = ""
) -> Image.Image:
    """Draw rows of groups. All pictures have places of one size, which is that of the largest.

    Args:
        rows: with at least one picture.
        least_width: of a place, in pixels.
        note: a line at the foot of the sheet; an empty one takes no room.
    """
    tiles = [[tile for group in row for tile in group.tiles] for row in rows]
    sizes = [tile.picture.size for row in tiles for tile in row if tile.picture is not None]
    place = max(least_width, *(width for width, _ in sizes)), max(height for _, height in sizes)
    width = max(map(len, tiles)) * (place[0] + GAP) - GAP
    sheet = _stack([_draw_row(row, place, width, style) for row in rows], GAP)
    if note:
        foot, font = Image.new("RGB", (width, style.below), PAPER), typeface(style.note)
        line = "".join(wrap(note, font, width, most=1))
        ImageDraw.Draw(foot).text((0, style.below / 2), line, fill=FAINT, font=font, anchor="lm")
        sheet = _stack([sheet, foot], gap=0)
    return ImageOps.expand(sheet, MARGIN, PAPER)


def _stack(strips: Sequence[Image.Image], gap: int) -> Image.Image:
    """Strips of one width below each other."""
    stack, top = Image.new("RGB", (strips[0].width, sum(strip.height + gap for strip in strips) - gap), PAPER), 0
    for strip in strips:
        stack.paste(strip, (0, top))
        top += strip.height + gap
    return stack


def _draw_row(row: Sequence[Group], place: tuple[int, int], width: int, style: Style) -> Image.Image:
    """A row of groups, whose pictures have places of the width and height ``place``."""
    step, font = place[0] + GAP, typeface(style.heading, bold=True)
    headings = [wrap(group.heading, font, len(group.tiles) * step - GAP) for group in row]
    lines = max(len(heading) + bool(group.remarks) for heading, group in zip(headings, row, strict=True))
    top = max(style.above, style.line * lines + style.space) if lines else 0
    strip = Image.new("RGB", (width, top + place[1] + style.below), PAPER)
    canvas, left = ImageDraw.Draw(strip), 0
    for heading, group in zip(headings, row, strict=True):
        upper = top - style.space - style.line * (len(heading) + bool(group.remarks))
        for number, text in enumerate(heading):
            canvas.text((left, upper + number * style.line), text, fill=INK, font=font)
        _write_remarks(canvas, (left, upper + (len(heading) + 0.5) * style.line), group.remarks, style.heading)
        for tile in group.tiles:
            if tile.picture is not None:
                strip.paste(tile.picture, (left + (place[0] - tile.picture.width) // 2, top))
            x, anchor = (left + place[0] / 2, "mm") if style.is_centred else (left, "lm")
            below = x, strip.height - TITLE_MIDDLE
            canvas.text(below, tile.title, fill=FAINT, font=typeface(style.title), anchor=anchor)
            left += step
    return strip


def _write_remarks(
    canvas: ImageDraw.ImageDraw, place: tuple[float, float], remarks: Sequence[Remark], size: int
) -> None:
    """Write remarks side by side, to the right of ``place``, which is in the middle of their line."""
    x, y = place
    for remark in remarks:
        for text, colour, bold in ((f"{remark.about} ", FAINT, False), (remark.words, remark.colour, True)):
            font = typeface(size, bold)
            canvas.text((x, y), text, fill=colour, font=font, anchor="lm")
            x += font.getlength(text)
        x += typeface(size).getlength("     ")


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int, most: int = MAX_LINES) -> list[str]:
    """Break a text into at most ``most`` lines of at most ``width`` pixels. A longer text ends in an ellipsis."""
    lines: list[str] = []
    for part in (part for word in text.split() for part in _parts(word, font, width)):
        if lines and font.getlength(f"{lines[-1]} {part}") <= width:
            lines[-1] += f" {part}"
        elif len(lines) < most:
            lines.append(part)
        else:
            while lines[-1] and font.getlength(f"{lines[-1]} …") > width:
                lines[-1] = lines[-1].rpartition(" ")[0] or lines[-1][:-1]
            lines[-1] += " …"
            break
    return lines


def _parts(word: str, font: ImageFont.FreeTypeFont, width: int) -> Iterator[str]:
    """A word in parts that are no wider than a line, but for a single letter that is."""
    while len(word) > 1 and font.getlength(word) > width:
        letters = bisect_right(range(len(word)), float(width), key=lambda count: font.getlength(word[:count])) - 1
        yield word[: max(1, letters)]
        word = word[max(1, letters) :]
    yield word


def typeface(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf" / name, size)
