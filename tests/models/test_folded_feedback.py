"""Folded decoders: the outputs of the unfolded ones at half the products, and never those of earlier weights."""

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.models.test_absvit import BLOCKS, IMAGE_INDEX, WIDTH, make
from vl_absvit.models import top_down
from vl_absvit.models.absvit import AbSViT, TwoLooks
from vl_absvit.models.top_down import (
    FeedbackDecoder,
    FoldedDecoders,
    Steered,
    feed_back,
    feed_back_folded,
    fold,
    have_signal,
    keep_all,
    reweight,
)
from vl_absvit.planning.flops import flop_counter

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
PRIOR = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2)).double()
FED_BACK = ["absvit", "absvit_qkv", "feedback"]


@pytest.fixture
def folds(monkeypatch) -> list[int]:
    """Grows by one whenever decoders are folded."""
    seen, original = [], top_down.fold
    monkeypatch.setattr(top_down, "fold", lambda decoders: seen.append(1) or original(decoders))
    return seen


def folded(model: AbSViT, images: Tensor = IMAGES) -> TwoLooks:
    with torch.no_grad():
        return unfolded(model, images)


def unfolded(model: AbSViT, images: Tensor = IMAGES) -> TwoLooks:
    """The same under grad, where nothing is folded."""
    return model.look_twice(images, PRIOR.to(images), IMAGE_INDEX.to(images.device))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("modulation", ["reweight", "reweight_project"])
@pytest.mark.parametrize("variant", FED_BACK)
def test_looks_and_signals_are_those_of_unfolded_decoders(variant, modulation, dtype, bound, folds):
    model, images = make(top_down=variant, modulation=modulation, gain=3.0).to(dtype), IMAGES.to(dtype)
    ours, expected = folded(model, images), unfolded(model, images)
    assert folds == ([] if modulation == "reweight_project" and variant != "feedback" else [1])
    assert not torch.allclose(expected.second.tokens[0], expected.first.tokens[0], atol=0.1)
    compared = [(ours.second.tokens, expected.second.tokens)]
    compared += list(zip(ours.second.states, expected.second.states, strict=True))
    compared += [(a.tokens, b.tokens) for a, b in zip(ours.signals, expected.signals, strict=True)]
    for found, wanted in compared:
        assert ((found - wanted).abs().max() / wanted.abs().max()).item() < bound
    if variant != "feedback":
        assert torch.equal(ours.prior_mask, expected.prior_mask)


@pytest.mark.parametrize("variant", FED_BACK)
def test_where_something_can_learn_nothing_is_folded(variant, folds):
    model = make(top_down=variant)
    unfolded(model)
    folded(model.train())
    assert not folds


def test_decoders_get_their_gradients_after_an_evaluation():
    model, reference = make(), make()
    reference.load_state_dict(model.state_dict())
    folded(model)
    for one in (model, reference):
        unfolded(one).second.tokens.square().sum().backward()
    for ours, expected in zip(model.decoders.parameters(), reference.decoders.parameters(), strict=True):
        assert expected.grad.any() and torch.equal(ours.grad, expected.grad)


def test_decoders_are_folded_once_per_weights_and_not_per_batch(folds):
    model = make()
    for rows in (1, 2, 3):
        with torch.inference_mode() if rows == 2 else torch.no_grad():
            model.look_twice(IMAGES[:1].expand(rows, -1, -1, -1), PRIOR[:rows])
    assert len(folds) == 1
    unfolded(model).second.tokens.sum().backward()  # gradients are no new weights
    folded(model.train())
    folded(model.eval())
    assert len(folds) == 1
    with torch.no_grad():
        model.decoders[1].reconstruct.weight[0, 0] += 1
    folded(model), folded(model)
    assert len(folds) == 2


def load(model: AbSViT, assign: bool = False) -> AbSViT:
    model.load_state_dict(make().state_dict(), assign=assign)
    return model


def take_a_step(model: AbSViT, **kwargs) -> AbSViT:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, **kwargs)
    unfolded(model).second.tokens.square().sum().backward()
    optimizer.step()
    return model


def write_data(model: AbSViT) -> AbSViT:
    model.decoders[2].reconstruct.weight.data.neg_()
    return model


def replace_a_decoder(model: AbSViT) -> AbSViT:
    model.decoders[0] = FeedbackDecoder(width=WIDTH).double()
    return model


def copy_and_change(model: AbSViT) -> AbSViT:
    return write_data(copy.deepcopy(model))


