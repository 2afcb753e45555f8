"""A split without any image is told from one that lacks a few, by what was looked for and what would have fitted."""

import re

import numpy as np
import pytest
from PIL import Image

from vl_absvit.errors import InputError
from vl_absvit.prepare.check_images import Images, judge_missing
from vl_absvit.prepare.coco_images import CocoImages, official_file

SPLITS = {"train": np.array([1, 2, 2]), "val": np.array([3])}


@pytest.fixture
def judge(tmp_path):
    """Judge the images 1 and 2 of train and 3 of val, of which those are there that a test puts there."""

    root = tmp_path / "raw"  # folders beside it are looked at, too
    root.mkdir()

    def judge_those(*there: str, allow_missing: bool = True) -> list[str]:
        for file in there:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 8)).save(root / file)
        official = {n: official_file(folder, n) for n, folder in ((1, "train2014"), (2, "train2014"), (3, "val2014"))}
        images = Images(root, official, CocoImages(root), "questions")
        return judge_missing(images, SPLITS, allow_missing=allow_missing)

    return judge_those


def test_a_split_without_any_image_is_refused_unless_that_is_allowed(judge):
    words = "none of the 1 images of val is there: looked for COCO_val2014_000000000003.jpg (image 3) or 0"
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        judge("train2014/000000000002.jpg", allow_missing=False)
    assert str(caught.value).endswith("--allow-missing-images prepares the questions without them")
    warning, number = judge("train2014/000000000002.jpg")
    assert warning.startswith(words) and warning.endswith("; nothing of it can be trained on or evaluated")
    assert number.startswith("2 images are missing, the first is ")


def test_splits_that_lack_a_few_are_told_by_their_first(judge):
    with pytest.raises(InputError, match=r"^1 images are missing, the first is .*COCO_train2014_000000000001.jpg"):
        judge("train2014/000000000002.jpg", "3/000000000003.jpg", allow_missing=False)


def test_pictures_none_of_which_is_wanted_are_refused_even_where_missing_ones_are_allowed(judge):
    with pytest.raises(
        InputError, match="of train is there: .* such as pictures/3.jpg; all questions would be without"
    ):
        judge("pictures/3.jpg")


def test_questions_alone_are_warned_about_split_by_split(judge):
    warnings = judge()
    assert [warning.split(" is there: ")[0] for warning in warnings[:2]] == [
        "none of the 2 images of train", "none of the 1 images of val",
    ]  # fmt: skip
    assert all("where no picture is at all" in warning for warning in warnings[:2]) and len(warnings) == 3
