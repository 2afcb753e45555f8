"""Batch norms of trunks with convolutions: a pass counts once, also where it is computed twice."""

import pytest
import torch

from vl_absvit.config import VisionConfig
from vl_absvit.models.architecture import build_random_classifier
from vl_absvit.models.heads import Classifier
from vl_absvit.models.token_norms import MapBatchNorm, TokenBatchNorm, follows_batches, recomputing, statistics_kept

SIZES = {"image_size": 48, "width": 16, "depth": 2, "num_heads": 2, "gain": 1.0}
TRUNKS = {
    "rvt": {"model": "absvit_rvt_small"},
    "fan": {"model": "absvit_fan_tiny"},
    "vars_s": {"model": "absvit_deit_star_tiny", "attention": "vars_s", "vars_penalty": 0.1},
}


def make(trunk: str, **options) -> Classifier:
    torch.manual_seed(0)
    vision = VisionConfig(**SIZES | TRUNKS[trunk] | options)
    return build_random_classifier(vision, 3, pooling="avg", norm_follows=False).train()


def step(model: Classifier) -> dict[str, torch.Tensor]:
    """Gradients after a forward and a backward pass of both looks."""
    images = torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    out = model(images)
    (out.first_logits.square().mean() + out.second_logits.square().mean()).backward()
    return {name: each.grad for name, each in model.named_parameters()}


@pytest.mark.parametrize("trunk", TRUNKS)
def test_recomputed_activations_leave_statistics_and_gradients_as_they_are_without(trunk):
    plain, recomputed = make(trunk), make(trunk)
    recomputed.vision.set_grad_checkpointing()
    expected, found = step(plain), step(recomputed)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-7)
    buffers = dict(recomputed.named_buffers())
    counts = {name: int(value) for name, value in buffers.items() if name.endswith("num_batches_tracked")}
    assert counts and all(count == (1 if "patch_embed" in name else 2) for name, count in counts.items())
    for name, value in plain.named_buffers():
        torch.testing.assert_close(buffers[name], value)


def test_where_vars_s_follows_its_kernel_a_recomputed_pass_does_not_follow_it_again():
    plain, recomputed = make("vars_s"), make("vars_s")
    recomputed.vision.set_grad_checkpointing()
    for model in (plain, recomputed):
        for block in model.vision.all_blocks:
            block.attn.L += 1
        step(model)
    for a, b in zip(plain.vision.all_blocks, recomputed.vision.all_blocks, strict=True):
        torch.testing.assert_close(b.attn.L, a.attn.L)
        torch.testing.assert_close(b.attn.L, b.attn.bound_of_kernel() + 0.9)


@pytest.mark.parametrize("norm, shape", [(MapBatchNorm, (4, 3, 2, 2)), (TokenBatchNorm, (4, 5, 3))])
def test_kept_statistics_are_kept_and_the_batch_is_normed_by_its_own(norm, shape):
    layer, x = norm(3).train(), torch.randn(shape)
    with statistics_kept():
        kept = layer(x)
        assert not follows_batches()
    assert follows_batches() and int(layer.num_batches_tracked) == 0 and not layer.running_mean.any()
    torch.testing.assert_close(layer(x), kept)
    assert int(layer.num_batches_tracked) == 1 and layer.running_mean.any()
    assert not torch.allclose(layer.eval()(x), kept)
    before, after = recomputing()
    with before:
        assert follows_batches()
    with after, statistics_kept():
        pass
    assert follows_batches()
