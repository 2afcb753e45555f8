"""Rank correlation of maps: areas by hand and by brute force, ties, planted maps, and the published examples."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vl_absvit.errors import InputError
from vl_absvit.evaluation.attention_agreement import (
    GRID,
    agreement,
    area_average,
    centre_map,
    choose_donors,
    consensus,
    correlations,
    inter_human,
    rank_vector,
    spearman,
    uniform_noise,
)

# Area averaging.


def test_four_cells_become_one_and_one_becomes_four_by_hand():
    grid = np.array([[0, 2, 5, 5], [4, 6, 5, 5]])
    np.testing.assert_array_equal(area_average(grid, (1, 2)), [[3, 5]])
    np.testing.assert_array_equal(area_average(grid, (2, 1)), [[3], [5]])
    np.testing.assert_array_equal(area_average([[1, 2]], (2, 4)), [[1, 1, 2, 2], [1, 1, 2, 2]])


def test_fractions_of_cells_count_by_their_area_by_hand():
    np.testing.assert_allclose(area_average([[0, 3, 6]], (1, 2)), [[1, 5]])  # (0 + 3/2) / 1.5 and (3/2 + 6) / 1.5
    np.testing.assert_allclose(area_average([[0, 3, 6]], (1, 1), box=(0.5, 0, 2, 1)), [[2]])  # (0/2 + 3) / 1.5
    np.testing.assert_allclose(area_average([[0], [8]], (1, 1), box=(0.2, 0.75, 0.3, 2)), [[6.4]])


@pytest.mark.parametrize(("size", "shape"), [((6, 10), (4, 3)), ((5, 7), (14, 14)), ((9, 4), (2, 6)), ((3, 3), (7, 2))])
def test_it_agrees_with_averaging_many_small_pieces(size, shape):
    grid = np.random.default_rng(0).random(size)
    pieces = np.kron(grid, np.ones(shape))  # every old cell in as many pieces as there are new cells per side
    rows, columns = size
    naive = pieces.reshape(shape[0], rows, shape[1], columns).mean(axis=(1, 3))
    np.testing.assert_allclose(area_average(grid, shape), naive, rtol=1e-6)


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 0.4), st.floats(0.6, 1), st.integers(1, 255))
def test_what_is_constant_stays_constant_to_the_last_bit(height, width, low, high, grey):
    box = (low * width, low * height, high * width, high * height)
    assert (area_average(np.full((height, width), grey), box=box) == grey).all()


def test_a_box_of_the_whole_map_is_the_map_and_the_same_size_changes_nothing():
    grid = np.random.default_rng(0).random((14, 14)).astype(np.float32)
    np.testing.assert_array_equal(area_average(grid), grid)
    np.testing.assert_array_equal(area_average(grid, (5, 6), (0, 0, 14, 14)), area_average(grid, (5, 6)))


def test_a_box_is_the_same_as_cutting_at_whole_cells():
    grid = np.random.default_rng(0).random((20, 30))
    np.testing.assert_array_equal(area_average(grid, (4, 4), (3, 5, 25, 17)), area_average(grid[5:17, 3:25], (4, 4)))


@pytest.mark.parametrize("box", [(0, 0, 0, 3), (2, 0, 1, 3), (-0.1, 0, 2, 2), (0, 0, 3, 3.1), (float("nan"), 0, 2, 2)])
def test_a_box_that_is_no_part_of_the_map_is_refused(box):
    with pytest.raises(InputError, match="is not a part of a map of 3 x 3"):
        area_average(np.ones((3, 3)), box=box)


@pytest.mark.parametrize("grid", [np.ones(3), np.ones((2, 2, 2)), np.ones((0, 3)), 1.0])
def test_what_is_no_grid_is_refused(grid):
    with pytest.raises(InputError, match="expected a map of the shape"):
        area_average(grid)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_without_a_rank_are_refused(value):
    with pytest.raises(InputError, match="not finite"):
        area_average([[0, value]])
    with pytest.raises(InputError, match="not finite"):
        spearman([0, value], [0, 1])


# Rank correlation.


def test_a_tie_by_hand():
    # ranks 1, 2.5, 2.5 and 1, 2, 3: covariance 1.5, spreads 1.5 and 2
    assert spearman([0, 7, 7], [0, 1, 2]) == pytest.approx(1.5 / (1.5 * 2) ** 0.5)


def test_a_constant_map_has_no_correlation():
    assert spearman(np.full(GRID, 0.3), np.random.default_rng(0).random(GRID)) is None
    assert spearman([1, 2], [5, 5]) is None


# Questions.


@pytest.fixture
def maps():
    """A model's map and three human maps for each of 20 questions, with ties."""
    rng = np.random.default_rng(1)
    return [(rng.integers(0, 9, GRID), rng.integers(0, 9, (3, *GRID))) for _ in range(20)]


def test_one_person_agrees_with_nobody_else():
    alone = consensus([[1, 2, 3]])[None]
    assert np.isnan(inter_human(alone, np.array([1]))).all()
    assert inter_human(np.stack([consensus([[1, 2, 3]] * 2)]), np.array([2])) == pytest.approx(1)


