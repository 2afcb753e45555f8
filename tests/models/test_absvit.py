"""AbSViT against the naive four steps, timm's own ViT and the authors' reference outputs."""

import pytest
import timm
import torch
from torch import Tensor

import vl_absvit.models  # noqa: F401  (registers the models)
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
    x = x + block.ls1(attn.proj((weights @ v).permute(0, 2, 1, 3).reshape(b, n, d)))
    return x + block.ls2(block.mlp(block.norm2(x)))


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
@pytest.mark.parametrize(("patch", "pool"), [(16, "token"), (8, "avg")])
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
