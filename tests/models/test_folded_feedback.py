"""Folded decoders: the outputs of the unfolded ones at half the products, until something may have changed weights."""

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.models.test_absvit import BLOCKS, IMAGE_INDEX, WIDTH, make
from vl_absvit.models import looks
from vl_absvit.models.looks import TwoLooks
from vl_absvit.models.top_down import (
    FeedbackDecoder,
    Steered,
    feed_back,
    feed_back_folded,
    fold,
    have_signal,
    keep_all,
    reweight,
)
from vl_absvit.models.trunks.vit import AbSViT
from vl_absvit.planning.flops import flop_counter

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
PRIOR = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2)).double()
FED_BACK = ["absvit", "absvit_qkv", "feedback"]


@pytest.fixture
def products(monkeypatch) -> list[int]:
    """Grows by one whenever folded decoders answer."""
    seen, original = [], looks.feed_back_stages
    monkeypatch.setattr(looks, "feed_back_stages", lambda *args: seen.append(1) or original(*args))
    return seen


def folded(model: AbSViT, images: Tensor = IMAGES) -> TwoLooks:
    """Looks of an evaluation that folds first."""
    model.eval().fold()
    return evaluated(model, images)


@torch.no_grad()
def evaluated(model: AbSViT, images: Tensor = IMAGES) -> TwoLooks:
    return look(model, images)


def look(model: AbSViT, images: Tensor = IMAGES) -> TwoLooks:
    """Under grad nothing is folded."""
    return model.look_twice(images, PRIOR.to(images), IMAGE_INDEX.to(images.device))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("modulation", ["reweight", "reweight_project"])
@pytest.mark.parametrize("variant", FED_BACK)
def test_looks_and_signals_are_those_of_unfolded_decoders(variant, modulation, dtype, bound, products):
    model, images = make(top_down=variant, modulation=modulation, gain=3.0).to(dtype), IMAGES.to(dtype)
    expected, ours = look(model, images), folded(model, images)
    assert products == ([] if modulation == "reweight_project" and variant != "feedback" else [1])
    assert not torch.allclose(expected.second.tokens[0], expected.first.tokens[0], atol=0.1)
    compared = [(ours.second.tokens, expected.second.tokens)]
    compared += list(zip(ours.second.states, expected.second.states, strict=True))
    compared += [(a.tokens, b.tokens) for a, b in zip(ours.signals, expected.signals, strict=True)]
    for found, wanted in compared:
        assert ((found - wanted).abs().max() / wanted.abs().max()).item() < bound
    if variant != "feedback":
        assert torch.equal(ours.prior_mask, expected.prior_mask)


def test_decoders_get_their_gradients_after_an_evaluation():
    model, reference = make(), make()
    reference.load_state_dict(model.state_dict())
    folded(model)
    for one in (model, reference):
        look(one).second.tokens.square().sum().backward()
    for ours, expected in zip(model.decoders.parameters(), reference.decoders.parameters(), strict=True):
        assert expected.grad.any() and torch.equal(ours.grad, expected.grad)


def load(model: AbSViT, assign: bool = False) -> AbSViT:
    model.load_state_dict(make().state_dict(), assign=assign)
    return model


