"""Pictures of prepared data are found wherever the tree of both, the data alone or the pictures alone were moved."""

import json
import os
import shutil

import pytest
from PIL import Image

from tests.prepare.raw_vqav2 import image_path, write_small_vqav2
from vl_absvit.data.records import ImageTable
from vl_absvit.errors import InputError
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2


@pytest.fixture
def tree(tmp_path):
    """``tree/raw`` and ``tree/data/prepared``."""
    raw = write_small_vqav2(tmp_path / "tree/raw")
    prepare_vqav2(options(raw), tmp_path / "tree/data/prepared", 1)
    return tmp_path / "tree"


def options(raw):
    return PrepareOptions(root=raw, min_count=1, minival_images=1)


def as_of_old(prepared):
    """The manifest as an earlier version wrote it."""
    manifest = json.loads((prepared / "manifest.json").read_text())
    del manifest["root_from_here"]
    (prepared / "manifest.json").write_text(json.dumps(manifest))


def test_a_tree_that_is_moved_needs_nothing(tree, tmp_path):
    moved = tree.rename(tmp_path / "elsewhere")
    images = ImageTable(moved / "data/prepared")
    assert images.raw_root == moved / "raw" and len(images.open(images.available)) == 12


def test_a_tree_reached_by_a_link_needs_nothing(tree, tmp_path):
    (tmp_path / "link").symlink_to(tree / "data/prepared")
    shutil.move(tree, tmp_path / "elsewhere")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere/data/prepared")
    assert ImageTable(tmp_path / "link").raw_root == tmp_path / "elsewhere/raw"


@pytest.mark.parametrize("old", [False, True])
def test_prepared_data_that_is_moved_alone_finds_its_pictures_where_they_were(tree, tmp_path, old):
    if old:
        as_of_old(tree / "data/prepared")
    moved = (tree / "data/prepared").rename(tmp_path / "prepared")
    assert ImageTable(moved).raw_root == tree / "raw"


def test_pictures_of_other_sizes_beside_moved_data_are_not_its_own(tree, tmp_path):
    moved = shutil.copytree(tree, tmp_path / "elsewhere")
    for path in (moved / "raw").rglob("*.jpg"):
        Image.new("RGB", (24, 16)).save(path)
    assert ImageTable(moved / "data/prepared").raw_root == tree / "raw"
    shutil.rmtree(tree)
    with pytest.raises(InputError, match="_000000000001.jpg has 24 x 16 pixels and not 12 x 8 nor .* does not exist"):
        ImageTable(moved / "data/prepared")


@pytest.mark.parametrize("old", [False, True])
def test_pictures_that_are_moved_alone_are_found_when_told(tree, tmp_path, old):
    prepared = tree / "data/prepared"
    if old:
        as_of_old(prepared)
    moved = (tree / "raw").rename(tmp_path / "pictures")
    with pytest.raises(InputError) as error:
        ImageTable(prepared)
    line = str(error.value)
    assert line == (
        f"{prepared}: its pictures are not in {tree / 'raw'}, which does not exist; say where they are with "
        "--data.images DIR in training, --images DIR elsewhere"
    )
    assert ImageTable(prepared, moved).open([1])[0].size == (12, 8)
    with pytest.raises(InputError, match=f"not in {tmp_path}, which has no train2014/COCO_train2014_000000000001.jpg;"):
        ImageTable(prepared, tmp_path)


def test_of_a_tree_of_old_that_is_moved_the_pictures_are_told(tree, tmp_path):
    as_of_old(tree / "data/prepared")
    moved = tree.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"not in {tree / 'raw'}, which does not exist; say where"):
        ImageTable(moved / "data/prepared")
    assert ImageTable(moved / "data/prepared", moved / "raw").open([101])


def test_damaged_pictures_are_there_and_pictures_on_their_side_are_the_same(tree):
    for image_id in range(1, 5):
        image_path(tree / "raw", "train", image_id).write_bytes(b"damaged")
    shutil.rmtree(tree / "raw/val2014")
    shutil.rmtree(tree / "raw/test2015")
    assert ImageTable(tree / "data/prepared").raw_root == tree / "raw"
    Image.new("RGB", (8, 12)).save(image_path(tree / "raw", "train", 1))
    assert ImageTable(tree / "data/prepared").raw_root == tree / "raw"


def test_a_pipe_in_place_of_a_picture_is_not_waited_for(tree):
    for path in (tree / "raw").rglob("*.jpg"):
        path.unlink()
        os.mkfifo(path)
    assert ImageTable(tree / "data/prepared").raw_root == tree / "raw"


def test_preparing_again_what_was_moved_finds_it_finished(tree, tmp_path, caplog):
    caplog.set_level("INFO")
    moved = tree.rename(tmp_path / "elsewhere")
    prepared, before = moved / "data/prepared", (moved / "data/prepared/manifest.json").read_text()
    prepare_vqav2(options(moved / "raw"), prepared, 1)
    assert (prepared / "manifest.json").read_text() == before and not caplog.messages
    pictures = (moved / "raw").rename(tmp_path / "pictures")
    manifest = prepare_vqav2(options(pictures), prepared, 1)
    assert caplog.messages == [f"{prepared}: its pictures are looked for in {pictures} from now on"]
    assert ImageTable(prepared).raw_root == pictures and manifest["root"] == str(pictures)


def test_an_interrupted_preparation_goes_on_after_both_were_moved(tmp_path, monkeypatch, caplog):
    raw = write_small_vqav2(tmp_path / "tree/raw")
    target = "vl_absvit.prepare.prepare.write_images"
    with monkeypatch.context() as patch:
        patch.setattr(target, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare_vqav2(options(raw), tmp_path / "tree/prepared", 1)
    moved = (tmp_path / "tree").rename(tmp_path / "moved")
    caplog.set_level("INFO")
    prepare_vqav2(options(moved / "raw"), moved / "prepared", 1)
    assert caplog.messages[0].startswith("going on with the interrupted preparation") and "0 images" in caplog.text
    assert ImageTable(moved / "prepared").raw_root == moved / "raw"
