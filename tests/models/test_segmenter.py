"""A segmenter on any trunk: maps of blocks, a gradient for every parameter, first weights; a class for every pixel."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from vl_absvit.config import VisionConfig
from vl_absvit.errors import ConfigError
from vl_absvit.losses import pixel_loss
from vl_absvit.models.architecture import build_vision
from vl_absvit.models.necks import NECKS
from vl_absvit.models.pixel_scores import View, Window, classify, enlarge, scores_of, window_starts, windows_of
from vl_absvit.models.segmenter import Segmenter, evenly_spaced
from vl_absvit.models.trunks.registry import trunk_named
from vl_absvit.planning.tally import Tally
from vl_absvit.variants import VARIANTS

TINY = {"image_size": 32, "width": 16, "depth": 2, "num_heads": 2, "gain": 1.0}
SIZES = {
    "absvit_rvt_tiny": {"image_size": 64, "width": [8, 16], "depth": [1, 1], "num_heads": [1, 2]},
    "absvit_fan_tiny": {"num_heads": 2},
    "absvit_gfnet_star_tiny": {},
}
HEADS = {"channels": 8, "auxiliary_channels": 6, "dropout": 0.1, "neck": "none"}


def build(model: str = "absvit_tiny_patch16_224", heads: dict = {}, **vision) -> Segmenter:  # noqa: B006
    config = VisionConfig(model=model, **TINY | vision)
    any_size = trunk_named(model).any_size or {}
    return Segmenter(build_vision(config, 0, trainable_prior=True, **any_size), 5, **HEADS | heads)


def test_maps_are_evenly_spaced_and_end_at_the_last_block():
    assert evenly_spaced(12) == [2, 5, 8, 11] and evenly_spaced(6) == [1, 2, 4, 5] and evenly_spaced(2) == [0, 0, 1, 1]
    for wrong in ([0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [-1, 0, 0, 1], []):
        with pytest.raises(
            ConfigError, match="maps: expected 4 blocks counted from 0, in order, the last of which is 1"
        ):
            build(heads={"maps": wrong})


@pytest.mark.parametrize(
    ("top_down", "neck", "model"),
    [
        *((top_down, "none", "absvit_tiny_patch16_224") for top_down in VARIANTS),
        ("absvit", "feature2pyramid", "absvit_tiny_patch16_224"),
        ("absvit", "multilevel", "absvit_tiny_patch16_224"),
        ("absvit", "none", "absvit_rvt_tiny"),
        ("absvit", "none", "absvit_fan_tiny"),
        ("absvit", "none", "absvit_gfnet_star_tiny"),
    ],
)
def test_every_parameter_has_a_gradient(top_down, neck, model):
    sizes = {"image_size": 32, **SIZES.get(model, {})}
    model = build(model, {"neck": neck}, top_down=top_down, **sizes).train()
    side = model.vision.image_size[0]
    out = model(torch.randn(2, 3, side, side), need_auxiliary=True, need_reconstruction=True)
    labels = torch.randint(5, (2, side, side))
    loss = sum(pixel_loss(one, labels, torch.tensor(9), 255) for one in (out.logits, out.auxiliary_logits))
    (loss + (0 if out.reconstruction is None else out.reconstruction)).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_the_maps_are_the_last_look_s_blocks_with_the_norm_on_the_last_alone():
    model = build(heads={"maps": [0, 0, 1, 1]}).eval()
    images = torch.randn(1, 3, 32, 48)
    looks = model.vision.look_twice(images)
    first, _, _, last = model.feature_maps(looks, images)
    assert first.shape == (1, 16, 2, 3)
    torch.testing.assert_close(first[0, :, 1, 2], looks.second.states[1][0, -1])
    torch.testing.assert_close(last[0, :, 0, 1], model.vision.norm(looks.second.states[-1])[0, 2])


def test_heads_start_as_mmsegmentation_s():
    model = build(heads={"channels": 64, "auxiliary_channels": 64})
    assert model.head.classifier[1].weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert not model.head.classifier[1].bias.any() and model.head.classifier[0].p == 0.1
    layer = model.head.fpn_bottleneck.conv  # 9 x 64 outgoing connections
    assert layer.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)


def test_a_batch_without_classes_costs_nothing_and_moves_nothing():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = pixel_loss(logits, torch.full((2, 8, 8), 255), torch.tensor(0), void=255)
    loss.backward()
    assert loss == 0 and not logits.grad.any()


def test_the_loss_is_the_mean_over_pixels_that_have_a_class():
    logits, labels = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 255], [2, 1]]])
    expected = (
        -(logits.log_softmax(1)[0, 0, 0, 0] + logits.log_softmax(1)[0, 2, 1, 0] + logits.log_softmax(1)[0, 1, 1, 1]) / 3
    )
    torch.testing.assert_close(pixel_loss(logits, labels, torch.tensor(3), void=255), expected)


@pytest.mark.parametrize(("length", "expected"), [(5, [0]), (8, [0]), (9, [0, 1]), (14, [0, 5, 6]), (18, [0, 5, 10])])
def test_the_last_window_ends_at_the_border(length, expected):
    assert window_starts(length, 8, 5) == expected


def test_windows_cover_every_pixel_and_none_beyond():
    for height, width in itertools.product((7, 8, 21), (8, 30)):
        seen = torch.zeros(height, width)
        for top, left, (rows, columns) in windows_of((height, width), (8, 8), (5, 5)):
            assert seen[top : top + rows, left : left + columns].shape == (rows, columns)
            seen[top : top + rows, left : left + columns] += 1
        assert seen.min() >= 1


def view(size, grid, classes=23, mirrored=False):
    return View([Window(torch.randn(classes, *grid), 0, 0, size, size)], size, mirrored)


def test_a_few_classes_at_a_time_give_the_class_of_all_at_once():
    torch.manual_seed(0)
    one = view((20, 30), (5, 8))
    whole = scores_of(one, slice(None), (41, 57))
    assert classify([one], (41, 57), at_once=4).equal(whole.argmax(0).byte())
    views = [one, view((20, 30), (5, 8), mirrored=True), view((10, 15), (3, 4))]
    mean = sum(scores_of(each, slice(None), (41, 57)).softmax(0) for each in views)
    assert classify(views, (41, 57), at_once=4).equal(mean.argmax(0).byte())


def test_the_first_of_equal_classes_is_taken():
    equal = View([Window(torch.zeros(7, 2, 2), 0, 0, (4, 4), (4, 4))], (4, 4))
    assert not classify([equal], (4, 4), at_once=2).any()
    assert not classify([equal, equal], (4, 4), at_once=2).any()


def test_what_fills_up_the_last_patches_is_cut_off_or_squeezed_in():
    logits = torch.randn(2, 1, 2)
    window = View([Window(logits, 0, 0, (8, 10), (8, 16))], (8, 10))
    cut = scores_of(window, slice(None), (8, 10), "cut")
    torch.testing.assert_close(cut, F.interpolate(logits[None], (8, 16), mode="bilinear")[0, ..., :10])
    stretched = scores_of(window, slice(None), (8, 10), "stretched")
    torch.testing.assert_close(stretched, F.interpolate(logits[None], (8, 10), mode="bilinear")[0])


def test_a_mirrored_view_is_turned_back():
    logits = torch.randn(3, 2, 4)
    plain = View([Window(logits, 0, 0, (8, 16), (8, 16))], (8, 16))
    mirrored = View([Window(logits.flip(-1), 0, 0, (8, 16), (8, 16))], (8, 16), is_mirrored=True)
    torch.testing.assert_close(*(scores_of(each, slice(None), (8, 16)) for each in (plain, mirrored)))


def peak_megabytes(compute) -> float:
    """Most memory that is held at once, beside the logits, on tensors without content."""
    with FakeTensorMode():
        logits = torch.empty(150, 64, 64)
        with Tally([logits]) as tally:
            compute(logits)
    return tally.peak / 2**20


def seen(logits: torch.Tensor, side: int, views: int = 1) -> list[View]:
    return [
        View([Window(logits, 0, 0, (side, side), (side, side))], (side, side), each % 2 == 1) for each in range(views)
    ]


@pytest.mark.slow
def test_150_classes_of_a_large_picture_fit_into_little_memory():
    def plain(logits):
        return enlarge(enlarge(logits[None], (1024, 1024)), (1031, 1031)).argmax(1)

    at_once = peak_megabytes(plain)
    assert at_once > 2 * 150 * 4, "all classes at two sizes"
    assert peak_megabytes(lambda logits: classify(seen(logits, 1024), (1031, 1031))) < 0.2 * at_once
    assert peak_megabytes(lambda logits: classify(seen(logits, 2100), (2101, 2101))) < 400
    assert peak_megabytes(lambda logits: classify(seen(logits, 1024, views=2), (1031, 1031))) < 0.3 * at_once


@pytest.mark.parametrize("neck", ["feature2pyramid", "multilevel"])
def test_a_map_of_a_single_row_is_not_halved_to_nothing(neck):
    maps = [torch.randn(1, 4, 1, 5) for _ in range(4)]
    assert [tuple(one.shape[-2:]) for one in NECKS[neck]([4] * 4)(maps)] == [(4, 20), (2, 10), (1, 5), (1, 2)]
