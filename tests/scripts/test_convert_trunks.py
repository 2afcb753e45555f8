"""Released classifiers of RVT, VARS, FAN and GFNet become folders that classify alike; what is not told is asked."""

import json
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

import vl_absvit.models  # noqa: F401  # registers the models
from tests.run_script import run_script
from tests.tiny_released import released_classifier, shaken
from vl_absvit.commands.convert_released import write_folder
from vl_absvit.config import VisionConfig
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.models.architecture import attention_arguments, build_vision, named_sizes
from vl_absvit.models.released import convert, read_released
from vl_absvit.models.start_weights import load_trunk
from vl_absvit.tasks.classifier_checkpoint import load_classifier
from vl_absvit.tasks.encoder_file import encoder_of, write_encoder

SCRIPT = "scripts/convert_released.py"
SMALL = {"image_size": 64, "width": 8, "depth": 2, "num_heads": 2}
VISIONS = {
    "rvt": {**SMALL, "model": "absvit_rvt_tiny", "width": [8, 16], "depth": [2, 1], "num_heads": [2, 4]},
    "vars_s": {**SMALL, "model": "absvit_rvt_small", "attention": "vars_s"},
    "vars_d": {
        **SMALL,
        "model": "absvit_rvt_small",
        "attention": "vars_d",
        "vars_generation": "linked",
        "vars_steps": 3,
    },
    "fan": {**SMALL, "model": "absvit_fan_tiny", "width": 16},
    "gfnet": {**SMALL, "model": "absvit_gfnet_tiny"},
}
RENAMED = {  # our names -> the releases'
    "vars_s": {
        r"\.attn\.qkv\.": ".v.", r"\.attn\.norm\.": ".norm1.bn.", r"(\d)\.norm2\.": r"\1.norm2.bn.", r"\.attn\.": ".",
    },
    "fan": {r"\.ls(\d)\.gamma": r".gamma\1"},
    "gfnet": {r"\.attn\.complex": ".filter.complex"},
}  # fmt: skip


def released(kind: str, file: Path, **changes) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """A plain trunk that classifies, and its weights as the release saves them, in a file."""
    config = VisionConfig(**VISIONS[kind] | changes, top_down="none")
    plain = config.model.removeprefix("absvit_")
    arguments = named_sizes(config) | attention_arguments(config)
    model = shaken(timm.create_model(plain, img_size=config.image_size, num_classes=7, **arguments))
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        theirs = name
        for ours, there in RENAMED.get(kind, {}).items():
            theirs = re.sub(ours, there, theirs)
        if kind == "fan" and ".attn.qkv." in name and not name.startswith("cls_attn"):
            third = len(value) // 3
            state[theirs.replace("qkv", "q")], state[theirs.replace("qkv", "kv")] = value.split([third, 2 * third])
        else:
            state[theirs] = value
    for name in [name for name in state if name.endswith((".rand_matrix", ".kernel2"))]:
        stored = ".kernel_norm" if kind == "vars_s" else ".L"
        state[name.rsplit(".", 1)[0] + stored] = torch.full((2,), 25.0)
    torch.save({"state_dict": state, "arch": plain} if kind == "fan" else {"model": state, "epoch": 299}, file)
    return model, state


@pytest.mark.parametrize("kind", VISIONS)
@torch.no_grad()
def test_a_folder_classifies_as_the_trunk_and_accounts_for_every_weight(kind, tmp_path):
    model, state = released(kind, tmp_path / "a.pth.tar")
    file = read_released(tmp_path / "a.pth.tar")
    conversion = convert(file, vision=VISIONS[kind])
    (tmp_path / "folder").mkdir()
    write_folder(tmp_path / "folder", file, conversion, None, None, [])
    checkpoint, images = load_classifier(tmp_path / "folder"), torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(checkpoint.model(images).last_logits, model(images))
    assert checkpoint.classes == [str(number) for number in range(7)]
    assert checkpoint.transform.resized_to == (64 if kind == "fan" else 73)  # FAN sees all of the shorter side
    account = json.loads((tmp_path / "folder/conversion.json").read_text())
    assert sorted(entry["key"] for entry in account["loaded"] + account["ignored"]) == sorted(state)
    weights = load_file(tmp_path / "folder/model.safetensors")
    assert sum(entry["parameters"] for entry in account["loaded"]) == sum(value.numel() for value in weights.values())
    assert {entry["reason"] for entry in account["ignored"]} <= {"the release stores it and never reads it"}
    # timm opens it, and it starts a trunk that looks twice.
    encoder = encoder_of(tmp_path / "folder")
    write_encoder(encoder, tmp_path / "encoder.safetensors")
    file = str(tmp_path / "encoder.safetensors")
    opened = timm.create_model(encoder.name, checkpoint_path=file, **encoder.arguments).eval()
    torch.testing.assert_close(opened(images), model(images))
    steered = build_vision(VisionConfig(**VISIONS[kind]), num_classes=0)
    load_trunk(steered, str(tmp_path / "folder"), VISIONS[kind]["model"])
    torch.testing.assert_close(steered.eval().look_once(images).states[-1], model.look_once(images).states[-1])


