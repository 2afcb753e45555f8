"""Checkpoints are whole or absent, and give back exactly what was saved."""

import errno
import json

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_model
from torch import nn

from vl_absvit.errors import InputError
from vl_absvit.training.checkpoint import (
    RunState,
    check_whole,
    find_checkpoint,
    read_training_state,
    save_checkpoint,
    write_training_state,
)


def writer(text: str):
    return lambda folder: (folder / "content.txt").write_text(text)


def content(folder) -> str:
    return (folder / "content.txt").read_text()


@pytest.fixture
def last(tmp_path):
    """A checkpoint folder holding ``two``, with ``one`` as the one before it."""
    folder = tmp_path / "checkpoints" / "last"
    for text in ("one", "two"):
        save_checkpoint(folder, writer(text), keep_previous=True)
    return folder


def test_the_newest_checkpoint_is_found_and_the_one_before_is_kept(last):
    assert find_checkpoint(last) == (last, [])
    assert content(last) == "two"
    assert content(last.with_name("last.previous")) == "one"


def test_only_the_newest_stays_where_the_one_before_is_not_wanted(tmp_path):
    for text in ("one", "two"):
        save_checkpoint(tmp_path / "best", writer(text))
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert content(tmp_path / "best") == "two"


def full_disk(folder):
    (folder / "content.txt").write_text("thr")
    raise OSError(errno.ENOSPC, "No space left on device")


def full_disk_in_safetensors(folder):
    raise SafetensorError("I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("write", [full_disk, full_disk_in_safetensors])
def test_a_full_disk_gives_one_line_and_leaves_the_old_checkpoint(last, write):
    with pytest.raises(InputError, match="cannot save checkpoint .*last: .*No space left on device.*untouched"):
        save_checkpoint(last, write, keep_previous=True)
    assert find_checkpoint(last) == (last, [])
    assert content(last) == "two"
    assert not last.with_name("last.new").exists()


def test_a_kill_while_writing_leaves_the_old_checkpoint(last):
    def killed(folder):
        (folder / "content.txt").write_text("thr")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(last, killed, keep_previous=True)
    assert find_checkpoint(last)[0] == last
    save_checkpoint(last, writer("three"), keep_previous=True)
    assert content(last) == "three"


def test_a_kill_between_the_renames_leaves_the_new_checkpoint(last):
    save_checkpoint(last.with_name("other"), writer("three"))
    last.rename(last.with_name("last.previous").with_suffix(".gone"))
    last.with_name("other").rename(last.with_name("last.new"))
    found, _ = find_checkpoint(last)
    assert content(found) == "three"


def cut_short(folder):
    (folder / "content.txt").write_text("tw")


def one_letter_changed(folder):
    (folder / "content.txt").write_text("twa")


def without_its_manifest(folder):
    (folder / "manifest.json").unlink()


def with_a_manifest_cut_short(folder):
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text[: len(text) // 2])


@pytest.mark.parametrize("damage", [cut_short, one_letter_changed, without_its_manifest, with_a_manifest_cut_short])
def test_a_damaged_checkpoint_is_recognised_and_the_one_before_is_used(last, damage):
    damage(last)
    with pytest.raises(InputError, match="last"):
        check_whole(last)
    found, passed_over = find_checkpoint(last)
    assert content(found) == "one" and len(passed_over) == 1
    save_checkpoint(last, writer("three"), keep_previous=True)
    assert content(last) == "three"


def test_only_damaged_checkpoints_are_an_error(last):
    cut_short(last)
    cut_short(last.with_name("last.previous"))
    with pytest.raises(InputError, match="no whole checkpoint to go on from"):
        find_checkpoint(last)


def test_nothing_saved_yet_is_no_error(tmp_path):
    assert find_checkpoint(tmp_path / "last") == (None, [])


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
    write_training_state(tmp_path, model, optimizer, RunState(step=3, total_steps=9, best=1 / 3))
    other, other_optimizer = trained(0)
    assert read_training_state(tmp_path, other, other_optimizer) == RunState(step=3, total_steps=9, best=1 / 3)
    for both in ((model, optimizer), (other, other_optimizer)):
        torch.manual_seed(5)
        train(*both, 2)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_state_of_another_model_is_one_line(tmp_path):
    model, optimizer = trained(1)
    save_model(nn.Linear(3, 4), str(tmp_path / "model.safetensors"))
    write_training_state(tmp_path, model, optimizer, RunState(1, 2, None))
    with pytest.raises(InputError, match="does not fit this run"):
        read_training_state(tmp_path, model, optimizer)


def test_the_state_is_readable_without_pickle(tmp_path):
    model, optimizer = trained(1)
    write_training_state(tmp_path, model, optimizer, RunState(1, 2, None))
    assert json.loads((tmp_path / "training_state.json").read_text()) == {
        "format": 1, "step": 1, "total_steps": 2, "best": None,
    }  # fmt: skip
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
