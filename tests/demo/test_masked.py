"""The demo's masks lie on the objects of their pictures, and the world is made once."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.run_script import run_script
from vl_absvit.data.fixations import read_looked_at
from vl_absvit.demo.masked import make_masked_world, mask_of
from vl_absvit.demo.scene import PLAIN, SHAPES, draw, generator, sample_scene
from vl_absvit.errors import InputError
from vl_absvit.prepare.fixations import FixationOptions, prepare_fixations


def make(folder, pictures=6):
    return make_masked_world(
        folder, seed=0, pictures=pictures, workers=1, track=lambda items, total, about: iter(items)
    )


def test_every_picture_has_a_mask_of_its_name_and_size(tmp_path):
    assert make(tmp_path / "world") and not make(tmp_path / "world")
    counts = json.loads((tmp_path / "world/demo.json").read_text())["counts"]
    assert counts == {"train/images": 3, "val/images": 3}
    assert (tmp_path / "world/classes.txt").read_text().split() == ["ground", *SHAPES]
    for split in ("train", "val"):
        folders = [tmp_path / "world" / part / split for part in ("pictures", "masks")]
        names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
        assert names[0] == names[1] and len(names[0]) == 3
        for name in names[0]:
            mask = Image.open(tmp_path / "world/masks" / split / name)
            assert mask.mode == "L" and mask.size == (96, 96) and np.asarray(mask).any()
    with pytest.raises(InputError, match="holds a demo world made with"):
        make(tmp_path / "world", pictures=8)


def test_a_mask_is_where_the_objects_change_the_picture():
    rng = generator(0, "masked_val", 0)
    things = sample_scene(rng, "val")
    state = rng.bit_generator.state
    with_things = np.asarray(draw(things, PLAIN, rng), dtype=int)
    rng.bit_generator.state = state
    without = np.asarray(draw((), PLAIN, rng), dtype=int)
    changed = np.abs(with_things - without).max(axis=2)
    mask = mask_of(things)
    assert not mask[changed == 0].any()  # nothing outside of what was painted
    assert (mask[changed > 120] > 0).mean() > 0.97  # nearly all of what was painted strongly
    assert set(np.unique(mask)) - {0} == {1 + SHAPES.index(thing.shape) for thing in things}


def test_observers_look_at_the_middle_and_then_at_objects(tmp_path):
    make(tmp_path / "world")
    prepared = FixationOptions(fixations=tmp_path / "world/fixations.csv", images=tmp_path / "world/pictures")
    counts = prepare_fixations(prepared, tmp_path / "prepared", workers=1)["splits"]["fixations"]
    assert (counts["images"], counts["observers"], counts["outside"]) == (6, 5, 0)
    on_object = []
    for picture in read_looked_at(tmp_path / "prepared"):
        mask = np.asarray(Image.open(tmp_path / "world/masks" / picture.file))
        first = picture.places[picture.numbers == 0]
        assert len(first) == 5 and np.abs(first - 48).max() < 25
        columns, rows = np.floor(picture.without_first().places).astype(int).T
        on_object += (mask[rows, columns] > 0).tolist()
    assert np.mean(on_object) > 0.8


def test_too_few_are_refused(capsys):
    assert run_script("data_prep/make_demo.py", "--output", "nowhere", "--masks", "1") == 2
    assert "expected --masks >= 2, got 1" in capsys.readouterr().err
