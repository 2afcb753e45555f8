"""Curves of real models equal those drawn picture by picture; shuffled weights are all weights, once each."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny_vqa import tiny_retrieval_config, tiny_vision, tiny_vqa_config
from vl_absvit.data.transforms import image_transform
from vl_absvit.looking.map_worth import Curves, curves_of, randomised_maps, summarise
from vl_absvit.looking.own_samples import OwnPictures, OwnTexts
from vl_absvit.looking.own_texts import Request
from vl_absvit.looking.randomised import parts_of, randomise
from vl_absvit.looking.viewer import make_viewer
from vl_absvit.models.architecture import build_random_classifier
from vl_absvit.tasks.classifier_checkpoint import ClassifierCheckpoint
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vl_checkpoint import load_parts
from vl_absvit.tasks.vqa import VQATask, load_checkpoint

MAPS = {"one": np.array([[0.1, 0.4], [0.3, 0.2]]), "level": np.zeros((2, 2))}


def lively(model):
    torch.manual_seed(0)
    for parameter in model.eval().parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(32, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    return Request("p", tmp_path / "p.png", "What is the red thing?", "p")


@pytest.fixture
def classifier():
    model = lively(build_random_classifier(tiny_vision(gain=1.0), 5, pooling="token", norm_follows=False))
    return ClassifierCheckpoint(model, image_transform(32, (0.5,) * 3, (0.5,) * 3), list("abcde"))


def by_hand(batch, confidence):
    """Both curves of ``MAPS["one"]``, whose cells come in the order 1, 2, 3, 0, picture by picture."""
    image = batch.images[0]
    blurred = torch.nn.functional.conv2d(
        torch.nn.functional.pad(image[None], (5, 5, 5, 5), mode="reflect"), gaussian(), groups=3
    )[0]
    curves = {"deletion": [], "insertion": []}
    for name, before, after in (("deletion", image, torch.zeros_like(image)), ("insertion", blurred, image)):
        now = before.clone()
        curves[name].append(confidence(now))
        for row, column in ((0, 1), (1, 0), (1, 1), (0, 0)):
            part = slice(16 * row, 16 * row + 16), slice(16 * column, 16 * column + 16)
            now[:, *part] = after[:, *part]
            curves[name].append(confidence(now))
    return curves


def gaussian():
    bell = torch.exp(-(torch.arange(-5.0, 6) ** 2) / 50)
    kernel = torch.outer(bell, bell)
    return (kernel / kernel.sum()).expand(3, 1, 11, 11)


@torch.no_grad()
def test_curves_of_a_classifier_are_the_probability_of_its_class(classifier, picture):
    pictures = OwnPictures([picture], classifier.transform)
    batch = pictures.collate(pictures.__getitems__([0]))
    label = classifier.model(batch.images).last_logits.argmax()
    expected = by_hand(batch, lambda image: float(classifier.model(image[None]).last_logits.softmax(1)[0, label]))
    found = curves_of(make_viewer(classifier, []), batch, MAPS, 0, step=1, batch_size=2)
    assert list(found) == ["one", "level", "centre", "random"]
    np.testing.assert_allclose(found["one"].deletion, expected["deletion"], rtol=1e-4)
    np.testing.assert_allclose(found["one"].insertion, expected["insertion"], rtol=1e-4)
    for curves in found.values():  # all begin and end with the same pictures
        assert curves.deletion[0] == pytest.approx(curves.insertion[-1], rel=1e-4)
        assert curves.deletion[-1] == pytest.approx(found["one"].deletion[-1], rel=1e-4)
    again = curves_of(make_viewer(classifier, []), batch, MAPS, 1, step=2, batch_size=9)
    np.testing.assert_allclose(again["one"].deletion, found["one"].deletion[[0, 2, 4]], rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("head", ["vqa", "matching"])
def test_curves_of_a_model_that_reads_are_those_of_its_answer_or_match(world, tmp_path, picture, head):
    task = VQATask(tiny_vqa_config(world, tmp_path)) if head == "vqa" else None
    task = task or RetrievalTask(tiny_retrieval_config(world, tmp_path))
    lively(task.model)
    (tmp_path / "saved").mkdir()
    task.save(tmp_path / "saved")
    checkpoint = load_checkpoint(tmp_path / "saved") if head == "vqa" else load_parts(tmp_path / "saved")
    model, preparation = checkpoint.model, checkpoint.preprocessing
    own = OwnTexts([picture], checkpoint.tokenizer, preparation.max_tokens, preparation.transform())
    batch = own.collate(own.__getitems__([0]))

    def logits(image):
        return model(image[None], batch.token_ids, batch.is_token, batch.image_index).logits

    if head == "vqa":
        label = logits(batch.images[0])[0].argmax()
        expected = by_hand(batch, lambda image: float(logits(image)[0, label].sigmoid()))
    else:
        expected = by_hand(batch, lambda image: float(logits(image).itm.softmax(1)[0, 1]))
    found = curves_of(make_viewer(checkpoint, []), batch, MAPS, 0, step=1, batch_size=64)["one"]
    np.testing.assert_allclose(found.deletion, expected["deletion"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.insertion, expected["insertion"], rtol=1e-4, atol=1e-6)


def test_every_weight_loses_its_order_once_and_from_the_output_down(classifier):
    model = classifier.model
    parts = parts_of(model)
    assert list(parts) == ["head", "block 1", "block 0", "rest"]
    together = [id(weight) for weights in parts.values() for weight in weights]
    assert sorted(together) == sorted(id(weight) for weight in model.parameters())
    of_last = {id(weight) for weight in parts["block 1"]}
    names = [name for name, weight in model.named_parameters() if id(weight) in of_last]
    assert {name.split(".")[1] for name in names} == {"blocks", "decoders"}
    before = copy.deepcopy(model.state_dict())
    done = []
    for part in randomise(model):
        done.append(part)
        of_done = {id(weight) for name in done for weight in parts[name]}
        for name, weight in model.named_parameters():
            if weight.numel() > 8:
                assert torch.equal(weight, before[name]) != (id(weight) in of_done), (part, name)
            assert torch.equal(weight.flatten().sort().values, before[name].flatten().sort().values)
    again = build_random_classifier(tiny_vision(gain=1.0), 5, pooling="token", norm_follows=False)
    again.load_state_dict(before)
    list(randomise(again.eval()))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_maps_of_shuffled_weights_are_compared_with_the_trained_ones(classifier, picture):
    pictures = OwnPictures([picture], classifier.transform)
    batch = pictures.collate(pictures.__getitems__([0]))
    viewer = make_viewer(classifier, ["prior_mask", "bottom_up", "grad_cam"])
    kept = dict(randomised_maps(viewer, [batch, batch]))
    assert list(kept) == ["head", "block 1", "block 0", "rest"]
    assert kept["head"]["bottom_up"] == pytest.approx([1, 1])  # the head comes after the tokens
    assert kept["rest"]["bottom_up"][0] == kept["rest"]["bottom_up"][1] < 0.999


def test_means_of_curves_are_over_texts_or_pictures():
    one = {"map": Curves(np.array([1.0, 0.0]), np.array([0.0, 1.0]))}
    two = {"map": Curves(np.array([1.0, 1.0]), np.array([0.5, 1.0]))}
    scores = summarise([one, two], {"map": [0, 4]}, {"head": {"map": [1.0, np.nan]}}, "map")
    row = scores["rows"]["map"]
    assert row["deletion"]["mean"] == scores["deletion"] == pytest.approx(0.75) and row["deletion"]["number"] == 2
    assert row["insertion_curve"] == [0.25, 1] and row["shares"] == [0, 1]
    assert row["randomised"]["head"]["mean"] == 1 and row["randomised"]["head"]["number"] == 1
