"""Attacks: the authors' pictures bit for bit, hand cases, and what every attacked picture keeps to."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from vl_absvit.evaluation.attack_plan import fgsm, pgd
from vl_absvit.evaluation.attacks import (
    PixelScale,
    attack_pictures,
    check_within_ball,
    perturb,
    pixel_scale,
    random_start,
)
from vl_absvit.models.released import rebuild_classifier
from vl_absvit.models.released.imagenet import convert_imagenet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def scale() -> PixelScale:
    return pixel_scale(MEAN, STD, torch.zeros((), dtype=torch.float64))


@pytest.fixture
def pictures(scale) -> torch.Tensor:
    """Three pictures, one of them black and one white: most of their balls lies outside of all pixel values."""
    pixels = torch.rand(3, 3, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pixels[1], pixels[2] = 0, 1
    return (pixels - scale.mean) / scale.std


@pytest.fixture
def losses_of():
    """Of a random linear classifier after a bend, of every picture on its own."""
    weight = torch.randn(4, 90, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return lambda images: F.cross_entropy(
        torch.tanh(images.flatten(1) @ weight.T), torch.arange(len(images)), reduction="none"
    )


def assert_attacked_as_recorded(folder, last_logits, scale):
    """FGSM's and PGD's pictures, and what the model makes of them, are those of the authors' code in fp64."""
    inputs, expected = load_file(folder / "inputs.safetensors"), load_file(folder / "outputs_f64.safetensors")
    images = (inputs["image_u8"].double() / 255 - scale.mean) / scale.std

    def losses_of(pictures):
        return F.cross_entropy(last_logits(pictures), inputs["target"], reduction="none")

    by_one_step = perturb(images, losses_of, fgsm(1 / 255), scale)
    by_many = perturb(images, losses_of, pgd(1 / 255, steps=5), scale, expected["pgd_start_delta"])
    assert torch.equal(by_one_step, expected["fgsm_adversarial"])
    assert torch.equal(by_many, expected["pgd_adversarial"])
    for attacked, name in ((images, "clean"), (by_one_step, "fgsm"), (by_many, "pgd")):
        torch.testing.assert_close(last_logits(attacked), expected[f"{name}_logits"], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fold", [False, True])
def test_absvit_is_attacked_as_the_authors_attack_it(golden, scale, fold):
    conversion = convert_imagenet(load_file(golden / "imagenet/micro/state_dict.safetensors"), 4, "imagenet")
    model = rebuild_classifier(conversion.config, conversion.state).double().eval()
    if fold:
        model.vision.fold()
    folder = golden / "vars/attack_absvit"
    assert_attacked_as_recorded(folder, lambda pictures: model(pictures).second_logits, scale)


def test_rvt_with_vars_is_attacked_as_the_authors_attack_it(golden, scale):
    folder = golden / "vars/attack_rvt"
    model = timm.create_model(
        "absvit_rvt_tiny", img_size=32, embed_dim=8, depth=2, num_heads=2, mlp_ratio=2, num_classes=7,
        top_down="none", attention="vars_d",
        attention_options={"lam": 0.3, "steps": 5, "ratio": 2, "generation": "head"},
    )  # fmt: skip
    model.load_state_dict(model.read_foreign(load_file(folder / "state_dict.safetensors")).state)
    model = model.double().eval()
    assert_attacked_as_recorded(folder, model, scale)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("eps", [0.001, 0.1, 3.0])
def test_attacked_pictures_stay_pictures_within_the_ball(pictures, losses_of, scale, norm, eps):
    attack = pgd(eps, steps=7, norm=norm)
    start = random_start(pictures, attack, scale, [[0, index] for index in range(3)])
    for attacked in (perturb(pictures, losses_of, attack, scale, start), perturb(pictures, losses_of, attack, scale)):
        pixels = attacked * scale.std + scale.mean
        assert pixels.min() > -1e-12 and pixels.max() < 1 + 1e-12
        difference = ((attacked - pictures) * scale.std).flatten(1)
        assert difference.norm(p=float("inf") if norm == "linf" else 2, dim=1).max() < eps + 1e-12


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pictures_beyond_the_ball_or_of_no_pixels_are_refused(pictures, losses_of, scale, norm, monkeypatch):
    attack = pgd(0.01, steps=2, norm=norm, restarts=2)
    attacked = attack_pictures(pictures, losses_of, losses_of, attack, scale, [0, 1, 2])
    check_within_ball(attacked, pictures, attack, scale)
    further = pictures + 0.02 / scale.std
    with pytest.raises(AssertionError, match=r"an attacked picture is 0\.\d+ from its own, beyond 0\.01"):
        check_within_ball(further, pictures, attack, scale)
    monkeypatch.setattr("vl_absvit.evaluation.attacks.perturb", lambda *arguments: further)
    with pytest.raises(AssertionError, match="beyond 0.01"):
        attack_pictures(pictures, losses_of, losses_of, attack, scale, [0, 1, 2])
    with pytest.raises(AssertionError, match="has no pixel's values"):
        check_within_ball(further, further, attack, scale)


def test_rounding_of_a_long_way_is_not_beyond_the_ball(scale):
    """In fp32 a way of 60 over 384 x 384 pixels was seen 1.4e-4 too long."""
    grey, attack = ((0.5 - scale.mean) / scale.std).expand(1, 3, 192, 192), pgd(60.0, norm="l2")
    way = (1 / scale.std).expand(1, 3, 192, 192) / (3 * 192 * 192) ** 0.5
    check_within_ball(grey + (60 + 1.4e-4) * way, grey, attack, scale)
    with pytest.raises(AssertionError, match=r"60\.0015 from its own, beyond 60"):
        check_within_ball(grey + (60 + 1.5e-3) * way, grey, attack, scale)


@pytest.mark.parametrize("targeted", [False, True])
def test_a_picture_withstands_only_from_every_start(scale, targeted, monkeypatch):
    """Starts 0 to 3 move two pictures by 0, 1e-3, 2e-3 and 3e-3; their losses rise with that."""
    attack = pgd(0.01, restarts=4, targeted=targeted)
    grey, moves = (torch.full((2, 3, 1, 1), 0.5).double() - scale.mean) / scale.std, iter([0, 1e-3, 2e-3, 3e-3])
    monkeypatch.setattr("vl_absvit.evaluation.attacks.perturb", lambda *arguments: grey + next(moves) / scale.std)

    def moved(pictures):
        return ((pictures - grey) * scale.std).mean(dim=(1, 2, 3))

    def scores_of(pictures):  # the first picture is wrong from starts 1 and 2, the second one from none
        steps = (moved(pictures) / 1e-3).round()
        return torch.stack([~torch.isin(steps[0], torch.tensor([1.0, 2.0]).double()), torch.tensor(True)]).double()

    worst = attack_pictures(grey, moved, scores_of, attack, scale, [0, 1])
    torch.testing.assert_close(moved(worst).tolist(), [1e-3, 0.0] if targeted else [2e-3, 3e-3], atol=1e-9, rtol=0)


def test_steps_of_a_linear_loss_are_the_ones_by_hand():
    """Loss a . x, pixels in the middle of [0, 1]: no edge is met."""
    scale = pixel_scale((0.0,) * 3, (0.5, 1.0, 2.0), torch.zeros((), dtype=torch.float64))
    slope = torch.tensor([3.0, -4.0, 0.0], dtype=torch.float64).view(1, 3, 1, 1)  # by normalised pixels
    images = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64).view(1, 3, 1, 1)  # every pixel value is 0.5

    def losses_of(pictures):
        return (slope * pictures).flatten(1).sum(dim=1)

    def moved(attack):
        return ((perturb(images, losses_of, attack, scale) - images) * scale.std).flatten().tolist()

    assert moved(fgsm(0.1)) == pytest.approx([0.1, -0.1, 0.0])
    assert moved(pgd(0.1, steps=1)) == pytest.approx([0.05, -0.05, 0.0])
    assert moved(pgd(0.1, steps=1, targeted=True)) == pytest.approx([-0.05, 0.05, 0.0])
    # By pixel values the slope is (3 / 0.5, -4 / 1, 0), of length sqrt(52).
    assert moved(pgd(0.1, steps=1, step_share=1.0, norm="l2")) == pytest.approx([0.6 / 52**0.5, -0.4 / 52**0.5, 0.0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_loss_rises_or_falls_to_the_target(pictures, losses_of, scale, norm):
    before = losses_of(pictures)
    inside = pictures[:1]  # the others begin at the edge of all pixel values
    assert (losses_of(perturb(pictures, losses_of, pgd(0.05, steps=20, norm=norm), scale)) > before - 1e-12).all()
    risen = losses_of(perturb(inside, losses_of, pgd(0.05, steps=20, norm=norm), scale))
    fallen = losses_of(perturb(inside, losses_of, pgd(0.05, steps=20, norm=norm, targeted=True), scale))
    assert fallen < before[0] < risen


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_picture_is_attacked_alike_in_any_batch(pictures, losses_of, scale, norm):
    attack, seeds = pgd(0.05, steps=3, norm=norm), [[7, index] for index in range(3)]
    together = perturb(pictures, losses_of, attack, scale, random_start(pictures, attack, scale, seeds))

    def alone(row):
        one = pictures[row : row + 1]
        start = random_start(one, attack, scale, seeds[row : row + 1])
        return perturb(one, lambda images: losses_of(images.expand(3, -1, -1, -1))[row : row + 1], attack, scale, start)

    for row in range(3):
        torch.testing.assert_close(alone(row)[0], together[row])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts_are_uniform_in_the_ball(scale, norm):
    images, attack = torch.zeros(2000, 3, 1, 1, dtype=torch.float64), pgd(0.5, steps=1, norm=norm)
    starts = random_start(images, attack, scale, [[0, index] for index in range(2000)])
    points = (starts * scale.std).flatten(1).numpy()
    assert np.abs(points.mean(axis=0)).max() < 0.03
    # The share within half of the radius is that of the volume.
    length = np.abs(points).max(axis=1) if norm == "linf" else np.linalg.norm(points, axis=1)
    assert length.max() <= 0.5
    assert (length < 0.25).mean() == pytest.approx(1 / 8, abs=0.025)


def test_a_flat_loss_moves_nothing(pictures, scale):
    flat = perturb(pictures, lambda images: 0 * images.flatten(1).sum(dim=1), pgd(0.1, steps=3, norm="l2"), scale)
    assert torch.equal(flat, pictures)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops(pictures, scale, value):
    with pytest.raises(FloatingPointError, match="not finite"):
        perturb(pictures, lambda images: value * images.flatten(1).sum(dim=1), fgsm(0.1), scale)