def test_a_constant_model_map_correlates_zero_and_a_constant_human_map_is_refused(maps):
    model, human = maps[0]
    assert correlations(rank_vector(np.ones(GRID))[None], consensus(human)[None]) == [0]
    with pytest.raises(InputError, match="constant human map"):
        consensus([model, np.ones(GRID)])


def test_a_row_is_the_mean_of_its_questions_by_hand():
    row = agreement(np.array([0.1, np.nan, 0.3, 0.2, 0.6]))
    assert row.rank_correlation == pytest.approx(0.3) and row.questions == 4
    assert row.standard_error == pytest.approx((0.14 / 3 / 4) ** 0.5)
    assert 0.1 < row.interval[0] < 0.3 < row.interval[1] < 0.6


def test_the_interval_is_that_of_a_naive_bootstrap():
    values = np.random.default_rng(0).normal(0.4, 0.2, 400)
    rng = np.random.default_rng(1)
    naive = np.percentile([rng.choice(values, 400).mean() for _ in range(2000)], [2.5, 97.5])
    np.testing.assert_allclose(agreement(values).interval, naive, atol=0.002)  # a tenth of its half width
    assert agreement(values).interval == agreement(values).interval != agreement(values, seed=1).interval


def test_rows_of_few_questions_say_what_they_do_not_know():
    assert agreement(np.array([])) == agreement(np.array([np.nan])) == (None, None, None, 0)
    assert agreement(np.array([0.5])) == (0.5, None, None, 1)
    assert agreement(np.array([0.5, 0.5])) == (0.5, 0.0, (0.5, 0.5), 2)


# Rows that give a scale.


def test_the_centre_is_strongest_in_the_middle_and_symmetric():
    centre = centre_map()
    assert centre[6, 6] == centre[7, 7] == centre.max()
    np.testing.assert_array_equal(centre, centre[::-1].T)
    assert centre_map((1, 4))[0, 0] / centre_map((1, 4))[0, 1] == pytest.approx(np.exp(-(0.375**2 - 0.125**2) * 8))


def test_the_centre_is_the_images_not_that_of_what_the_model_saw():
    left_half = centre_map((1, 4), box=(0, 0, 0.5, 1))
    assert (np.diff(left_half) > 0).all()
    np.testing.assert_allclose(left_half[0, 1::2], area_average(left_half, (1, 4))[0, 1::2])
    whole = centre_map((4, 8))
    np.testing.assert_array_equal(centre_map((4, 4), box=(0, 0, 0.5, 1)), whole[:, :4])


def test_noise_belongs_to_its_question_and_seed():
    np.testing.assert_array_equal(uniform_noise(7, 0), uniform_noise(7, 0))
    assert (uniform_noise(7, 0) != uniform_noise(8, 0)).all() and (uniform_noise(7, 0) != uniform_noise(7, 1)).all()


def test_a_donor_is_about_the_same_image_where_there_is_one_and_never_the_question_itself():
    images = [1, 1, 2, 3, 3, 3]
    drawn = [choose_donors([10, 11, 20, 30, 31, 32], images, seed) for seed in range(200)]
    for index, same_image in drawn:
        assert same_image.tolist() == [True, True, False, True, True, True]
        assert index[:2].tolist() == [1, 0] and index[2] != 2
        assert all(images[index[place]] == 3 and index[place] != place for place in (3, 4, 5))
    assert {donors.places[2] for donors in drawn} == {0, 1, 3, 4, 5}
    assert {donors.places[3] for donors in drawn} == {4, 5}


def test_a_donors_draw_depends_on_the_question_and_the_seed_alone():
    ids, images = list(range(100, 130)), [7] * 30
    first, again = choose_donors(ids, images, 0), choose_donors(ids, images, 0)
    np.testing.assert_array_equal(first.places, again.places)
    assert (first.places != choose_donors(ids, images, 1).places).any()


def test_without_another_question_there_is_no_donor():
    assert choose_donors([5], [1], 0).places.tolist() == [-1]
    assert choose_donors([5], [1], 0).same_image.tolist() == [False]


# Real maps.


def whole_pixel_average(grid):
    """14 x 14 means of blocks cut at whole pixels, as the published values' maps were averaged."""
    (height, width), edges = grid.shape, range(15)
    y, x = [k * height // 14 for k in edges], [k * width // 14 for k in edges]
    return [[grid[y[i] : y[i + 1], x[j] : x[j + 1]].mean() for j in range(14)] for i in range(14)]


def test_the_published_examples(real_data):
    """Blocks of whole pixels give the recorded values to their third digit; exact areas, which cut pixels, almost."""
    rows = json.loads((real_data / "vqa-hat/index.json").read_text())["rows"]
    assert len(rows) == 6
    for row in rows:
        grids = {name: np.asarray(Image.open(real_data / "vqa-hat" / file)) for name, file in row["maps"].items()}
        for name, recorded in row["recovered_spearman_14x14"].items():
            blocks = spearman(whole_pixel_average(grids[name]), whole_pixel_average(grids["human"]))
            assert blocks == pytest.approx(recorded, abs=0.0006)
            areas = spearman(area_average(grids[name]), area_average(grids["human"]))
            assert areas == pytest.approx(recorded, abs=0.012)
