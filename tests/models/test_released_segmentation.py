"""The authors' segmenters become checkpoints that give their logits, and every key of the base models is known."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.models.test_segmenter_references import in_fp64
from tests.run_script import run_script
from tests.test_references import BOUND, relative
from tests.tiny_segmentation import pixels  # noqa: F401
from vl_absvit.data.labelled_pixels import LabelledPicture
from vl_absvit.errors import InputError
from vl_absvit.models.architecture import build_described_segmenter
from vl_absvit.models.pixel_scores import scores_of
from vl_absvit.models.released import convert, read_released
from vl_absvit.models.released.segmentation import KEYS, RECIPES, convert_segmenter
from vl_absvit.tasks.registry import open_checkpoint
from vl_absvit.tasks.segmentation_evaluation import look_at, predict, showing_of

SCRIPT = "scripts/convert_released.py"
HEADS = ("--num-heads", 2)
META = {"CLASSES": ("ground", "red", "blue", "sky ", "car"), "PALETTE": [[n, 0, 255] for n in range(5)], "iter": 20_000}


@pytest.fixture(scope="module")
def case(golden) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """The recorded model's state, inputs and outputs."""
    folder = golden / "segmentation/micro_absvit_upernet"
    names = ("state_dict", "inputs", "outputs_f64")
    return tuple(load_file(folder / f"{name}.safetensors") for name in names)


def saved(path: Path, state: dict[str, Tensor], **meta) -> Path:
    """A file as mmcv saves it."""
    torch.save({"meta": meta, "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}, path)
    return path


def test_a_released_segmenter_becomes_a_checkpoint_that_gives_its_probabilities(case, tmp_path, capsys):
    state, inputs, outputs = case
    file = saved(tmp_path / "absvit.pth", state, **META)
    assert run_script(SCRIPT, "--checkpoint", file, *HEADS, "--output", tmp_path / "folder") == 0
    assert "a segmenter" in capsys.readouterr().out
    found = open_checkpoint(tmp_path / "folder")
    assert found.classes == ["ground", "red", "blue", "sky", "car"] and found.colours[4] == (4, 0, 255)
    model, inputs = found.model.double(), in_fp64(inputs)
    showing = showing_of(found.pictures, found.vision)
    for size in ("32x32", "30x45"):
        image = inputs[f"image_{size}"][:1]
        expected = outputs[f"{size}.probabilities_at_original_size"][0]
        view = look_at(model, image, showing)
        assert relative(scores_of(view, slice(None), (41, 57), showing.border).softmax(0), expected) < BOUND
        prediction = predict(model, LabelledPicture(0, [image], (41, 57), None), showing)
        assert torch.from_numpy(prediction).equal(expected.argmax(0).byte())
    account = json.loads((tmp_path / "folder/conversion.json").read_text())
    assert sorted(entry["key"] for entry in account["loaded"] + account["ignored"]) == sorted(state)
    assert {entry["key"].rsplit(".", 1)[1] for entry in account["ignored"]} == {"num_batches_tracked"}


def test_classes_are_those_of_prepared_data_or_of_the_file_and_never_guessed(case, tmp_path, pixels, capfd):  # noqa: F811
    state, _, _ = case
    three = {name: value[:3] if "conv_seg" in name else value for name, value in state.items()}
    bare, named = (
        saved(tmp_path / "bare.pth", three),
        saved(tmp_path / "named.pth", three, CLASSES=["ground", "r", "b"]),
    )
    assert run_script(SCRIPT, "--checkpoint", bare, *HEADS, "--output", tmp_path / "no") == 2
    assert "--classes is needed: the model tells 3 classes apart that the file does not name" in capfd.readouterr().err
    for file, warning in ((bare, ""), (named, "2 of 3 classes have another name in the file, such as 'r' for 'red'")):
        folder = tmp_path / file.stem
        assert run_script(SCRIPT, "--checkpoint", file, *HEADS, "--classes", pixels, "--output", folder) == 0
        assert open_checkpoint(folder).classes == ["ground", "red", "blue"]
        assert warning in capfd.readouterr().out
    five = saved(tmp_path / "five.pth", state)
    assert run_script(SCRIPT, "--checkpoint", five, *HEADS, "--classes", pixels, "--output", tmp_path / "no") == 1
    assert "expected the model's 5 classes, got 3" in capfd.readouterr().err


@pytest.mark.parametrize("name, feedback", [("ViT_Top_Down", True), ("ViT_Bottom_Up", False)])
def test_every_parameter_of_the_base_models_has_its_place(golden, name, feedback):
    recorded = json.loads((golden / "segmentation/parameter_groups.json").read_text())[name]
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in recorded["shapes"].items()}
        for key in [key for key in state if key.endswith(".bn.weight")]:
            state |= {
                key.replace("weight", each): torch.empty_like(state[key]) for each in ("running_mean", "running_var")
            }
        found = convert_segmenter(state, {}, None, "file")
        model = build_described_segmenter(found.config["vision"], found.config["segmenter"])
    assert found.state.keys() == model.state_dict().keys()
    assert {KEYS.ours(key): tuple(shape) for key, shape in recorded["shapes"].items()} == {
        key: tuple(value.shape) for key, value in model.named_parameters()
    }
    classes = len(found.config["segmenter"]["classes"])
    assert found.training["dataset"] == RECIPES[classes].dataset and model.vision.image_size == (512, 512)
    assert model.maps == [2, 5, 8, 11] and model.vision.feeds_back == feedback


def test_what_is_no_released_segmenter_is_one_line(case, tmp_path):
    state, _, _ = case
    (tmp_path / "x").mkdir()
    for change, complaint in (
        ({"neck.convs.0.weight": torch.ones(1)}, "1 of .* keys are no part of the released models, e.g. neck.convs.0"),
        ({"decode_head.conv_seg.weight": None}, "expected a 1 x 1 convolution decode_head.conv_seg.weight"),
        (
            {"decode_head.bottleneck.bn.bias": None},
            "not all of a released model: it has no head.bottleneck.batch_norm.bi",
        ),
        ({"backbone.norm.weight": torch.ones(3)}, r"expected the shape \(16,\) for vision.norm.weight, got \(3,\)"),
    ):
        changed = {name: value for name, value in (state | change).items() if value is not None}
        with pytest.raises(InputError, match=complaint):
            convert(read_released(saved(tmp_path / "x.pth", changed)), 2)
    with pytest.raises(InputError, match="the heads have 5 classes, the file's meta has 2 classes"):
        convert(read_released(saved(tmp_path / "x.pth", state, CLASSES=["a", "b"])), 2)
