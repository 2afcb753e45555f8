"""What speaks for masked gradients, and what does not."""

from vl_absvit.evaluation.attack_plan import fgsm, pgd
from vl_absvit.evaluation.gradient_masking import AttackRow, masking_signs


def test_a_model_that_gives_way_shows_no_sign():
    rows = [
        AttackRow(pgd(1 / 255), None, 40.0),
        AttackRow(pgd(4 / 255), None, 2.0),
        AttackRow(fgsm(1 / 255), None, 50.0),
    ]
    rows += [AttackRow(pgd(1 / 255), "other", 70.0), AttackRow(pgd(1 / 255, steps=20), None, 40.5)]
    assert masking_signs(80.0, rows) == []


def test_every_attack_that_should_be_stronger_and_is_not_is_a_sign():
    weak, more_steps = AttackRow(pgd(1 / 255), None, 40.0), AttackRow(pgd(1 / 255, steps=20), None, 45.0)
    larger, transferred = AttackRow(pgd(2 / 255), None, 42.0), AttackRow(pgd(2 / 255), "other", 30.0)
    five, twenty, doubled = weak.words, more_steps.words, larger.words
    assert masking_signs(41.5, [weak, more_steps, larger, transferred]) == [
        f"its gradients may be masked: {twenty} leaves 45.00 %, no attack 41.50 %",
        f"its gradients may be masked: {twenty} leaves 45.00 %, {five} 40.00 %",
        f"its gradients may be masked: {doubled} leaves 42.00 %, {five} 40.00 %",
        f"its gradients may be masked: {doubled} leaves 42.00 %, {doubled}, by the gradients of other 30.00 %",
    ]
    assert twenty == "PGD, 20 steps of 0.5/255 in the linf ball of 1/255, a random start"


def test_attacks_of_other_kinds_are_not_compared():
    rows = [
        AttackRow(pgd(1.0, norm="l2"), None, 10.0),
        AttackRow(pgd(1.0), None, 60.0),
        AttackRow(fgsm(1.0), None, 70.0),
    ]
    assert masking_signs(80.0, rows) == []
