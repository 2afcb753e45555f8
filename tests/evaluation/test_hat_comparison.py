"""The rows of a comparison on VQA-HAT: planted maps, a naive version, and counts of what was left out."""

import numpy as np
import pytest

from vl_absvit.errors import InputError
from vl_absvit.evaluation.attention_agreement import GRID, area_average, centre_map, spearman
from vl_absvit.evaluation.hat_comparison import HATComparison

SIZE = (40, 30)
WHOLE = (0, 0, *SIZE)
LEFT = (0, 0, 20, 30)


def human_map(seed):
    return np.random.default_rng([7, seed]).integers(0, 256, (30, 40)).astype(np.uint8)


def compared(questions, kinds=("prior_mask",), box=WHOLE):
    """Scores of (question id, image id, maps, human maps)."""
    comparison = HATComparison(kinds, kinds[0])
    for question_id, image_id, maps, human in questions:
        comparison.add(question_id, image_id, maps, human, box, SIZE)
    return comparison.scores()


def test_every_row_is_that_of_a_naive_version():
    rng = np.random.default_rng(0)
    questions = [
        (10 * i + k, i, {"prior_mask": rng.random((9, 5))}, [human_map(9 * i + 3 * k + n) for n in range(3)])
        for i in range(6)
        for k in range(2)
    ]  # fmt: skip
    scores = compared(questions, box=LEFT)
    human = [[area_average(grey[:, :20]) for grey in each] for *_, each in questions]
    own = [area_average(maps["prior_mask"]) for _, _, maps, _ in questions]
    sibling = [own[place + 1 - 2 * (place % 2)] for place in range(12)]  # the other question about the image
    centre = area_average(centre_map((14, 28))[:, :14])
    naive = {
        "prior_mask": [np.mean([spearman(a, b) for b in bs]) for a, bs in zip(own, human, strict=True)],
        "shuffled": [np.mean([spearman(a, b) for b in bs]) for a, bs in zip(sibling, human, strict=True)],
        "centre": [np.mean([spearman(centre, b) for b in bs]) for bs in human],
        "inter_human": [np.mean([spearman(bs[i], bs[j]) for i, j in ((0, 1), (0, 2), (1, 2))]) for bs in human],
    }
    off_centre = [value < 0 for value in naive["centre"]]
    assert 0 < sum(off_centre) == scores.off_centre_questions < 12 == scores.questions
    for name, values in naive.items():
        row = scores.rows[name]
        assert row.overall.rank_correlation == pytest.approx(np.mean(values), abs=1e-6)
        assert row.off_centre.rank_correlation == pytest.approx(np.mean(np.array(values)[off_centre]), abs=1e-6)
        assert row.off_centre.questions == sum(off_centre)
    assert (scores.counts["shuffled_from_same_image"], scores.counts["shuffled_from_other_image"]) == (12, 0)
    assert scores.counts["human_maps"] == 36


def test_rows_come_with_people_first_and_controls_last():
    scores = compared([(1, 1, {"b": human_map(0), "a": human_map(1)}, [human_map(2)])], ("b", "a"))
    assert list(scores.rows) == ["inter_human", "b", "a", "centre", "shuffled", "uniform_noise"] and scores.map == "b"


def test_human_maps_are_looked_at_where_the_model_looked():
    grey = human_map(0)
    right_differs = grey.copy()
    right_differs[:, 20:] = 0
    scores = compared([(1, 1, {"prior_mask": grey[:, :20]}, [right_differs])], box=LEFT)
    assert scores.rows["prior_mask"].overall.rank_correlation == pytest.approx(1, abs=1e-6)


def test_a_human_map_of_another_resolution_is_cut_at_the_same_place():
    grey = human_map(0)
    fine = np.kron(grey, np.ones((3, 3), dtype=np.uint8))
    box = (5.3, 2.2, 33.9, 27.7)
    scores = compared([(1, 1, {"prior_mask": area_average(grey, GRID, box)}, [fine])], box=box)
    assert scores.rows["prior_mask"].overall.rank_correlation == pytest.approx(1, abs=1e-3)


def test_what_people_did_not_rank_there_is_left_out_and_counted():
    elsewhere = human_map(0)
    elsewhere[:, :20] = 9
    maps = {"prior_mask": human_map(3)}
    scores = compared(
        [(1, 1, maps, [elsewhere, human_map(1)]), (2, 2, maps, [elsewhere] * 3), (3, 3, maps, [human_map(2)])], box=LEFT
    )
    assert scores.questions == 2 and scores.counts["human_maps"] == 2
    assert scores.counts["constant_human_maps"] == 4 and scores.counts["questions_without_varied_human_map"] == 1


def test_of_one_question_nothing_can_be_shuffled():
    scores = compared([(1, 1, {"prior_mask": human_map(3)}, [human_map(1)])])
    assert scores.rows["shuffled"].overall == (None, None, None, 0)
    assert scores.counts["shuffled_from_same_image"] == scores.counts["shuffled_from_other_image"] == 0


@pytest.mark.parametrize("box", [(-3, 0, 20, 30), (0, 0, 41, 30), (5, 0, 5, 30), (float("nan"), 0, 5, 5)])
def test_a_box_outside_the_image_is_refused(box):
    with pytest.raises(InputError, match="is not a part of an image of 40 x 30"):
        compared([(1, 1, {"prior_mask": human_map(3)}, [human_map(1)])], box=box)


def test_a_box_half_a_pixel_outside_is_rounding():
    question = (1, 1, {"prior_mask": human_map(3)}, [human_map(1)])
    rounded = compared([question], box=(-0.4, 0, 40.4, 30)).rows["prior_mask"]
    assert rounded == compared([question]).rows["prior_mask"]
