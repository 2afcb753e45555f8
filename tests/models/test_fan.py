"""FAN, with and without its top-down input: the recorded cases, sizes, and what the frame gives to any trunk."""

import pytest
import timm
import torch
from torch import Tensor

import vl_absvit.models  # noqa: F401  # registers the models
from tests.models.learning import what_stays_still
from tests.models.test_rvt_reference import ASSEMBLED, cases, gradient_of_cells, images_of
from tests.models.test_vl_model import ARCHITECTURE
from tests.models.vars_cases import Case, read_case, two_looks
from vl_absvit.config import VisionConfig
from vl_absvit.errors import ConfigError
from vl_absvit.models.architecture import build_from_architecture, build_random_classifier, build_vision
from vl_absvit.models.channel_processing import channel_gates
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.start_weights import load_trunk
from vl_absvit.models.trunks.fan import fourier_positions
from vl_absvit.variants import VARIANTS

NAME = "absvit_fan_tiny"
TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}
VISION = {"model": NAME, "image_size": 64, "width": 16, "depth": 2, "num_heads": 2}
ZERO = ("attn.k.bias", "attn.kv.bias", "mlp.q.bias")  # gradients that are zero but for rounding, of kv the half of k
PARAMETERS = {"tiny": 7_319_920, "small": 28_345_336, "base": 54_350_320, "large": 80_574_100}


def make(**options) -> VisualEncoder:
    torch.manual_seed(0)
    return timm.create_model(NAME, **(TINY | {"img_size": 64, "num_classes": 5} | options)).eval()


def recorded(case: Case, top_down: str = "none", **options) -> VisualEncoder:
    """The recorded trunk, without weights."""
    meta = case.meta
    heads = meta["num_heads"]
    sizes = {"embed_dim": meta["width"], "depth": meta["depth"], "num_heads": heads}
    if isinstance(heads, list):
        sizes |= {"embed_dim": meta["channel_dims"], "depth": [1, 1], "channel_heads": meta["c_head_num"]}
    model = make(
        img_size=meta["image_size"], patch_size=meta["patch_size"], mlp_ratio=meta["mlp_ratio"],
        num_classes=meta["classes"], top_down=top_down, **sizes, **options,
    )  # fmt: skip
    return model.to(case.precision.dtype)


