"""Where the patch grid lies: from a cell to the picture and back, for any picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.profile import steady
from vl_absvit.evaluation.attention_agreement import area_average
from vl_absvit.evaluation.pointing import points_at
from vl_absvit.looking.geometry import cell_centres, seen_box

sides = st.integers(2, 4000)
grids = st.integers(1, 12)
image_sizes = st.integers(16, 512)


@st.composite
def pictures(draw):
    """Width and height that preparation lets through."""
    short = draw(sides)
    long = draw(st.integers(short, min(100 * short, 8000)))
    return draw(st.sampled_from([(short, long), (long, short)]))


@steady
@given(pictures(), image_sizes)
def test_the_box_lies_in_the_picture_and_holds_its_shorter_side(size, image_size):
    width, height = size
    x0, y0, x1, y1 = seen_box(width, height, image_size)
    assert -1e-6 <= x0 < x1 <= width + 1e-6 and -1e-6 <= y0 < y1 <= height + 1e-6
    short = min(size)
    along_short = (x1 - x0) if width <= height else (y1 - y0)
    along_long = (y1 - y0) if width <= height else (x1 - x0)
    assert along_short == pytest.approx(short)
    # The longer side becomes whole pixels, at least as many as the shorter one has.
    assert short * (1 - 1e-9) <= along_long <= short * (1 + 1 / image_size)


@steady
@given(pictures(), image_sizes)
def test_a_picture_on_its_side_has_its_box_on_its_side(size, image_size):
    x0, y0, x1, y1 = seen_box(*size, image_size)
    assert seen_box(*size[::-1], image_size) == pytest.approx((y0, x0, y1, x1))


@steady
@given(pictures(), image_sizes, grids, grids)
def test_the_centre_of_a_cell_lies_in_that_cell(size, image_size, rows, columns):
    x0, y0, x1, y1 = box = seen_box(*size, image_size)
    centres = cell_centres(box, rows, columns)
    found_columns = (centres[..., 0] - x0) / (x1 - x0) * columns
    found_rows = (centres[..., 1] - y0) / (y1 - y0) * rows
    np.testing.assert_allclose(found_columns, np.broadcast_to(np.arange(columns) + 0.5, (rows, columns)))
    np.testing.assert_allclose(found_rows, np.broadcast_to((np.arange(rows) + 0.5)[:, None], (rows, columns)))


@steady
@given(pictures(), image_sizes, st.integers(1, 5), st.data())
def test_a_mark_on_a_cell_of_the_picture_is_pointed_at_by_that_cell_alone(size, image_size, cells, data):
    x0, y0, x1, y1 = box = seen_box(*size, image_size)
    row, column = data.draw(st.tuples(st.integers(0, cells - 1), st.integers(0, cells - 1)))
    width, height = (x1 - x0) / cells, (y1 - y0) / cells
    mark = (x0 + column * width, y0 + row * height, x0 + (column + 1) * width, y0 + (row + 1) * height)
    centres = cell_centres(box, cells, cells)
    for at_row in range(cells):
        for at_column in range(cells):
            grid = np.zeros((cells, cells))
            grid[at_row, at_column] = 1
            is_own = cells == 1 or (at_row, at_column) == (row, column)
            assert points_at(grid, centres, [mark]) is is_own


@steady
@given(grids, grids, st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_a_grid_made_finer_and_coarse_again_is_the_grid(rows, columns, times, seed):
    grid = np.random.default_rng(seed).random((rows, columns)).astype(np.float32)
    finer = area_average(grid, (times * rows, times * columns))
    np.testing.assert_allclose(area_average(finer, (rows, columns)), grid, rtol=1e-5)
