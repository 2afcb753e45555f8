"""A trunk unlike a ViT, that of CONTRIBUTING.md: two stages, no CLS token, grids that are not square here."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.contributing import put_in_place
from tests.models.test_absvit import IMAGE_INDEX, naive_block
from tests.models.test_vl_model import ARCHITECTURE
from vl_absvit.config import VisionConfig
from vl_absvit.errors import ConfigError
from vl_absvit.looking.explanation import choose_maps
from vl_absvit.looking.maps import norm_map, prior_mask_map
from vl_absvit.models import VLAbSViT
from vl_absvit.models.architecture import build_from_architecture, build_random_classifier, build_vision
from vl_absvit.models.closed_form import fit_decoders
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.prior import prior_similarity
from vl_absvit.models.top_down import Steered, feed_back, reconstruction_loss
from vl_absvit.token_grid import TokenGrid
from vl_absvit.variants import VARIANTS

FIRST, LAST, SIDE = (3, 6), (2, 3), 24  # grids; pixels
NARROW, WIDTH = 8, 16
NAME = "absvit_pyramid_patch8_224"
SIZES = {"img_size": (24, 48), "embed_dim": [NARROW, WIDTH], "depth": [2, 1], "num_heads": [2, 4]}
VISION = {"model": NAME, "image_size": SIDE, "width": [NARROW, WIDTH], "depth": [2, 1], "num_heads": [2, 4]}
IMAGES = torch.randn(2, 3, 24, 48, generator=torch.Generator().manual_seed(1)).double()
PRIOR = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2)).double()


@pytest.fixture(autouse=True, scope="module")
def registered(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        put_in_place(tmp_path_factory.mktemp("contributed"), patch)
        yield


def make(**kwargs) -> VisualEncoder:
    """In double precision, every parameter matters."""
    torch.manual_seed(0)
    model = timm.create_model(NAME, **(SIZES | {"num_classes": 0} | kwargs)).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def naive_look(model: VisualEncoder, images: Tensor, signals: list[Tensor | None]) -> list[Tensor]:
    """z_0 and what every step makes of the one before: two blocks, the pooling, one block."""
    patches = F.conv2d(images, model.patches.weight, model.patches.bias, stride=8).flatten(2).transpose(1, 2)
    states = [patches + model.pos_embed]
    for block, signal in zip(model.fine, signals[:2], strict=True):
        states.append(naive_block(block, states[-1], signal))
    maps = states[-1].transpose(1, 2).reshape(len(images), NARROW, *FIRST)
    maps = F.conv2d(maps, model.pooling.weight, model.pooling.bias, stride=2, padding=1)
    states.append(maps.flatten(2).transpose(1, 2))
    return [*states, naive_block(model.coarse[0], states[-1], signals[2])]


def naive_crossing(model: VisualEncoder, tokens: Tensor) -> Tensor:
    """From the last grid to the first: 2 -> 3 rows and 3 -> 6 columns."""
    maps, weight = tokens.transpose(1, 2).reshape(-1, WIDTH, *LAST), model.decoders[2].cross.weight
    maps = F.conv_transpose2d(maps, weight, stride=2, padding=1, output_padding=(0, 1))
    return maps.flatten(2).transpose(1, 2)


def naive_signals(model: VisualEncoder, u: Tensor) -> list[Tensor]:
    """From the modulated tokens to the top-down inputs of three blocks."""
    one, two, three = model.decoders
    r_3 = u @ three.reconstruct.weight.T
    r_2 = naive_crossing(model, r_3) @ two.reconstruct.weight.T
    r_1 = r_2 @ one.reconstruct.weight.T
    return [r @ decoder.transform.weight.T for r, decoder in zip((r_1, r_2, r_3), model.decoders, strict=True)]


@pytest.mark.parametrize(("modulation", "gain"), [("reweight", 10.0), ("reweight_project", 5.0)])
@pytest.mark.parametrize("folds", [False, True])
def test_the_four_steps_are_those_of_the_naive_formulas(modulation, gain, folds):
    model = make(modulation=modulation, gain=gain)
    if folds:
        model.fold()
    with torch.set_grad_enabled(not folds):
        looks = model.look_twice(IMAGES, PRIOR, IMAGE_INDEX)
    images = IMAGES[IMAGE_INDEX]
    z = model.norm(naive_look(model, images, [None] * 3)[-1])
    mask = torch.cosine_similarity(z, PRIOR.unsqueeze(1), dim=-1).clamp(0, 1)
    u = gain * mask.unsqueeze(-1) * z
    if modulation == "reweight_project":
        u = u @ (PRIOR.unsqueeze(2) @ PRIOR.unsqueeze(1))
    signals = naive_signals(model, u)
    torch.testing.assert_close(looks.prior_mask, mask)
    for ours, expected in zip(looks.signals, signals, strict=True):
        torch.testing.assert_close(ours.tokens, expected)
    for ours, expected in zip(looks.second.states, naive_look(model, images, signals), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("top_down", VARIANTS)
def test_every_variant_runs_and_folding_changes_none(top_down):
    model = make(top_down=top_down, num_classes=3, mask="calibrated")
    expected = model.look_twice(IMAGES, PRIOR, IMAGE_INDEX).seen(IMAGE_INDEX)
    model.fold()
    with torch.no_grad():
        torch.testing.assert_close(model.look_twice(IMAGES, PRIOR, IMAGE_INDEX).seen(IMAGE_INDEX), expected)
        assert model(IMAGES, PRIOR[:2]).shape == (2, 3)


def test_a_mask_on_another_grid_is_that_of_the_nearest_token():
    model = make(top_down="mask_att")
    looks = model.look_twice(IMAGES, PRIOR[:2])
    mask = looks.prior_mask.reshape(2, *LAST)
    nearest = mask[:, [0, 0, 1]][:, :, [0, 0, 1, 1, 2, 2]].flatten(1)
    assert [signal.mask.tolist() for signal in looks.signals] == [nearest.tolist()] * 2 + [looks.prior_mask.tolist()]


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize("start", [1, 2])
def test_a_second_look_of_the_last_blocks_alone_has_no_signals_below(start, folds):
    model, whole = make(gain=3.0, looks_again_from=start), make(gain=3.0)
    whole.load_state_dict(model.state_dict(), strict=False)
    if folds:
        model.fold()
    with torch.set_grad_enabled(not folds):
        looks = model.look_twice(IMAGES, PRIOR, IMAGE_INDEX)
    images = IMAGES[IMAGE_INDEX]
    z = model.norm(naive_look(model, images, [None] * 3)[-1])
    u = 3.0 * torch.cosine_similarity(z, PRIOR.unsqueeze(1), dim=-1).clamp(0, 1).unsqueeze(-1) * z
    signals = [None] * start + naive_signals(whole, u)[start:]
    for ours, expected in zip(looks.second_states(IMAGE_INDEX), naive_look(model, images, signals), strict=True):
        torch.testing.assert_close(ours, expected)
    assert looks.second.states[0].shape[1:] == ((18, NARROW) if start == 1 else (6, WIDTH))
    assert [len(model.outputs(states)) for states in (looks.first.states, looks.second_states(None))] == [3, 3]


@pytest.mark.parametrize("start", [1, 2])
def test_decoders_below_are_neither_there_nor_in_the_losses_nor_fitted(start):
    model = make(looks_again_from=start)
    named = {f"decoders.{block}.reconstruct.weight" for block in range(start, 3)}
    named |= {"decoders.2.cross.weight"} if start == 1 else set()
    states = model.look_twice(IMAGES, PRIOR[:2]).second.states
    pairs = [(states[-1] @ model.decoders[2].reconstruct.weight.T, states[-2])]
    if start == 1:
        pairs += [(states[1] @ model.decoders[1].reconstruct.weight.T, states[0])]
        pairs += [(naive_crossing(model, states[2]), states[1])]
    loss = model.decoder_losses(states, need_reconstruction=True, need_transform=False).reconstruction
    torch.testing.assert_close(loss, sum(((ours - theirs) ** 2).mean() for ours, theirs in pairs))
    loss.backward()
    assert {name for name, weight in model.named_parameters() if weight.grad is not None} == named
    whole = make()
    whole.load_state_dict(model.state_dict(), strict=False)
    for each in (model, whole):
        fit_decoders(each.float(), IMAGES.float().split(1))
    expected = whole.state_dict()
    for name, weight in model.decoders.state_dict(prefix="decoders.").items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-3, atol=1e-4)


def test_a_mask_goes_to_the_blocks_that_look_again():
    looks = make(top_down="mask_att", looks_again_from=1).look_twice(IMAGES, PRIOR[:2])
    assert [signal.mask.shape[1] for signal in looks.signals] == [18, 6]


def test_the_reconstruction_loss_is_that_of_blocks_and_poolings():
    model = make()
    states = model.look_twice(IMAGES, PRIOR[:2]).second.states
    pairs = [(states[1] @ model.decoders[0].reconstruct.weight.T, states[0])]
    pairs += [(states[2] @ model.decoders[1].reconstruct.weight.T, states[1])]
    pairs += [(naive_crossing(model, states[3]), states[2])]
    pairs += [(states[4] @ model.decoders[2].reconstruct.weight.T, states[3])]
    expected = sum(((ours - theirs) ** 2).mean() for ours, theirs in pairs)
    loss = reconstruction_loss(model.decoders, states)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    learning = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert learning == {f"decoders.{block}.reconstruct.weight" for block in range(3)} | {"decoders.2.cross.weight"}


def test_decoders_in_closed_form_explain_what_they_say_and_the_crossing_cannot_be_bettered():
    model = make(num_classes=0)
    images = torch.randn(40, 3, 24, 48, generator=torch.Generator().manual_seed(3)).double()
    model.float()
    fitted = fit_decoders(model, iter(images.float().split(16)))
    model.double()
    with torch.no_grad():
        first = model.look_once(images)
    signals = feed_back(model.decoders, Steered(None, torch.ones(1, 1, 1).double(), first.tokens))
    inputs = [first.states[0], first.states[1], first.states[3]]
    said = torch.cat([stage.normed_explained for stage in fitted])
    for block, signal, x, share in zip(model.all_blocks, signals, inputs, said, strict=True):
        target = block.norm1(x).flatten(0, 1)
        spread = (target - target.mean(dim=0)).square().sum()
        explained = 1 - (signal.tokens.flatten(0, 1) - target).square().sum() / spread
        torch.testing.assert_close(explained, share, rtol=0, atol=1e-4)
        assert explained > 0.05
    found = first.tokens @ model.decoders[2].reconstruct.weight.T
    weight, slopes = model.decoders[2].cross.weight, []
    for at in (weight.detach().clone(), torch.zeros_like(weight)):
        weight.data = at
        loss = (naive_crossing(model, found.detach()) - first.states[2]).square().sum()
        slopes.append(torch.autograd.grad(loss, weight)[0].norm())
    assert slopes[0] < 0.01 * slopes[1]


def test_maps_lie_on_the_grid_of_their_block_and_there_are_none_of_a_cls_token():
    model = make()
    looks = model.look_twice(IMAGES, PRIOR[:2])
    outputs = model.outputs(looks.second.states)
    assert [model.token_grid(block) for block in (0, 1, 2, -1)] == [TokenGrid(0, *FIRST)] * 2 + [
        TokenGrid(0, *LAST)
    ] * 2
    for block, grid in ((0, FIRST), (-1, LAST)):
        expected = outputs[block].norm(dim=-1).reshape(2, *grid)
        torch.testing.assert_close(norm_map(outputs, model.token_grid(block), block), expected)
    assert prior_mask_map(looks.prior_mask, model.token_grid()).shape == (2, *LAST)
    assert not {"bottom_up_cls", "top_down_cls"} & set(choose_maps(model, None, block=-1).names)
    with pytest.raises(ConfigError, match="no map 'top_down_cls': the model's encoder, AbSViT, has no CLS token"):
        choose_maps(model, ["top_down_cls"])


def test_timms_getters_give_the_last_look_by_stage():
    model = make()
    states = model.look_twice(IMAGES).second.states
    tokens, (first, last) = model.forward_intermediates(IMAGES)
    assert torch.equal(tokens, model.norm(states[-1]))
    assert torch.equal(first.flatten(2).mT, states[2]) and first.shape == (2, NARROW, *FIRST)
    assert torch.equal(last.flatten(2).mT, states[4]) and last.shape == (2, WIDTH, *LAST)


def test_a_prior_is_compared_with_all_tokens_where_none_stands_before_the_patches():
    tokens = make().look_once(IMAGES).tokens
    cosines = torch.cosine_similarity(PRIOR[:, None, None], tokens[None], dim=-1)
    torch.testing.assert_close(prior_similarity(PRIOR, tokens, "max", prefix_tokens=0), cosines.amax(dim=2))


def test_a_whole_model_is_built_on_it_from_a_config_and_saved_and_read(tmp_path):
    config = ARCHITECTURE | {"vision": VISION | {"gain": 2.0}, "sentence": "cls"}
    model = build_from_architecture(config, "test").eval()
    inputs = (IMAGES[..., :SIDE].float(), torch.tensor([[0, 5, 2], [0, 6, 2]]), torch.ones(2, 3, dtype=torch.bool))
    out = model(*inputs, need_reconstruction=True, need_transform=True)
    assert out.logits.shape == (2, 17) and out.reconstruction > 0 and out.transform > 0
    assert model.compare(out.prior, out.looks.first).shape == (2, 2)
    fused = model.fusion(model.encode_texts(*inputs[1:]).tokens, inputs[2], out.looks.second.tokens)
    mean = torch.tanh(model.fusion.image_pooler.linear(fused.image.mean(dim=1)))
    torch.testing.assert_close(out.logits, model.head(torch.cat([fused.pooled[:, :32], mean], dim=1)))
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(VLAbSViT.from_pretrained(tmp_path)(*inputs).logits, out.logits)


@pytest.mark.parametrize(
    ("make_model", "message"),
    [
        (
            lambda: build_from_architecture(
                ARCHITECTURE | {"vision": VISION, "pool": "cls"}, "test"
            ),
            "prior.pool cls: vision.model absvit_pyramid_patch8_224 has no CLS token",
        ),
        (
            lambda: build_random_classifier(
                VisionConfig(**VISION), 3, pooling="token", norm_follows=False
            ),
            "pooling token: vision.model absvit_pyramid_patch8_224 has no CLS token; pooling avg takes the mean",
        ),
        (
            lambda: build_vision(VisionConfig(**VISION | {"width": 16}), 0),
            "vision.width: expected 2 of absvit_pyramid_patch8_224, one per stage, got 1",
        ),
        (
            lambda: build_vision(VisionConfig(**VISION | {"num_heads": [2, 3]}), 0),
            "vision.width 16 does not divide into 3 heads",
        ),
    ],
)  # fmt: skip
def test_what_it_cannot_do_is_one_line(make_model, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        make_model()


@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_first_look_that_was_kept_starts_the_second_one_in_its_stage(start):
    model = make(looks_again_from=start)
    with torch.no_grad():
        first, kept = model.look_once(IMAGES), model.first_look_to_keep(IMAGES)
        again = model.look_once(kept)
        assert kept.shape == (2, model.numbers_to_keep) and kept.dtype == torch.bfloat16
        assert torch.equal(again.tokens, first.tokens.bfloat16().double())
        assert torch.equal(again.start.tokens, first.start.tokens.bfloat16().double())
        rounded = first._replace(tokens=again.tokens, start=model.start(again.start.tokens))
        second, expected = (model.look_again(each, PRIOR, IMAGE_INDEX).second.tokens for each in (again, rounded))
    assert torch.equal(second, expected) and not torch.equal(second, model.look_twice(IMAGES, PRIOR, IMAGE_INDEX)[1][0])


@pytest.mark.parametrize(
    "model, top_down, label",
    [
        ("absvit_tiny_patch16_224", "none", "ViT"),
        ("absvit_tiny_patch16_224", "mask_att", "MaskAtt"),
        ("absvit_rvt_tiny", "absvit", "AbSViT on RVT"),
        ("absvit_fan_tiny", "feedback", "Feedback on FAN"),
        ("absvit_deit_star_tiny", "none", "DeiT*"),
        ("absvit_gfnet_star_tiny", "absvit", "AbSViT on GFNet*"),
        ("absvit_gfnet_tiny", "none", "GFNet"),
    ],
)
def test_an_encoder_is_called_by_its_variant_and_its_trunk(model, top_down, label):
    with torch.device("meta"):
        assert timm.create_model(model, top_down=top_down).label == label


def test_so_is_a_contributed_one():
    assert make(top_down="none").label == "pyramid" and make(top_down="absvit").label == "AbSViT on pyramid"
