"""Attacks on the pictures of questions: each question has its own, and its answer moves as it should."""

import pytest
import torch
import torch.nn.functional as F

from tests.lively_vqa import lively_task
from vl_absvit.data.loaders import evaluation_loader
from vl_absvit.errors import InputError
from vl_absvit.evaluation.attack_plan import fgsm, pgd
from vl_absvit.tasks.vqa_attack import attack_batch


@pytest.fixture(scope="module")
def task(world, tmp_path_factory):  # noqa: F811
    return lively_task(world, tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def batch(task):
    """Questions whose right answers are those that the model gives."""
    (loaded,) = evaluation_loader(task.select_set, batch_size=64, rank=0, world_size=1, num_workers=0)
    assert len(loaded.images) < len(loaded.question_ids)
    logits = logits_of(task, loaded)
    return loaded._replace(soft_answers=F.one_hot(logits.argmax(dim=1), logits.shape[1]).float())


@torch.no_grad()
def logits_of(task, questions):
    return task.model(questions.images, questions.token_ids, questions.is_token, questions.image_index).logits


def right(task, questions):
    return (logits_of(task, questions).argmax(dim=1) == questions.soft_answers.argmax(dim=1)).float().mean().item()


@pytest.mark.parametrize("attack", [fgsm(0.1), pgd(0.1), pgd(0.1, restarts=2), pgd(3.0, norm="l2")])
def test_right_answers_become_wrong(task, batch, attack):
    attacked = attack_batch(task.model, batch, attack, task.preprocessing)
    assert attacked.images.shape[0] == len(batch.question_ids)
    assert right(task, batch) == 1 and right(task, attacked) < 0.5


def test_a_question_is_attacked_alike_alone(task, batch):
    attack = pgd(0.05, steps=3)
    together = attack_batch(task.model, batch, attack, task.preprocessing)
    last = len(batch.question_ids) - 1
    alone = batch._replace(
        **{name: getattr(batch, name)[last:] for name in ("image_index", "token_ids", "is_token", "soft_answers")},
        question_ids=batch.question_ids[last:],
    )
    (image,) = attack_batch(task.model, alone, attack, task.preprocessing).images
    # A gradient that rounds to the other side of 0 moves a pixel by a step.
    assert ((image - together.images[last]).abs() > 1e-5).float().mean() < 0.01


def test_a_target_is_approached(task, batch):
    attacked = attack_batch(task.model, batch, pgd(0.1, steps=10, targeted=True), task.preprocessing)
    before, after = logits_of(task, batch), logits_of(task, attacked)
    target = before.argmin(dim=1, keepdim=True)
    assert (after.gather(1, target) > before.gather(1, target)).all()


def test_losses_that_are_not_finite_are_one_line(task, batch):
    broken = batch._replace(soft_answers=batch.soft_answers * float("nan"))
    with pytest.raises(InputError, match="question .* not finite"):
        attack_batch(task.model, broken, fgsm(0.1), task.preprocessing)
