"""Trunks from other programs: disguised in every form, a ViT computes what it computed, or is refused in one line."""

import argparse
import json

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import DeiTConfig, DeiTModel, ViTConfig, ViTForImageClassification, ViTMAEConfig, ViTMAEForPreTraining

import vl_absvit.models  # noqa: F401  (registers the models)
from vl_absvit.config import VisionConfig
from vl_absvit.errors import InputError
from vl_absvit.models.architecture import build_vision
from vl_absvit.models.load_report import Entry
from vl_absvit.models.start_weights import load_trunk
from vl_absvit.models.trunks.vit import AbSViT

SIZE = {"width": 16, "depth": 2, "num_heads": 2, "patch_size": 8}
TWIN = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32}
IMAGES = torch.randn(2, 3, 32, 32)


def a_vit(name: str = "vit_tiny_patch16_224", **changes) -> nn.Module:
    """A tiny ViT of timm, no number of which is 0 or 1."""
    model = timm.create_model(name, **(TWIN | {"num_classes": 5} | changes)).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    return model


def load(file, **changes) -> tuple[AbSViT, list[Entry]]:
    config = VisionConfig(model="absvit_tiny_patch16_224", **({"image_size": 32} | SIZE | changes))
    vision = build_vision(config, num_classes=0).eval()
    return vision, load_trunk(vision, str(file), config.model)


def features(vision: AbSViT, images: Tensor = IMAGES) -> Tensor:
    return vision.look_once(images).tokens


def named(entries: list[Entry], status: str) -> dict[str, int]:
    return {entry.name: entry.numbers for entry in entries if entry.status == status}


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


NOT_OF_IT = {"head.mlp.0.weight": torch.ones(3, 16), "fc.weight": torch.ones(2)}
WRAPPED = {
    "model": lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
    "state_dict": lambda state: {"state_dict": state, "arch": "vit", "metric": 71.5},
    "model_state": lambda state: {"model_state": state},
    "model_state_dict in model": lambda state: {"model": {"model_state_dict": state}},
    "teacher": lambda state: {"student": under("module.backbone.", state), "teacher": under("backbone.", state)},
    "model_ema": lambda state: {"model_ema": state},
    "bare": lambda state: state,
}


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
@pytest.mark.parametrize("form", WRAPPED)
def test_a_file_of_a_training_program_gives_the_same_features(tmp_path, form, suffix):
    model = a_vit()
    torch.save(WRAPPED[form](model.state_dict()), tmp_path / f"vit{suffix}")
    vision, entries = load(tmp_path / f"vit{suffix}")
    assert torch.equal(features(vision), model.forward_features(IMAGES))
    assert {entry.source for entry in entries} == {entries[0].source}
    assert (f" ({'.'.join(form.split(' in ')[::-1])!r} in it" in entries[0].source) == (form != "bare")


@pytest.mark.parametrize(
    "prefix", ["module.", "backbone.", "encoder.", "model.", "visual.", "vision.", "student.", "module.visual.trunk."]
)
def test_a_prefix_of_all_names_is_stripped(tmp_path, prefix):
    model = a_vit()
    save_file(under(prefix, model.state_dict()), tmp_path / "vit.safetensors")
    vision, entries = load(tmp_path / "vit.safetensors")
    assert torch.equal(features(vision), model.forward_features(IMAGES))
    assert named(entries, "dropped") == {f"{prefix}head.weight": 80, f"{prefix}head.bias": 5}


def test_what_lies_beside_the_trunk_is_dropped_by_name(tmp_path):
    model = a_vit()
    save_file(under("backbone.", model.state_dict()) | NOT_OF_IT, tmp_path / "vit.safetensors")
    vision, entries = load(tmp_path / "vit.safetensors")
    assert torch.equal(features(vision), model.forward_features(IMAGES))
    dropped = named(entries, "dropped")
    assert dropped == {"backbone.head.weight": 80, "backbone.head.bias": 5, "head.mlp.0.weight": 48, "fc.weight": 2}


def test_of_a_student_and_its_teacher_the_teacher_is_taken(tmp_path):
    teacher, student = a_vit(), a_vit()
    state = under("teacher.backbone.", teacher.state_dict()) | under("student.backbone.", student.state_dict())
    torch.save({"state_dict": state}, tmp_path / "dino.ckpt")
    assert torch.equal(features(load(tmp_path / "dino.ckpt")[0]), teacher.forward_features(IMAGES))