def gradients_of(model: VisualEncoder, case: Case) -> dict[str, Tensor]:
    """Gradients under the release's names, which our own reader tells, as each weight has values of its own."""
    found = {name: value.grad for name, value in model.named_parameters()}
    for name in [name for name in found if ".attn.qkv." in name]:
        gradient = found.pop(name)
        found[name.replace(".qkv.", ".q.")], found[name.replace(".qkv.", ".kv.")] = gradient.split(
            [len(gradient) // 3, len(gradient) // 3 * 2]
        )
    theirs = {}
    for name, gradient in found.items():
        parts = name.split(".")
        if parts[0] == "blocks" and parts[2] in ("ls1", "ls2"):
            name = f"blocks.{parts[1]}.gamma{parts[2][2]}"
        elif parts[0] == "downsamples":
            name = ".".join(["blocks", parts[1], "downsample", *parts[2:]])
        elif parts[0] in ("decoders", "prior"):
            back = {ours: released for released, ours in ASSEMBLED.items()}
            name = ".".join(back.get(part, part) for part in parts)
        theirs[f"grad.{name}"] = gradient
    expected = {name for name in case.expected if name.startswith("grad.") and name != "grad.input_cells"}
    assert {name for name in theirs if not name.startswith("grad.patch_embed")} == {
        name for name in expected if not name.startswith("grad.patch_embed")
    }
    return {name: gradient for name, gradient in theirs.items() if name in expected}


def compare(case: Case, ours: dict[str, Tensor]) -> None:
    """All of ``ours``; gradients that are zero in truth are small, and of ``kv`` the values' half is compared."""
    expected = dict(case.expected)
    for name in [name for name in ours if name.startswith("grad.") and name.endswith(ZERO)]:
        gradient, scale = ours.pop(name), ours[name.replace(".bias", ".weight")].abs().max()
        if name.endswith("attn.kv.bias"):
            zero, ours[name] = gradient.chunk(2)
            expected[name] = expected[name].chunk(2)[1]
        else:
            zero = gradient
        assert zero.abs().max() < 1e-4 * scale
    case._replace(expected=expected).assert_equal(ours)


def states_of(model: VisualEncoder, images: Tensor) -> dict[str, Tensor]:
    """Intermediate results of a first look, under recorded names; the embedding's have no positions yet."""
    states = model.look_once(images).states
    found = {"embedded": model.patch_embed(images), "embedded_with_positions": states[0]}
    for number, (block, output) in enumerate(zip(model.all_blocks, model.outputs(states), strict=True)):
        x = states[model.state_before(number)]
        mixed = block.attn.attend(block.project(x))
        found |= {f"token_mixing.{number}": mixed, f"tokens.{number}": output}
        found[f"channel_processing.{number}"] = block.mlp(block.norm2(x + block.ls1(mixed)))
    with_class = torch.cat([model.cls_token.expand(len(images), -1, -1), states[-1]], dim=1)
    for number, block in enumerate(model.cls_attn_blocks):
        found[f"class_tokens.{number}"] = with_class = block(with_class)
    return found


@cases
@pytest.mark.parametrize("name", ["micro", "micro_stages"])
def test_trunks_give_the_authors_tokens_logits_and_gradients(golden, name, precision):
    case = read_case(golden / "fan" / name, precision)
    model, images = recorded(case), images_of(case)
    model.load_state_dict(model.read_foreign(case.state).state)
    ours = states_of(model, images)
    if name == "micro_stages":  # a block's recorded output lies behind its convolution to the next stage
        ours["tokens.0"] = model.look_once(images).states[2]
    output = model(images)
    (output * case.inputs["loss_weight"]).sum().backward()
    ours |= {"output": output, "grad.input_cells": gradient_of_cells(images)} | gradients_of(model, case)
    compare(case, ours)


def load_assembled(model: VisualEncoder, state: dict[str, Tensor]) -> None:
    """Load a recorded state with feedback whole."""
    renamed = {}
    for name, value in model.read_foreign(state).state.items():
        parts = name.split(".")
        if parts[0] in ("decoders", "prompt"):
            name = ".".join(ASSEMBLED.get(part, part) for part in parts)
        renamed[name] = value
    model.load_state_dict(renamed)


@cases
def test_the_top_down_input_gives_both_looks_losses_and_gradients(golden, precision):
    case = read_case(golden / "fan/top_down", precision)
    model, images = recorded(case, "absvit", gain=float(case.meta["alpha"])), images_of(case)
    load_assembled(model, case.state)
    ours = two_looks(case, model, images)
    ours["train_loss"].backward()
    compare(case, ours | gradients_of(model, case) | {"grad.input_cells": gradient_of_cells(images)})


@pytest.mark.parametrize("size", PARAMETERS)
def test_models_have_as_many_parameters_as_the_release(size):
    with torch.device("meta"):
        model = timm.create_model(f"fan_{size}")
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[size]


def test_gates_by_hand():
    # Two tokens, one head of two channels. softmax over tokens of (0, ln 3) is (1/4, 3/4), of (0, 0) is (1/2, 1/2).
    log3 = torch.tensor(3.0).log().item()
    queries = torch.tensor([[[[0.0, 0.0]], [[log3, 0.0]]]])
    keys = torch.tensor([[[[0.0, 0.0]], [[log3, log3]]]])
    expected = torch.tensor([[[1 / 4 * 1 / 4 + 3 / 4 * 3 / 4, 1 / 2]]]).sigmoid() * 2
    torch.testing.assert_close(channel_gates(queries, keys, torch.tensor([[2.0]])), expected)


def test_positions_by_hand():
    table = fourier_positions((2, 3))
    assert table.shape == (6, 64)
    angle = torch.tensor(2 / (3 + 1e-6) * 2 * torch.pi, dtype=torch.float64)  # the second column
    row = torch.tensor(1 / (2 + 1e-6) * 2 * torch.pi, dtype=torch.float64)  # the first row
    second = 10000 ** (2 / 32)
    torch.testing.assert_close(table[1, [0, 1, 2]], torch.stack([row.sin(), row.cos(), (row / second).sin()]))
    torch.testing.assert_close(table[1, [32, 33, 34]], torch.stack([angle.sin(), angle.cos(), (angle / second).sin()]))


@pytest.mark.parametrize("pool", ["token", "avg"])
@pytest.mark.parametrize("top_down", VARIANTS)
def test_every_variant_runs_on_any_size_and_every_parameter_learns(top_down, pool):
    model = make(top_down=top_down, global_pool=pool, img_size=(80, 48), embed_dim=[16, 32], depth=[1, 1],
                 num_heads=[2, 4]).train()  # fmt: skip
    assert model.grids() == [(5, 3), (3, 2)]
    assert what_stays_still(model, torch.randn(4, 3, 80, 48)) == set()


def test_every_block_has_the_whole_drop_path_rate():
    blocks = make(depth=3, drop_path_rate=0.2).all_blocks
    assert {drop.drop_prob for block in blocks for drop in (block.drop_path1, block.drop_path2)} == {0.2}


def test_a_classifier_attends_to_its_class_token_or_takes_the_mean():
    token = build_random_classifier(VisionConfig(**VISION), 3, pooling="token", norm_follows=False).vision
    mean = build_random_classifier(VisionConfig(**VISION), 3, pooling="avg", norm_follows=False).vision
    assert hasattr(token, "cls_attn_blocks") and not hasattr(mean, "cls_attn_blocks")
    x = torch.randn(2, 3, 64, 64)
    tokens = mean.eval().look_once(x).tokens
    torch.testing.assert_close(mean.forward_head(tokens), mean.head(tokens.mean(dim=1)))
    with pytest.raises(ConfigError, match="vision.patch_size: expected one of 16, 8, 4, got 32"):
        make(patch_size=32)


def test_a_whole_model_is_built_on_it_and_its_weights_start_another_size(tmp_path):
    model = build_from_architecture(ARCHITECTURE | {"vision": VISION, "sentence": "cls"}, "test").eval()
    inputs = (torch.randn(2, 3, 64, 64), torch.tensor([[0, 5, 2], [0, 6, 2]]), torch.ones(2, 3, dtype=torch.bool))
    out = model(*inputs, need_reconstruction=True, need_transform=True)
    assert out.logits.shape == (2, 17) and out.reconstruction > 0 and out.transform > 0
    model.save_pretrained(tmp_path)
    larger = build_vision(VisionConfig(**VISION | {"image_size": 96}), num_classes=0)
    load_trunk(larger, str(tmp_path), NAME)
    assert all(torch.equal(value, larger.state_dict()[key]) for key, value in model.vision.state_dict().items())


def test_a_classifier_with_class_attention_starts_a_model_without_one(tmp_path):
    classifier = build_random_classifier(VisionConfig(**VISION), 3, pooling="token", norm_follows=False)
    torch.save(classifier.state_dict(), tmp_path / "weights.pth")
    vision = build_vision(VisionConfig(**VISION), num_classes=0)
    entries = load_trunk(vision, str(tmp_path / "weights.pth"), NAME)
    own = classifier.vision.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in vision.state_dict().items() if key != "prior")
    left_out = {entry.name: entry.remark for entry in entries if entry.status == "dropped" and "cls_" in entry.name}
    assert set(left_out) == {f"vision.{name}" for name in own if name.startswith("cls_")}
    assert set(left_out.values()) == {"class attention, which this model leaves out"}


def test_getters_and_features():
    getter = make(img_size=32, patch_size=4, features_only=True, out_indices=(0, 1))
    assert [feature.shape for feature in getter(torch.randn(1, 3, 32, 32))] == [(1, 16, 8, 8)] * 2
