"""Every value of ``vision.top_down`` against its formulas written out, at its neutral point, and on shared images."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from tests.models.test_absvit import IMAGE_INDEX, WIDTH, make
from tests.models.test_vl_model import ARCHITECTURE
from vl_absvit.errors import InputError
from vl_absvit.models.architecture import build_from_architecture
from vl_absvit.models.top_down import Steered, reconstruction_loss, relevance
from vl_absvit.models.trunks.vit import AbSViT
from vl_absvit.variants import VARIANTS, TopDown

STEERED = [name for name, variant in VARIANTS.items() if variant != VARIANTS["none"]]
FED_BACK = [name for name, variant in VARIANTS.items() if variant.feeds_back]
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
PRIOR = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2)).double()


def naive_look(model: AbSViT, images: Tensor, steer=lambda layer, depth, q, k, v: (q, k, v)) -> Tensor:
    """All blocks with explicit softmax attention; ``steer`` changes a block's queries, keys and values."""
    x = model._pos_embed(model.patch_embed(images))
    for depth, block in enumerate(model.blocks):
        q, k, v = steer(block.attn.qkv, depth, *block.attn.qkv(block.norm1(x)).chunk(3, dim=-1))
        q, k, v = (t.reshape(*t.shape[:2], 4, WIDTH // 4).permute(0, 2, 1, 3) for t in (q, k, v))
        mixed = (q @ k.transpose(2, 3) / (WIDTH // 4) ** 0.5).softmax(-1) @ v
        x = x + block.attn.proj(mixed.permute(0, 2, 1, 3).flatten(2))
        x = x + block.mlp(block.norm2(x))
    return model.norm(x)


def naive_signals(decoders: nn.ModuleList, u: Tensor) -> list[Tensor]:
    """td_l = T_l R_l ... R_L u."""
    signals = []
    for decoder in reversed(decoders):
        u = decoder.reconstruct(u)
        signals.insert(0, decoder.transform(u))
    return signals


def naive_seen(model: AbSViT, top_down: str, images: Tensor, prior: Tensor, modulation: str, gain: float) -> Tensor:
    """What the fusion sees of one image per prior."""
    z = naive_look(model, images)
    mask = torch.cosine_similarity(z, prior.unsqueeze(1), dim=-1).clamp(0, 1).unsqueeze(-1)
    reweighted = gain * mask * z
    if modulation == "reweight_project":
        reweighted = reweighted @ (prior.unsqueeze(2) @ prior.unsqueeze(1))

    def to_values(signals):
        return lambda layer, depth, q, k, v: (q, k, v + layer(signals[depth]).chunk(3, dim=-1)[2])

    def to_all(signals):
        return lambda layer, depth, *qkv: (
            a + b for a, b in zip(qkv, layer(signals[depth]).chunk(3, dim=-1), strict=True)
        )

    return {
        "none": lambda: z,
        "perceiver_io": lambda: reweighted,
        "feedback": lambda: naive_look(model, images, to_values(naive_signals(model.decoders, gain * z))),
        "mask_att": lambda: naive_look(model, images, lambda layer, depth, q, k, v: (q, k, mask * v)),
        "absvit": lambda: naive_look(model, images, to_values(naive_signals(model.decoders, reweighted))),
        "absvit_qkv": lambda: naive_look(model, images, to_all(naive_signals(model.decoders, reweighted))),
    }[top_down]()


def test_every_value_of_the_option_is_described():
    assert set(get_args(TopDown)) == set(VARIANTS)
    assert len({variant.label for variant in VARIANTS.values()}) == len(VARIANTS)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("modulation", "gain"), [("reweight", 3.0), ("reweight_project", 0.5)])
@pytest.mark.parametrize("top_down", VARIANTS)
def test_what_is_seen_equals_the_naive_formulas(top_down, modulation, gain, bias, shared):
    model = make(top_down=top_down, modulation=modulation, gain=gain, qkv_bias=bias)
    own = IMAGES[IMAGE_INDEX]
    images, index = (IMAGES, IMAGE_INDEX) if shared else (own, None)
    looks = model.look_twice(images, PRIOR, index)
    naive = naive_seen(model, top_down, own, PRIOR, modulation, gain)
    torch.testing.assert_close(looks.seen(index), naive, rtol=1e-10, atol=1e-10)
    if VARIANTS[top_down].uses_prior:
        mask = torch.cosine_similarity(naive_look(model, own), PRIOR.unsqueeze(1), dim=-1).clamp(0, 1)
        torch.testing.assert_close(looks.prior_mask, mask, rtol=1e-10, atol=1e-10)
    else:
        assert looks.prior_mask is None


@pytest.mark.parametrize("modulation", ["reweight", "reweight_project"])
@pytest.mark.parametrize("top_down", VARIANTS)
def test_a_model_of_bf16_weights_sees_in_bf16_and_measures_its_mask_in_fp32(top_down, modulation):
    model = make(top_down=top_down, modulation=modulation, gain=0.5).bfloat16()
    looks = model.look_twice(IMAGES.bfloat16(), PRIOR.bfloat16(), IMAGE_INDEX)
    exact = model.double().look_twice(IMAGES, PRIOR, IMAGE_INDEX)
    assert looks.seen(IMAGE_INDEX).dtype == torch.bfloat16
    torch.testing.assert_close(looks.seen(IMAGE_INDEX).double(), exact.seen(IMAGE_INDEX), rtol=0.1, atol=0.1)
    assert looks.prior_mask is None or looks.prior_mask.dtype == torch.float32


@pytest.mark.parametrize("top_down", VARIANTS)
def test_facts_and_parameters_are_those_of_the_table(top_down):
    model, variant = make(top_down=top_down), VARIANTS[top_down]
    assert (model.uses_prior, model.feeds_back, model.looks_twice) == variant[1:]
    assert (model.decoders is not None, model.prior is not None) == (variant.feeds_back, variant.uses_prior)
    plain = make(top_down="none").state_dict()
    state = {key: value for key, value in model.state_dict().items() if not key.startswith(("decoders.", "prior"))}
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in plain.items()}


@pytest.mark.parametrize("top_down", VARIANTS)
def test_blocks_run_as_often_and_on_as_many_rows_as_needed(top_down):
    model, rows = make(top_down=top_down), []
    model.blocks[1].register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    looks = model.look_twice(IMAGES, PRIOR, IMAGE_INDEX)
    once, per_image, per_text = [2], [2, 2], [2, 5]
    expected = {"none": once, "perceiver_io": once, "feedback": per_image}
    assert rows == expected.get(top_down, per_text)
    assert len(looks.seen(IMAGE_INDEX)) == 5
    if VARIANTS[top_down].looks_twice:
        assert looks.per_text(looks.second.states[0], IMAGE_INDEX).equal(looks.first.states[0][IMAGE_INDEX])


def test_perceiver_io_at_gain_zero_sees_nothing_and_at_a_full_mask_the_plain_tokens():
    model = make(top_down="perceiver_io", gain=0.0)
    assert not model.look_twice(IMAGES[IMAGE_INDEX], PRIOR).second.tokens.any()
    tokens = torch.randn(2, 1, WIDTH).double().expand(-1, 17, -1)  # all alike, and the prior like them
    steered = make(top_down="perceiver_io", gain=1.0).modulate(tokens, tokens[:, 0])
    torch.testing.assert_close(steered.tokens, tokens)


def test_mask_att_with_a_mask_of_ones_is_the_plain_vit_and_with_zeros_sees_no_other_token():
    model = make(top_down="mask_att")
    start = model.look_once(IMAGES).start
    plain = model.look(start)
    ones, zeros = (Steered(torch.full((2, 17), value).double(), None, None) for value in (1, 0))
    torch.testing.assert_close(model.look(start, [ones] * 3).tokens, plain.tokens)
    alone = model.look(start, [zeros] * 3)
    patches = start.tokens.clone()
    patches[:, 5] = 7
    changed = model.look(model.start(patches), [zeros] * 3)
    assert (changed.tokens != alone.tokens).any(dim=-1).nonzero()[:, 1].unique().tolist() == [5]


@pytest.mark.parametrize(("top_down", "thirds"), [("feedback", (2,)), ("absvit", (2,)), ("absvit_qkv", (0, 1, 2))])
@pytest.mark.parametrize("off", ["gain", "decoders"])
def test_without_a_signal_only_the_steered_biases_count_twice(top_down, thirds, off):
    model = make(top_down=top_down, gain=0.0 if off == "gain" else 2.0)
    if off == "decoders":
        for weight in model.decoders.parameters():
            weight.data.zero_()
    second = model.look_twice(IMAGES).second.tokens
    plain = make(top_down="none")
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith(("decoders.", "prior"))})
    assert not torch.allclose(second, plain.look_twice(IMAGES).first.tokens)
    for block in plain.blocks:
        for third in thirds:
            block.attn.qkv.bias.data[third * WIDTH : (third + 1) * WIDTH] *= 2
    torch.testing.assert_close(second, plain.look_twice(IMAGES).first.tokens)


