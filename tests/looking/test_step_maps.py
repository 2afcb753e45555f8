"""Where a block attends after every step: of the right block, look and state, and refused where there is nothing."""

import pytest
import torch

from vl_absvit.config import VisionConfig
from vl_absvit.errors import ConfigError
from vl_absvit.looking.step_maps import step_maps
from vl_absvit.models.architecture import build_random_classifier
from vl_absvit.models.looks import VisualEncoder


def encoder(model: str = "absvit_deit_star_tiny", **options) -> VisualEncoder:
    """With a feedback that one sees."""
    sizes = {"image_size": 48, "width": 16, "depth": 3, "num_heads": 2, "gain": 1.0}
    if "rvt" in model:
        sizes |= {"width": [16, 32], "depth": [2, 1], "num_heads": [2, 4]}
    vision = build_random_classifier(
        VisionConfig(model=model, **sizes | options), 5, pooling="avg", norm_follows=False
    ).vision.eval()
    for weight in vision.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return vision


IMAGES = torch.randn(2, 3, 48, 48)


@torch.no_grad()
def looks_of(vision: VisualEncoder):
    return vision.look_twice(IMAGES)


def test_maps_are_those_of_the_blocks_own_input_in_the_second_look():
    vision = encoder(attention="vars_d", vars_generation="ista", vars_penalty=0.05)
    looks = looks_of(vision)
    for block in (0, 1, -1):
        found = step_maps(vision, looks, block)
        number = range(3)[block]
        assert (found.block, found.attention, found.steps) == (number, "vars_d", [0, 1, 2, 3, 4, 5])
        layer = vision.all_blocks[number]
        with torch.no_grad():
            projections = layer.project(looks.second.states[number], looks.signals[number])
            first = layer.project(looks.first.states[number])
            expected, energies = layer.attn.mean_weights(projections), layer.attn.energies(projections)
        torch.testing.assert_close(found.maps.flatten(2), expected)
        torch.testing.assert_close(found.energies, energies.mean(dim=2))
        assert not torch.allclose(expected, layer.attn.mean_weights(first), rtol=1e-2), "else the look would not matter"


def test_unless_said_otherwise_it_is_the_last_block_of_the_first_stage():
    vision = encoder("absvit_rvt_tiny", attention="vars_sd", top_down="none")
    found = step_maps(vision, looks_of(vision))
    assert found.block == 1 and found.maps.shape == (6, 2, 3, 3)
    assert step_maps(vision, looks_of(vision), 2).maps.shape == (6, 2, 2, 2)


def test_steps_can_be_chosen_beyond_the_models_own():
    vision = encoder(attention="vars_s", top_down="none", vars_penalty=0.1)
    looks = looks_of(vision)
    some = step_maps(vision, looks, steps=[1, 3, 7])
    all_of_them = step_maps(vision, looks)
    assert len(all_of_them.maps) == 4
    torch.testing.assert_close(some.maps[:2], all_of_them.maps[[1, 3]])
    torch.testing.assert_close(some.energies[:2], all_of_them.energies[[1, 3]])
    assert some.steps == [1, 3, 7] and some.energies[2].isfinite().all()


@pytest.mark.parametrize(
    "model, attention",
    [("absvit_deit_star_tiny", "softmax"), ("absvit_deit_star_tiny", "performer"), ("absvit_tiny_patch16_224", None)],
)
def test_what_attends_in_one_step_has_one_map_the_attention_of_the_average_token(model, attention):
    vision = encoder(model, attention=attention)
    looks = looks_of(vision)
    found = step_maps(vision, looks, 1)
    states = looks.second.states
    with torch.no_grad():
        weights = vision.all_blocks[1].attn.weights(vision.all_blocks[1].project(states[1], looks.signals[1]))
    torch.testing.assert_close(found.maps[0].flatten(1), weights.mean(dim=(1, 2))[:, vision.num_prefix_tokens :])
    assert found.energies is None and found.attention == (attention or "softmax")
    with pytest.raises(ConfigError, match="block 1 attends in one step, by (softmax|performer); other steps are about"):
        step_maps(vision, looks, 1, [1])


def test_a_global_filter_and_a_block_that_is_not_there_are_refused():
    vision = encoder("absvit_gfnet_tiny", top_down="none")
    with pytest.raises(
        ConfigError, match="block 2 is a global filter, which mixes the tokens of all images in the same"
    ):
        step_maps(vision, looks_of(vision))
    with pytest.raises(ConfigError, match="there is no block 3: the vision encoder has 3, from -3 to 2"):
        step_maps(vision, looks_of(vision), 3)
