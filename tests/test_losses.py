"""Losses by hand and against loops."""

import math

import pytest
import torch
import torch.nn.functional as F

from vl_absvit.losses import POSITIVE_WEIGHT, calibration_loss, itm_loss, prior_loss, ranking_loss, vqa_loss


def test_vqa_loss_by_hand():
    # At logit 0 every answer costs log 2, whatever its score; sums over three answers, mean over two questions.
    assert vqa_loss(torch.zeros(2, 3), torch.tensor([[1.0, 0.3, 0.0]] * 2)).item() == pytest.approx(3 * math.log(2))


def test_vqa_loss_is_meters_mean_times_the_number_of_answers():
    logits, targets = torch.randn(4, 17), torch.rand(4, 17)
    expected = F.binary_cross_entropy_with_logits(logits, targets) * 17
    torch.testing.assert_close(vqa_loss(logits, targets), expected)


def test_ranking_loss_by_hand():
    # The own caption comes first: -log of 3 / (3 + 1) and of 1 / (1 + 4).
    scores = torch.tensor([[math.log(3.0), 0.0], [0.0, math.log(4.0)]])
    assert ranking_loss(scores).item() == pytest.approx((math.log(4 / 3) + math.log(5)) / 2)


def test_itm_loss_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)]])
    loss = itm_loss(logits, torch.tensor([True, False]))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)


def test_prior_loss_by_hand():
    similarity = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    loss = prior_loss(similarity, torch.tensor([7, 8]), torch.tensor([7, 8]), torch.tensor([0, 1]), temperature=0.5)
    # -log softmax([2, 0])[0] and -log softmax([1, 1])[1]
    assert loss.item() == pytest.approx((math.log(1 + math.exp(-2)) + math.log(2)) / 2)


def test_an_image_that_comes_twice_is_no_negative_of_itself():
    similarity = torch.randn(3, 4)
    text_ids, image_ids = torch.tensor([1, 2, 1]), torch.tensor([1, 2, 1, 3])
    own = torch.tensor([0, 1, 2])
    loss = prior_loss(similarity, text_ids, image_ids, own, temperature=0.1)
    logits = similarity / 0.1
    by_hand = [
        -F.log_softmax(logits[0, [0, 1, 3]], dim=0)[0],
        -F.log_softmax(logits[1], dim=0)[1],
        -F.log_softmax(logits[2, [2, 1, 3]], dim=0)[0],
    ]
    torch.testing.assert_close(loss, torch.stack(by_hand).mean())


def test_a_batch_of_one_image_has_no_negatives_and_a_finite_loss_of_zero():
    assert (
        prior_loss(torch.randn(2, 1), torch.tensor([5, 5]), torch.tensor([5]), torch.tensor([0, 0]), 0.07).item() == 0.0
    )


def test_calibration_loss_by_loops():
    similarity = torch.randn(3, 4, dtype=torch.float64).masked_fill(
        torch.tensor([False, False, True, False]), -torch.inf
    )
    text_ids, image_ids, own = torch.tensor([1, 2, 1]), torch.tensor([1, 2, 1, 3]), torch.tensor([0, 1, 0])
    threshold = torch.tensor([0.2], dtype=torch.float64)
    missed, opened = [], []
    for text in range(3):
        for column in (0, 1, 3):  # the third shows image 1 once more and does not count
            p = 1 / (1 + math.exp(-(similarity[text, column].item() - 0.2) / 0.5))
            if column == own[text]:
                missed.append(-math.log(p))
            elif text_ids[text] != image_ids[column]:
                opened.append(-math.log(1 - p))
    loss = calibration_loss(similarity, text_ids, image_ids, own, threshold, temperature=0.5)
    assert loss.item() == pytest.approx(POSITIVE_WEIGHT * sum(missed) / 3 + sum(opened) / len(opened))


def test_the_threshold_learns_to_lie_between_what_is_asked_for_and_what_is_not():
    ids, threshold = torch.arange(8), torch.tensor([-1.0], requires_grad=True)
    similarity = torch.full((8, 8), 0.1) + 0.5 * torch.eye(8)
    optimizer = torch.optim.Adam([threshold], lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        calibration_loss(similarity, ids, ids, ids, threshold, temperature=0.07).backward()
        optimizer.step()
    assert 0.2 < threshold.item() < 0.35, "nearer to the others: what is asked for must not be missed"


def test_a_batch_of_one_image_calibrates_by_what_is_asked_for_alone():
    one, own = torch.tensor([5, 5]), torch.tensor([0, 0])
    loss = calibration_loss(torch.full((2, 1), 0.3), one, one[:1], own, torch.tensor([0.3]), 0.07)
    assert loss.item() == pytest.approx(POSITIVE_WEIGHT * math.log(2))


def test_blank_images_are_as_many_more_negatives_by_hand():
    similarity, ids = torch.tensor([[0.5, -0.5]]), torch.tensor([7])
    loss = prior_loss(similarity, ids, torch.tensor([7, 8]), torch.tensor([0]), temperature=0.5, blank_negatives=True)
    # -log softmax([1, -1, 0, 0])[0]
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2) + 2 * math.exp(-1)))


def test_only_blank_images_keep_cosines_from_sinking_together():
    ids, own = torch.arange(3), torch.arange(3)
    similarity = torch.randn(3, 3)

    def rise(sunk_by, blank):
        sunk = (similarity - sunk_by).requires_grad_()
        prior_loss(sunk, ids, ids, own, 0.5, blank).backward()
        return sunk.grad.sum().item()

    assert rise(2.0, blank=False) == pytest.approx(0.0, abs=1e-6)
    assert rise(2.0, blank=True) < -0.5
