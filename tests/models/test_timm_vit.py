"""ViTs by timm's names: each family looks once as timm's model does, and twice, with weights of any program."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tests.models.test_absvit import IMAGE_INDEX, naive_block
from tests.models.test_vl_model import ARCHITECTURE
from vl_absvit.config import VisionConfig
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.models import VLAbSViT
from vl_absvit.models.architecture import (
    build_from_architecture,
    build_random_classifier,
    build_vision,
    image_statistics,
)
from vl_absvit.models.load_report import Entry
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.start_weights import load_trunk
from vl_absvit.variants import VARIANTS

FAMILIES = {
    "vit_base_patch16_clip_quickgelu_224": "a norm before the blocks, QuickGELU, patches without bias",
    "vit_small_patch14_dinov2": "LayerScale, patches of 14 pixels",
    "vit_small_patch14_reg4_dinov2": "registers, positions of patches alone",
    "vit_giant_patch14_dinov2": "SwiGLU",
    "deit3_small_patch16_224": "LayerScale, no position of CLS",
    "vit_base_patch16_siglip_224": "no CLS token, pooling by attention",
    "vit_medium_patch16_reg4_gap_256": "registers without CLS, a norm after the pooling",
    "vit_small_patch16_224": "the plain one",
}
SIDE, WIDTH = 28, 24
SIZES = {"width": WIDTH, "depth": 2, "num_heads": 2, "patch_size": 7}
TWIN = {"embed_dim": WIDTH, "depth": 2, "num_heads": 2, "patch_size": 7, "img_size": SIDE, "num_classes": 0}
IMAGES = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def a_vit(name: str, **changes) -> nn.Module:
    """timm's own model, tiny, no number of which is 0 or 1."""
    torch.manual_seed(1)
    model = timm.create_model(name, **(TWIN | changes)).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    return model


def an_absvit(name: str, **changes) -> VisualEncoder:
    return build_vision(VisionConfig(model=name, **({"image_size": SIDE} | SIZES | changes)), num_classes=0).eval()


def load(vision: VisualEncoder, path, name: str) -> list[Entry]:
    return load_trunk(vision, str(path), name)


def last_tokens(model: nn.Module, images: Tensor) -> Tensor:
    """timm's tokens with the norm on each of them."""
    return model.fc_norm(model.forward_features(images))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_looks_once_as_timms_own_model_does(tmp_path, name):
    model = a_vit(name)
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    vision = an_absvit(name)
    entries = load(vision, tmp_path / "vit.safetensors", name)
    torch.testing.assert_close(vision.look_once(IMAGES).tokens, last_tokens(model, IMAGES))
    loaded = {entry.name for entry in entries if entry.status == "loaded"}
    own = {f"vision.{key}" for key in vision.state_dict() if not key.startswith(("decoders.", "prior"))}
    assert loaded == own
    assert {entry.name.split(".")[0] for entry in entries if entry.status == "dropped"} <= {"attn_pool"}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_resampled_as_timm_does(tmp_path, name):
    model = a_vit(name)
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    vision = an_absvit(name, image_size=42)
    load(vision, tmp_path / "vit.safetensors", name)
    larger = a_vit(name, img_size=42)
    larger.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(model.state_dict(), larger))
    images = torch.randn(2, 3, 42, 42)
    torch.testing.assert_close(vision.look_once(images).tokens, last_tokens(larger, images))


@pytest.mark.parametrize("top_down", VARIANTS)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_variant_answers_to_its_prior_and_trains_all_of_it(name, top_down):
    vision = an_absvit(name, top_down=top_down)
    for weight in vision.parameters():
        nn.init.normal_(weight, std=0.3)
    prior = torch.randn(3, WIDTH, requires_grad=True)
    looks = vision.look_twice(IMAGES, prior, torch.tensor([0, 1, 1]))
    looks.seen(torch.tensor([0, 1, 1])).square().sum().backward()
    assert [key for key, weight in vision.named_parameters() if weight.grad is None and key != "prior"] == []
    assert (prior.grad is not None) == VARIANTS[top_down].uses_prior


@pytest.mark.parametrize("name", ["vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_224"])
def test_the_second_look_steers_the_values_alone(name):
    vision = an_absvit(name).double()
    for weight in vision.parameters():
        nn.init.normal_(weight, std=0.3)
    looks = vision.look_twice(IMAGES.double(), torch.randn(3, WIDTH).double(), IMAGE_INDEX[:3])
    states = [looks.second.states[0]]
    for block, signal in zip(vision.blocks, looks.signals, strict=True):
        states.append(naive_block(block, states[-1], signal.tokens))
    torch.testing.assert_close(looks.second.states, states)


