"""The classification task: both looks' loss, top-1 by hand, and weights that start a VQA run."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.tiny_vqa import tiny_pretrain_config, tiny_vision, tiny_vqa_config
from vl_absvit.errors import InputError
from vl_absvit.models.heads import ClassifierOutput
from vl_absvit.tasks.base import epoch_batches
from vl_absvit.tasks.classification import ClassificationTask, classification_loss
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.training.optim import param_groups


def first_batch(task):
    return next(iter(epoch_batches(task.config, task.train_set, 0, 0, 0, 1)))


def test_the_loss_is_the_mean_of_both_looks():
    labels = torch.eye(2)[[0, 1]]
    first, second = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    both = classification_loss(ClassifierOutput(first, second, None), labels)
    torch.testing.assert_close(both, (F.cross_entropy(first, labels) + F.cross_entropy(second, labels)) / 2)
    one = classification_loss(ClassifierOutput(first, None, None), labels)
    torch.testing.assert_close(one, F.cross_entropy(first, labels))


@pytest.mark.parametrize(
    "top_down, terms", [("absvit", ["classification", "reconstruction"]), ("none", ["classification"])]
)
@pytest.mark.parametrize("pooling", ["token", "avg"])
def test_every_parameter_has_a_rate_and_a_gradient(world, tmp_path, top_down, terms, pooling):
    vision = tiny_vision(gain=1.0, top_down=top_down)
    task = ClassificationTask(tiny_pretrain_config(world, tmp_path, vision=vision, pooling=pooling))
    param_groups(task.model, task.lr_of(), 0.01)
    losses = task.losses(task.model, first_batch(task))
    assert list(losses) == terms
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