@pytest.mark.parametrize("top_down", [name for name in STEERED if VARIANTS[name].uses_prior])
def test_the_trainable_query_is_a_prior_for_every_image(top_down):
    model = make(top_down=top_down)
    unasked, asked = model.look_twice(IMAGES), model.look_twice(IMAGES, model.prior.detach().expand(2, -1))
    torch.testing.assert_close(unasked.second.tokens, asked.second.tokens)
    torch.testing.assert_close(unasked.prior_mask, relevance(unasked.first.tokens, model.prior.expand(2, -1)))
    torch.testing.assert_close(model.forward_features(IMAGES), asked.second.tokens)


def whole_model(top_down: str):
    """A VQA model in double precision whose every parameter matters."""
    vision = ARCHITECTURE["vision"] | {"top_down": top_down, "modulation": "reweight", "gain": 3.0}
    sentence = "cls" if VARIANTS[top_down].uses_prior else None
    model = build_from_architecture(ARCHITECTURE | {"vision": vision, "sentence": sentence}, "test").double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("top_down", VARIANTS)
def test_questions_that_share_an_image_are_answered_as_if_each_had_its_own(top_down):
    model, token_ids = whole_model(top_down), torch.randint(3, 100, (5, 8))
    is_token = torch.ones_like(token_ids, dtype=torch.bool)
    shared = model(IMAGES, token_ids, is_token, IMAGE_INDEX)
    for row, image in enumerate(IMAGE_INDEX.tolist()):
        alone = model(IMAGES[image : image + 1], token_ids[row : row + 1], is_token[row : row + 1])
        torch.testing.assert_close(shared.logits[row], alone.logits[0])


@pytest.mark.parametrize("top_down", VARIANTS)
def test_the_reconstruction_loss_is_that_of_the_second_look_where_something_is_fed_back(top_down):
    model, token_ids = whole_model(top_down), torch.randint(3, 100, (5, 8))
    out = model(IMAGES, token_ids, token_ids > 0, IMAGE_INDEX, need_reconstruction=True)
    if top_down in FED_BACK:
        expected = reconstruction_loss(model.vision.decoders, out.looks.second.states)
        torch.testing.assert_close(out.reconstruction, expected)
    else:
        assert out.reconstruction is None


@pytest.mark.parametrize("top_down", [name for name in VARIANTS if VARIANTS[name].uses_prior])
def test_a_model_without_the_prior_that_it_uses_is_refused(top_down):
    vision = ARCHITECTURE["vision"] | {"top_down": top_down}
    with pytest.raises(InputError, match=f"the vision {VARIANTS[top_down].label} needs a prior, but 'sentence' is nul"):
        build_from_architecture(ARCHITECTURE | {"vision": vision, "sentence": None}, "test")
