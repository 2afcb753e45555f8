"""Tokens to maps: which number lands on which patch."""

import pytest
import torch

from vl_absvit.attention.maps import norm_map, on_grid, prior_mask_map
from vl_absvit.errors import InputError
from vl_absvit.models.absvit import AbSViT


def test_patches_lie_on_the_grid_in_raster_order_without_the_cls_token():
    per_token = torch.tensor([[99.0, 1, 2, 3, 4]])
    assert on_grid(per_token).tolist() == [[[1, 2], [3, 4]]]


def test_a_norm_map_is_the_length_of_the_named_blocks_tokens_by_hand():
    states = [torch.full((1, 5, 2), float(k)) for k in range(5)]  # z_0, then the outputs of four blocks
    states[2][0, 1] = torch.tensor([3.0, 4.0])
    assert norm_map(states)[0, 0, 0] == 5  # third block from the end of four is block 1, whose output is z_2
    torch.testing.assert_close(norm_map(states, block=1), norm_map(states))
    torch.testing.assert_close(norm_map(states, block=-1), torch.full((1, 2, 2), 4 * 2**0.5))


@pytest.mark.parametrize("block", [-5, 4])
def test_a_block_that_does_not_exist_is_refused(block):
    with pytest.raises(InputError, match=f"no block {block}: the vision encoder has 4"):
        norm_map([torch.zeros(1, 5, 2)] * 5, block)


def test_the_maps_of_a_model_are_its_prior_mask_and_its_two_looks():
    model = AbSViT(img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, num_classes=0).eval()
    images, prior = torch.randn(2, 3, 32, 32), torch.randn(2, 16)
    with torch.no_grad():
        looks = model.look_twice(images, prior)
    cosine = torch.cosine_similarity(looks.first.tokens[:, 1:], prior[:, None], dim=-1).clamp(0, 1)
    torch.testing.assert_close(prior_mask_map(looks.prior_mask), cosine.reshape(2, 4, 4))
    for look in (looks.first, looks.second):
        assert norm_map(look.states).shape == (2, 4, 4)
    assert not torch.equal(norm_map(looks.first.states), norm_map(looks.second.states))
