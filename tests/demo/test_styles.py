"""The world of four styles: reproducible, in the form of PACS, and each style what it is called."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from vl_absvit.demo.scene import SHAPES
from vl_absvit.demo.styles import STYLES, make_style_world
from vl_absvit.prepare.domain_lists import find_lists, read_domains


def track(items, total, description):
    return items


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("styles") / "world"
    assert make_style_world(folder, seed=3, pictures=90, workers=1, track=track)
    return folder


def fingerprint(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pixels(world, style):
    """Every picture of a style, (I, 32, 32, 3)."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted((world / "kfold" / style).rglob("*.png"))])


def test_the_number_of_processes_and_a_second_run_change_nothing(world, tmp_path):
    make_style_world(tmp_path / "again", seed=3, pictures=90, workers=2, track=track)
    assert fingerprint(tmp_path / "again") == fingerprint(world)
    assert make_style_world(world, seed=3, pictures=90, workers=1, track=track) is False


def test_the_lists_are_those_of_pacs_and_hold_out_a_tenth(world):
    lists = read_domains(find_lists(world))
    assert list(lists.domains) == sorted(STYLES) and lists.classes == sorted(SHAPES)
    assert not lists.mislabelled and not lists.repeated
    for domain in lists.domains.values():
        assert tuple(map(len, domain)) == (81, 9, 90)
    files = {str(path.relative_to(world / "kfold")) for path in world.rglob("*.png")}
    assert files == {one.path for one in lists.pictures}


def test_classes_are_alike_in_number_and_no_two_styles_draw_the_same_objects(world):
    for style in STYLES:
        counts = [len(list((world / "kfold" / style / shape).iterdir())) for shape in SHAPES]
        assert counts == [15] * 6
    photo, cartoon = (
        {path.name for path in (world / "kfold" / style / "ring").iterdir()} for style in ("photo", "cartoon")
    )
    assert photo != cartoon


def test_styles_look_as_they_are_called(world):
    found = {style: pixels(world, style).astype(float) for style in STYLES}
    assert (np.ptp(found["sketch"], axis=-1) == 0).all(), "a sketch has no colours"
    assert np.median(found["sketch"]) == 250 and (found["sketch"] < 100).any(axis=(1, 2, 3)).all()
    assert np.ptp(found["cartoon"], axis=-1).max() > 150
    corner = {
        style: images[:, :3, :3].reshape(len(images), -1, 3).std(axis=1).mean() for style, images in found.items()
    }
    assert corner["cartoon"] < 1 and corner["sketch"] < 1, "their ground is flat"
    assert corner["photo"] > 3
    assert found["photo"][:, 0, 0].mean() < found["painting"][:, 0, 0].mean() - 30, "a photo's ground is darker"


def test_a_shape_is_the_same_in_every_style(world):
    """What a picture has in its middle tells crosses from rings in all of them."""
    for style in STYLES:
        ring, cross = (
            np.stack(
                [np.asarray(Image.open(path), dtype=float) for path in (world / "kfold" / style / shape).iterdir()]
            )
            for shape in ("ring", "cross")
        )
        corners, middle = ring[:, :2, :2].mean(axis=(1, 2)), ring[:, 15:17, 15:17].mean(axis=(1, 2))
        assert np.median(np.abs(corners - middle).max(axis=-1)) < 45, f"through a ring one sees the ground: {style}"
        if style != "sketch":
            corners, middle = cross[:, :2, :2].mean(axis=(1, 2)), cross[:, 15:17, 15:17].mean(axis=(1, 2))
            assert np.median(np.abs(corners - middle).max(axis=-1)) > 45
