"""Two questions on a page: every map at its place, room for any picture and text."""

import numpy as np
import pytest
from PIL import Image

from vl_absvit.looking.render import GAP, MARGIN
from vl_absvit.looking.two_questions import SIDE, Turned, two_questions


def peak(row, column):
    grid = np.zeros((4, 4))
    grid[row, column] = 1
    return grid


def tiles(page):
    """The six tiles of a page about a square picture, as rows of three, found by the white between them."""
    grey = np.asarray(page.convert("L"), dtype=float)
    filled = (grey[:, MARGIN : MARGIN + SIDE] < 250).mean(axis=1) > 0.9
    tops = np.flatnonzero(filled & ~np.roll(filled, 1))
    return [
        [grey[top : top + SIDE, left : left + SIDE] for left in range(MARGIN, page.width - SIDE, SIDE + GAP)]
        for top in tops
    ]


def test_every_map_is_at_its_own_place():
    turned = tuple(Turned("What?", "that", prior_mask=peak(0, column), top_down=peak(3, column)) for column in (0, 3))
    page = two_questions(Image.new("RGB", (96, 96), (90, 90, 90)), peak(0, 3), turned, (0, 0, 96, 96))

    def brightest_corner(tile):
        corners = {(y, x): tile[y * 190 : y * 190 + 50, x * 190 : x * 190 + 50].mean() for y in (0, 1) for x in (0, 1)}
        return max(corners, key=corners.get)

    (image, *first), (bottom_up, *second) = tiles(page)
    assert image.std() < 1, "the picture itself has no map"
    assert brightest_corner(bottom_up) == (0, 1)
    assert [brightest_corner(tile) for tile in (*first, *second)] == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_a_shut_mask_is_said_and_has_no_ring():
    def page(mask):
        turned = (Turned("What?", "that", mask, peak(1, 1)), Turned("What?", "that", mask, peak(1, 1)))
        return two_questions(Image.new("RGB", (96, 96), (90, 90, 90)), peak(0, 0), turned, (0, 0, 96, 96))

    shut, flat = (np.asarray(page(np.full((4, 4), value)).convert("L")) for value in (0.0, 0.5))
    assert tiles(page(np.zeros((4, 4))))[0][1].max() < 250
    assert (shut != flat).any(), "one says that it is 0 everywhere"


@pytest.mark.parametrize(
    "size, words", [((640, 427), "why " * 1000), ((3, 200), "x" * 1000), ((200, 2), ""), ((96, 96), "\n赤い星")]
)
def test_any_picture_and_any_words_have_room_on_a_page_of_one_width(size, words):
    turned = (Turned(words, words, np.eye(4), np.eye(4)), Turned("What?", "that", np.eye(4), np.eye(4)))
    page = two_questions(Image.new("RGB", size, "red"), np.eye(4), turned, (0, 0, *size))
    assert page.width == 2 * MARGIN + 3 * SIDE + 2 * GAP <= 800 and page.height < 850