def test_a_generation_that_the_file_does_not_tell_is_asked_and_another_one_refused(tmp_path):
    def answer(**vision):
        vision = {name: value for name, value in (VISIONS["vars_d"] | vision).items() if value is not None}
        return convert(read_released(tmp_path / "a.pth"), vision=vision)

    released("vars_d", tmp_path / "a.pth")
    with pytest.raises(InputError, match="a.pth: a file of the VARS release, which does not tell whether queries had"):
        answer(vars_generation=None)
    with pytest.raises(
        InputError, match="with learned matrices: expected vision.vars_generation linked or head, got is"
    ):
        answer(vars_generation="ista")
    released("vars_d", tmp_path / "a.pth", vars_generation="ista")
    with pytest.raises(InputError, match="with no learned matrices: expected vision.vars_generation ista, got linked"):
        answer(vars_generation="linked")
    for generation in (None, "ista"):
        assert answer(vars_generation=generation).config["vision"]["vars_generation"] == "ista"


def test_a_generation_is_asked_without_what_the_release_never_reads_and_steps_and_lambda_are_said(tmp_path):
    _, state = released("vars_d", tmp_path / "a.pth")
    torch.save({"model": {name: value for name, value in state.items() if not name.endswith(".L")}}, tmp_path / "a.pth")
    file, asked = read_released(tmp_path / "a.pth"), dict(VISIONS["vars_d"])
    said = {option.name: option.value for option in convert(file, vision=asked).options}
    assert (said["vision.vars_steps"], said["vision.vars_penalty"]) == (3, 0.3)
    del asked["vars_steps"], asked["vars_generation"]
    with pytest.raises(InputError, match="does not tell whether queries had unit norm: name one"):
        convert(file, vision=asked)
    said = {option.name: option.value for option in convert(file, vision=asked | {"vars_generation": "head"}).options}
    assert said["vision.vars_steps"] == 5


def test_numbers_of_another_kind_are_one_line(tmp_path):
    _, state = released("rvt", tmp_path / "a.pth")
    torch.save({"model": state | {"head.weight": state["head.weight"].int()}}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="such as torch.float32 for vision.head.weight, got torch.int32"):
        convert(read_released(tmp_path / "a.pth"), vision=VISIONS["rvt"])


@pytest.mark.parametrize(
    ("vision", "error", "message"),
    [
        ({"depth": [2, 2]}, InputError, "not all of a released model: it has no vision.transformers.1.blocks.1"),
        ({"width": [8, 24]}, InputError, r"expected the shape \(24,\) for vision.transf.*1.weight, got \(16,"),
        ({"attention": "performer"}, InputError, "it has no vision.transformers.0.blocks.0.attn.rand_matrix"),
        ({"vars_steps": 3}, ConfigError, "vision.vars_steps is 3, but vision.attention None does not use it"),
        ({"model": "absvit_deit_star_tiny"}, ConfigError, "--model: expected one of absvit_rvt_tiny, .* got 'absvit_d"),
    ],
)  # fmt: skip
def test_another_trunk_than_the_files_is_one_line(tmp_path, vision, error, message):
    released("rvt", tmp_path / "a.pth")
    with pytest.raises(error, match=message):
        convert(read_released(tmp_path / "a.pth"), vision=VISIONS["rvt"] | vision)


def test_a_name_is_asked_of_these_trunks_alone(tmp_path, complaint):
    def ask(code, *options):
        line = complaint(code, SCRIPT, *options, "--output", tmp_path / "folder")
        assert not (tmp_path / "folder").exists()
        return line

    released("rvt", tmp_path / "rvt.pth")
    torch.save(released_classifier()[1], tmp_path / "vit.pth")
    assert "--model is needed" in ask(2, "--checkpoint", tmp_path / "rvt.pth")
    vit = ("--checkpoint", tmp_path / "vit.pth")
    assert "vit.pth is of none of the releases of RVT" in ask(2, *vit, "--model", "absvit_rvt_tiny")
    assert "--vars-generation is about --model, which is not given" in ask(2, *vit, "--vars-generation", "head")
    assert "--num-heads is about a ViT" in ask(2, *vit, "--num-heads", 4, "--model", "absvit_rvt_tiny")


def whole_gfnet(folder: Path) -> Path:
    """A file as large as GFNet-Ti's, with as many classes as ImageNet."""
    state = timm.create_model("gfnet_tiny").state_dict()
    renamed = {name.replace(".attn.complex", ".filter.complex"): value for name, value in state.items()}
    torch.save({"model": renamed}, folder / "gfnet.pth")
    return folder / "gfnet.pth"


@pytest.mark.slow
@torch.no_grad()
def test_a_file_of_the_releases_size_is_converted_by_its_command(tmp_path, capfd):
    file, folder = whole_gfnet(tmp_path), tmp_path / "folder"
    assert run_script(SCRIPT, "--checkpoint", file, "--model", "absvit_gfnet_tiny", "--output", folder) == 0
    out = capfd.readouterr().out
    assert "an image classifier" in out and "vision.image_size" in out
    checkpoint, model = load_classifier(folder), timm.create_model("gfnet_tiny").eval()
    model.load_state_dict(model.read_foreign(torch.load(file, weights_only=True)["model"]).state)
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(checkpoint.model(images).last_logits, model(images))
    assert len(checkpoint.classes) == 1000 and checkpoint.transform.resized_to == 256