def test_a_trunk_is_cut_after_a_block_and_the_account_says_what_is_gone(tmp_path):
    name = "vit_small_patch14_dinov2"
    model = a_vit(name, depth=3)
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    vision = an_absvit(name)
    entries = load(vision, tmp_path / "vit.safetensors", name)
    after_two = model.forward_intermediates(IMAGES, indices=[1], output_fmt="NLC", intermediates_only=True)[0]
    torch.testing.assert_close(vision.look_once(IMAGES).states[-1][:, 1:], after_two)
    dropped = {entry.name: entry.remark for entry in entries if entry.status == "dropped"}
    assert dropped["norm.weight"] == "it belongs to the last block, which is cut off"
    assert dropped.keys() == {"norm.weight", "norm.bias"} | {k for k in model.state_dict() if k.startswith("blocks.2.")}
    assert torch.equal(vision.norm.weight, torch.ones(WIDTH)) and torch.equal(vision.norm.bias, torch.zeros(WIDTH))


HF = dict(hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=7)
CLIP, SIGLIP = "vit_base_patch16_clip_quickgelu_224", "vit_base_patch16_siglip_224"
DINO, REGISTERS = "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"


def of_transformers(name: str) -> nn.Module:
    if name == CLIP:
        text = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=9, intermediate_size=8)
        return CLIPModel(CLIPConfig(vision_config=HF | {"intermediate_size": 4 * WIDTH}, text_config=text))
    if name == SIGLIP:
        act = "gelu"  # as in timm's name; SigLIP 2 has gelu_pytorch_tanh
        return SiglipVisionModel(SiglipVisionConfig(**HF, intermediate_size=4 * WIDTH, hidden_act=act))
    if name == DINO:
        return Dinov2Model(Dinov2Config(**HF, layerscale_value=0.5))
    return Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**HF, layerscale_value=0.5))


@pytest.mark.parametrize("name", [CLIP, SIGLIP, DINO, REGISTERS])
def test_what_transformers_saves_gives_its_own_tokens(tmp_path, name):
    torch.manual_seed(2)
    model = of_transformers(name).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    model.save_pretrained(tmp_path)
    vision = an_absvit(name)
    entries = load(vision, tmp_path, name)
    trunk = model.vision_model if name == CLIP else model
    expected = trunk(pixel_values=IMAGES).last_hidden_state
    ours = vision.look_once(IMAGES)
    if name == CLIP:  # its norm stands after the pooling alone
        expected = trunk.post_layernorm(expected)
    torch.testing.assert_close(ours.tokens, expected, rtol=1e-4, atol=1e-4)
    dropped = {entry.name for entry in entries if entry.status == "dropped"}
    beside = {CLIP: "text_projection.weight", SIGLIP: "attn_pool.probe", DINO: "mask_token", REGISTERS: "mask_token"}
    # Transformers 5.0 saves a SigLIP's names below vision_model, later versions do not.
    assert beside[name] in {entry.removeprefix("vision_model.") for entry in dropped}


def released_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A CLIP in the names of its release, as OpenCLIP writes it, from timm's."""
    names = {"patch_embed.proj.": "conv1.", "norm_pre.": "ln_pre.", "blocks.": "transformer.resblocks."}
    names |= {"attn.qkv.": "attn.in_proj_", "attn.proj.": "attn.out_proj.", ".norm": ".ln_"}
    names |= {"mlp.fc1.": "mlp.c_fc.", "mlp.fc2.": "mlp.c_proj."}
    released = {}
    for key, value in state.items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        key = key.replace("norm.", "ln_post.") if key.startswith("norm.") else key
        released[f"visual.{key}"] = value
    released["visual.class_embedding"] = released.pop("visual.cls_token")[0, 0]
    released["visual.positional_embedding"] = released.pop("visual.pos_embed")[0]
    return released | {"visual.proj": torch.ones(WIDTH, 5), "ln_final.weight": torch.ones(3)}


