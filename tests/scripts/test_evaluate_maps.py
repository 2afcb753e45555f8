"""``evaluate-maps``: scores of an export by its own checkpoint, and one line for another's."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.run_script import run_script
from tests.tiny_vqa import tiny_pretrain_config, tiny_vision
from vl_absvit.looking.explanation import PICTURE_MAPS
from vl_absvit.looking.export_reader import read_exported, read_index
from vl_absvit.looking.map_worth import curves_of
from vl_absvit.looking.own_samples import OwnPictures
from vl_absvit.looking.own_texts import Request
from vl_absvit.looking.viewer import make_viewer
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.classifier_checkpoint import load_classifier

SCRIPT = "scripts/evaluate_maps.py"


@pytest.fixture(scope="module")
def exported(world, tmp_path_factory):
    """A classifier, and the export of three pictures by it."""
    folder = tmp_path_factory.mktemp("worth")
    task = ClassificationTask(tiny_pretrain_config(world, folder, vision=tiny_vision(gain=1.0, mask="cosine")))
    torch.manual_seed(0)
    for parameter in task.model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    for name in ("checkpoint", "other"):
        (folder / name).mkdir()
        task.save(folder / name)
        torch.nn.init.normal_(task.model.vision.head.weight)
    (folder / "pictures").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(256, size=(32, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
    words = ["--checkpoint", folder / "checkpoint", "--pictures", folder / "pictures", "--output", folder / "maps"]
    assert run_script("scripts/export_attention.py", *map(str, words), "--no-overlays", "--num-workers", "0") == 0
    return folder


def test_scores_are_those_of_the_exported_maps(exported, tmp_path, capsys):
    words = ["--checkpoint", exported / "checkpoint", "--maps", exported / "maps", "--output", tmp_path / "w.json"]
    assert run_script(SCRIPT, *map(str, words), "--randomised", "2") == 0
    scores = json.loads((tmp_path / "w.json").read_text())
    assert list(scores["rows"]) == [*PICTURE_MAPS, "centre", "random"] and scores["map"] == "prior_mask"
    checkpoint = load_classifier(exported / "checkpoint")
    checkpoint.model.vision.fold()
    deletion = []
    for number, entry in enumerate(read_index(exported / "maps")):
        record = read_exported(exported / "maps", entry)
        pictures = OwnPictures([Request("1", record.image, "1", "1")], checkpoint.transform)
        batch = pictures.collate(pictures.__getitems__([0]))
        curves = curves_of(make_viewer(checkpoint, []), batch, record.maps, number, step=1, batch_size=64)
        deletion.append(curves["rollout"].deletion)
    np.testing.assert_allclose(scores["rows"]["rollout"]["deletion_curve"], np.mean(deletion, axis=0), rtol=1e-4)
    assert scores["parts"] == ["head", "block 1", "block 0", "rest"]
    kept = scores["rows"]["bottom_up"]["randomised"]["head"]
    assert kept["mean"] == pytest.approx(1) and kept["number"] == 2  # the head comes after the tokens
    assert scores["counts"] == {"judged": 3, "exported": 3, "judged_with_shuffled_weights": 2}
    assert (tmp_path / "w.png").read_bytes().startswith(b"\x89PNG") and "3 judged" in capsys.readouterr().out


def test_some_maps_of_some_pictures_without_shuffled_weights(exported, tmp_path):
    words = ["--checkpoint", exported / "checkpoint", "--maps", exported / "maps", "--output", tmp_path / "w.json"]
    more = ["--limit", "1", "--map", "bottom_up", "--step", "3", "--randomised", "0", "--precision", "bf16"]
    assert run_script(SCRIPT, *map(str, words), *more) == 0
    scores = json.loads((tmp_path / "w.json").read_text())
    assert list(scores["rows"]) == ["bottom_up", "centre", "random"] and scores["parts"] == []
    assert scores["rows"]["bottom_up"]["shares"] == [0, 0.75, 1] and "randomised" not in scores["rows"]["bottom_up"]
    assert (scores["counts"]["judged"], scores["counts"]["exported"]) == (1, 3)


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        (1, {"--checkpoint": "other"}, "was exported by another checkpoint than"),
        (1, {"--maps": "pictures"}, "pictures/export.json: no such file"),
        (2, {"--step": "0"}, "--step must be at least 1"),
        (2, {"--randomised": "-1"}, "--randomised must be at least 0"),
        (1, {"--map": "cross"}, "expected the maps cross, got prior_mask"),
    ],
)
def test_what_cannot_be_judged_is_one_line(exported, tmp_path, complaint, code, options, message):
    usual = {"--checkpoint": "checkpoint", "--maps": "maps"} | options
    folders = ("--checkpoint", "--maps")
    words = [word for name, value in usual.items() for word in (name, exported / value if name in folders else value)]
    assert message in complaint(code, SCRIPT, *words, "--output", tmp_path / "w.json")
    assert not (tmp_path / "w.json").exists()