def take_a_step(model: AbSViT) -> AbSViT:
    """In evaluation mode, as of a trunk that is trained without dropout."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    look(model).second.tokens.square().sum().backward()
    optimizer.step()
    return model


def train(model: AbSViT) -> AbSViT:
    nn.ModuleDict({"vision": model}).train().eval()
    return write_and_fold(model, fold=False)


def write_and_fold(model: AbSViT, fold: bool = True) -> AbSViT:
    model.decoders[2].reconstruct.weight.data.neg_()
    if fold:
        model.fold()
    return model


def go_to_another_device(model: AbSViT) -> AbSViT:
    return load(model.to("meta").to_empty(device="cpu"))


CHANGES = {
    "load": load,
    "load by assignment": lambda model: load(model, assign=True),
    "load the whole": lambda model: nn.ModuleDict({"a": model}).load_state_dict(
        nn.ModuleDict({"a": make()}).state_dict()
    ) and model,
    "step": take_a_step,
    "training": train,
    "folded again": write_and_fold,
    "a copy folded again": lambda model: write_and_fold(copy.deepcopy(model)),
    "rounded": lambda model: model.to(torch.float32).to(torch.float64),
    "device": go_to_another_device,
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_new_weights_are_not_answered_with_the_old_ones(change):
    model = make()
    before = folded(model).second.tokens
    changed = CHANGES[change](model)
    ours, expected = evaluated(changed).second.tokens, look(changed).second.tokens
    assert not torch.allclose(before, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-11)


def test_a_changed_copy_leaves_the_original_as_it_is():
    model = make()
    before = folded(model).second.tokens
    write_and_fold(copy.deepcopy(model))
    torch.testing.assert_close(evaluated(model).second.tokens, before, rtol=0, atol=0)


def test_what_inference_mode_folds_serves_other_modes_and_copies(products):
    model = make()
    with torch.inference_mode():
        model.fold()
        expected = model.look_twice(IMAGES).second.tokens.clone()
    for one in (model, copy.deepcopy(model)):
        with torch.no_grad():
            torch.testing.assert_close(one.look_twice(IMAGES).second.tokens, expected, rtol=0, atol=0)
    assert len(products) == 3


def test_mixed_precision_folds_in_the_weights_own():
    model, images = make().float(), IMAGES.float()
    exact = [signal.tokens for signal in folded(model, images).signals]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, expected = folded(model, images), look(model, images)
    assert mixed.signals[0].direction.dtype == expected.signals[0].direction.dtype == torch.bfloat16
    for ours, theirs, right in zip(mixed.signals, expected.signals, exact, strict=True):
        errors = [((signal.tokens - right).norm() / right.norm()).item() for signal in (ours, theirs)]
        assert errors[0] < min(0.01, 1.5 * errors[1])


def test_matrices_by_hand():
    decoders = nn.ModuleList(FeedbackDecoder(width=2) for _ in range(2))
    matrices = torch.tensor([[[1.0, 2], [3, 4]], [[0, 1], [1, 0]], [[2, 0], [0, 1]], [[1, 1], [0, 1]]])
    for weight, matrix in zip(decoders.parameters(), matrices, strict=True):
        weight.data = matrix
    r_1, t_1, r_2, t_2 = matrices
    assert torch.equal(fold(decoders), torch.stack([(t_1 @ r_1 @ r_2).T, (t_2 @ r_2).T]))


@pytest.mark.parametrize("index", [None, torch.tensor([1, 1, 0])])
def test_a_token_has_a_signal_if_any_text_about_its_image_gives_it_a_scale(index):
    scale = torch.tensor([[0.0, 1, 0, 0], [0, 0, 2, 0], [3, 0, 0, -1]]).unsqueeze(-1)
    direction = torch.ones(3 if index is None else 2, 4, 5)
    expected = [[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]] if index is None else [[1, 0, 0, 1], [0, 1, 1, 0]]
    assert have_signal(Steered(None, scale, direction, index)).tolist() == torch.tensor(expected).bool().tolist()


def test_products_run_on_tokens_with_a_signal_alone_and_once_per_block():
    decoders = nn.ModuleList(FeedbackDecoder(width=WIDTH) for _ in range(BLOCKS)).double()
    tokens = torch.randn(2, 17, WIDTH).double()
    matrices = fold(decoders).detach()
    asked = reweight(tokens, PRIOR, 2.0, IMAGE_INDEX)
    few = asked._replace(scale=asked.scale * (torch.arange(17) < 3)[:, None])
    nothing = reweight(tokens, PRIOR, 0.0, IMAGE_INDEX)
    everything = keep_all(tokens, None, 2.0)
    for steered, rows in ((asked, None), (few, None), (nothing, 0), (everything, 34)):
        rows = int(have_signal(steered).sum()) if rows is None else rows
        with flop_counter() as counter:
            signals = feed_back_folded(matrices, steered)
        assert counter.get_total_flops() == 2 * BLOCKS * rows * WIDTH**2
        for ours, expected in zip(signals, feed_back(decoders, steered), strict=True):
            torch.testing.assert_close(ours.tokens, expected.tokens, rtol=0, atol=1e-12)
    assert 0 < have_signal(few).sum() < have_signal(asked).sum() < 34


def test_a_token_that_is_no_number_is_not_silenced():
    tokens = torch.randn(2, 17, WIDTH).double()
    tokens[1, 4, 0] = torch.nan
    steered = reweight(tokens, PRIOR, 2.0, IMAGE_INDEX)
    (signal,) = feed_back_folded(torch.eye(WIDTH).double()[None], steered)
    assert torch.equal(signal.tokens.isnan().any(dim=-1), steered.mask.isnan()) and signal.tokens.isnan().any()


@pytest.mark.parametrize("variant", FED_BACK)
def test_frozen_decoders_are_folded_in_training_and_give_the_same_gradients(variant, products):
    model = make(top_down=variant, gain=3.0).double().train()
    found = []
    for learns in (True, False):
        model.decoders.requires_grad_(learns)
        model.zero_grad()
        second = look(model).second.tokens
        second.square().sum().backward()
        found.append((second, {n: p.grad for n, p in model.named_parameters() if not n.startswith("decoders")}))
    torch.testing.assert_close(*found, atol=1e-9, rtol=1e-9)
    assert products == [1]
    model.decoders.requires_grad_()
    assert look(model).second is not None and products == [1]
