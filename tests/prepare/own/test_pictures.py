"""Names of pictures lead to files below one folder, and never out of it or to one of several."""

import os

import pytest
from PIL import Image

from vl_absvit.prepare.own.pictures import OwnPictures
from vl_absvit.prepare.own.refusals import Fault

FILES = (
    "a.jpg",
    "sub/b.PNG",
    "x/twice.jpg",
    "y/twice.jpg",
    "sub/COCO_train2014_000000000042.jpg",
    "sub/0007.jpg",
    "é.jpg",
)


@pytest.fixture
def root(tmp_path):
    for file in FILES:
        (tmp_path / "shop/images" / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / "shop/images" / file)
    Image.new("RGB", (2, 2)).save(tmp_path / "outside.jpg")
    os.symlink(tmp_path / "outside.jpg", tmp_path / "shop/images/link.jpg")
    return tmp_path / "shop/images"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("sub/b.PNG", "sub/b.PNG"),
        ("sub\\b.PNG", "sub/b.PNG"),
        ("images/sub/b.PNG", "sub/b.PNG"),  # as seen from the table's folder
        ("b.PNG", "sub/b.PNG"),
        ("b", "sub/b.PNG"),
        (42, "sub/COCO_train2014_000000000042.jpg"),
        (7, "sub/0007.jpg"),
        ("x/twice.jpg", "x/twice.jpg"),
        ("é.jpg", "é.jpg"),
        ("link.jpg", "link.jpg"),
        ("absent/a.jpg", "absent/a.jpg"),  # missing: another folder's a.jpg may be another picture
        ("absent.jpg", "absent.jpg"),
    ],
)
def test_names_lead_to_files(root, name, file):
    assert OwnPictures(root).named(name, root.parent) == file


def test_absolute_names_may_lead_into_the_folder(root):
    assert OwnPictures(root).named(str(root / "sub/b.PNG"), root) == "sub/b.PNG"
    (root.parent / "link").symlink_to(root)
    assert OwnPictures(root.parent / "link").named(str(root / "a.jpg"), root) == "a.jpg"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../../outside.jpg", "a picture outside the folder of pictures"),
        ("sub/../a.jpg", "a picture outside the folder of pictures"),
        ("/etc/passwd", "a picture outside the folder of pictures"),
        ("twice.jpg", "a picture that is there several times"),
        ("https://example.org/a.jpg", "an address instead of a file"),
        ("n" * 300 + ".jpg", "no file's name for the picture"),
        ("..", "a picture outside the folder of pictures"),
        ("a\0.jpg", "a NUL character"),
        ({"bytes": b"", "path": "a.jpg"}, "a picture itself instead of its file's name"),
    ],
)
def test_other_names_are_refused(root, name, reason):
    with pytest.raises(Fault) as caught:
        OwnPictures(root).named(name, root.parent)
    assert caught.value.reason == reason


def test_what_is_there_is_said_of_a_missing_picture(root):
    pictures = OwnPictures(root)
    assert pictures.find("a.jpg") == "a.jpg" and pictures.find("absent/b.PNG") is None and pictures.has_pictures
    assert pictures.looked_for("absent/b.PNG").endswith(
        f"in {root}, which has pictures such as a.jpg; sub/b.PNG has this name"
    )
