"""The naive side trains as the tasks do: the same batches, losses and gradients, without sharing anything."""

from functools import partial

import pytest
import torch
from torch import Tensor

from benchmarks.contest import NAIVE, OURS
from benchmarks.naive import naive_forward
from benchmarks.naive_training import caption_batch, caption_losses, prior_error, question_batch, question_losses
from benchmarks.samples import Workload, captioned_images, questions_about
from benchmarks.synthetic import PAD
from benchmarks.train_pairs import made_up_pairs, make_trainees, pairs_config
from benchmarks.training import nowhere
from tests.benchmarks.test_naive import ANSWERS, VARIANTS, make_model
from vl_absvit.data.collate import collate_retrieval, collate_vqa
from vl_absvit.models import VLAbSViT
from vl_absvit.tasks.pairs import PairsTask
from vl_absvit.tasks.retrieval import RetrievalConfig, RetrievalTask
from vl_absvit.tasks.vqa import VQAConfig, VQATask

CPU = torch.device("cpu")


def gradients(model: VLAbSViT, terms: dict[str, Tensor]) -> dict[str, Tensor]:
    model.zero_grad()
    sum(terms.values()).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_same(model: VLAbSViT, naive: dict[str, Tensor], ours: dict[str, Tensor]) -> None:
    assert naive.keys() == ours.keys()
    for name, term in ours.items():
        assert term > 0.01
        torch.testing.assert_close(naive[name], term, rtol=1e-5, atol=0)
    found, expected = gradients(model, naive), gradients(model, ours)
    assert found.keys() == expected.keys()
    whole = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6 * whole, name


@pytest.mark.parametrize("variant", VARIANTS[:2], ids=["reweight", "reweight_project"])
def test_questions_that_share_images_give_the_tasks_losses_and_gradients(variant):
    model = make_model(*variant, ANSWERS)
    samples = questions_about(Workload(2, 3, 32), ANSWERS["num_answers"], words=100)
    task = VQATask.without_data(VQAConfig(**nowhere()), model)
    batch = question_batch(samples, ANSWERS["num_answers"], CPU)
    naive = question_losses(partial(naive_forward, model), batch, task.config)
    own = collate_vqa(samples, pad_id=PAD, vocabulary_size=ANSWERS["num_answers"])
    assert len(own.images) == 2 and len(batch.pairs.images) == 6 and batch.pairs.token_ids.shape == (6, 50)
    assert batch.targets.equal(own.soft_answers)
    assert_same(model, naive, task.losses(model, own))


def test_candidates_that_share_an_image_give_the_tasks_losses_and_gradients():
    model = make_model(*VARIANTS[0])
    *samples, last = captioned_images(Workload(4, 3, 32), words=100)
    samples.append(last._replace(image_id=samples[-1].image_id, image=samples[-1].image))
    task = RetrievalTask.without_data(RetrievalConfig(negatives=2, **nowhere()), model)
    batch = caption_batch(samples, CPU)
    naive = caption_losses(partial(naive_forward, model), batch, task.config)
    own = collate_retrieval(samples, pad_id=PAD)
    assert len(own.images) == 3 and len(batch.pairs.images) == 12 and batch.pairs.token_ids.shape == (12, 40)
    assert_same(model, naive, task.losses(model, own))


def test_the_prior_is_told_from_all_other_images_by_hand():
    prior = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    tokens = torch.tensor([[[9.0, 9], [2, 0], [0, 0]], [[9, 9], [3, 3], [0, 0]], [[9, 9], [3, 3], [0, 0]]])
    by_hand = (
        (torch.tensor([1.0, 0.5**0.5]) * 2).log_softmax(dim=0)[0],
        torch.tensor([0.5**0.5, 0.0]).mul(2).log_softmax(dim=0)[0],
    )
    found = prior_error(prior, tokens, torch.tensor([7, 4, 4]), temperature=0.5)  # the last two are one image
    torch.testing.assert_close(found, -(by_hand[0] + 2 * by_hand[1]) / 3)


@pytest.mark.parametrize("variant", VARIANTS[:2], ids=["reweight", "reweight_project"])
def test_pairs_that_share_looks_give_two_complete_passes_losses_and_gradients(variant):
    model = make_model(*variant, {"kind": "pretraining", "vocab_size": 100})
    task = PairsTask.without_data(pairs_config(), model)
    sides = make_trainees(task, made_up_pairs(4, 32, words=100), "fp32")
    model.eval()
    assert_same(model, *(dict(sides[name].terms()) for name in (NAIVE, OURS)))
