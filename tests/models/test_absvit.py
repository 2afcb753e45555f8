"""AbSViT against the naive four steps, timm's own ViT and the authors' reference outputs."""

import json

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

import vl_absvit.models  # noqa: F401  (registers the models)
from vl_absvit.models.top_down import feed_back, reconstruction_loss, relevance
from vl_absvit.models.trunks.vit import AbSViT
from vl_absvit.variants import VARIANTS

WIDTH, BLOCKS = 16, 3
SIZE = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": BLOCKS, "num_heads": 4, "num_classes": 0}
IMAGE_INDEX = torch.tensor([0, 0, 1, 0, 1])


def make(**kwargs) -> AbSViT:
    """A tiny AbSViT in double precision whose every parameter matters."""
    model = timm.create_model("absvit_tiny_patch16_224", **(SIZE | kwargs)).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def naive_block(block: torch.nn.Module, x: Tensor, td: Tensor | None) -> Tensor:
    """A block with the top-down input sent through its own full qkv and explicit softmax attention."""
    attn, (b, n, d) = block.attn, x.shape
    q, k, v = attn.qkv(block.norm1(x)).chunk(3, dim=-1)
    if td is not None:
        v = v + attn.qkv(td).chunk(3, dim=-1)[2]
    q, k, v = (t.reshape(b, n, attn.num_heads, -1).permute(0, 2, 1, 3) for t in (q, k, v))
    weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
    x = x + attn.proj((weights @ v).permute(0, 2, 1, 3).reshape(b, n, d))
    return x + block.mlp(block.norm2(x))


def naive_two_looks(model: AbSViT, images: Tensor, prior: Tensor, modulation: str, gain: float) -> Tensor:
    """The four steps for one prior per image, every formula written out."""
    x = model._pos_embed(model.patch_embed(images))
    for block in model.blocks:
        x = naive_block(block, x, None)
    z = model.norm(x)
    u = gain * relevance(z, prior).unsqueeze(-1) * z
    if modulation == "reweight_project":
        u = u @ (prior.unsqueeze(2) @ prior.unsqueeze(1))
    signals = []
    for decoder in reversed(model.decoders):
        u = decoder.reconstruct(u)
        signals.insert(0, decoder.transform(u))
    x = model._pos_embed(model.patch_embed(images))
    for block, td in zip(model.blocks, signals, strict=True):
        x = naive_block(block, x, td)
    return model.norm(x)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("modulation", "gain"), [("reweight", 10.0), ("reweight_project", 5.0)])
def test_fast_forward_equals_the_naive_formulas(modulation, gain, bias, shared):
    model = make(modulation=modulation, gain=gain, qkv_bias=bias)
    index = IMAGE_INDEX if shared else None
    images = torch.randn(2 if shared else 5, 3, 32, 32).double()
    prior = torch.randn(5, WIDTH).double()
    fast = model.look_twice(images, prior, index).second.tokens
    naive = naive_two_looks(model, images[IMAGE_INDEX] if shared else images, prior, modulation, gain)
    torch.testing.assert_close(fast, naive, rtol=1e-10, atol=1e-10)


def test_first_look_is_timms_vit_on_the_same_weights():
    model = make(num_classes=10)
    twin = timm.create_model("vit_tiny_patch16_224", **(SIZE | {"num_classes": 10})).double().eval()
    state = {k: v for k, v in model.state_dict().items() if not k.startswith(("decoders.", "prior"))}
    twin.load_state_dict(state)  # strict: same names, same shapes
    images = torch.randn(2, 3, 32, 32).double()
    first = model.look_twice(images).first
    torch.testing.assert_close(first.tokens, twin.forward_features(images))
    plain = make(num_classes=10, top_down="none")
    plain.load_state_dict(state)
    torch.testing.assert_close(plain(images), twin(images))


