"""The segmenter's outputs, losses and gradients are those of the authors' release, and of mmsegmentation's neck."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.test_references import BOUND, relative, without_key_bias
from vl_absvit.config import VisionConfig
from vl_absvit.losses import pixel_loss
from vl_absvit.models.architecture import build_vision
from vl_absvit.models.pixel_scores import View, Window, classify, scores_of, windows_of
from vl_absvit.models.segmenter import Segmenter
from vl_absvit.models.trunks.positions import resampled_as_released

SIZES = {"width": 16, "depth": 6, "num_heads": 2, "patch_size": 8, "image_size": 32}
RENAMED = (
    ("backbone.prompt", "vision.prior"), ("backbone.", "vision."), (".linear.", ".reconstruct."),
    (".linear2.", ".transform."), ("decode_head.", "head."), ("conv_seg.", "classifier.1."), (".bn.", ".batch_norm."),
)  # fmt: skip


def our_name(name: str) -> str:
    for theirs, ours in RENAMED:
        name = name.replace(theirs, ours)
    return name


def segmenter(vision_depth: int = 6, **options) -> Segmenter:
    config = VisionConfig(gain=1.0, **SIZES | {"depth": vision_depth, "width": options.pop("width", 16)})
    anysize = {"dynamic_img_size": True, "dynamic_img_pad": True}
    vision = build_vision(config, 0, trainable_prior=True, **anysize)
    sizes = {"channels": 8, "auxiliary_channels": 6, "dropout": 0.0, "neck": "none"}
    return Segmenter(vision, 5, **sizes | options)


def in_fp64(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() if value.is_floating_point() else value for name, value in tensors.items()}


def assert_equal(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """All of ``ours`` within the bound of fp64."""
    assert ours.keys() <= expected.keys()
    assert {name: error for name in ours if not (error := relative(ours[name], expected[name])) < BOUND} == {}


@pytest.fixture(scope="module")
def released(golden) -> tuple[Segmenter, dict[str, Tensor], dict[str, Tensor]]:
    """The release's model, inputs and outputs."""
    folder = golden / "segmentation/micro_absvit_upernet"
    model = segmenter().double()
    state = {our_name(name): value for name, value in in_fp64(load_file(folder / "state_dict.safetensors")).items()}
    model.load_state_dict(state)
    model.vision.position_rule = "release"
    return (
        model.eval(),
        in_fp64(load_file(folder / "inputs.safetensors")),
        load_file(folder / "outputs_f64.safetensors"),
    )


def view_of(model: Segmenter, image: Tensor, window=None, stride=None) -> View:
    windows = []
    for top, left, (height, width) in windows_of(tuple(image.shape[-2:]), window, stride):
        logits = model(image[..., top : top + height, left : left + width]).logits[0]
        rows, columns = model.vision.grids((height, width))[0]
        windows.append(Window(logits, top, left, (height, width), (8 * rows, 8 * columns)))
    return View(windows, tuple(image.shape[-2:]))


@pytest.mark.parametrize("size", ["32x32", "32x64", "30x45"])
@torch.no_grad()
def test_maps_and_logits_at_any_size(released, size):
    model, inputs, outputs = released
    image = inputs[f"image_{size}"]
    maps = model.feature_maps(model.vision.look_twice(image), image)
    found = {f"{size}.feature{number}": one for number, one in enumerate(maps)}
    out = model(image, need_auxiliary=True)
    found |= {f"{size}.decode_logits": out.logits, f"{size}.auxiliary_logits": out.auxiliary_logits}
    views = [view_of(model, image[[row]]) for row in range(len(image))]
    at = {name: [scores_of(view, slice(None), at, "stretched") for view in views] for name, at in (
        ("logits_at_image_size", tuple(image.shape[-2:])), ("probabilities_at_original_size", (41, 57)))}  # fmt: skip
    found[f"{size}.logits_at_image_size"] = torch.stack(at["logits_at_image_size"])
    found[f"{size}.probabilities_at_original_size"] = torch.stack(at["probabilities_at_original_size"]).softmax(1)
    assert_equal(found, outputs)


@torch.no_grad()
def test_windows_and_their_mean(released):
    model, inputs, outputs = released
    view = view_of(model, inputs["image_slide"], (32, 32), (21, 21))
    logits = scores_of(view, slice(None), (48, 80), "stretched")
    probabilities = scores_of(view, slice(None), (61, 90), "stretched").softmax(0)
    assert relative(logits, outputs["slide.logits"][0]) < BOUND
    assert relative(probabilities, outputs["slide.probabilities_at_original_size"][0]) < BOUND
    assert classify([view], (61, 90), "stretched", at_once=2).equal(probabilities.argmax(0).byte())


