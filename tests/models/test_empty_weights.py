"""Models read from a file: no random weights first, the file read once, and what does not fit is said."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.models.test_vl_model import ARCHITECTURE
from vl_absvit.errors import InputError
from vl_absvit.models import empty_weights
from vl_absvit.models.architecture import build_from_architecture
from vl_absvit.models.empty_weights import empty_parameters
from vl_absvit.models.vl_model import VLAbSViT


@pytest.fixture
def saved(tmp_path):
    """A model, and its folder."""
    model = build_from_architecture(ARCHITECTURE, "test").eval()
    model.save_pretrained(tmp_path)
    return model, tmp_path


def change(folder, edit) -> None:
    """Write other weights."""
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file({name: value.clone() for name, value in state.items()}, folder / "other")
    (folder / "other").replace(folder / "model.safetensors")


def test_a_model_is_read_without_drawing_random_numbers_and_its_file_is_read_once(saved, monkeypatch):
    model, folder = saved
    before, read = torch.get_rng_state(), []
    monkeypatch.setattr(empty_weights, "load_file", lambda path: read.append(path) or load_file(path))
    loaded = VLAbSViT.from_pretrained(folder)
    assert torch.get_rng_state().equal(before) and read == [folder / "model.safetensors"]
    for kind in ("named_parameters", "named_buffers"):
        found, expected = dict(getattr(loaded, kind)()), dict(getattr(model, kind)())
        assert found.keys() == expected.keys()
        assert all(value.equal(found[name]) and value.dtype == found[name].dtype for name, value in expected.items())
    assert all(parameter.requires_grad for parameter in loaded.parameters()) and not loaded.training


def test_a_model_may_be_saved_over_the_file_that_it_was_read_from(saved):
    _, folder = saved
    loaded = VLAbSViT.from_pretrained(folder)
    with torch.no_grad():
        loaded.head[-1].bias += 1
    loaded.save_pretrained(folder)
    again = VLAbSViT.from_pretrained(folder)
    assert again.head[-1].bias.equal(loaded.head[-1].bias)
    assert all(value.equal(loaded.state_dict()[name]) for name, value in again.state_dict().items())


def test_a_model_keeps_its_weights_when_another_program_writes_into_their_file(saved):
    _, folder = saved
    loaded = VLAbSViT.from_pretrained(folder)
    before = loaded.head[-1].weight.clone()
    (folder / "model.safetensors").write_bytes(bytes((folder / "model.safetensors").stat().st_size))
    assert loaded.head[-1].weight.equal(before)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda state: state.pop("head.3.bias"), 'Missing key.*"head.3.bias"'),
        (lambda state: state.update(extra=torch.ones(1)), 'Unexpected key.*"extra"'),
        (lambda state: state.update({"head.3.bias": torch.ones(5)}), "size mismatch for head.3.bias"),
    ],
)
def test_weights_that_do_not_fit_are_named(saved, edit, message):
    change(saved[1], edit)
    with pytest.raises(InputError, match=f"does not fit the architecture.*{message}"):
        VLAbSViT.from_pretrained(saved[1])


def test_weights_in_another_precision_become_the_model_s(saved):
    model, folder = saved
    change(folder, lambda state: state.update({name: value.bfloat16() for name, value in state.items()}))
    loaded = VLAbSViT.from_pretrained(folder).state_dict()
    assert all(loaded[name].equal(value.bfloat16().to(value.dtype)) for name, value in model.state_dict().items())


def test_what_a_file_lacks_is_random_where_that_is_asked_for(saved):
    model, folder = saved
    change(folder, lambda state: state.pop("head.3.weight"))
    loaded = VLAbSViT.from_pretrained(folder, strict=False)
    assert not loaded.head[3].weight.is_meta and loaded.head[3].weight.std() > 0
    assert loaded.head[3].bias.equal(model.head[3].bias)


def test_only_parameters_are_empty_and_only_within():
    with empty_parameters():
        norm, layer = nn.BatchNorm1d(3), nn.Linear(2, 2, bias=False)
    assert norm.weight.is_meta and layer.weight.is_meta and layer.bias is None
    assert norm.running_var.tolist() == [1, 1, 1] and not nn.Linear(2, 2).weight.is_meta


def test_a_frozen_parameter_stays_frozen():
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.ones(2), requires_grad=False)

    with empty_parameters():
        module = Frozen()
    module.load_state_dict({"table": torch.tensor([1.0, 2.0])}, assign=True)
    assert not module.table.requires_grad and module.table.tolist() == [1, 2]