def test_zero_gain_differs_from_a_plain_vit_only_by_the_repeated_value_bias():
    model = make(gain=0.0)
    images, prior = torch.randn(2, 3, 32, 32).double(), torch.randn(2, WIDTH).double()
    looks = model.look_twice(images, prior)
    assert not torch.allclose(looks.second.tokens, looks.first.tokens)
    for block in model.blocks:
        block.attn.qkv.bias.data[2 * WIDTH :] = 0
    looks = model.look_twice(images, prior)
    torch.testing.assert_close(looks.second.tokens, looks.first.tokens)


def test_the_signal_changes_values_but_not_the_attention_of_its_own_block():
    model = make()
    block, x = model.blocks[1], torch.randn(2, 17, WIDTH).double()
    signal = feed_back(model.decoders, model.modulate(x, torch.randn(2, WIDTH).double()))[1]
    plain, steered = block.project(x), block.project(x, signal)
    torch.testing.assert_close(block.attn.weights(steered), block.attn.weights(plain))
    assert not torch.allclose(steered.values, plain.values)


def test_asked_weights_are_the_ones_that_attention_uses():
    model = make()
    attn, x = model.blocks[0].attn, torch.randn(2, 17, WIDTH).double()
    projections = attn.project(x)
    values = projections.values.reshape(2, 17, 4, -1).transpose(1, 2)
    mixed = (attn.weights(projections) @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attn.attend(projections), attn.proj(mixed))


def test_texts_about_one_image_share_its_first_look_and_one_patch_embedding():
    model = make()
    calls = {"embed": 0, "first_block": []}
    model.patch_embed.register_forward_hook(lambda *_: calls.__setitem__("embed", calls["embed"] + 1))
    model.blocks[1].register_forward_hook(lambda _, inputs, out: calls["first_block"].append(len(inputs[0])))
    model.look_twice(torch.randn(2, 3, 32, 32).double(), torch.randn(5, WIDTH).double(), IMAGE_INDEX)
    assert calls == {"embed": 1, "first_block": [2, 5]}


@pytest.mark.parametrize("top_down", [name for name, variant in VARIANTS.items() if variant.looks_twice])
def test_gradient_checkpointing_changes_no_gradient(top_down):
    model = make(top_down=top_down).train()
    images, prior = torch.randn(2, 3, 32, 32).double(), torch.randn(5, WIDTH).double()
    gradients = []
    for enabled in (False, True):
        model.set_grad_checkpointing(enabled)
        model.zero_grad()
        model.look_twice(images, prior, IMAGE_INDEX).second.tokens.square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert ("decoders.0.transform.weight" in gradients[0]) == VARIANTS[top_down].feeds_back
    for name in gradients[0]:
        torch.testing.assert_close(gradients[0][name], gradients[1][name])


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
@pytest.mark.parametrize("patch", [16, 8])
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_every_size_is_registered_with_its_bottom_up_twin(size, patch, pool):
    name = f"{size}_patch{patch}_224"
    with torch.device("meta"):
        kwargs = {"global_pool": pool, "num_classes": 10}
        absvit = timm.create_model(f"absvit_{name}", **kwargs)
        twin = timm.create_model(f"vit_{name}", **kwargs)
    shapes = {k: v.shape for k, v in absvit.state_dict().items()}
    new = {key for key in shapes if key.startswith(("decoders.", "prior"))}
    assert {key: shape for key, shape in shapes.items() if key not in new} == {
        k: v.shape for k, v in twin.state_dict().items()
    }
    assert len(new) == 2 * 12 + 1 and absvit.embed_dim == {"tiny": 192, "small": 384, "base": 768}[size]


def test_create_model_at_another_resolution_gives_pooled_features():
    model = timm.create_model("absvit_tiny_patch16_224", img_size=48, num_classes=0, depth=1)
    assert model(torch.zeros(1, 3, 48, 48)).shape == (1, 192)
    assert model.pretrained_cfg["mean"] == timm.get_pretrained_cfg("vit_tiny_patch16_224").mean


def test_set_input_size_resamples_positions():
    model = make()
    model.set_input_size(img_size=48)
    assert model.look_twice(torch.zeros(1, 3, 48, 48).double()).second.tokens.shape == (1, 37, WIDTH)


