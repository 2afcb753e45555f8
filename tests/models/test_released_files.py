"""Files of the release are read without running anything that is in them."""

import argparse
import sys
from pathlib import Path

import pytest
import torch

from tests.tiny_released import save_lightning
from vl_absvit.errors import InputError
from vl_absvit.models.released import read_released
from vl_absvit.models.stand_ins import stand_ins

WEIGHT = {"a": torch.arange(3.0)}


@pytest.mark.parametrize("zipped", [True, False])
def test_an_imagenet_file_is_read_with_the_command_line_in_it(tmp_path, zipped):
    content = {
        "model": WEIGHT,
        "optimizer": {"state": {}},
        "epoch": 3,
        "args": argparse.Namespace(model="absvit", lr=0.1),
    }
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    released = read_released(tmp_path / "a.pth")
    assert released.form == "imagenet" and list(released.state) == ["a"] and released.config == {}
    assert torch.equal(released.state["a"], WEIGHT["a"])
    torch.save(WEIGHT, tmp_path / "bare.pth")
    assert torch.equal(read_released(tmp_path / "bare.pth").state["a"], WEIGHT["a"])


def lightning_class(patch, module: str, name: str, *bases: type, **content) -> type:
    """A class that pickles as Lightning's, in a module that is there while ``patch`` is."""
    made = type(name, bases, {"__module__": module, **content})
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        patch.setitem(sys.modules, ".".join(parts[:end]), type(sys)(".".join(parts[:end])))
    setattr(sys.modules[module], name, made)
    return made


@pytest.mark.parametrize("zipped", [True, False])
def test_a_lightning_file_may_name_any_class_of_lightning_and_keeps_its_configuration(tmp_path, monkeypatch, zipped):
    with monkeypatch.context() as patch:
        stopping = lightning_class(patch, "pytorch_lightning.callbacks.early_stopping", "EarlyStopping")
        monitor = lightning_class(patch, "lightning.pytorch.callbacks.lr_monitor", "LearningRateMonitor")
        stage = lightning_class(patch, "lightning.pytorch.trainer.states", "Stage", str)
        kept = lightning_class(patch, "lightning_fabric.utilities.data", "AttributeDict", dict)
        remembered = monitor()
        remembered.lrs = {"group": [0.1]}
        content = {
            "state_dict": WEIGHT,
            "callbacks": {stopping: {"best_score": torch.tensor(1.0), "dirpath": Path("runs")}, "M{}": [remembered]},
            "loops": {"state": stage("train")},
            "hyper_parameters": kept(config=kept(image_size=32)),
        }
        torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    released = read_released(tmp_path / "a.ckpt")
    assert torch.equal(released.state["a"], WEIGHT["a"]) and released.config == {"image_size": 32}


def test_a_class_of_somebody_else_among_the_callbacks_is_refused_by_its_name(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        mine = lightning_class(patch, "my_project.callbacks", "Speak")
        torch.save({"state_dict": WEIGHT, "callbacks": {mine: {}}}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"a.ckpt: refused, it holds my_project.callbacks.Speak, which is no tensor"):
        read_released(tmp_path / "a.ckpt")


def test_a_row_of_another_tensor_becomes_a_tensor_of_its_own(tmp_path):
    itm = torch.randn(2, 6)
    torch.save({"itm": itm, "rank": itm[1:], "turned": itm.T, "tied": itm}, tmp_path / "shared.pth")
    state = read_released(tmp_path / "shared.pth").state
    assert torch.equal(state["rank"], itm[1:]) and torch.equal(state["turned"], itm.T)
    assert len({value.untyped_storage().data_ptr() for value in state.values()}) == 4
    assert all(value.is_contiguous() for value in state.values())


@pytest.mark.parametrize("kept", [0, 7, 300, 5000, -50])
def test_a_file_cut_short_is_one_line(tmp_path, kept):
    path = save_lightning(tmp_path / "cut.ckpt", {"a": torch.randn(5000)}, {})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="cut.ckpt: not a PyTorch checkpoint, or cut short$"):
        read_released(path)


@pytest.mark.parametrize("content", [b"hello", b'{"a": 1}', b"\x80\x02}", b"PK\x03\x04nothing", bytes(range(256))])
def test_files_of_another_kind_are_one_line(tmp_path, content):
    (tmp_path / "other.pth").write_bytes(content)
    with pytest.raises(InputError, match="other.pth: ") as caught:
        read_released(tmp_path / "other.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a checkpoint of the authors, got an object of type list"),
        (torch.ones(2), "expected a checkpoint of the authors, got an object of type Tensor"),
        (argparse.Namespace(x=1), "expected a checkpoint of the authors, got an object of type Namespace"),
        ({}, "expected names and tensors, got nothing"),
        ({"model": {}}, "expected names and tensors, got nothing"),
        ({"a": 1}, "expected names and tensors, got an object of type int under 'a'"),
        ({1: torch.ones(1)}, "expected names and tensors, got an object of type Tensor under 1"),
        ({"model": {"a": torch.ones(2).to_sparse()}}, "expected names and tensors"),
        ({"state_dict": WEIGHT}, "expected METER's configuration under hyper_parameters.config, got nothing"),
        ({"state_dict": WEIGHT, "hyper_parameters": {"lr": 1}}, "hyper_parameters.config, got entries such as 'lr'"),
        ({"state_dict": WEIGHT, "hyper_parameters": {"config": 3}}, "got an object of type int"),
        ({"state_dict": 3, "hyper_parameters": {"config": {"a": 1}}}, "expected names and tensors, got .* type int"),
    ],
)
def test_checkpoints_of_another_form_are_one_line(tmp_path, content, message):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(InputError, match=message):
        read_released(tmp_path / "other.pth")


def test_no_file_and_a_folder_are_one_line(tmp_path):
    with pytest.raises(InputError, match="nothing.pth: cannot be read: No such file"):
        read_released(tmp_path / "nothing.pth")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_released(tmp_path)


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
def test_paths_are_known_by_the_names_of_every_python(module):
    (stand_in,) = stand_ins([(module, "PosixPath"), (module, "Path"), ("os", "system")])
    assert (stand_in.__module__, stand_in.__name__) == (module, "PosixPath")