def test_positions_of_start_weights_are_resampled_as_released(released):
    _, inputs, outputs = released
    table = resampled_as_released(inputs["pretrained_pos_embed"], (4, 4), None, prefix=1)
    assert relative(table, outputs["pos_embed_resized"]) < 1e-6  # the reference was computed in fp32


def losses_of(model: Segmenter, image: Tensor, label: Tensor, divisor: int) -> dict[str, Tensor]:
    out = model(image, need_auxiliary=True)
    decode, auxiliary = (
        pixel_loss(one, label, torch.tensor(divisor), 255) for one in (out.logits, out.auxiliary_logits)
    )
    return {"loss_decode": decode, "loss_auxiliary_weighted": 0.4 * auxiliary}


def test_losses_gradients_and_statistics_of_a_training_step(released):
    model, inputs, outputs = released
    model, image, label = copy.deepcopy(model).train(), inputs["image_32x32"], inputs["label"]
    found = {}
    # The reference's statistics are those after two passes.
    for name, divisor in (("train_avg_non_ignore", int((label != 255).sum())), ("train", label.numel())):
        terms = losses_of(model, image, label, divisor)
        found |= {f"{name}.{term}": value for term, value in terms.items()}
    sum(terms.values()).backward()
    found |= {"train.loss": sum(terms.values())}
    names = {our_name(name.removeprefix("grad.")): name for name in outputs if name.startswith("grad.")}
    weights = dict(model.named_parameters())
    assert weights.keys() == names.keys()
    found |= {names[name]: without_key_bias(name, weight.grad) for name, weight in weights.items()}
    expected = {name: without_key_bias(name, value) for name, value in outputs.items()}
    found |= {
        name: model.state_dict()[our_name(name.removeprefix("after_step."))] for name in outputs if "after" in name
    }
    assert_equal(found, expected)
    assert "after_step.decode_head.bottleneck.bn.running_var" in found
    nothing = losses_of(model, image, torch.full_like(label, 255), 0)
    assert nothing["loss_decode"] == outputs["train_all_ignored.loss_decode"] == 0


@pytest.mark.parametrize("size", ["4x6", "5x7"])
@torch.no_grad()
def test_a_pyramid_of_maps(pyramid, size):
    model, inputs, outputs = pyramid
    maps = model.neck([inputs[f"{size}.feature{number}"] for number in range(4)])
    found = {f"{size}.neck{number}": one for number, one in enumerate(maps)}
    found |= {f"{size}.decode_logits": model.head(maps), f"{size}.auxiliary_logits": model.auxiliary_head(maps)}
    assert_equal(found, outputs)


def test_the_gradients_of_a_pyramid(pyramid):
    model, inputs, outputs = pyramid
    model, label = copy.deepcopy(model).train(), inputs["label"]
    maps = model.neck([inputs[f"4x6.feature{number}"] for number in range(4)])
    parts = ((1.0, model.head(maps)), (0.4, model.auxiliary_head(maps)))
    loss = sum(weight * pixel_loss(logits, label, torch.tensor(label.numel()), 255) for weight, logits in parts)
    loss.backward()
    # Norms follow, which take out what the biases of transposed convolutions add.
    names = {our_name(name.removeprefix("grad.")): name for name in outputs if name.startswith("grad.")}
    found = {names[name]: weight.grad for name, weight in model.named_parameters() if not name.startswith("vision.")}
    biases = {name for name in found if "upsample" in name and name.endswith(".bias") and "x.1." not in name}
    assert len(biases) == 3
    assert_equal({"train.loss": loss} | {name: value for name, value in found.items() if name not in biases}, outputs)


@pytest.fixture(scope="module")
def pyramid(golden) -> tuple[Segmenter, dict[str, Tensor], dict[str, Tensor]]:
    """mmsegmentation's pyramid of given maps with heads, inputs and outputs."""
    folder = golden / "segmentation/micro_feature2pyramid_upernet"
    model = segmenter(width=12, neck="feature2pyramid").double()
    state = {our_name(name): value for name, value in in_fp64(load_file(folder / "state_dict.safetensors")).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(name.startswith("vision.") for name in missing)
    return (
        model.eval(),
        in_fp64(load_file(folder / "inputs.safetensors")),
        load_file(folder / "outputs_f64.safetensors"),
    )
