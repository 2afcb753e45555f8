"""The classification task: both looks' loss, top-1 by hand, and weights that start a VQA run."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from tests.damage import copied, cut_short, emptied, removed, replaced
from tests.tiny_vqa import tiny_pretrain_config, tiny_vision, tiny_vqa_config
from vl_absvit.errors import InputError
from vl_absvit.models.heads import ClassifierOutput
from vl_absvit.tasks.base import epoch_batches
from vl_absvit.tasks.classification import ClassificationTask, classification_loss, load_classifier
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.training.optim import param_groups
from vl_absvit.variants import VARIANTS


def first_batch(task):
    return next(iter(epoch_batches(task.config, task.train_set, 0, 0, 0, 1)))


def changed(**entries):
    """A damage that changes entries of ``config.json``."""

    def damage(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return damage


def test_the_loss_is_the_mean_of_both_looks():
    labels = torch.eye(2)[[0, 1]]
    first, second = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    both = classification_loss(ClassifierOutput(first, second, None), labels)
    torch.testing.assert_close(both, (F.cross_entropy(first, labels) + F.cross_entropy(second, labels)) / 2)
    one = classification_loss(ClassifierOutput(first, None, None), labels)
    torch.testing.assert_close(one, F.cross_entropy(first, labels))


@pytest.mark.parametrize("top_down", VARIANTS)
@pytest.mark.parametrize("pooling", ["token", "avg"])
def test_every_parameter_has_a_rate_and_a_gradient(world, tmp_path, top_down, pooling):
    vision = tiny_vision(gain=1.0, top_down=top_down)
    task = ClassificationTask(tiny_pretrain_config(world, tmp_path, vision=vision, pooling=pooling))
    param_groups(task.model, task.lr_of(), 0.01)
    losses = task.losses(task.model, first_batch(task))
    assert list(losses) == ["classification", *["reconstruction"] * VARIANTS[top_down].feeds_back]
    sum(losses.values()).backward()
    assert [name for name, p in task.model.named_parameters() if p.grad is None] == []


def test_top1_counts_every_image_of_the_selection_split_once(world, tmp_path):
    task = ClassificationTask(tiny_pretrain_config(world, tmp_path))

    class AlwaysTheFirstClass(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, images):
            logits = torch.zeros(len(images), len(task.train_set.classes))
            logits[:, 0] = 1
            return SimpleNamespace(first_logits=-logits, second_logits=logits)

    labels = [label for _, label in task.select_set.files]
    assert task.evaluate(AlwaysTheFirstClass()) == {"top1": pytest.approx(100 * labels.count(0) / len(labels))}


def test_the_saved_encoder_starts_a_vqa_run(world, tmp_path):
    task = ClassificationTask(tiny_pretrain_config(world, tmp_path))
    task.save(tmp_path)
    vqa = VQATask(tiny_vqa_config(world, tmp_path, vision=tiny_vision(weights=str(tmp_path))))
    expected = task.model.vision.state_dict()
    for name, value in vqa.model.vision.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert json.loads((tmp_path / "config.json").read_text())["classes"] == task.train_set.classes


@pytest.mark.parametrize("pooling", ["token", "avg"])
@pytest.mark.parametrize("top_down", ["absvit", "none"])
def test_a_loaded_classifier_is_the_saved_one(world, tmp_path, pooling, top_down):
    vision = tiny_vision(gain=1.0, top_down=top_down, image_statistics="clip", drop_path=0.1)
    task = ClassificationTask(tiny_pretrain_config(world, tmp_path, vision=vision, pooling=pooling))
    task.save(tmp_path)
    checkpoint = load_classifier(tmp_path)
    assert checkpoint.classes == task.train_set.classes
    with Image.open(task.select_set.files[0][0]) as picture:
        image = checkpoint.transform(picture)
    assert torch.equal(image, task.select_set[0].image)
    for expected, found in zip(task.model.eval()(image[None]), checkpoint.model(image[None]), strict=True):
        assert expected is found is None or torch.equal(expected, found)


@pytest.mark.parametrize(
    "damage, message",
    [
        (removed("config.json"), "config.json: no such file"),
        (replaced("config.json", "{}"), "config.json: expected a pretrained classifier of format 1"),
        (changed(classes=[]), "config.json: expected a pretrained classifier"),
        (changed(classes=[1]), "config.json: expected a pretrained classifier"),
        (changed(pooling="max"), "config.json: expected a pretrained classifier"),
        (changed(format=2), "config.json: expected a pretrained classifier"),
        (changed(classes=["red", "blue"]), "model.safetensors: does not fit .* size mismatch for vision.head"),
        (changed(vision=None), "config.json: not the vision of a classifier"),
        (changed(vision={"wings": 2}), "config.json: not the vision of a classifier: .*wings"),
        (changed(vision={"model": "vit"}), "config.json: not the vision of a classifier: vision.model: 'vit'"),
        (removed("model.safetensors"), "model.safetensors: does not fit .*No such file"),
        (emptied("model.safetensors"), "model.safetensors: does not fit"),
        (cut_short("model.safetensors"), "model.safetensors: does not fit"),
        (copied("config.json", "model.safetensors"), "model.safetensors: does not fit"),
        (removed("preprocessor_config.json"), "preprocessor_config.json: no such file"),
        (replaced("preprocessor_config.json", "{}"), "preprocessor_config.json: expected {'image_size': 32.* got {}"),
    ],
)
def test_a_damaged_classifier_is_one_line(world, tmp_path, damage, message):
    ClassificationTask(tiny_pretrain_config(world, tmp_path)).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path}/{message}"):
        load_classifier(tmp_path)


def test_other_classes_are_refused(world, tmp_path):
    task = ClassificationTask(tiny_pretrain_config(world, tmp_path))
    task.save(tmp_path)
    task.check_saved(tmp_path)
    task.train_set.classes = task.train_set.classes[1:]
    with pytest.raises(InputError, match="other classes"):
        task.check_saved(tmp_path)


def test_a_split_that_is_not_there_is_one_line(world, tmp_path):
    config = tiny_pretrain_config(world, tmp_path)
    with pytest.raises(InputError, match="minival: no such folder"):
        ClassificationTask(replace(config, data=replace(config.data, select_split="minival")))


def test_a_mosaic_is_learned_with_the_mean_of_its_labels(world, tmp_path):
    task = ClassificationTask(replace(tiny_pretrain_config(world, tmp_path), mosaic=2))
    batch = first_batch(task)
    assert batch.labels.shape[1] == 4 and batch.images.shape[-1] == task.config.vision.image_size
    task.model.eval()
    logits = task.model(batch.images)
    targets = torch.zeros_like(logits.first_logits)
    for row, cells in enumerate(batch.labels.tolist()):
        for label in cells:
            targets[row, label] += 0.25
    expected = classification_loss(logits, targets)
    torch.testing.assert_close(task.losses(task.model, batch)["classification"], expected)
    assert 0 <= task.evaluate(task.model)["top1"] <= 100
