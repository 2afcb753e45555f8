"""``scripts/summarise_demo.py``: accuracy by the kind of question. Whole runs are in test_demo_end_to_end.py."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from vl_absvit.errors import InputError

SCRIPT = Path(__file__).parents[2] / "scripts/summarise_demo.py"


@pytest.fixture(scope="module")
def summarise():
    return runpy.run_path(str(SCRIPT))


def test_accuracy_per_kind_is_the_mean_over_its_questions(summarise):
    kinds = {1: "texture", 2: "related", 3: "related", 4: "related", 9: "count"}
    assert summarise["accuracy_per_kind"]({1: 100.0, 2: 100.0, 3: 0.0, 4: 30.0}, kinds) == {
        "related": {"accuracy": 43.33, "questions": 3},
        "texture": {"accuracy": 100.0, "questions": 1},
    }


def test_kinds_are_those_of_these_questions(summarise):
    with pytest.raises(InputError, match=r"demo_kinds.json: has no kind for 2 questions, e.g. 5"):
        summarise["accuracy_per_kind"]({1: 100.0, 5: 0.0, 7: 0.0}, {1: "texture"})


def test_a_world_without_kinds_is_read_and_a_broken_file_is_one_line(summarise, tmp_path):
    file = tmp_path / "demo_kinds.json"
    assert summarise["read_kinds"](file) is None
    file.write_text(json.dumps({"12": "texture"}))
    assert summarise["read_kinds"](file) == {12: "texture"}
    for content in ({"twelve": "texture"}, {"12": ["texture"]}, ["texture"]):
        file.write_text(json.dumps(content))
        with pytest.raises(InputError, match=r"demo_kinds.json: expected .*"):
            summarise["read_kinds"](file)


def test_masks_are_open_where_objects_are_named_and_apart_where_none_is_there(summarise):
    def seen(question, *values):
        return summarise["Seen"](question, 1, {"prior_mask": np.array([values])}, (0, 0, 96, 96))

    looked, objects = [seen(1, 0.0, 0.5), seen(2, 0.0, 0.0), seen(3, 0.0, 0.0)], {1: [(0, 0, 9, 9)], 2: [(0, 0, 9, 9)]}
    assert summarise["mask_openness"](looked, objects) == {
        "asked": {"shut": 50.0, "open": 25.0, "largest": 0.25},
        "absent": {"shut": 100.0, "open": 0.0, "largest": 0.0},
    }
    assert summarise["mask_openness"](looked[:1], objects)["absent"] is None
    without = [looked[0]._replace(maps={"bottom_up": np.ones((1, 2))})]
    assert summarise["mask_openness"](without, objects) is None


def test_steering_is_that_of_the_strength_of_training(summarise, tmp_path):
    file, row = tmp_path / "scores.json", {"asked_half": 60.0, "both_halves": 20.0}
    rows = [{"alpha": 3.0, **row}, {"alpha": 20.0, "asked_half": 96.0, "both_halves": 92.0}]
    file.write_text(json.dumps({"trained_alpha": 20.0, "top_down": rows}))
    assert summarise["read_steering"](file) == {"alpha": 20.0, "asked_half": 96.0, "both_halves": 92.0}
    file.write_text(json.dumps({"trained_alpha": 10.0, "top_down": rows}))
    with pytest.raises(InputError, match=r"scores.json: expected a result of vl-absvit compare-priors --pairs"):
        summarise["read_steering"](file)
