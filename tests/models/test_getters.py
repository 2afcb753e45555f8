"""timm's ways to get features: all give the last look, as timm's own ViTs give their only one."""

import pytest
import timm
import torch

import vl_absvit.models  # noqa: F401  (registers the models)
from tests.models.test_absvit import BLOCKS, SIZE, WIDTH, make
from vl_absvit.errors import InputError
from vl_absvit.variants import VARIANTS

IMAGES = (2, 3, 32, 32)
PRIORED = [name for name, variant in VARIANTS.items() if variant.uses_prior]


def states_of(looks) -> list[torch.Tensor]:
    """Outputs of the blocks of the last look in which blocks ran."""
    return (looks.second if looks.second and looks.second.states else looks.first).states[1:]


def as_maps(tokens: torch.Tensor) -> torch.Tensor:
    return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), WIDTH, 4, 4)


@pytest.mark.parametrize("top_down", VARIANTS)
def test_getters_give_the_states_of_the_last_look(top_down):
    model, images = make(top_down=top_down), torch.randn(IMAGES).double()
    looks = model.look_twice(images)
    tokens, maps = model.forward_intermediates(images)
    torch.testing.assert_close(tokens, looks.seen(None), rtol=0, atol=0)
    for block, (given, state) in enumerate(zip(maps, states_of(looks), strict=True)):
        torch.testing.assert_close(given, as_maps(state), rtol=0, atol=0)
        (layer,) = model.get_intermediate_layers(images, [block], norm=True)
        torch.testing.assert_close(layer, model.norm(state)[:, 1:], rtol=0, atol=0)
    if VARIANTS[top_down].looks_twice:
        assert not torch.allclose(as_maps(looks.first.states[-1]), maps[-1])


@pytest.mark.parametrize("top_down", VARIANTS)
def test_features_only_is_that_of_timms_vits(top_down):
    images = torch.randn(IMAGES).double()
    sizes = {key: value for key, value in SIZE.items() if key != "num_classes"}
    for options in ({}, {"out_indices": (0, 2)}, {"out_indices": 1}, {"out_indices": [-3]}):
        made = [
            timm.create_model(f"{name}_tiny_patch16_224", features_only=True, **sizes, **options, **more)
            .double()
            .eval()
            for name, more in (("absvit", {"top_down": top_down}), ("vit", {}))
        ]
        ours, timms = made
        assert ours.feature_info.channels() == timms.feature_info.channels()
        assert ours.feature_info.reduction() == timms.feature_info.reduction()
        given, theirs = ours(images), timms(images)
        assert [each.shape for each in given] == [each.shape for each in theirs]
        expected = ours.model.forward_intermediates(images, ours.out_indices, intermediates_only=True)
        torch.testing.assert_close(given, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["absvit_rvt_tiny", "rvt_tiny", "absvit_fan_tiny", "absvit_gfnet_tiny"])
def test_features_only_is_there_for_every_trunk_also_of_fewer_stages(name):
    depth = [1, 1] if "rvt" in name else 3
    model = timm.create_model(name, features_only=True, img_size=32, depth=depth).eval()
    assert [tuple(each.shape[:2]) for each in model(torch.randn(2, 3, 32, 32))] == [
        (2, channels) for channels in model.feature_info.channels()
    ]
    assert len(model.feature_info.channels()) == (2 if "rvt" in name else 3)


@pytest.mark.parametrize("top_down", VARIANTS)
def test_a_getter_keeps_what_the_features_depend_on(top_down):
    whole, images = make(top_down=top_down), torch.randn(IMAGES).double()
    sizes = {key: value for key, value in SIZE.items() if key != "num_classes"}
    getter = timm.create_model(
        "absvit_tiny_patch16_224", features_only=True, out_indices=[0], top_down=top_down, **sizes
    ).double().eval()  # fmt: skip
    getter.model.load_state_dict(whole.state_dict(), strict=False)
    torch.testing.assert_close(getter(images)[0], as_maps(states_of(whole.look_twice(images))[0]))


def test_the_plain_encoder_gives_what_timms_vit_gives():
    model, images = make(top_down="none"), torch.randn(IMAGES).double()
    twin = timm.create_model("vit_tiny_patch16_224", **SIZE).double().eval()
    twin.load_state_dict(model.state_dict())
    for options in (
        {},
        {"indices": 2, "norm": True, "output_fmt": "NLC"},
        {"indices": [0, -1], "return_prefix_tokens": True, "intermediates_only": True},
        {"output_dict": True, "return_prefix_tokens": True},
        {"output_dict": True, "intermediates_only": True},
    ):
        given, expected = (each.forward_intermediates(images, **options) for each in (model, twin))
        torch.testing.assert_close(given, expected)
    for options in ({}, {"n": [0, 2], "reshape": True, "return_prefix_tokens": True}, {"n": BLOCKS, "norm": True}):
        given, expected = (each.get_intermediate_layers(images, **options) for each in (model, twin))
        torch.testing.assert_close(list(given), list(expected))


def test_weights_without_a_prior_make_an_encoder_without_one():
    state = make(trainable_prior=False).state_dict()
    model = make()
    model.load_state_dict(state)
    assert model.prior is None and set(model.state_dict()) == set(state)
    with pytest.raises(InputError, match="has no prior of its own"):
        model(torch.randn(IMAGES).double())
    with pytest.raises(RuntimeError, match="cls_token"):
        make().load_state_dict({key: value for key, value in state.items() if key != "cls_token"})


@pytest.mark.parametrize("top_down", PRIORED)
def test_without_any_prior_what_is_missing_is_said_and_the_first_look_is_had_by_name(top_down):
    model, images = make(top_down=top_down, trainable_prior=False), torch.randn(IMAGES).double()
    message = r"has no prior of its own: give one per image, \(B, 16\), as in look_twice\(images, prior\), .*look_once"
    for get in (model, model.forward_features, model.forward_intermediates, model.get_intermediate_layers):
        with pytest.raises(InputError, match=message):
            get(images)
    prior = torch.randn(2, WIDTH).double()
    torch.testing.assert_close(model.forward_features(images, prior), model.look_twice(images, prior).seen(None))
    (last,) = model.get_intermediate_layers(images, prior=prior)
    torch.testing.assert_close(last, states_of(model.look_twice(images, prior))[-1][:, 1:])
    tokens, maps = model.forward_intermediates(images, look="first")
    torch.testing.assert_close(tokens, model.look_once(images).tokens)
    torch.testing.assert_close(maps[-1], as_maps(model.look_once(images).states[-1]))


def test_a_prior_of_another_shape_and_an_unknown_look_are_one_line():
    model, images = make(), torch.randn(IMAGES).double()
    for shape in ((WIDTH,), (3, WIDTH), (2, WIDTH - 1), (2, 1, WIDTH)):
        with pytest.raises(InputError, match=r"^prior: expected one vector per image or text, \(2, 16\), got \("):
            model(images, torch.randn(shape).double())
    with pytest.raises(InputError, match="^look: expected 'last' or 'first', got 'second'$"):
        model.forward_intermediates(images, look="second")
