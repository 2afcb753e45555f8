"""Pages of classified pixels, and priors of classes: shares by hand, a prior that singles out its class."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.run_script import run_script
from tests.tiny_segmentation import pixels, tiny_segmentation_config  # noqa: F401
from tests.tiny_vqa import tiny_vision
from vl_absvit.looking.class_prior import class_priors, shares_of_patches
from vl_absvit.looking.segmentation_pages import (
    RIGHT,
    WRONG,
    Steered,
    alone,
    laid_over,
    mistakes,
    page,
)
from vl_absvit.models.top_down import relevance
from vl_absvit.tasks.segmentation import SegmentationTask

BLACK = Image.new("RGB", (3, 2))
COLOURS = [(0, 0, 0), (200, 100, 0)]


def test_colours_lie_over_classes_and_not_over_void():
    shown = np.asarray(laid_over(BLACK, np.array([[0, 1, 255], [1, 1, 1]], np.uint8), COLOURS))
    assert shown[0].tolist() == [[0, 0, 0], [120, 60, 0], [0, 0, 0]]


def test_mistakes_are_told_from_what_is_right_and_from_void():
    shown = np.asarray(mistakes(BLACK, np.array([[0, 1, 1]] * 2), np.array([[0, 0, 255]] * 2)))
    assert shown[0, 0].tolist() == [round(0.6 * channel) for channel in RIGHT]
    assert shown[0, 1].tolist() == [round(0.6 * channel) for channel in WRONG]
    assert len({tuple(colour) for colour in shown[0].tolist()}) == 3


def test_only_chosen_pixels_keep_their_colours():
    picture = Image.new("RGB", (2, 1), (200, 0, 0))
    shown = np.asarray(alone(picture, np.array([[True, False]])))
    assert shown[0, 0].tolist() == [200, 0, 0] and len(set(shown[0, 1].tolist())) == 1


def test_a_page_has_a_row_for_each_class_that_was_asked_for():
    label = np.array([[0, 1, 255], [1, 1, 0]], np.uint8)
    steered = Steered("red", np.eye(2, 3), label == 1, label == 0)
    plain, asked = (page(BLACK, label % 2, label, ["ground", "red"], COLOURS, rows, "x") for rows in ([], [steered]))
    assert asked.height > 1.5 * plain.height


def test_shares_of_patches_by_hand():
    label = np.array([[1, 1, 0], [1, 0, 0], [255, 2, 2]], np.uint8)
    found = shares_of_patches(label, (2, 2), 2)
    assert set(found) == {0, 1, 2}
    assert found[1].tolist() == [[0.75, 0], [0, 0]] and found[0].tolist() == [[0.25, 0.5], [0, 0]]
    assert found[2].tolist() == [[0, 0], [0.25, 0.25]]


def test_a_prior_of_a_class_opens_the_mask_on_it(pixels, tmp_path):  # noqa: F811
    vision = tiny_vision(gain=1.0, patch_size=8)
    model = SegmentationTask(tiny_segmentation_config(pixels, tmp_path, vision=vision)).model.eval()
    image, label = torch.zeros(1, 3, 32, 32), np.zeros((32, 32), np.uint8)
    image[..., 16:], label[:, 16:] = 2.0, 1
    found = class_priors(model, [(image, label)])
    assert found.patches == [8, 8, 0] and not found.vectors[2].any()
    with torch.no_grad():
        tokens = model.vision.look_once(image).tokens[:, 1:]
        mask = relevance(tokens, found.vectors[[1]])[0].view(4, 4)
    assert mask[:, 2:].mean() > mask[:, :2].mean() + 0.1


def test_tokens_count_for_a_class_by_its_share_of_the_encoder_s_patches(pixels, tmp_path):  # noqa: F811
    model = SegmentationTask(tiny_segmentation_config(pixels, tmp_path, vision=tiny_vision(patch_size=8))).model.eval()
    label = np.zeros((9, 9), np.uint8)
    label[:8, :8] = 1  # the first of 2 x 2 patches, the others are a row and a column of a pixel
    found = class_priors(model, [(torch.zeros(1, 3, 9, 9), label)])
    assert found.patches == [17 / 64, 1, 0]
    tokens = model.vision.look_once(torch.zeros(1, 3, 9, 9)).tokens[0, 1:].detach()
    weights = torch.tensor([0, 8, 8, 1]) / 17
    torch.testing.assert_close(found.vectors[0], weights @ tokens - tokens.mean(dim=0))


@pytest.mark.slow
def test_the_program_draws_pages_and_says_how_classes_fare(pixels, tmp_path, monkeypatch, capfd):  # noqa: F811
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    task = SegmentationTask(tiny_segmentation_config(pixels, tmp_path))
    (tmp_path / "model").mkdir()
    task.save(tmp_path / "model")
    options = ("--checkpoint", tmp_path / "model", "--data", pixels, "--device", "cpu", "--pictures", "3")
    asked = ("--ask", "red", "--ask", "blue")
    assert run_script("scripts/draw_segmentation.py", *options, *asked, "--output", tmp_path / "pages") == 0
    drawn = json.loads((tmp_path / "pages/drawing.json").read_text())
    assert len(drawn["pictures"]) == 3 and set(drawn["pictures"][0]["asked"]) == {"red", "blue"}
    assert 0 <= drawn["pictures"][0]["asked"]["red"]["mask_on_the_class"] <= 1
    assert Image.open(tmp_path / "pages/val_0.png").width > 600
    assert run_script("scripts/draw_segmentation.py", *options, "--ask", "green", "--output", tmp_path / "no") == 2
    assert "--ask 'green': expected a class of the checkpoint" in capfd.readouterr().err
    assert not (tmp_path / "no").exists()
    plain = replace(task.config, vision=replace(task.config.vision, top_down="none"))
    SegmentationTask(plain).save(tmp_path / "model")
    assert run_script("scripts/draw_segmentation.py", *options, "--ask", "red", "--output", tmp_path / "other") == 2
    assert "uses no prior" in capfd.readouterr().err
