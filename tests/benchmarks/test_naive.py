"""The naive transcription computes what the model computes, so that their times can be compared."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import RobertaConfig

from benchmarks.naive import RETRIEVAL_TOKENS, naive_forward, pad
from vl_absvit.models import VLAbSViT
from vl_absvit.models.architecture import build_from_architecture

VARIANTS = [("absvit", "reweight", 10.0), ("absvit", "reweight_project", 5.0), ("none", "reweight", 10.0)]
NAMES = ["reweight", "reweight_project", "none"]
ANSWERS = {"kind": "vqa", "num_answers": 7}
TEXT = RobertaConfig(
    vocab_size=100, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
    max_position_embeddings=44, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2,
)  # fmt: skip


def make_model(
    top_down: str, modulation: str, gain: float, head: dict | None = None, vocabulary: int = 100, **vision: int
) -> VLAbSViT:
    """A small model whose scores differ and whose biases all count."""
    sizes = {"model": "absvit_tiny_patch8_224", "image_size": 32, "width": 16, "depth": 3, "num_heads": 4}
    architecture = {
        "format": 2,
        "vision": sizes | {"top_down": top_down, "modulation": modulation, "gain": gain} | vision,
        "text": TEXT.to_dict() | {"vocab_size": vocabulary},
        "sentence": "cls",
        "fusion": {"width": 32, "num_layers": 3, "num_heads": 4, "mlp_ratio": 2.0, "dropout": 0.1},
        "pool": "max",
        "head": head or {"kind": "matching"},
    }
    model = build_from_architecture(architecture, "test").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else parameter.add_(
                torch.randn_like(parameter) / 5
            )
    return model


@pytest.fixture
def pairs() -> tuple[Tensor, Tensor, Tensor]:
    """Four pairs; two texts share an image, and no text fills the batch but the first."""
    is_token = torch.arange(8) < torch.tensor([[8], [5], [3], [7]])
    token_ids = torch.randint(3, 100, (4, 8)).masked_fill(~is_token, 1)
    return torch.randn(3, 3, 32, 32)[[0, 1, 1, 2]], token_ids, is_token


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
@torch.no_grad()
def test_in_double_precision_they_differ_by_rounding_only(pairs, variant, start):
    again = {"looks_again_from": start if variant[0] == "absvit" else 0}
    model = make_model(*variant, head=ANSWERS, **again).double()  # the ranking head itself calculates in fp32
    images, token_ids, is_token = pairs[0].double(), *pairs[1:]
    ours = model(images, token_ids, is_token)
    if variant[0] == "absvit":  # a closed mask would hide the whole top-down path
        assert (ours.looks.prior_mask > 0).any(dim=1).all() and ours.looks.prior_mask.max() > 0.1
    padded = pad(model, token_ids, is_token, RETRIEVAL_TOKENS)
    torch.testing.assert_close(naive_forward(model, images, *padded).logits, ours.logits, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("start", [0, 2])
def test_answers_and_gradients_equal_the_models(pairs, start):
    model = make_model(*VARIANTS[0], head=ANSWERS, looks_again_from=start).double()
    images, token_ids, is_token = pairs[0].double(), *pairs[1:]
    ours = model(images, token_ids, is_token, need_reconstruction=True)
    (ours.logits.square().sum() + ours.reconstruction).backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    out = naive_forward(model, images, token_ids, is_token)
    (out.logits.square().sum() + out.reconstruction).backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert found.keys() == expected.keys() and f"vision.decoders.{start}.transform.weight" in found
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-8, atol=1e-8)


class Drawn(TorchDispatchMode):
    """How many numbers dropout draws."""

    number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket is torch.ops.aten.bernoulli_:
            self.number += args[0].numel()
        return func(*args, **(kwargs or {}))


def test_dropout_drops_in_the_same_places_but_for_tokens_that_nothing_reads(pairs):
    model = make_model(*VARIANTS[0]).train()
    images, token_ids, is_token = pairs
    with Drawn() as ours:
        model(images, token_ids, is_token)
    with Drawn() as everything:
        naive_forward(model, images, token_ids, is_token)
    rows, text, seen, width, heads = 4, 8, 17, 32, 4
    unread = 0  # in the last fusion layer, all tokens but the first of either stream
    for own, other in ((text, seen), (seen, text)):
        unread += rows * (own - 1) * (heads * (own + other) + 3 * width)
    assert everything.number - ours.number == unread and ours.number > 10_000
    model.eval()
    with Drawn() as nothing:
        naive_forward(model, images, token_ids, is_token)
    assert not nothing.number


def test_texts_are_padded_to_a_fixed_length_and_longer_ones_refused(pairs):
    model = make_model(*VARIANTS[0])
    token_ids, is_token = pad(model, *pairs[1:], RETRIEVAL_TOKENS)
    assert token_ids.shape == is_token.shape == (4, RETRIEVAL_TOKENS)
    assert (token_ids[~is_token] == 1).all() and not is_token[:, 8:].any()
    with pytest.raises(ValueError, match="at most 7 tokens, got 8"):
        pad(model, *pairs[1:], 7)
