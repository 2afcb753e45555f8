"""COCO's pictures are found by their id, wherever people keep them; where none fits, it is said what would."""

import os
from pathlib import Path

import pytest

from vl_absvit.prepare.coco_images import CocoImages, official_file

TRAIN, VAL = "train2014/COCO_train2014_000000000009.jpg", "val2014/COCO_val2014_000000000042.jpg"


def put(root: Path, *files: str) -> CocoImages:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return CocoImages(root)


def test_official_names_by_hand():
    assert official_file("train2014", 9) == TRAIN and official_file("val2017", 139) == "val2017/000000000139.jpg"


@pytest.mark.parametrize(
    "file",
    [
        VAL,
        "val2014/000000000042.jpg",
        "val2017/000000000042.jpg",
        "train2017/000000000042.jpg",  # the release of 2017 moved most of val2014 there
        "images/train2017/000000000042.jpg",
        "coco/images/val2014/COCO_val2014_000000000042.jpg",
        "Images/mscoco/val2014/COCO_val2014_000000000042.jpg",
        "a/b/c/d/000000000042.JPG",
        "COCO_val2014_000000000042.jpg",
        "images/COCO_val2014_000000000042.jpeg",
        "val2014_small/COCO_val2014_000000000042.png",
    ],
)
def test_the_id_finds_the_picture_in_any_layout(tmp_path, file):
    assert put(tmp_path, "train2014/COCO_train2014_000000000041.jpg", file).find(VAL) == file


def test_the_official_place_comes_first(tmp_path):
    images = put(tmp_path, "a/000000000042.jpg", "a/COCO_val2014_000000000042.jpg", "train2017/000000000042.jpg", VAL)
    assert images.find(VAL) == VAL
    (tmp_path / "above").symlink_to(tmp_path)
    assert CocoImages(tmp_path).find(VAL) == VAL
    (tmp_path / "above").unlink()
    (tmp_path / VAL).unlink()
    assert CocoImages(tmp_path).find(VAL) == "a/COCO_val2014_000000000042.jpg"


@pytest.mark.parametrize(
    "file",
    [
        "train2014/COCO_train2014_000000000042.jpg",  # says train
        "val2014/000000000043.jpg",
        "val2014/42.jpg",
        "val2014/000000000042.jpg.txt",
        "a/b/c/d/e/000000000042.jpg",
        ".cache/000000000042.jpg",
    ],
)
def test_another_picture_is_not_it(tmp_path, file):
    assert put(tmp_path, file).find(VAL) is None


def test_a_folder_that_may_not_be_read_is_passed_over(tmp_path, monkeypatch):
    put(tmp_path, VAL, "lost+found/000000000009.jpg")
    scan = os.scandir

    def refusing(path):
        if Path(path).name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert CocoImages(tmp_path).find(VAL) == VAL


def test_what_was_looked_for_where_and_what_is_there_instead_is_said(tmp_path):
    words = put(tmp_path / "raw", "val/42.jpg").looked_for(VAL)
    assert words == (
        f"looked for COCO_val2014_000000000042.jpg (image 42) or 000000000042.jpg in {tmp_path / 'raw'} and 1 folders "
        "below it (4 levels), which have pictures such as val/42.jpg"
    )
    (tmp_path / "empty").mkdir()
    assert CocoImages(tmp_path / "empty").looked_for(VAL).endswith(", where no picture is at all")


@pytest.mark.parametrize("place", ["coco/images/val2014/COCO_val2014_000000000042.jpg", "train2017/000000000042.jpg"])
def test_the_folder_that_would_have_fitted_is_named(tmp_path, place):
    put(tmp_path / "other", place)
    images = put(tmp_path / "raw", "note.txt")
    assert not images.has_pictures
    assert images.looked_for(VAL).endswith(f"; {tmp_path / 'other'} would fit")
