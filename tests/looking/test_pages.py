"""The pages of maps: every map at its place on each of them, and room for any picture, text and number of maps."""

import numpy as np
import pytest
from PIL import Image

from vl_absvit.looking.pages import (
    DECODED_SIDE,
    FOUND_SIDE,
    MAX_MAPS,
    MAX_PRIORS,
    PAIR_SIDE,
    PANEL_HEIGHT,
    PRIOR_HEIGHT,
    DecodedPrior,
    Found,
    QuestionMaps,
    contact_sheet,
    decoded_page,
    panel,
    remarks_on_answer,
    several_priors,
    two_questions,
)
from vl_absvit.looking.sheet import GAP, LARGE, MARGIN, SMALL

GREY = Image.new("RGB", (96, 96), (90, 90, 90))
WHOLE = (0, 0, 96, 96)
SIZES = [(96, 96), (640, 427), (3, 200), (200, 2)]
TEXTS = ["What?", "why " * 1000, "x" * 1000, "", "\0\x1b[31m\u202e 🦊\nWhat?"]


def peak(row, column):
    grid = np.zeros((4, 4))
    grid[row, column] = 1
    return grid


def tile_at(page, column, top, side):
    """Brightness of a square tile, (side, side)."""
    left = MARGIN + column * (side + GAP)
    return np.asarray(page.convert("L"), dtype=float)[top : top + side, left : left + side]


def brightest_corner(tile):
    length, size = len(tile), len(tile) // 5
    corners = {
        (row, column): tile[row * (length - size) :, column * (length - size) :][:size, :size].mean()
        for row in (0, 1)
        for column in (0, 1)
    }
    return max(corners, key=corners.get)


def test_two_questions_show_every_map_at_its_own_place():
    asked = tuple(QuestionMaps("What?", "that", peak(0, column), peak(3, column)) for column in (0, 3))
    page = two_questions(GREY, peak(0, 3), asked, WHOLE)
    top = MARGIN + 2 * LARGE.line + LARGE.space
    step = top - MARGIN + PAIR_SIDE + LARGE.below + GAP
    (image, *first), (bottom_up, *second) = (
        [tile_at(page, column, top + row * step, PAIR_SIDE) for column in range(3)] for row in (0, 1)
    )
    assert image.std() == 0, "the picture itself has no map"
    assert brightest_corner(bottom_up) == (0, 1)
    assert [brightest_corner(tile) for tile in (*first, *second)] == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_a_shut_mask_is_said_and_has_no_ring():
    def page(mask):
        return two_questions(GREY, peak(0, 0), (QuestionMaps("What?", "that", mask, peak(1, 1)),) * 2, WHOLE)

    shut, flat = (page(np.full((4, 4), value)) for value in (0.0, 0.5))
    assert tile_at(shut, 1, MARGIN + 2 * LARGE.line + LARGE.space, PAIR_SIDE).max() < 250
    assert shut.tobytes() != flat.tobytes(), "one says that it is 0 everywhere"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", TEXTS)
def test_two_questions_have_a_page_of_one_width(size, text):
    asked = (QuestionMaps(text, text, np.eye(4), np.eye(4)), QuestionMaps("What?", "that", np.eye(4), np.eye(4)))
    page = two_questions(Image.new("RGB", size, "red"), np.eye(4), asked, (0, 0, *size))
    assert page.width == 2 * MARGIN + 3 * PAIR_SIDE + 2 * GAP <= 800 and page.height < 850


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", TEXTS)
def test_a_panel_has_a_tile_per_map_whatever_the_picture_and_the_question(size, text):
    maps = {"bottom-up": np.eye(4), "prior mask": np.zeros((4, 4))}
    remarks = remarks_on_answer("red", None)
    page = panel(Image.new("RGB", size, "red"), maps, (0, 0, *size), text=text, remarks=remarks)
    assert 3 * min(size[0] * 264 / size[1], 528) <= page.width < 3 * 528 + 100
    assert 100 < page.height < 264 + 250


@pytest.mark.parametrize("maps, columns, rows", [(1, 2, 1), (3, 4, 1), (4, 3, 2), (7, 4, 2), (8, 3, 3)])
def test_at_most_four_pictures_of_a_panel_are_side_by_side_and_rows_are_alike(maps, columns, rows):
    def size(maps):
        grids = {str(number): np.eye(4) for number in range(maps)}
        return panel(GREY, grids, WHOLE, text="?", remarks=remarks_on_answer("red", "red")).size

    width, height = size(0)
    step = PANEL_HEIGHT + LARGE.below + GAP
    assert size(maps) == (width + (columns - 1) * (PANEL_HEIGHT + GAP), height + (rows - 1) * step)


def test_a_panel_is_drawn_in_the_colours_asked_for():
    def saturation(**colours):
        page = panel(GREY, {"a": np.eye(4)}, WHOLE, text="", remarks=[], **colours)
        tile = np.asarray(page, dtype=int)[MARGIN:280, 310:550]
        return (tile.max(axis=-1) - tile.min(axis=-1)).mean()

    assert saturation(colormap="gray") < 1 < 20 < saturation()


def test_a_wrong_answer_has_another_colour_than_a_right_one():
    (right, truth), (wrong, _), (alone,) = (remarks_on_answer("red", people) for people in ("red", "blue", None))
    assert (truth.about, truth.words) == ("people", "red") and alone.words == "red"
    assert len({right.colour, wrong.colour, alone.colour}) == 3