def released_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The released trunk's keys in ours."""

    def rename(key: str) -> str:
        if key.startswith("decoders."):
            return key.replace(".linear.", ".reconstruct.").replace(".linear2.", ".transform.")
        return "prior" if key == "prompt" else key

    return {rename(key): value for key, value in state.items()}


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference over the reference's largest value."""
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize(("precision", "bound"), [("f32", 1e-5), ("f64", 1e-10)])
@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("micro", {}),
        ("micro_gap", {"global_pool": "avg"}),
        ("micro_layerscale", {"init_values": 1e-5}),
        ("micro_noqkvbias", {"qkv_bias": False}),
    ],
)
def test_imagenet_models_give_the_authors_outputs_and_gradients(golden, case, options, precision, bound):
    folder = golden / "imagenet" / case
    inputs, expected = (load_file(folder / f"{name}.safetensors") for name in ("inputs", f"outputs_{precision}"))
    dtype = {"f32": torch.float32, "f64": torch.float64}[precision]
    model = timm.create_model(
        "absvit_tiny_patch8_224", img_size=32, embed_dim=32, depth=2, num_heads=4, num_classes=10, **options
    )
    model.load_state_dict(released_names(load_file(folder / "state_dict.safetensors")))
    model.to(dtype).eval()
    looks = model.look_twice(inputs["image"].to(dtype))
    signals = feed_back(model.decoders, model.modulate(looks.first.tokens, model.prior.expand(3, -1)))
    first, second = model.forward_head(looks.first.tokens), model.forward_head(looks.second.tokens)
    reconstruction = 0.1 * reconstruction_loss(model.decoders, looks.second.states)
    loss = (F.cross_entropy(first, inputs["target"]) + F.cross_entropy(second, inputs["target"])) / 2 + reconstruction
    loss.backward()
    ours = {
        "pass1_tokens": looks.first.tokens,
        "pass2_tokens": looks.second.tokens,
        "pass1_out": torch.stack(looks.first.states[1:]),
        "pass2_in": torch.stack(looks.second.states[:-1]),
        "td": torch.stack([signal.tokens for signal in signals]),
        "mask": looks.prior_mask.unsqueeze(-1),
        "logits_pass1": first,
        "logits_pass2": second,
        "var_loss": reconstruction.unsqueeze(0),
        "train_loss": loss.unsqueeze(0),
    }
    reference = released_names({k.removeprefix("grad."): v for k, v in expected.items() if k.startswith("grad.")})
    gradients = dict(model.named_parameters())
    assert gradients.keys() == reference.keys()
    for name in (
        gradients
    ):  # the key's bias has a true gradient of zero and only rounding to compare, but the rest of qkv's counts
        assert relative(gradients[name].grad, reference[name]) < bound, name
    for name, tensor in ours.items():
        assert relative(tensor, expected[name]) < bound, name


@pytest.mark.parametrize("case", ["micro", "plain_vit_micro"])
def test_vision_language_trunks_give_the_authors_outputs(golden, case):
    folder = golden / "vision_language" / case
    state = released_names(load_file(folder / "state_dict.safetensors"))
    inputs, expected = (load_file(folder / f"{name}.safetensors") for name in ("inputs", "outputs_f64"))
    project = {k.removeprefix("prompt_decoder."): state.pop(k) for k in list(state) if k.startswith("prompt_decoder.")}
    model = timm.create_model(
        "absvit_tiny_patch8_224", img_size=32, embed_dim=32, depth=2, num_heads=4, num_classes=10,
        trainable_prior=False, modulation="reweight_project", gain=5.0, top_down="absvit" if project else "none",
    )  # fmt: skip
    model.load_state_dict(state)
    model.double().eval()
    prior = F.linear(inputs["prompt"].double(), *(project[k].double() for k in ("weight", "bias"))) if project else None
    looks = model.look_twice(inputs["image"].double(), prior)
    if project:
        assert relative(reconstruction_loss(model.decoders, looks.second.states), expected["var_loss"][0]) < 1e-10
    assert relative((looks.second or looks.first).tokens, expected["output_tokens"]) < 1e-10
    assert json.loads((folder / "meta.json").read_text())["case"] == case
