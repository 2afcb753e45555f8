"""The classification task: both looks' loss, top-1 by hand, and weights that start a VQA run."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from tests.damage import copied, cut_short, emptied, removed, replaced
from tests.run_script import run_script
from tests.tiny_vqa import tiny_pretrain_config, tiny_vision, tiny_vqa_config, write_config
from vl_absvit.config import AugmentationConfig
from vl_absvit.data.transforms import image_transform
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.models.architecture import image_statistics
from vl_absvit.models.heads import ClassifierOutput
from vl_absvit.tasks.base import epoch_batches
from vl_absvit.tasks.classification import ClassificationTask, classification_loss
from vl_absvit.tasks.classifier_checkpoint import load_classifier
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.training.optim import lr_factor, param_groups
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
            return ClassifierOutput(-logits, logits, reconstruction=None)

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


def mosaic_config(world, output):
    return replace(tiny_pretrain_config(world, output), mosaic=2, pooling="avg")


def test_every_cell_of_a_mosaic_is_classified_by_its_own_patches(world, tmp_path):
    task = ClassificationTask(mosaic_config(world, tmp_path))
    batch = first_batch(task)
    assert batch.labels.shape[1] == 4 and batch.images.shape[-1] == task.config.vision.image_size
    task.model.eval()
    vision, losses = task.model.vision, []
    looks = vision.look_twice(batch.images)
    side = vision.patch_embed.grid_size[0]
    for tokens in (looks.first.tokens, looks.second.tokens):
        for row, labels in zip(tokens, batch.labels, strict=True):
            for cell, label in enumerate(labels):
                top, left = side // 2 * (cell // 2), side // 2 * (cell % 2)
                own = [y * side + x for y in range(top, top + side // 2) for x in range(left, left + side // 2)]
                logits = vision.head(row[1:][own].mean(dim=0))
                losses.append(F.cross_entropy(logits, label))
    torch.testing.assert_close(task.losses(task.model, batch)["classification"], torch.stack(losses).mean())
    assert 0 <= task.evaluate(task.model)["top1"] <= 100


def test_a_mosaic_whose_cells_cut_through_patches_is_refused(world, tmp_path):
    config = mosaic_config(world, tmp_path)
    side = config.vision.image_size // 16
    with pytest.raises(ConfigError, match=f"mosaic {2 * side} does not divide the grid of {side} x {side} patches"):
        ClassificationTask(replace(config, mosaic=2 * side))


# ImageNet's recipe.

RECIPE = AugmentationConfig(
    auto_augment="rand-m9-mstd0.5-inc1", color_jitter=0.4, random_erasing=0.25, mixup=0.8, cutmix=1.0,
    label_smoothing=0.1, repeats=3,
)  # fmt: skip


def recipe_config(world, output):
    """The tiny pretraining with everything that ImageNet's does to images, labels and learning rates."""
    config = tiny_pretrain_config(world, output, vision=tiny_vision(gain=1.0, drop_path=0.1), crop_pct=0.875)
    optim = replace(
        config.optim, schedule="cosine", warmup_fraction=0.25, weight_decay=0.05, decay_positions=False,
        max_grad_norm=None,
    )  # fmt: skip
    return replace(config, data=replace(config.data, augmentation="imagenet"), augmentation=RECIPE, optim=optim)


def test_mixed_and_smoothed_targets_train_both_looks(world, tmp_path):
    task = ClassificationTask(recipe_config(world, tmp_path))
    task.model.eval()
    batch, classes = first_batch(task), len(task.train_set.classes)
    smoothed = 0.9 * batch.targets + 0.1 / classes
    assert smoothed.sum(dim=1).allclose(torch.ones(len(smoothed)))
    with torch.no_grad():
        out = task.model(batch.images)
    by_hand = [-(smoothed * logits.log_softmax(dim=1)).sum(dim=1).mean() for logits in out[:2]]
    found = task.losses(task.model, batch)["classification"]
    torch.testing.assert_close(found, sum(by_hand) / 2)


