"""The patch grid's place in the original picture, proven through the real evaluation transform."""

import io

import numpy as np
import pytest
from PIL import Image

from vl_absvit.data.rgb import decode_rgb
from vl_absvit.data.transforms import image_transform
from vl_absvit.looking.geometry import cell_centres, seen_box

PATCH, GRID = 8, 6
INPUT = PATCH * GRID
SIZES = [(48, 48), (96, 96), (101, 67), (67, 101), (640, 427), (33, 31), (500, 111), (50, 999), (49, 48), (20, 13)]

TURN = Image.Transpose
STORED = {  # EXIF orientation -> how the stored pixels come from the upright ones; the inverse of what it asks for
    1: None, 2: TURN.FLIP_LEFT_RIGHT, 3: TURN.ROTATE_180, 4: TURN.FLIP_TOP_BOTTOM,
    5: TURN.TRANSPOSE, 6: TURN.ROTATE_90, 7: TURN.TRANSVERSE, 8: TURN.ROTATE_270,
}  # fmt: skip


def patch_means(picture: Image.Image) -> np.ndarray:
    """Mean brightness of every patch of the model's input, (GRID, GRID)."""
    transform = image_transform(INPUT, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    pixels = transform(picture).mean(dim=0)
    return pixels.unflatten(1, (GRID, PATCH)).unflatten(0, (GRID, PATCH)).mean(dim=(1, 3)).numpy()


def marked(width: int, height: int, box) -> Image.Image:
    """A black picture with a white box, its edges grey where they lie between pixels."""
    x0, y0, x1, y1 = box
    x, y = np.arange(width), np.arange(height)
    inside_x = (np.minimum(x + 1, x1) - np.maximum(x, x0)).clip(0, 1)
    inside_y = (np.minimum(y + 1, y1) - np.maximum(y, y0)).clip(0, 1)
    return Image.fromarray(np.rint(255 * np.outer(inside_y, inside_x)).astype(np.uint8)).convert("RGB")


def cell_box(box, row, column):
    x0, y0, x1, y1 = box
    width, height = (x1 - x0) / GRID, (y1 - y0) / GRID
    return x0 + column * width, y0 + row * height, x0 + (column + 1) * width, y0 + (row + 1) * height


@pytest.mark.parametrize("width, height", SIZES)
def test_pixels_marked_in_one_cell_are_found_again_in_that_patch_alone(width, height):
    box = seen_box(width, height, INPUT)
    for row, column in [(0, 0), (0, GRID - 1), (2, 3), (GRID - 1, 0), (GRID - 1, GRID - 1)]:
        means = patch_means(marked(width, height, cell_box(box, row, column)))
        assert np.unravel_index(means.argmax(), means.shape) == (row, column)
        assert means[row, column] > 0.6 and means[row, column] > 0.7 * means.clip(0).sum()


@pytest.mark.parametrize("orientation", sorted(STORED))
@pytest.mark.parametrize("width, height", [(101, 67), (67, 101)])
def test_pixels_of_a_photograph_of_any_orientation_are_found_in_the_tensor_and_back(width, height, orientation):
    box = seen_box(width, height, INPUT)
    for row, column in [(1, 4), (5, 0)]:
        mark = cell_box(box, row, column)
        picture = decode_rgb(photograph(marked(width, height, mark), orientation))
        assert picture.size == (width, height)
        means = patch_means(picture)
        strongest = np.unravel_index(means.argmax(), means.shape)
        assert strongest == (row, column)
        x, y = cell_centres(seen_box(*picture.size, INPUT), GRID, GRID)[strongest]
        assert mark[0] < x < mark[2] and mark[1] < y < mark[3]
        assert np.asarray(picture)[int(y), int(x)].min() > 200


def photograph(upright: Image.Image, orientation: int) -> bytes:
    """A file whose pixels lie as a camera stores them, and whose EXIF data say how to turn them."""
    stored, exif = upright, Image.Exif()
    if STORED[orientation] is not None:
        stored = upright.transpose(STORED[orientation])
    exif[0x0112] = orientation
    stored.save(file := io.BytesIO(), format="PNG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("crop_pct", [0.5, 0.875])
@pytest.mark.parametrize("width, height", [(96, 96), (640, 427), (333, 500)])
def test_the_box_of_a_smaller_crop_is_where_the_transform_cut(width, height, crop_pct):
    transform = image_transform(INPUT, (0.0,) * 3, (1.0,) * 3, crop_pct=crop_pct)
    box = seen_box(width, height, INPUT, transform.resized_to)
    for row, column in [(0, 0), (2, 3), (GRID - 1, GRID - 1)]:
        pixels = transform(marked(width, height, cell_box(box, row, column))).mean(dim=0)
        means = pixels.unflatten(1, (GRID, PATCH)).unflatten(0, (GRID, PATCH)).mean(dim=(1, 3)).numpy()
        assert np.unravel_index(means.argmax(), means.shape) == (row, column) and means[row, column] > 0.6


def test_a_square_picture_is_seen_whole_and_a_wide_one_in_its_middle_by_hand():
    assert seen_box(96, 96, 48) == (0, 0, 96, 96)
    assert seen_box(400, 200, 100) == (100, 0, 300, 200)
    assert seen_box(200, 400, 100) == (0, 100, 200, 300)
    assert seen_box(512, 512, 224, 256) == (32, 32, 480, 480)


def test_the_centres_of_a_two_by_two_grid_by_hand():
    centres = cell_centres((10, 0, 30, 40), rows=2, columns=2)
    assert centres.tolist() == [[[15, 10], [25, 10]], [[15, 30], [25, 30]]]