def test_a_moving_average_beside_the_weights_is_named(tmp_path):
    model, average = a_vit(), a_vit()
    torch.save({"state_dict": model.state_dict(), "state_dict_ema": average.state_dict()}, tmp_path / "vit.pth")
    vision, entries = load(tmp_path / "vit.pth")
    assert torch.equal(features(vision), model.forward_features(IMAGES))
    assert entries[0].source.endswith(" ('state_dict' in it, not 'state_dict_ema')")


def test_a_distilled_deit_loses_its_second_token_and_that_tokens_position(tmp_path):
    model = a_vit("deit_tiny_distilled_patch16_224")
    state = model.state_dict()
    assert state["pos_embed"].shape == (1, 18, 16)
    torch.save({"model": state}, tmp_path / "deit.pth")
    vision, entries = load(tmp_path / "deit.pth")
    by_hand = {name: value for name, value in state.items() if name not in ("dist_token", "pos_embed")}
    by_hand["pos_embed"] = torch.cat([state["pos_embed"][:, 0:1], state["pos_embed"][:, 2:]], dim=1)
    plain = a_vit()
    plain.load_state_dict({name: value for name, value in by_hand.items() if not name.startswith("head_dist.")})
    assert torch.equal(vision.pos_embed, by_hand["pos_embed"])
    assert torch.equal(features(vision), plain.forward_features(IMAGES))
    expected = {"dist_token": 16, "pos_embed[:, 1]": 16, "head_dist.weight": 80, "head_dist.bias": 5}
    assert named(entries, "dropped") == expected | {"head.weight": 80, "head.bias": 5}


def test_a_distilled_deit_is_resampled_from_its_patches_alone(tmp_path):
    state = a_vit("deit_tiny_distilled_patch16_224").state_dict()
    save_file(state, tmp_path / "deit.safetensors")
    save_file(
        {name: value for name, value in state.items() if "dist" not in name}
        | {"pos_embed": torch.cat([state["pos_embed"][:, :1], state["pos_embed"][:, 2:]], dim=1)},
        tmp_path / "plain.safetensors",
    )
    (distilled, entries), (plain, _) = (
        load(tmp_path / f"{name}.safetensors", image_size=48) for name in ("deit", "plain")
    )
    assert torch.equal(distilled.pos_embed, plain.pos_embed) and plain.pos_embed.shape == (1, 37, 16)
    (resampled,) = [entry for entry in entries if entry.status == "resampled"]
    assert resampled.remark.endswith("; (1, 17, 16) -> (1, 37, 16)") and "distillation" in resampled.remark


def test_maes_decoder_and_mask_token_are_dropped_by_name(tmp_path):
    model = a_vit()
    more = {"mask_token": torch.ones(1, 1, 8), "decoder_pos_embed": torch.ones(1, 17, 8)}
    more |= {"decoder_blocks.0.attn.qkv.weight": torch.ones(24, 8), "decoder_embed.weight": torch.ones(8, 16)}
    torch.save({"model": model.state_dict() | more}, tmp_path / "mae.pth")
    vision, entries = load(tmp_path / "mae.pth")
    assert torch.equal(features(vision), model.forward_features(IMAGES))
    assert set(more) <= named(entries, "dropped").keys()


def test_positions_without_a_row_for_cls_get_one_of_zeros(tmp_path):
    model = a_vit(no_embed_class=True)
    assert model.pos_embed.shape == (1, 16, 16)
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    vision, entries = load(tmp_path / "vit.safetensors")
    assert torch.equal(features(vision), model.forward_features(IMAGES))
    (remark,) = [entry.remark for entry in entries if entry.name == "vision.pos_embed"]
    assert "no row for CLS" in remark


@pytest.mark.parametrize(
    "changes", [{"init_values": 0.1}, {"qkv_bias": False}, {"init_values": 0.1, "qkv_bias": False}]
)
def test_layer_scale_is_multiplied_in_and_biases_that_are_not_there_are_zero(tmp_path, changes):
    model = a_vit(no_embed_class=True, **changes)  # DeiT-III has scales and no position of CLS
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    vision, entries = load(tmp_path / "vit.safetensors")
    torch.testing.assert_close(features(vision), model.forward_features(IMAGES))
    remarks = " ".join(entry.remark for entry in entries)
    assert ("LayerScale" in remarks) == ("init_values" in changes)
    assert ("the file has none: zeros" in remarks) == ("qkv_bias" in changes)