def test_labels_are_smoothed_without_mixing(world, tmp_path):
    smoothing = AugmentationConfig(label_smoothing=0.2)
    task = ClassificationTask(tiny_pretrain_config(world, tmp_path, augmentation=smoothing))
    batch, classes = first_batch(task), len(task.train_set.classes)
    assert batch.targets is None
    targets = 0.8 * F.one_hot(batch.labels[:, 0], classes) + 0.2 / classes
    expected = classification_loss(task.model(batch.images), targets)
    torch.testing.assert_close(task.losses(task.model, batch)["classification"], expected)


def test_images_that_do_not_pair_up_are_refused(world, tmp_path):
    config = recipe_config(world, tmp_path)
    config = replace(config, optim=replace(config.optim, micro_batch_size=7))
    with pytest.raises(ConfigError, match="7 images per process and forward pass are an odd number"):
        ClassificationTask(config)


@pytest.mark.parametrize("augmentation", ["none", "imagenet"])
def test_evaluation_sees_the_middle_and_the_checkpoint_knows(world, tmp_path, augmentation):
    config = tiny_pretrain_config(world, tmp_path, crop_pct=0.8)
    task = ClassificationTask(replace(config, data=replace(config.data, augmentation=augmentation)))
    task.save(tmp_path)
    checkpoint = load_classifier(tmp_path)
    assert checkpoint.transform.resized_to == 40  # 32 / 0.8
    with Image.open(task.select_set.files[0][0]) as picture:
        seen = checkpoint.transform(picture)
        whole = image_transform(40, *image_statistics(config.vision))(picture)
    assert torch.equal(seen, whole[:, 4:36, 4:36]) and torch.equal(seen, task.select_set[0].image)


def test_a_checkpoint_that_tells_of_no_crop_shows_the_whole_shorter_side(world, tmp_path):
    ClassificationTask(tiny_pretrain_config(world, tmp_path)).save(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    content = json.loads(path.read_text())
    assert content.pop("crop_pct") == 1
    path.write_text(json.dumps(content))
    assert load_classifier(tmp_path).transform.resized_to == 32


@pytest.mark.parametrize("crop_pct", ["0.8", True, 0, 1.5, None])
def test_a_crop_of_no_sense_is_one_line(world, tmp_path, crop_pct):
    ClassificationTask(tiny_pretrain_config(world, tmp_path)).save(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"crop_pct": crop_pct}))
    with pytest.raises(InputError, match=r"preprocessor_config.json: expected crop_pct to be a number in \(0, 1\]"):
        load_classifier(tmp_path)


@pytest.mark.slow
def test_a_run_by_the_recipe_trains_at_its_rates_and_goes_on_as_if_never_stopped(world, tmp_path):
    config = write_config(recipe_config(world, tmp_path / "whole"), tmp_path / "recipe.yaml")
    assert run_script("scripts/pretrain_vision.py", "--config", config) == 0
    lines = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "classification" in line]
    assert all(math.isfinite(line["classification"] + line["reconstruction"]) for line in lines)
    steps = len(lines)
    rates = [3e-3 * lr_factor(step, steps, 0.25, "cosine") for step in range(steps)]
    assert [line["lr/vision"] for line in lines] == pytest.approx(rates)
    parted = tmp_path / "parted"
    shutil.copytree(tmp_path / "whole", parted)
    shutil.rmtree(parted / "checkpoints/last")
    (parted / "checkpoints/last.previous").rename(parted / "checkpoints/last")  # after the first of two epochs
    options = ("--run.output", parted, "--run.resume", "true", "--data.num_workers", 1)
    assert run_script("scripts/pretrain_vision.py", "--config", config, *options) == 0
    first, second = (tmp_path / run / "checkpoints/last/model.safetensors" for run in ("whole", "parted"))
    assert first.read_bytes() == second.read_bytes()
