"""Attention in softmax's place where none is published: on ViT, whose CLS is a token like others, and on FAN."""

import pytest
import timm
import torch

from tests.models.learning import what_stays_still
from vl_absvit.errors import ConfigError
from vl_absvit.looking.explanation import choose_maps
from vl_absvit.models.attention import KINDS
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.trunks import fan, vit

VIT, FAN = "absvit_tiny_patch16_224", "absvit_fan_tiny"
PLACES = [(name, kind) for name, of in ((VIT, vit), (FAN, fan)) for kind in of.ATTENTIONS if kind != "softmax"]


def make(name: str, kind: str, **options) -> VisualEncoder:
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}
    return timm.create_model(name, **sizes, attention=kind, **options)


@pytest.mark.parametrize("top_down", ["absvit", "none"])
@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_all_blocks_have_it_and_every_parameter_learns(name, kind, top_down):
    model = make(name, kind, top_down=top_down).train()
    assert all(isinstance(block.attn, KINDS[kind]) for block in model.all_blocks)
    assert what_stays_still(model, torch.randn(4, 3, 32, 32)) == set()


def test_its_options_reach_the_layers_and_a_look_is_the_layers_one_after_another():
    model = make(
        VIT, "vars_d", top_down="none", attention_options={"steps": 2, "ratio": 3, "generation": "ista"}
    ).eval()
    assert {(block.attn.steps, block.attn.rand_matrix.shape) for block in model.all_blocks} == {(2, (2, 8, 24))}
    states = model.look_once(torch.randn(2, 3, 32, 32)).states
    x = states[0]
    assert x.shape == (2, 17, 16)
    for block in model.blocks:
        x = x + block.attn(block.norm1(x))
        x = x + block.mlp(block.norm2(x))
    torch.testing.assert_close(states[-1], x)


def test_there_are_no_maps_of_a_cls_token_without_attention_weights():
    assert {"bottom_up_cls", "top_down_cls"} <= set(choose_maps(make(VIT, "performer"), None).names)
    vision = make(VIT, "vars_d")
    assert not {"bottom_up_cls", "top_down_cls", "rollout"} & set(choose_maps(vision, None).names)
    with pytest.raises(ConfigError, match="has no attention weights in its last block"):
        choose_maps(vision, ["top_down_cls"])
