"""A second look in the last blocks alone: against a naive one of all blocks, no signal below, with its gradients."""

from dataclasses import asdict

import pytest
import torch
from torch import Tensor, nn

from tests.models.test_absvit import BLOCKS, IMAGE_INDEX, WIDTH, make
from tests.models.test_vl_model import ARCHITECTURE
from vl_absvit.config import VisionConfig
from vl_absvit.errors import ConfigError
from vl_absvit.models import VLAbSViT
from vl_absvit.models.architecture import build_from_architecture, build_vision
from vl_absvit.models.closed_form import fit_decoders
from vl_absvit.models.top_down import Steered, feed_back
from vl_absvit.models.trunks.vit import AbSViT
from vl_absvit.variants import VARIANTS

AGAIN = [name for name, variant in VARIANTS.items() if variant.looks_twice]
FED_BACK = [name for name in AGAIN if VARIANTS[name].feeds_back]
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
PRIOR = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2)).double()


def naive_states(model: AbSViT, images: Tensor, signals: list[Tensor | None]) -> list[Tensor]:
    """z_0 and the output of every block; a block without a signal sees what it saw at first."""
    states = [model._pos_embed(model.patch_embed(images))]
    for block, signal in zip(model.blocks, signals, strict=True):
        x = states[-1]
        q, k, v = block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)
        if signal is not None and model.variant is VARIANTS["mask_att"]:
            v = signal * v
        elif signal is not None:
            added = block.attn.qkv(signal).chunk(3, dim=-1)
            v = v + added[2]
            if model.variant is VARIANTS["absvit_qkv"]:
                q, k = q + added[0], k + added[1]
        q, k, v = (t.reshape(*t.shape[:2], 4, WIDTH // 4).permute(0, 2, 1, 3) for t in (q, k, v))
        mixed = (q @ k.transpose(2, 3) / (WIDTH // 4) ** 0.5).softmax(-1) @ v
        x = x + block.attn.proj(mixed.permute(0, 2, 1, 3).flatten(2))
        states.append(x + block.mlp(block.norm2(x)))
    return states


def naive_second(model: AbSViT, images: Tensor, start: int, gain: float, project: bool) -> list[Tensor]:
    """States of a second look through all blocks, of which those from ``start`` on receive a signal."""
    z = model.norm(naive_states(model, images, [None] * BLOCKS)[-1])
    mask = torch.cosine_similarity(z, PRIOR.unsqueeze(1), dim=-1).clamp(0, 1).unsqueeze(-1)
    signals: list[Tensor | None] = [None] * BLOCKS
    if model.variant is VARIANTS["mask_att"]:
        signals[start:] = [mask] * (BLOCKS - start)
        return naive_states(model, images, signals)
    u = gain * z if model.variant is VARIANTS["feedback"] else gain * mask * z
    if project and model.variant is not VARIANTS["feedback"]:
        u = u @ (PRIOR.unsqueeze(2) @ PRIOR.unsqueeze(1))
    for number in reversed(range(start, BLOCKS)):
        u = u @ model.decoders[number].reconstruct.weight.T
        signals[number] = u @ model.decoders[number].transform.weight.T
    return naive_states(model, images, signals)


@pytest.mark.parametrize("start", range(BLOCKS))
@pytest.mark.parametrize("modulation", ["reweight", "reweight_project"])
@pytest.mark.parametrize("top_down", AGAIN)
def test_states_and_gradients_are_those_of_a_whole_second_look_without_signals_below(top_down, modulation, start):
    gain = 2.0 if modulation == "reweight" else 0.5
    model = make(top_down=top_down, modulation=modulation, gain=gain, looks_again_from=start)
    weights = [weight for name, weight in model.named_parameters() if name != "prior"]
    looks = model.look_twice(IMAGES, PRIOR, IMAGE_INDEX)
    naive = naive_second(model, IMAGES[IMAGE_INDEX], start, gain, modulation == "reweight_project")
    for ours, expected in zip(looks.second_states(IMAGE_INDEX), naive, strict=True):
        torch.testing.assert_close(looks.per_text(ours, IMAGE_INDEX), expected, rtol=1e-10, atol=1e-10)
    assert len(looks.second.states) == BLOCKS - start + 1
    gradients = (
        torch.autograd.grad((tokens * tokens.cos()).sum(), weights)
        for tokens in (looks.seen(IMAGE_INDEX), model.norm(naive[-1]))
    )
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("top_down", AGAIN)
def test_folding_recomputing_and_an_image_of_ones_own_change_nothing(top_down):
    model = make(top_down=top_down, looks_again_from=2).train()
    expected = model.look_twice(IMAGES, PRIOR, IMAGE_INDEX).seen(IMAGE_INDEX)
    model.set_grad_checkpointing()
    torch.testing.assert_close(model.look_twice(IMAGES, PRIOR, IMAGE_INDEX).seen(IMAGE_INDEX), expected)
    model.eval().fold()
    with torch.no_grad():
        torch.testing.assert_close(model.look_twice(IMAGES, PRIOR, IMAGE_INDEX).seen(IMAGE_INDEX), expected)
        torch.testing.assert_close(model.look_twice(IMAGES[IMAGE_INDEX], PRIOR).seen(None), expected)
        first = model.look_once(IMAGES[:1]).followed_by(model.look_once(IMAGES[1:])).rows(slice(0, 2))
        torch.testing.assert_close(model.look_again(first, PRIOR, IMAGE_INDEX).seen(IMAGE_INDEX), expected)


@pytest.mark.parametrize("start", range(BLOCKS))
def test_blocks_below_run_once_and_their_decoders_are_not_there(start):
    model, rows = make(looks_again_from=start), [[] for _ in range(BLOCKS)]
    for block, seen in zip(model.blocks, rows, strict=True):
        block.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(len(inputs[0])))
    model.look_twice(IMAGES, PRIOR, IMAGE_INDEX)
    assert rows == [[2]] * start + [[2, 5]] * (BLOCKS - start)
    decoders = {name for name in model.state_dict() if name.startswith("decoders.")}
    parts = ("reconstruct", "transform")
    assert decoders == {f"decoders.{block}.{part}.weight" for block in range(start, BLOCKS) for part in parts}


@pytest.mark.parametrize("start", [1, 2])
def test_the_decoders_losses_are_those_of_the_blocks_that_look_again(start):
    model = make(looks_again_from=start)
    looks = model.look_twice(IMAGES, PRIOR, IMAGE_INDEX)
    losses = model.decoder_losses(looks.second.states, need_reconstruction=True, need_transform=True)
    states, reconstruction, transform = looks.second_states(IMAGE_INDEX), 0.0, 0.0
    for number in range(start, BLOCKS):
        decoder, block = model.decoders[number], model.blocks[number]
        found = states[number + 1] @ decoder.reconstruct.weight.T
        reconstruction += (found - states[number]).square().mean()
        transform += (found @ decoder.transform.weight.T - block.norm1(states[number])).square().mean()
    torch.testing.assert_close(losses.reconstruction, reconstruction)
    torch.testing.assert_close(losses.transform, transform)


def test_decoders_in_closed_form_are_those_of_a_model_that_looks_again_in_all_blocks():
    models = [make(looks_again_from=start).float() for start in (0, 2)]
    models[1].load_state_dict(models[0].state_dict(), strict=False)
    fits = [fit_decoders(model, IMAGES.float().split(1)) for model in models]
    for ours, expected in zip(models[1].decoders[2].parameters(), models[0].decoders[2].parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fits[1][0].inputs_explained, fits[0][0].inputs_explained[2:])
    opened = Steered(None, torch.ones(1, 1, 1), models[1].look_once(IMAGES.float()).tokens)
    signals = [feed_back(model.feedback_decoders, opened)[-1].tokens for model in models]
    torch.testing.assert_close(signals[1], signals[0], rtol=1e-4, atol=1e-4)


def test_timms_getters_give_blocks_below_as_they_were_seen_at_first():
    model = make(looks_again_from=1)
    last, first = (
        model.forward_intermediates(IMAGES, look=look, output_fmt="NLC", intermediates_only=True)
        for look in ("last", "first")
    )
    assert [torch.equal(*pair) for pair in zip(last, first, strict=True)] == [True, False, False]


@pytest.mark.parametrize(
    ("vision", "message"),
    [
        ({"looks_again_from": -1}, "vision.looks_again_from must be at least 0, got -1"),
        (
            {"looks_again_from": 2},
            "looks_again_from: expected a block of the second look, 0 to 1 in this AbSViT, got 2",
        ),
        (
            {"looks_again_from": 1, "top_down": "none"},
            "vision.looks_again_from is 1, but vision.top_down none looks once",
        ),
        (
            {"looks_again_from": 1, "top_down": "perceiver_io"},
            "vision.looks_again_from is 1, but vision.top_down perceiver_io looks once",
        ),
    ],
)  # fmt: skip
def test_where_there_is_no_such_second_look_it_is_one_line(vision, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        build_vision(VisionConfig(**ARCHITECTURE["vision"] | vision), 0)


def test_an_encoder_that_looks_once_is_refused_outside_of_a_config_too():
    with pytest.raises(ConfigError, match="expected a block of the second look, 0 to 0 in this ViT, got 1"):
        make(top_down="none", looks_again_from=1)


def test_a_checkpoint_keeps_its_start_and_one_without_the_key_looks_again_in_all_blocks(tmp_path):
    inputs = torch.randn(2, 3, 32, 32), torch.tensor([[0, 5, 2], [0, 6, 2]]), torch.ones(2, 3, dtype=torch.bool)
    vision = asdict(VisionConfig(**ARCHITECTURE["vision"] | {"looks_again_from": 1}))
    model = build_from_architecture(ARCHITECTURE | {"sentence": "cls", "vision": vision}, "test").eval()
    model.save_pretrained(tmp_path)
    again = VLAbSViT.from_pretrained(tmp_path)
    assert again.vision.looks_again_from == 1
    torch.testing.assert_close(again(*inputs).logits, model(*inputs).logits)
    earlier = build_from_architecture(ARCHITECTURE | {"sentence": "cls"}, "test")
    assert earlier.vision.looks_again_from == 0 and len(earlier.vision.feedback_decoders) == 2


def test_the_last_block_alone_may_look_again_and_has_its_cls_map():
    model = make(looks_again_from=BLOCKS - 1)
    looks = model.look_twice(IMAGES, PRIOR, IMAGE_INDEX)
    attention = model.cls_attention(looks.second.states, looks.signals)
    torch.testing.assert_close(attention, model.cls_attention(looks.first.states, None)[IMAGE_INDEX])
    other = make(looks_again_from=0)
    other.load_state_dict(model.state_dict(), strict=False)
    for decoder in other.feedback_decoders[:-1]:
        nn.init.zeros_(decoder.transform.weight)
    assert not torch.allclose(other.look_twice(IMAGES, PRIOR, IMAGE_INDEX).second.tokens, looks.second.tokens), (
        "a signal of 0 counts the biases of values twice"
    )
