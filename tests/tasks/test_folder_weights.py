"""Weights of a checkpoint folder: far larger descriptions and other models are one line."""

import pytest
import safetensors.torch
import torch
from torch import nn

from vl_absvit.errors import InputError
from vl_absvit.tasks.folder_weights import check_size, load_weights


class ReadsNumbers(nn.Linear):
    """A model that asks for numbers while it is built, as trunks do for rates of their blocks."""

    def __init__(self) -> None:
        super().__init__(3, 2)
        self.rates = torch.linspace(0, 1, 3).tolist()


@pytest.fixture
def folder(tmp_path):
    """A folder with the weights of a small layer."""
    safetensors.torch.save_file(nn.Linear(3, 2).state_dict(), tmp_path / "model.safetensors")
    return tmp_path


def test_the_described_model_is_read_whether_or_not_it_can_be_built_without_values(folder):
    for build in (lambda: nn.Linear(3, 2), ReadsNumbers):
        check_size(folder, build)
        load_weights(model := build(), folder)
        assert torch.equal(model.weight, safetensors.torch.load_file(folder / "model.safetensors")["weight"])


def test_a_model_far_larger_than_its_weights_is_never_made(folder):
    with pytest.raises(InputError, match=r"model.safetensors: does not fit .*: it holds 8 numbers, the model has 2,0"):
        check_size(folder, lambda: nn.Linear(50_000, 40_000, bias=False))
    with pytest.raises(InputError, match="model.safetensors: does not fit .*overflow"):
        check_size(folder, lambda: nn.Linear(2_000_000_000, 2_000_000_000_000, bias=False))


def test_weights_of_another_model_and_none_are_one_line(folder, tmp_path):
    with pytest.raises(InputError, match="does not fit the architecture in config.json beside it: .*size mismatch"):
        load_weights(nn.Linear(3, 3), folder)
    (folder / "model.safetensors").write_bytes(b"no")
    for read in (lambda: check_size(folder, lambda: nn.Linear(3, 2)), lambda: load_weights(nn.Linear(3, 2), folder)):
        with pytest.raises(InputError, match="does not fit the architecture in config.json beside it: .*header"):
            read()