def test_a_norm_after_the_pooling_goes_on_every_token_and_it_is_said(tmp_path):
    model = a_vit(global_pool="avg", fc_norm=True)
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    vision, entries = load(tmp_path / "vit.safetensors")
    torch.testing.assert_close(features(vision), model.fc_norm(model.forward_features(IMAGES)))
    assert sum("stands after the mean over patches" in entry.remark for entry in entries) == 2


HF_SIZE = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32)
HF_SIZE |= dict(patch_size=8, layer_norm_eps=1e-6)


@pytest.mark.parametrize("kind", ["vit", "deit", "mae", "in memory"])
def test_transformers_names_are_converted(tmp_path, kind):
    more = dict(decoder_hidden_size=8, decoder_num_hidden_layers=1, decoder_num_attention_heads=2, mask_ratio=0.0)
    model = {
        "vit": lambda: ViTForImageClassification(ViTConfig(**HF_SIZE)),
        "in memory": lambda: ViTForImageClassification(ViTConfig(**HF_SIZE)),
        "deit": lambda: DeiTModel(DeiTConfig(**HF_SIZE)),
        "mae": lambda: ViTMAEForPreTraining(ViTMAEConfig(**HF_SIZE, decoder_intermediate_size=8, **more)),
    }[kind]().eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    model.save_pretrained(tmp_path)
    if kind == "in memory":
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    vision, entries = load(tmp_path)
    if kind in ("vit", "in memory"):
        expected = model(IMAGES, output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(vision.look_once(IMAGES).states[-1], expected)
        torch.testing.assert_close(features(vision), model.vit(IMAGES).last_hidden_state)
    kernels = model.base_model.embeddings.patch_embeddings.projection.weight
    assert torch.equal(vision.patch_embed.proj.weight, kernels)
    assert sum(entry.tensors for entry in entries if entry.status == "loaded") == 4 + 2 * 12 + 2
    beside = {"deit": "dist_token", "mae": "decoder.mask_token"}.get(kind, "classifier.weight")
    assert beside in named(entries, "dropped")


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_weights_in_several_files_are_read_as_one(tmp_path, form):
    model = a_vit()
    state, names = model.state_dict(), []
    base = "model" if form == "safetensors" else "pytorch_model"
    for number, keys in enumerate((list(state)[:9], list(state)[9:]), start=1):
        names.append(f"{base}-{number:05}-of-00002.{form}")
        part = {key: state[key] for key in keys}
        (save_file if form == "safetensors" else torch.save)(part, tmp_path / names[-1])
    weight_map = {key: names[place >= 9] for place, key in enumerate(state)}
    (tmp_path / f"{base}.{form}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    vision, entries = load(tmp_path)
    assert torch.equal(features(vision), model.forward_features(IMAGES))
    assert entries[0].source == f"vision.weights {tmp_path} (2 files)"
    (tmp_path / names[1]).unlink()
    with pytest.raises(InputError, match=f"{names[1]}: no such file, but {base}.{form}.index.json names it"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "not an index of weights"),
        ("nonsense", "not an index of weights"),
        ("[]", "expected names and files under weight_map"),
        ('{"weight_map": {"a": "../../secret.safetensors"}}', "expected files of weights beside it, got '../../secret"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "expected files of weights beside it, got '/etc/passwd'"),
        ('{"weight_map": {"a": "model.safetensors.index.json"}}', "expected files of weights beside it"),
        ('{"weight_map": {"a": "\\u0000.bin"}}', "expected files of weights beside it"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(tmp_path, content, message):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pixels", "size"), [(8, 48), (8, 24), (16, 32), (4, 32)]
)  # positions alone; kernels and positions; kernels alone of another side
def test_what_is_resampled_is_said_and_timms(tmp_path, pixels, size):
    model = a_vit()
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    vision, entries = load(tmp_path / "vit.safetensors", patch_size=pixels, image_size=size)
    twin = timm.create_model("vit_tiny_patch16_224", **(TWIN | dict(patch_size=pixels, img_size=size, num_classes=0)))
    state = timm.models.vision_transformer.checkpoint_filter_fn(model.state_dict(), twin)
    twin.load_state_dict({name: value for name, value in state.items() if not name.startswith("head.")})
    images = torch.randn(2, 3, size, size)
    assert torch.equal(features(vision, images), twin.eval().forward_features(images))
    side = size // pixels
    expected = {"vision.pos_embed": 16 * (1 + side**2)} if side != 4 else {}
    expected |= {"vision.patch_embed.proj.weight": 48 * pixels**2} if pixels != 8 else {}
    assert named(entries, "resampled") == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra.weight": torch.ones(2)}, "unexpected ['extra.weight'] (1)"),
        ({"blocks.0.attn.q_norm.weight": torch.ones(2)}, "unexpected ['blocks.0.attn.q_norm.weight'] (1)"),
        ({"reg_token": torch.ones(1, 4, 16)}, "unexpected ['reg_token'] (1)"),
        ({"dist_token": torch.ones(1, 1, 16)}, "pos_embed has 17 rows: expected those of a square grid"),
        ({"pos_embed": torch.ones(1, 18, 16)}, "pos_embed has 18 rows: expected those of a square grid"),
        ({"pos_embed": torch.ones(17, 16)}, "expected a table of rows and columns, got (17, 16)"),
        ({"pos_embed": torch.ones(1, 17, 16).long()}, "expected real numbers for pos_embed, got torch.int64"),
        ({"pos_embed": torch.ones(1, 17, 8)}, "size mismatch for pos_embed"),
        ({"b.patch_embed.proj.weight": torch.ones(1)}, "2 ViTs in it, under the top level and b.*: expected one"),
        ({"decoders.0.linear2.weight": torch.ones(2)}, "a file of the authors' release; vl-absvit convert-released"),
        ({"cls_token": None}, "missing ['cls_token'] (1)"),
        ({"blocks.1.attn.qkv.bias": None}, "missing ['blocks.1.attn.qkv.bias'] (1)"),
        ({"patch_embed.proj.weight": None}, "no ViT in it that is known: there is no patch_embed.proj.weight, but "),
        ({"patch_embed.proj.weight": torch.ones(16, 1, 8, 8)}, "size mismatch for patch_embed.proj.weight"),
    ],
)
def test_what_is_no_known_vit_is_one_line(tmp_path, changes, message):
    state = a_vit().state_dict() | changes
    torch.save({name: value for name, value in state.items() if value is not None}, tmp_path / "vit.pth")
    with pytest.raises(InputError) as caught:
        load(tmp_path / "vit.pth")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"vision.weights {tmp_path / 'vit.pth'}: not the weights of the configured ")


