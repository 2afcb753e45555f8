"""From config to modules: start weights land where they belong, resampled where need be, and nothing else passes."""

from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from transformers import RobertaConfig, RobertaModel

import vl_absvit.models  # noqa: F401  (registers the models)
from tests.models.vqa_model import build_vqa_model
from vl_absvit.config import DataConfig, FusionConfig, RunConfig, TextConfig, VisionConfig
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.models.architecture import build_vision, image_statistics
from vl_absvit.models.labels import match_labels
from vl_absvit.tasks.vqa import VQAConfig
from vl_absvit.variants import VARIANTS

SIZE = {"width": 16, "depth": 2, "num_heads": 2, "patch_size": 8}
TWIN = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "num_classes": 5}


class Tokens:
    """As much of a tokenizer as the builder looks at."""

    pad_token_id, bos_token_id, eos_token_id = 1, 0, 2

    def __init__(self, size: int = 50) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size


def vqa_config(vision: VisionConfig, **text) -> VQAConfig:
    text = {"model": None, "tokenizer": "none", "width": 16, "depth": 1, "num_heads": 2, "max_tokens": 8} | text
    return VQAConfig(
        data=DataConfig(root="none"),
        run=RunConfig(output="none"),
        vision=vision,
        text=TextConfig(**text),
        fusion=FusionConfig(width=16, num_layers=1, num_heads=2),
    )


@pytest.fixture
def twin(tmp_path):
    """A plain ViT of timm at 32 pixels and the file of its weights."""
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, **TWIN).eval()
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    return model, str(tmp_path / "vit.safetensors")


@pytest.mark.parametrize("top_down", VARIANTS)
def test_a_plain_vit_starts_the_trunk_of_every_baseline(twin, top_down):
    model, file = twin
    vision = VisionConfig(
        model="absvit_tiny_patch16_224", image_size=32, weights=file, top_down=top_down, gain=0.5, **SIZE
    )
    ours = build_vqa_model(vqa_config(vision), 7, Tokens())
    state = ours.vision.state_dict()
    for name, weight in model.state_dict().items():
        assert name.startswith("head.") or torch.equal(state.pop(name), weight), name
    assert all(name.startswith("decoders.") for name in state)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours.eval().vision.look_once(images).tokens, model.forward_features(images))


@pytest.mark.parametrize("start", VARIANTS)
def test_every_baseline_starts_from_the_checkpoint_of_every_other(start, tmp_path):
    def build(top_down, **parts):
        vision = VisionConfig(model="absvit_tiny_patch16_224", image_size=32, top_down=top_down, **SIZE)
        answers = match_labels("abcdefg", "abcdefg") if parts else None
        return build_vqa_model(replace(vqa_config(vision), **parts), 7, Tokens(), answers)

    before = build(start)
    for weight in before.parameters():
        torch.nn.init.normal_(weight)
    before.save_pretrained(tmp_path)
    before = before.state_dict()
    for top_down in VARIANTS:
        after = build(top_down, from_checkpoint=str(tmp_path)).state_dict()
        assert all(torch.equal(weight, after[name]) for name, weight in before.items() if name in after)
        assert all(name.startswith(("prior.", "vision.decoders.")) for name in before.keys() ^ after.keys())


def test_timm_loads_the_twins_weights_into_a_registered_absvit(twin):
    model, file = twin
    kwargs = {**TWIN, "img_size": 48, "pretrained_cfg_overlay": {"file": file, "num_classes": 5, "custom_load": False}}
    ours = timm.create_model("absvit_tiny_patch16_224", pretrained=True, **kwargs)
    torch.testing.assert_close(ours.head.weight, model.head.weight)
    torch.testing.assert_close(ours.blocks[0].mlp.fc1.weight, model.blocks[0].mlp.fc1.weight)
    assert ours.pos_embed.shape == (1, 37, 16)


@pytest.mark.parametrize("depth", [1, 3])
def test_weights_of_another_depth_are_refused(twin, depth):
    vision = VisionConfig(model="absvit_tiny_patch16_224", image_size=32, weights=twin[1], **(SIZE | {"depth": depth}))
    with pytest.raises(InputError, match="not the weights of the configured absvit_tiny_patch16_224"):
        build_vqa_model(vqa_config(vision), 7, Tokens())


def test_a_roberta_folder_gives_architecture_and_weights(tmp_path):
    torch.manual_seed(3)
    roberta = RobertaModel(
        RobertaConfig(
            vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
            max_position_embeddings=20, type_vocab_size=1, pad_token_id=1,
        )
    ).eval()  # fmt: skip
    roberta.save_pretrained(tmp_path)
    vision = VisionConfig(model="absvit_tiny_patch16_224", image_size=32, **SIZE)
    model = build_vqa_model(vqa_config(vision, model=str(tmp_path)), 7, Tokens()).eval()
    token_ids, is_token = torch.tensor([[0, 9, 8, 2, 1]]), torch.tensor([[True, True, True, True, False]])
    expected = roberta(token_ids, attention_mask=is_token.long()).last_hidden_state
    torch.testing.assert_close(model.text(token_ids, is_token), expected)


@pytest.mark.parametrize(
    ("vision", "text", "tokens", "message"),
    [
        ({"model": "absvit_tini"}, {}, 50, "vision.model: 'absvit_tini' is not one of"),
        ({"image_size": 33}, {}, 50, "33 is not a multiple of the patch size 8"),
        ({}, {"model": "no/such/folder"}, 50, "text.model no/such/folder"),
    ],
)
def test_contradictions_are_one_line(vision, text, tokens, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = VisionConfig(**({"model": "absvit_tiny_patch16_224", "image_size": 32} | SIZE | vision))
    with pytest.raises(ConfigError, match=message):
        build_vqa_model(vqa_config(config, **text), 7, Tokens(tokens))


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    RobertaConfig(vocab_size=40, pad_token_id=1).save_pretrained(tmp_path)
    vision = VisionConfig(model="absvit_tiny_patch16_224", image_size=32, **SIZE)
    with pytest.raises(ConfigError, match="text.tokenizer has 50 tokens, the text encoder 40"):
        build_vqa_model(vqa_config(vision, model=str(tmp_path)), 7, Tokens())


def test_pixel_statistics_are_the_backbones_or_clips():
    base = timm.get_pretrained_cfg("vit_base_patch16_224.augreg_in1k")
    assert image_statistics(VisionConfig()) == (base.mean, base.std)
    assert image_statistics(VisionConfig(image_statistics="clip"))[0][0] == pytest.approx(0.48145466)


def test_narrow_models_start_with_the_signal_strength_of_the_base_model():
    vision = VisionConfig(model="absvit_tiny_patch16_224", image_size=32, **(SIZE | {"width": 64}))
    decoder = build_vision(vision, num_classes=0).decoders[0].reconstruct.weight
    gain = decoder.std().item() * 64**0.5
    assert gain == pytest.approx(0.02 * 768**0.5, rel=0.05)