def test_several_priors_show_every_map_at_its_own_place():
    maps = {name: (peak(0, 0), {"alpha 1": peak(0, 3), "alpha 2": peak(3, 0)}) for name in "ab"}
    page = several_priors(GREY, peak(3, 3), maps, WHOLE, note="A note.")

    def tile(column, row):
        step = PRIOR_HEIGHT + SMALL.below + GAP
        top = MARGIN if row == 0 else MARGIN + step + SMALL.above + (row - 1) * (SMALL.above + step)
        return tile_at(page, column, top, PRIOR_HEIGHT)

    assert tile(0, 0).std() == 0, "the picture itself has no map"
    assert brightest_corner(tile(1, 0)) == (1, 1) and tile(2, 0).min() == 255, "no third tile in the first row"
    for row in (1, 2):
        assert [brightest_corner(tile(column, row)) for column in range(3)] == [(0, 0), (0, 1), (1, 0)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", TEXTS)
def test_any_picture_and_any_prior_have_room(size, name):
    page = several_priors(
        Image.new("RGB", size), np.eye(4), {name: (np.eye(4), {"alpha 1": np.eye(4)})}, (0, 0, *size), note=name
    )
    assert page.mode == "RGB" and 2 * MARGIN < page.width < 900 and page.height < 650


@pytest.mark.slow
def test_the_largest_number_of_priors_and_maps_can_be_drawn():
    second = {f"alpha {alpha}": np.eye(2) for alpha in range(MAX_MAPS - 1)}
    maps = {f"prior {row}": (np.eye(2), second if row == 0 else {}) for row in range(MAX_PRIORS)}
    page = several_priors(Image.new("RGB", (200, 100)), np.eye(2), maps, (0, 0, 200, 100), note="A note.")
    assert max(page.size) < 2**13


def plain(*colour):
    return np.broadcast_to(np.array(colour, dtype=float), (4, 4, 3))


def test_decoded_pictures_are_in_their_places_with_their_own_colours():
    priors = [
        DecodedPrior("first", plain(0.1, 0, 0), plain(0, 1, 0)),
        DecodedPrior("second", plain(0, -0.2, 0), plain(0, 0, 1)),
        DecodedPrior("third", plain(0, 0, 0), plain(2, -1, 0)),
        DecodedPrior("fourth", plain(0, 0, 0.1), plain(1, 1, 0)),
    ]
    page = decoded_page(plain(1, 0, 0), plain(0.2, 0.2, 0.2), priors, scale=2.5, note="A note.")

    def colour(column, row):
        left, top = MARGIN + column * (DECODED_SIDE + GAP), MARGIN + SMALL.above
        below = row * (SMALL.above + DECODED_SIDE + SMALL.below + GAP)
        return page.getpixel((left + DECODED_SIDE // 2, top + below + DECODED_SIDE // 2))

    found = [[colour(column, row) for column in range(8)] for row in range(2)]
    assert found[0] == [
        (255, 0, 0), (51, 51, 51),
        (191, 128, 128), (0, 255, 0),
        (128, 0, 128), (0, 0, 255),
        (128, 128, 128), (255, 0, 0),
    ]  # fmt: skip
    white = (255, 255, 255)
    assert found[1] == [white, white, (128, 128, 191), (255, 255, 0), white, white, white, white]


@pytest.mark.parametrize("size", [4, 32, 96, 150, 384])
def test_decoded_pixels_stay_square_and_sharp_whatever_the_pictures_size(size):
    image = np.indices((size, size)).sum(axis=0)[..., None].repeat(3, axis=2) % 2
    page = np.asarray(decoded_page(image, image, [DecodedPrior("a", 0 * image, image)], scale=1, note=""))
    side = (page.shape[1] - 2 * MARGIN - 3 * GAP) // 4
    tile = page[MARGIN + SMALL.above :, MARGIN:][:side, :side, 0]
    factor = side // size
    assert factor >= 1 and side == factor * size
    assert (tile == 255 * image[..., 0].repeat(factor, axis=0).repeat(factor, axis=1)).all()


def test_feedback_that_adds_nothing_anywhere_is_named_as_such():
    black = plain(0, 0, 0)
    pages = [
        np.asarray(decoded_page(black, black, [DecodedPrior("a", top_down, black)], scale=1, note=""))
        for top_down in (black, plain(1e-9, 0, 0))
    ]
    differing = np.argwhere((pages[0] != pages[1]).any(axis=2))
    top = MARGIN + SMALL.above + DECODED_SIDE
    assert len(differing) and differing[:, 0].min() >= top, "the line below the picture alone"


def test_a_contact_sheet_shows_each_picture_beside_its_mask_and_fits_long_names():
    found = Found(GREY, WHOLE, peak(0, 0), "1  0.412  " + "x" * 200 + ".jpg")
    page = contact_sheet("a dog", [found] * 3)
    assert page.width == 2 * MARGIN + 4 * (FOUND_SIDE + GAP) - GAP
    top = MARGIN + LARGE.line + LARGE.space
    plain, masked = (tile_at(page, column, top, FOUND_SIDE) for column in (0, 1))
    assert plain.std() < 1 and masked[:60, :60].mean() > 1.5 * masked[180:, 180:].mean()
