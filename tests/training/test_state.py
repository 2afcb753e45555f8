"""What a run needs to go on: exactly what was saved comes back, and where it cannot, one line says so."""

import json

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file, save_model
from torch import nn

from vl_absvit.errors import InputError
from vl_absvit.training.engines import fill_optimizer_state, gather_optimizer_state
from vl_absvit.training.state import RunState, read_training_state, write_training_state


def trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    model[0].bias.requires_grad = False
    groups = [{"params": list(model[2].parameters())}, {"params": [model[0].weight, *model[1].parameters()]}]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    train(model, optimizer, steps)
    return model, optimizer


def train(model, optimizer, steps: int) -> None:
    for _ in range(steps):
        model(torch.randn(8, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_model_optimizer_and_position_come_back_exactly(tmp_path):
    model, optimizer = trained(3)
    save_model(model, str(tmp_path / "model.safetensors"))
    write_training_state(
        tmp_path,
        gather_optimizer_state(Accelerator(cpu=True), model, optimizer),
        RunState(step=3, total_steps=9, best=1 / 3),
    )
    other, other_optimizer = trained(0)
    state, optimizer_state = read_training_state(tmp_path, other)
    fill_optimizer_state(Accelerator(cpu=True), other, other_optimizer, optimizer_state)
    assert state == RunState(step=3, total_steps=9, best=1 / 3)
    for both in ((model, optimizer), (other, other_optimizer)):
        torch.manual_seed(5)
        train(*both, 2)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_state_of_another_model_is_one_line(tmp_path):
    model, optimizer = trained(1)
    save_model(nn.Linear(3, 4), str(tmp_path / "model.safetensors"))
    write_training_state(
        tmp_path, gather_optimizer_state(Accelerator(cpu=True), model, optimizer), RunState(1, 2, None)
    )
    with pytest.raises(InputError, match="does not fit this run"):
        read_training_state(tmp_path, model)


def test_the_state_is_readable_without_pickle(tmp_path):
    model, optimizer = trained(1)
    write_training_state(
        tmp_path, gather_optimizer_state(Accelerator(cpu=True), model, optimizer), RunState(1, 2, None)
    )
    assert json.loads((tmp_path / "training_state.json").read_text()) == {
        "format": 1, "step": 1, "total_steps": 2, "best": None,
    }  # fmt: skip
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]


def test_a_state_of_a_parameter_that_the_model_does_not_have_is_one_line(tmp_path):
    model, optimizer = trained(1)
    save_model(model, str(tmp_path / "model.safetensors"))
    write_training_state(
        tmp_path, gather_optimizer_state(Accelerator(cpu=True), model, optimizer), RunState(1, 2, None)
    )
    tensors = load_file(tmp_path / "training_state.safetensors")
    save_file(tensors | {"exp_avg/9.weight": torch.zeros(1)}, tmp_path / "training_state.safetensors")
    with pytest.raises(
        InputError, match="does not fit this run: training_state.safetensors knows a parameter 9.weight"
    ):
        read_training_state(tmp_path, model)
