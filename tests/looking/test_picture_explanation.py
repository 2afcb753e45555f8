"""Maps of classifiers, of every trunk and variant: from the pass that classifies, each by its definition."""

import pytest
import timm
import torch

from tests.tiny_vqa import tiny_vision
from vl_absvit.errors import ConfigError
from vl_absvit.looking.explanation import OF_SECOND_LOOK, PICTURE_MAPS, choose_maps, explain_pictures
from vl_absvit.models.architecture import build_random_classifier
from vl_absvit.models.heads import Classifier
from vl_absvit.variants import VARIANTS

CLASSES = 5
SMALL = {"img_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": CLASSES}


def classifier(top_down: str = "absvit", pooling: str = "token", **changes) -> Classifier:
    """A ViT in double precision whose every parameter matters."""
    config = tiny_vision(gain=1.0, top_down=top_down, **changes)
    return lively(build_random_classifier(config, CLASSES, pooling=pooling, norm_follows=False))


def trunk_named(name: str, **changes) -> Classifier:
    return lively(Classifier(timm.create_model(name, **(SMALL | changes))))


def lively(model: Classifier) -> Classifier:
    for parameter in model.double().eval().parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def images(count: int = 3, side: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, side, side, dtype=torch.double)


def all_maps(model: Classifier):
    return choose_maps(model.vision, None, kinds=PICTURE_MAPS)


@pytest.mark.parametrize("top_down", VARIANTS)
def test_a_variant_has_the_maps_that_it_can_have_from_the_pass_that_classifies(top_down):
    model, batch, variant = classifier(top_down), images(), VARIANTS[top_down]
    choice = all_maps(model)
    lacking = {*(() if variant.looks_twice else OF_SECOND_LOOK), *(() if variant.uses_prior else ["prior_mask"])}
    assert set(choice.names) == set(PICTURE_MAPS) - lacking
    explained = explain_pictures(model, batch, choice)
    torch.testing.assert_close(explained.logits, model(batch).last_logits, rtol=1e-9, atol=1e-9)
    assert all(grids.shape == (3, 2, 2) and grids.isfinite().all() for grids in explained.maps.values())
    assert not any(grids.requires_grad for grids in explained.maps.values())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "changes", "has_rollout"),
    [
        ("absvit_rvt_tiny", {}, True),
        ("absvit_rvt_tiny", {"attention": "performer"}, True),
        ("absvit_rvt_tiny", {"attention": "vars_d"}, False),
        ("absvit_rvt_tiny", {"attention": "vars_s"}, False),
        ("absvit_rvt_tiny", {"embed_dim": [8, 16], "depth": [1, 2], "num_heads": [1, 2], "img_size": 64}, False),
        ("absvit_fan_tiny", {}, True),
        ("absvit_gfnet_tiny", {"patch_size": 16}, False),
    ],
)
def test_a_trunk_without_cls_has_the_maps_that_it_can_have(name, changes, has_rollout):
    model, batch = trunk_named(name, **changes), images(2, changes.get("img_size", 32))
    choice = all_maps(model)
    assert not {"bottom_up_cls", "top_down_cls"} & set(choice.names) and ("rollout" in choice.names) == has_rollout
    explained = explain_pictures(model, batch, choice)
    torch.testing.assert_close(explained.logits, model(batch).last_logits, rtol=1e-9, atol=1e-9)
    assert all(grids.ndim == 3 and grids.isfinite().all() for grids in explained.maps.values())
    if not has_rollout:
        with pytest.raises(ConfigError, match="no map 'rollout'.* has blocks without attention weights, or on several"):
            choose_maps(model.vision, ["rollout"], kinds=PICTURE_MAPS)