def test_a_file_of_torch_is_known_by_its_content(tmp_path):
    model = a_vit()
    for zipped in (True, False):
        torch.save(model.state_dict(), tmp_path / "vit.weights", _use_new_zipfile_serialization=zipped)
        assert torch.equal(features(load(tmp_path / "vit.weights")[0]), model.forward_features(IMAGES))


def test_timms_own_weights_are_read_and_named(tmp_path, monkeypatch):
    model, create = a_vit("vit_tiny_patch16_224"), timm.create_model
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    overlay = {"file": str(tmp_path / "vit.safetensors"), "num_classes": 5, "custom_load": False}
    monkeypatch.setattr(timm, "create_model", lambda name, **kwargs: create(
        name, **(TWIN if kwargs.get("pretrained") else {}), **kwargs,
        **({"pretrained_cfg_overlay": overlay} if kwargs.get("pretrained") else {}),
    ))  # fmt: skip
    vision, entries = load("timm")
    assert torch.equal(features(vision), model.forward_features(IMAGES))
    assert entries[0].source == f"vision.weights timm ({tmp_path / 'vit.safetensors'})"


def test_a_file_with_more_than_tensors_in_it_says_how_to_convert_it(tmp_path):
    torch.save({"model": a_vit()}, tmp_path / "vit.pth")
    with pytest.raises(InputError) as caught:
        load(tmp_path / "vit.pth")
    line = str(caught.value)
    assert "refused, it holds timm.models.vision_transformer.VisionTransformer, which is no tensor" in line
    assert line.startswith(f"vision.weights {tmp_path / 'vit.pth'}: ") and "safetensors.torch.save_file" in line
    assert "\n" not in line and "weights_only" not in line
