"""Checkpoints are whole or absent, and give back exactly what was saved."""

import errno
import shutil
import signal

import pytest
from safetensors import SafetensorError

from tests.killing import before_operation, die, fill_the_disk, in_a_process, number_of_operations
from vl_absvit.errors import InputError
from vl_absvit.training.checkpoint import check_whole, find_checkpoint, finish_save, save_checkpoint


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


def disturbed_saves(folder, keep_previous: bool, fault):
    """The folder of two checkpoints, and the exit code of a process that was met by ``fault`` while it saved a third.

    Once for each of its file operations. Whatever it left behind, the next save succeeds.
    """

    def saved(*texts):
        for text in texts:
            save_checkpoint(last, writer(text), keep_previous)

    def disturbed():
        before_operation(operation, fault)
        saved("three")

    names = ["last", "last.previous"][: 1 + keep_previous]
    last = folder / "counted/last"
    saved("one", "two")
    for operation in range(1, 1 + number_of_operations(lambda: saved("three"))):
        last = folder / str(operation) / "last"
        saved("one", "two")
        yield last, in_a_process(disturbed)
        saved("four")
        assert find_checkpoint(last) == (last, []) and content(last) == "four"
        assert sorted(path.name for path in last.parent.iterdir()) == names


@pytest.mark.slow
@pytest.mark.parametrize("keep_previous", [True, False])
def test_whenever_a_save_is_killed_the_old_or_the_new_checkpoint_is_whole(tmp_path, keep_previous):
    found = []
    for last, code in disturbed_saves(tmp_path, keep_previous, die):
        assert code == -signal.SIGKILL
        finish_save(last, keep_previous)
        assert find_checkpoint(last) == (last, [])
        found.append(content(last))
        assert not last.with_name("last.new").exists()
    assert found.count("two") > 5 and found.count("three") > 2
    assert found == sorted(found, reverse=True)  # the old one, up to a moment from which on it is the new one


def test_finishing_a_killed_save_can_be_killed_as_well(last):
    save_checkpoint(last.with_name("other"), writer("three"))
    last.with_name("other").rename(last.with_name("last.new"))
    shutil.rmtree(last.with_name("last.previous"))

    def finish():
        before_operation(kills + 1, die)
        finish_save(last, keep_previous=True)

    kills = 0
    while in_a_process(finish) != 0:
        kills += 1
    assert kills > 3
    assert content(last) == "three" and content(last.with_name("last.previous")) == "two"


@pytest.mark.slow
@pytest.mark.parametrize("keep_previous", [True, False])
def test_wherever_in_a_save_the_disk_is_full_the_old_or_the_new_checkpoint_is_whole(tmp_path, keep_previous):
    codes = []
    for last, code in disturbed_saves(tmp_path, keep_previous, fill_the_disk):
        codes.append(code)
        finish_save(last, keep_previous)
        assert content(find_checkpoint(last)[0]) in (["two", "three"] if code else ["three"])
    assert codes.count(1) > 5


def full_disk(folder):
    (folder / "content.txt").write_text("thr")
    raise OSError(errno.ENOSPC, "No space left on device")


def full_disk_in_json_files(folder):
    raise InputError("last.new/training.json: cannot be written: No space left on device")


def full_disk_in_tokenizers(folder):
    raise Exception("No space left on device (os error 28)")


def full_disk_in_safetensors(folder):
    raise SafetensorError("I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    "write", [full_disk, full_disk_in_json_files, full_disk_in_tokenizers, full_disk_in_safetensors]
)
def test_a_full_disk_gives_one_line_and_leaves_the_old_checkpoint(last, write):
    with pytest.raises(InputError, match="cannot save checkpoint .*last: .*No space left on device.*untouched"):
        save_checkpoint(last, write, keep_previous=True)
    assert find_checkpoint(last) == (last, [])
    assert content(last) == "two"
    assert not last.with_name("last.new").exists()


def cut_short(folder):
    (folder / "content.txt").write_text("tw")


def one_letter_changed(folder):
    (folder / "content.txt").write_text("twa")


def emptied(folder):
    (folder / "content.txt").write_text("")


def without_a_file(folder):
    (folder / "content.txt").unlink()


def without_its_manifest(folder):
    (folder / "manifest.json").unlink()


def with_a_manifest_cut_short(folder):
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text[: len(text) // 2])


@pytest.mark.parametrize(
    "damage", [cut_short, one_letter_changed, emptied, without_a_file, without_its_manifest, with_a_manifest_cut_short]
)
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
