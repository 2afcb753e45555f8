"""A split without any image is told from one that lacks a few, by what was looked for and what would have fitted."""

import re
from pathlib import Path

import pytest
from PIL import Image

from vl_absvit.errors import InputError
from vl_absvit.prepare.check_images import check_layout, mark_missing
from vl_absvit.prepare.coco_images import CocoImages, official_file
from vl_absvit.prepare.database import Database
from vl_absvit.prepare.image_store import CheckedImage, Found, ImageStore

OF_SPLIT = "SELECT 'train' split, column1 image_id FROM (VALUES (1), (2)) UNION ALL SELECT 'val', 3"


@pytest.fixture
def images(tmp_path):
    """The images 1 and 2 of train and 3 of val, of which those are there that a test puts there."""

    def marked(*there: str) -> tuple[ImageStore, CocoImages]:
        for file in there:
            (tmp_path / "raw" / file).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 8)).save(tmp_path / "raw" / file)
        found = CocoImages(tmp_path / "raw")
        names = [official_file(folder, n) for n, folder in ((1, "train2014"), (2, "train2014"), (3, "val2014"))]
        store = ImageStore(database, tmp_path / "raw", "questions")
        store.add((n, found.find(name) or name) for n, name in enumerate(names, start=1))
        mark_missing(store)
        return store, found

    Path(tmp_path / "raw").mkdir()
    with Database(tmp_path / "scratch.sqlite") as database:
        yield marked


def test_images_are_counted_per_split(images):
    store, _ = images("train2014/000000000002.jpg")
    assert store.found_of(OF_SPLIT) == {
        "train": Found(1, 1, "train2014/COCO_train2014_000000000001.jpg"),
        "val": Found(0, 1, "val2014/COCO_val2014_000000000003.jpg"),
    }


def test_a_split_without_any_image_is_refused_unless_that_is_allowed(images):
    store, lookup = images("train2014/000000000002.jpg")
    words = "none of the 1 images of val is there: looked for COCO_val2014_000000000003.jpg (image 3) or 0"
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        check_layout(store, OF_SPLIT, lookup, allow_missing=False)
    assert str(caught.value).endswith("--allow-missing-images prepares the questions without them")
    (warning,) = check_layout(store, OF_SPLIT, lookup, allow_missing=True)
    assert warning.startswith(words) and warning.endswith("; nothing of it can be trained on or evaluated")


def test_splits_that_lack_a_few_are_left_to_others(images):
    assert check_layout(*asked(images("train2014/000000000002.jpg", "3/000000000003.jpg")), allow_missing=False) == []


def test_pictures_none_of_which_is_wanted_are_refused_even_where_missing_ones_are_allowed(images):
    with pytest.raises(
        InputError, match="of train is there: .* such as pictures/3.jpg; all questions would be without"
    ):
        check_layout(*asked(images("pictures/3.jpg")), allow_missing=True)


def test_questions_alone_are_warned_about_split_by_split(images):
    warnings = check_layout(*asked(images()), allow_missing=True)
    assert [warning.split(" is there: ")[0] for warning in warnings] == [
        "none of the 2 images of train", "none of the 1 images of val",
    ]  # fmt: skip
    assert all("where no picture is at all" in warning for warning in warnings)


def test_an_image_that_moved_since_is_checked_again(images):
    store, _ = images("train2014/000000000002.jpg")
    store.record([CheckedImage(2, "train2014/000000000002.jpg", "good", None, (12, 8))])
    store.forget_all_but_good()
    store.add([(2, "train2014/000000000002.jpg")])
    assert store.count("good") == 1
    store.add([(2, "train2017/000000000002.jpg")])
    assert store.count("good") == 0 and (2, "train2017/000000000002.jpg") in store.unchecked(above=-1, limit=9)


def asked(found: tuple[ImageStore, CocoImages]) -> tuple[ImageStore, str, CocoImages]:
    store, lookup = found
    return store, OF_SPLIT, lookup