@pytest.mark.parametrize(("top_down", "pooling"), [("none", "avg"), ("perceiver_io", "token"), ("absvit", "token")])
def test_grad_cam_weighs_what_enters_the_last_block_by_the_mean_gradient_of_the_class(top_down, pooling):
    """By finite differences of the whole classification, with the block's input as it was or moved along a channel."""
    model, batch = classifier(top_down, pooling), images(1)
    vision, block, kept = model.vision, model.vision.blocks[-1], []
    forward = block.forward

    def logits(moved: torch.Tensor) -> torch.Tensor:
        """Of the picture, once for each way in which the block's input is moved in the last look."""
        passes = []

        def replaced(x, *signals):
            passes.append(x)
            if len(passes) < (2 if vision.looks_twice else 1):
                return forward(x, *signals)
            kept.append(x[0])
            return forward(x + moved, signals[0] if signals else None)

        block.forward = replaced
        try:
            return model(batch.expand(len(moved), -1, -1, -1)).last_logits
        finally:
            block.forward = forward

    width, step = 16, 1e-5
    label = logits(torch.zeros(1, 5, width, dtype=torch.double))[0].argmax()
    moves = step * torch.eye(5 * width, dtype=torch.double).reshape(5, width, 5, width)[1:].flatten(0, 1)
    slopes = (logits(moves)[:, label] - logits(-moves)[:, label]) / (2 * step)
    weights = slopes.reshape(4, width).mean(0)
    expected = (kept[0][1:] @ weights).clamp(min=0).reshape(2, 2)
    found = explain_pictures(model, batch, choose_maps(vision, ["grad_cam"], kinds=PICTURE_MAPS)).maps["grad_cam"][0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_rollout_multiplies_half_attention_and_half_identity_of_the_last_look():
    model, batch = classifier("absvit", depth=3), images(1)
    states = model.vision.look_twice(batch).second.states
    rolled = torch.eye(5, dtype=torch.double)
    for block, x in zip(model.vision.blocks, states, strict=False):
        q, k, _ = block.attn.qkv(block.norm1(x[0])).unflatten(-1, (3, 2, 8)).unbind(1)
        attention = torch.einsum("nhd,mhd->hnm", q, k).div(8**0.5).softmax(-1).mean(0)
        rolled = (0.5 * attention + 0.5 * torch.eye(5, dtype=torch.double)) @ rolled
    found = explain_pictures(model, batch, choose_maps(model.vision, ["rollout"], kinds=PICTURE_MAPS)).maps["rollout"]
    torch.testing.assert_close(found[0], rolled[0, 1:].reshape(2, 2))


def test_the_average_map_is_the_cosine_with_the_mean_patch():
    model, batch = classifier("absvit"), images(2)
    looks = model.vision.look_twice(batch)
    maps = explain_pictures(model, batch, all_maps(model)).maps
    for name, tokens in (("bottom_up_average", looks.first.tokens), ("top_down_average", looks.second.tokens)):
        patches = tokens[:, 1:]
        mean = patches.mean(1)
        expected = (patches @ mean[..., None])[..., 0] / patches.norm(dim=-1) / mean.norm(dim=-1)[:, None]
        torch.testing.assert_close(maps[name], expected.reshape(2, 2, 2))


def test_a_class_as_prior_steers_the_second_look_and_its_mask():
    model, batch = classifier("absvit"), images(2)
    choice, row = all_maps(model), model.vision.head.weight.detach()[3]
    steered, own = explain_pictures(model, batch, choice, row), explain_pictures(model, batch, choice)
    cosine = torch.cosine_similarity(model.vision.look_once(batch).tokens[:, 1:], row, dim=-1).clamp(0, 1)
    torch.testing.assert_close(steered.maps["prior_mask"], cosine.reshape(2, 2, 2))
    assert torch.equal(steered.maps["bottom_up"], own.maps["bottom_up"])
    assert not torch.allclose(steered.maps["top_down"], own.maps["top_down"])


def test_pictures_are_alone_as_in_company():
    model, batch = classifier("absvit"), images(4)
    choice = all_maps(model)
    together = explain_pictures(model, batch, choice).maps
    for row in range(4):
        alone = explain_pictures(model, batch[row : row + 1], choice).maps
        for name, grids in together.items():
            torch.testing.assert_close(alone[name][0], grids[row])