def released_dinov2(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A DINOv2 with registers in the names of its release: CLS has a position there, and there is a mask token."""
    position = torch.full((1, 1, WIDTH), 0.25)
    released = {key: value for key, value in state.items() if key not in ("reg_token", "cls_token", "pos_embed")}
    return released | {
        "register_tokens": state["reg_token"],
        "cls_token": state["cls_token"] - position,
        "pos_embed": torch.cat([position, state["pos_embed"]], dim=1),
        "mask_token": torch.ones(1, WIDTH),
    }


def released_deit3(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): v for key, v in state.items()}


@pytest.mark.parametrize(
    ("name", "released"),
    [(CLIP, released_clip), (REGISTERS, released_dinov2), ("deit3_small_patch16_224", released_deit3)],
)
def test_what_the_authors_released_is_read_as_it_is(tmp_path, name, released):
    model = a_vit(name)
    save_file({k: v.clone() for k, v in released(model.state_dict()).items()}, tmp_path / "vit.safetensors")
    vision = an_absvit(name)
    load(vision, tmp_path / "vit.safetensors", name)
    torch.testing.assert_close(vision.look_once(IMAGES).tokens, model.forward_features(IMAGES))


def test_timms_weights_of_the_name_are_asked_for_and_read(tmp_path, monkeypatch):
    """A stand-in for timm's hub: a file in its place, where timm would fetch one."""
    model, create = a_vit(CLIP), timm.create_model
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    overlay = {"file": str(tmp_path / "vit.safetensors"), "num_classes": 0, "custom_load": False}
    asked = []

    def stand_in(name: str, **options) -> nn.Module:
        if name.startswith("vit_") and options.get("pretrained"):
            asked.append(name)
            options |= TWIN | {"pretrained_cfg_overlay": overlay}
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", stand_in)
    vision = an_absvit(f"{CLIP}.openai")
    entries = load(vision, "timm", f"{CLIP}.openai")
    assert asked == [f"{CLIP}.openai"]
    torch.testing.assert_close(vision.look_once(IMAGES).tokens, model.forward_features(IMAGES))
    assert entries[0].source == f"vision.weights timm ({tmp_path / 'vit.safetensors'})"


def test_a_table_of_other_rows_is_refused(tmp_path):
    save_file(a_vit(DINO).state_dict() | {"pos_embed": torch.ones(1, 18, WIDTH)}, tmp_path / "vit.safetensors")
    with pytest.raises(InputError, match="pos_embed has 18 rows: expected those of a square grid and 1 more"):
        load(an_absvit(DINO), tmp_path / "vit.safetensors", DINO)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet18", "got a model of timm.models.resnet"),
        ("vit_base_patch16_rope_reg1_gap_256", "got a model of timm.models.eva"),
        ("vit_huge_patch14_xp_224", "got ParallelScalingBlock"),
        ("deit_tiny_distilled_patch16_224", "got a VisionTransformerDistilled"),
        ("vit_bse_patch16_clip_224", "nor a ViT of timm; similar names: "),
        ("absvit", "nor a ViT of timm"),
        ("vit_base_patch16_clip_quickgelu_224.openay", " or vit_base_patch16_clip_quickgelu_224.openai"),
        ("vit_base_patch16_224.", "timm has no such weights; expected vit_base_patch16_224."),
    ],
)
def test_what_cannot_be_a_trunk_is_one_line(name, reason):
    with pytest.raises(ConfigError) as caught:
        build_vision(VisionConfig(model=name), num_classes=0)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_sizes_in_which_timm_cannot_make_it_are_one_line():
    with pytest.raises(ConfigError) as caught:  # 16 times its ratio is odd, and SwiGLU halves that
        an_absvit("vit_giant_patch14_dinov2", width=16)
    assert (
        str(caught.value) == "vision.model vit_giant_patch14_dinov2: timm cannot make it in these sizes: AssertionError"
    )


def test_pixels_have_the_statistics_of_the_named_weights():
    assert image_statistics(VisionConfig(model=CLIP))[0][0] == pytest.approx(0.48145466)
    assert image_statistics(VisionConfig(model=SIGLIP)) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert image_statistics(VisionConfig(model="vit_base_patch14_dinov2.lvd142m"))[0][0] == pytest.approx(0.485)


def test_a_classifier_without_cls_takes_the_mean_patch():
    config = VisionConfig(model=SIGLIP, image_size=SIDE, **SIZES)
    with pytest.raises(ConfigError, match="pooling token: vision.model vit_base_patch16_siglip_224 has no CLS token"):
        build_random_classifier(config, 3, pooling="token", norm_follows=False)
    model = build_random_classifier(config, 3, pooling="avg", norm_follows=False)
    assert model.vision.attn_pool is None and model.vision.fc_norm.__class__ is nn.Identity


def test_a_whole_model_with_such_a_trunk_is_saved_and_read(tmp_path):
    vision = {"model": REGISTERS, "image_size": SIDE, **SIZES}
    model = build_from_architecture(ARCHITECTURE | {"vision": vision, "pool": "lse"}, "test").eval()
    ids, is_token = torch.randint(3, 100, (2, 6)), torch.ones(2, 6, dtype=torch.bool)
    (tmp_path / "saved").mkdir()
    model.save_weights(tmp_path / "saved")
    again = VLAbSViT.from_pretrained(tmp_path / "saved")
    assert torch.equal(again(IMAGES, ids, is_token).logits, model(IMAGES, ids, is_token).logits)
