"""The renderer of sheets: every picture and text has its own place, whatever the pictures and the texts."""

import numpy as np
import pytest
from PIL import Image

from vl_absvit.looking.sheet import GAP, LARGE, MARGIN, SMALL, Group, Remark, Tile, draw_sheet, typeface, wrap

SIDE = 60
HOSTILE = ["why " * 1000, "x" * 1000, "$\\frac$", "\n", "\0\x1b[31m\u202e 🦊\nWhat?", "赤い星"]


def tile(colour, title="", size=(SIDE, SIDE)):
    return Tile(Image.new("RGB", size, colour), title)


def differing(page, other):
    """Rows and columns of the pixels in which two pages of one size differ, (pixels, 2)."""
    assert page.size == other.size
    return np.argwhere((np.asarray(page) != np.asarray(other)).any(axis=2))


@pytest.mark.parametrize("style, top", [(LARGE, LARGE.line + LARGE.space), (SMALL, SMALL.above)])
def test_every_tile_is_at_its_own_place(style, top):
    rows = [
        [Group([tile("red")]), Group([tile("lime"), tile("blue")], "Heading")],
        [Group([Tile(None)]), Group([tile("yellow")])],
    ]
    page = draw_sheet(rows, style=style)
    step = SIDE + style.below + GAP

    def colour(column, row):
        below = MARGIN + top + row * step + SIDE // 2
        return page.getpixel((MARGIN + column * (SIDE + GAP) + SIDE // 2, below))

    assert [colour(column, 0) for column in range(3)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert [colour(column, 1) for column in range(3)] == [(255, 255, 255), (255, 255, 0), (255, 255, 255)]
    assert page.size == (2 * MARGIN + 3 * SIDE + 2 * GAP, 2 * MARGIN + top + 2 * step - GAP)


def test_a_picture_stands_in_the_middle_of_a_wider_place():
    page = np.asarray(draw_sheet([[Group([tile("red", size=(20, SIDE))])]], least_width=SIDE))
    columns = np.flatnonzero((page[MARGIN + 5] == (255, 0, 0)).all(axis=1))
    assert page.shape[1] == 2 * MARGIN + SIDE and columns.tolist() == list(range(MARGIN + 20, MARGIN + 40))


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("style", [LARGE, SMALL])
def test_a_heading_stays_above_its_own_tiles(style, text):
    def page(heading):
        left, right = Group([tile("red"), tile("red")], heading), Group([tile("red")], "b " * 100)
        return draw_sheet([[left, right]], style=style)

    assert (differing(page(text), page(""))[:, 1] < MARGIN + 2 * (SIDE + GAP)).all()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_note_has_room_at_the_foot(text):
    rows = [[Group([tile("red"), tile("red")])]]
    page, without = draw_sheet(rows, note=text), draw_sheet(rows)
    assert page.size == (without.width, without.height + LARGE.below)
    above = 0, 0, page.width, without.height - MARGIN
    assert not len(differing(page.crop(above), without.crop(above)))


def test_titles_and_remarks_are_written_where_they_belong():
    def page(title="", *remark):
        return draw_sheet([[Group([tile("red", title)], "A", [Remark(*remark)])]])

    below = differing(page("mask", "", ""), page("", "", ""))
    above = differing(page("", "a", "b"), page("", "", ""))
    tile_top = MARGIN + 2 * LARGE.line + LARGE.space
    assert len(below) and below[:, 0].min() > tile_top + SIDE
    assert len(above) and MARGIN + LARGE.line <= above[:, 0].min() and above[:, 0].max() < tile_top


@pytest.mark.parametrize("width", [3, 100, 500])
@pytest.mark.parametrize("text", ["", "short", "some words that need more than one line of this width", *HOSTILE])
def test_a_text_is_broken_into_lines_that_fit_and_keeps_its_letters_unless_it_is_cut(width, text):
    font = typeface(18, bold=True)
    lines = wrap(text, font, width)
    assert len(lines) <= 3
    is_cut = bool(lines) and lines[-1].endswith(" …")
    if width > 50:
        assert all(font.getlength(line) <= width for line in lines)
    if not is_cut:
        assert "".join("".join(lines).split()) == "".join(text.split())


def test_a_long_text_ends_in_an_ellipsis():
    font = typeface(18)
    assert wrap("one two three four", font, font.getlength("one two")) == ["one two", "three", "four"]
    assert wrap("one two three four", font, font.getlength("one two"), most=1) == ["one …"]
    assert wrap("onetwo", font, font.getlength("one")) == ["one", "two"]
