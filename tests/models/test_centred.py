"""Priors are compared with tokens less their mean: what all tokens share neither opens a mask nor ranks images."""

import pytest
import torch
from torch import nn

from vl_absvit.config import VisionConfig
from vl_absvit.errors import InputError
from vl_absvit.models.architecture import build_vision
from vl_absvit.models.closed_form import fit_mean_token
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.start_weights import fit_new
from vl_absvit.variants import VARIANTS

SIDE, WIDTH, SHARED = 28, 24, 50.0
SIZES = {"image_size": SIDE, "width": WIDTH, "depth": 2, "num_heads": 2, "patch_size": 7}
IMAGES = torch.randn(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
PRIORS = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1))
WITH_PRIOR = [name for name, variant in VARIANTS.items() if variant.uses_prior]


def a_trunk(model: str = "vit_small_patch14_reg4_dinov2", **changes) -> VisualEncoder:
    torch.manual_seed(2)
    vision = build_vision(VisionConfig(model=model, **SIZES, **changes), num_classes=0).eval()
    for weight in vision.parameters():
        nn.init.normal_(weight, std=0.3)
    return vision


def share_a_part(vision: VisualEncoder) -> None:
    """Add the same large vector to all tokens of every look, as pretrained trunks do."""
    with torch.no_grad():
        vision.norm.bias += SHARED


def masks(vision: VisualEncoder) -> torch.Tensor:
    return vision.look_twice(IMAGES, PRIORS).prior_mask


@pytest.mark.parametrize("mask", ["cosine", "calibrated"])
@pytest.mark.parametrize("top_down", WITH_PRIOR)
def test_a_constant_added_to_all_tokens_does_not_open_the_mask(top_down, mask):
    vision = a_trunk(top_down=top_down, mask=mask, centred=True)
    fit_mean_token(vision, IMAGES.split(2))
    before = masks(vision)
    share_a_part(vision)
    fit_mean_token(vision, IMAGES.split(2))
    torch.testing.assert_close(masks(vision), before, rtol=1e-3, atol=1e-4)
    assert 0.1 < (before > 0).float().mean() < 0.9


def test_without_a_mean_token_it_opens_or_shuts_the_mask_whole():
    vision = a_trunk()
    share_a_part(vision)
    is_open = masks(vision) > 0
    assert torch.equal(is_open.any(dim=1), is_open.all(dim=1)) and is_open.any()


@pytest.mark.parametrize("model", ["vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_224"])
def test_the_mean_token_is_that_of_all_patches_of_all_images(model):
    vision = a_trunk(model, centred=True)
    assert fit_mean_token(vision, IMAGES.split(2)) == 5
    with torch.no_grad():
        tokens = [vision.look_once(image[None]).tokens[0] for image in IMAGES]
    patches = torch.cat([each[vision.num_prefix_tokens :] for each in tokens])
    assert len(patches) == 5 * 16
    torch.testing.assert_close(vision.mean_token, patches.mean(dim=0))


def test_numbers_that_are_not_finite_are_refused():
    vision = a_trunk(centred=True)
    with pytest.raises(InputError, match="has numbers that are not finite"):
        fit_mean_token(vision, [IMAGES * torch.nan])


def test_a_mean_token_is_fitted_to_loaded_weights_that_hold_none(caplog):
    caplog.set_level("INFO")
    asked = []

    def fit(vision: VisualEncoder, part: str) -> str:
        asked.append(part)
        return "here"

    def entry(name: str):
        return type("Entry", (), {"status": "loaded", "name": f"vision.{name}"})

    trunk, both = a_trunk(centred=True), ("decoders", "mean_token")
    entries = fit_new(trunk, [entry("cls_token"), entry("decoders.0.reconstruct.weight")], both, fit)
    assert asked == ["mean_token"]
    assert [(each.name, each.source, each.numbers) for each in entries] == [
        ("vision.mean_token", "vision.mean_token here", WIDTH)
    ]
    assert fit_new(trunk, [entry("cls_token"), entry("mean_token")], ("mean_token",), fit) == []
    assert fit_new(trunk, [], ("mean_token",), fit) == [] and "whose mean token means nothing" in caplog.text
    assert fit_new(a_trunk(), [entry("cls_token")], ("mean_token",), fit) == [] and asked == ["mean_token"]