def go_to_another_device(model: AbSViT) -> AbSViT:
    folded(model.to("meta"), IMAGES.to("meta"))
    return load(model.to_empty(device="cpu"))


CHANGES = {
    "load": load,
    "load by assignment": lambda model: load(model, assign=True),
    "step": lambda model: take_a_step(model, foreach=False),
    "foreach step": lambda model: take_a_step(model, foreach=True),
    "fused step": lambda model: take_a_step(model, fused=True),  # raises no version counter
    "data": write_data,  # neither does this
    "another decoder": replace_a_decoder,
    "a copy": copy_and_change,
    "rounded": lambda model: model.to(torch.float32).to(torch.float64),
    "device": go_to_another_device,
}


@pytest.mark.parametrize("change", CHANGES)
def test_new_weights_are_never_answered_with_the_old_ones(change):
    model = make()
    before = folded(model).second.tokens
    changed = CHANGES[change](model)
    ours, expected = folded(changed).second.tokens, unfolded(changed).second.tokens
    assert not torch.allclose(before, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-11)


def test_a_changed_copy_leaves_the_original_as_it_is(folds):
    model = make()
    before = folded(model).second.tokens
    folded(copy_and_change(model))
    torch.testing.assert_close(folded(model).second.tokens, before, rtol=0, atol=0)
    assert len(folds) == 2


def test_another_dtype_is_folded_afresh_without_a_change_of_dtype_in_the_outputs(folds):
    model = make()
    folded(model)
    looks = folded(model.to(torch.float32), IMAGES.float())
    assert looks.second.tokens.dtype == looks.signals[0].direction.dtype == torch.float32 and len(folds) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_model_that_moves_to_a_gpu_and_back_is_right_in_both_places():
    model = make()
    expected = folded(model).second.tokens
    with torch.no_grad():
        there = model.cuda().look_twice(IMAGES.cuda(), PRIOR.cuda(), IMAGE_INDEX.cuda()).second.tokens
    torch.testing.assert_close(there.cpu(), expected)
    torch.testing.assert_close(folded(model.cpu()).second.tokens, expected)


def test_what_inference_mode_folds_serves_other_modes_and_copies(folds):
    model = make()
    with torch.inference_mode():
        expected = model.look_twice(IMAGES).second.tokens.clone()
    for one in (model, copy.deepcopy(model)):
        with torch.no_grad():
            torch.testing.assert_close(one.look_twice(IMAGES).second.tokens, expected, rtol=0, atol=0)
    assert len(folds) == 1


def test_weights_without_version_counters_are_watched_as_well():
    with torch.inference_mode():
        model = make()
        before = model.look_twice(IMAGES).second.tokens.clone()
        model.decoders[0].transform.weight.neg_()
        ours = model.look_twice(IMAGES).second.tokens
        expected = make()
        expected.load_state_dict(model.state_dict())
        expected = expected.look_twice(IMAGES).second.tokens
    assert not torch.allclose(before, expected)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


def test_mixed_precision_folds_in_the_weights_own(folds):
    model, images = make().float(), IMAGES.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, expected = folded(model, images), unfolded(model, images)
    assert mixed.signals[0].direction.dtype == expected.signals[0].direction.dtype == torch.bfloat16
    exact = [signal.tokens for signal in folded(model, images).signals]  # the matrices are those folded above
    assert len(folds) == 1
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
    assert torch.equal(FoldedDecoders().matrices(decoders), fold(decoders).detach())


@pytest.mark.parametrize("index", [None, torch.tensor([1, 1, 0])])
def test_a_token_has_a_signal_if_any_text_about_its_image_gives_it_a_scale(index):
    scale = torch.tensor([[0.0, 1, 0, 0], [0, 0, 2, 0], [3, 0, 0, -1]]).unsqueeze(-1)
    direction = torch.ones(3 if index is None else 2, 4, 5)
    expected = [[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]] if index is None else [[1, 0, 0, 1], [0, 1, 1, 0]]
    assert have_signal(Steered(None, scale, direction, index)).tolist() == torch.tensor(expected).bool().tolist()


def test_products_run_on_tokens_with_a_signal_alone_and_once_per_block():
    decoders = nn.ModuleList(FeedbackDecoder(width=WIDTH) for _ in range(BLOCKS)).double()
    tokens = torch.randn(2, 17, WIDTH).double()
    matrices = FoldedDecoders().matrices(decoders)
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
