"""``scripts/draw_steps.py``: one page and its arrays from one command, and one line for whatever is wrong."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.run_script import run_script
from tests.tiny_vqa import tiny_pretrain_config, tiny_vision
from vl_absvit.config import VisionConfig
from vl_absvit.looking.pages import Stepwise, steps_page
from vl_absvit.looking.step_maps import step_maps
from vl_absvit.tasks.classification import ClassificationTask

SCRIPT = "scripts/draw_steps.py"
VISION = dict(image_size=48, width=16, depth=2, num_heads=2, gain=1.0)


@pytest.fixture(scope="module")
def checkpoints(world, tmp_path_factory):
    """Folders of untrained classifiers by name."""
    base = tmp_path_factory.mktemp("classifiers")
    visions = {
        "vars": VisionConfig(model="absvit_deit_star_tiny", attention="vars_d", vars_generation="ista", **VISION),
        "filters": VisionConfig(model="absvit_gfnet_tiny", top_down="none", **VISION),
        "vit": tiny_vision(top_down="none"),
        "long": VisionConfig(model="absvit_deit_star_tiny", attention="vars_d", vars_steps=20, **VISION),
    }
    for name, vision in visions.items():
        (base / name).mkdir()
        pooling = "token" if name == "vit" else "avg"
        ClassificationTask(tiny_pretrain_config(world, base, vision=vision, pooling=pooling)).save(base / name)
    return base


@pytest.fixture
def words(world, checkpoints, tmp_path):
    """The words of a command, with some options changed."""

    def made(**options):
        usual = {"checkpoint": [checkpoints / "vars"], "output": [tmp_path / "new/steps.png"]}
        usual |= {"images": [world / f"demo/pairs/000{number}.png" for number in range(2)]} | options
        return [word for key, values in usual.items() for word in (f"--{key}", *values)]

    return made


def test_the_page_and_the_arrays_show_the_maps_of_the_steps(words, checkpoints, world, tmp_path):
    assert run_script(SCRIPT, *words(steps=[3, 1, 7], block=[0])) == 0
    checkpoint = ClassificationTask.load(checkpoints / "vars")
    files = [world / f"demo/pairs/000{number}.png" for number in range(2)]
    pictures = [Image.open(file).convert("RGB") for file in files]
    with torch.no_grad():
        images = torch.stack([checkpoint.transform(picture) for picture in pictures])
        labels = checkpoint.model(images).last_logits.argmax(dim=1).tolist()
        looks = checkpoint.model.vision.look_twice(images)
    expected = step_maps(checkpoint.model.vision, looks, 0, [1, 3, 7])
    with np.load(tmp_path / "new/steps.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["boxes", "energies", "maps", "steps"] and arrays["steps"].tolist() == [1, 3, 7]
        np.testing.assert_allclose(arrays["maps"], expected.maps.transpose(0, 1), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(arrays["energies"], expected.energies.T, rtol=1e-4)
        rows = [
            Stepwise(
                picture, tuple(box.tolist()), {f"step {step}": of for step, of in zip((1, 3, 7), maps, strict=True)},
                f"{file.name}: {checkpoint.classes[label]}",
            )
            for picture, box, maps, file, label in zip(
                pictures, arrays["boxes"], arrays["maps"], files, labels, strict=True
            )
        ]  # fmt: skip
    note = (
        "Weight of each token's value in the mean output; block 0 of 2, vars_d, the second look, steered by the "
        "trainable query. Above: what the model says."
    )
    with Image.open(tmp_path / "new/steps.png") as page:
        assert np.array_equal(np.asarray(page), np.asarray(steps_page(rows, note=note)))


def test_a_vit_has_one_map_and_no_energy(words, checkpoints, tmp_path):
    assert run_script(SCRIPT, *words(checkpoint=[checkpoints / "vit"])) == 0
    with np.load(tmp_path / "new/steps.npz") as arrays:
        assert sorted(arrays) == ["boxes", "maps", "steps"] and arrays["maps"].shape[:2] == (2, 1)
        assert (arrays["maps"] > 0).all() and (arrays["maps"].sum(axis=(2, 3)) < 1).all(), "the rest is on CLS"


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(steps=[-1]), "--steps: expected at most 12 of 0 to 1000, got -1"),
        (dict(steps=list(range(13))), "--steps: expected at most 12 of 0 to 1000, got 0, 1, 2"),
        (dict(output=["steps.jpg"]), "--output: expected a name that ends in .png, got steps.jpg"),
        (dict(images=["a.png"] * 33), "--images: expected at most 32, got 33"),
        (dict(block=[5]), "there is no block 5: the vision encoder has 2, from -2 to 1"),
        (dict(checkpoint=["filters"]), "block 1 is a global filter, which mixes"),
        (dict(checkpoint=["vit"], steps=[1]), "attends in one step, by softmax; other steps are about VARS"),
        (dict(checkpoint=["long"]), "the model takes 20 steps; name at most 12 by --steps"),
    ],
)
def test_a_wrong_command_is_one_line(words, complaint, checkpoints, tmp_path, options, message):
    if "checkpoint" in options:
        options = options | {"checkpoint": [checkpoints / options["checkpoint"][0]]}
    assert message in complaint(2, SCRIPT, *words(**options))
    assert not list(tmp_path.rglob("*.png"))


def test_a_picture_that_is_none_is_one_line(words, complaint, tmp_path):
    (tmp_path / "a.png").write_text("not a picture")
    assert f"{tmp_path / 'a.png'}: not an image" in complaint(1, SCRIPT, *words(images=[tmp_path / "a.png"]))
