"""Files are whole or absent, whatever happens while they are written."""

import errno
import os
from pathlib import Path

import pytest

from vl_absvit.data.files import flush_to_disk, write_text, write_whole
from vl_absvit.errors import InputError


def failing(number):
    """A stand-in for anything that asks the system to do something."""

    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    return fail


def half_of_it(stream):
    stream.write(b"half")
    failing(errno.ENOSPC)()


def test_what_is_written_in_pieces_is_there_in_a_folder_that_was_not(tmp_path):
    write_whole(tmp_path / "new/folder/a.bin", lambda stream: [stream.write(piece) for piece in (b"\0", b"\r\n", b"")])
    assert (tmp_path / "new/folder/a.bin").read_bytes() == b"\0\r\n"
    assert [path.name for path in (tmp_path / "new/folder").iterdir()] == ["a.bin"]


def test_text_is_utf_8_as_it_is(tmp_path):
    write_text(str(tmp_path / "a.txt"), "Σ\r\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xce\xa3\r\n"


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    seen = []

    def fsync(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        seen.append((path.name, path.read_bytes() if path.is_file() else (path / "a.txt").read_text()))

    write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", lambda path, to: seen.append("renamed") or os.replace(path, to))
    write_text(tmp_path / "a.txt", "new")
    assert seen == [(f".a.txt.{os.getpid()}.tmp", b"new"), "renamed", (tmp_path.name, "new")]


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("moment", ["writing", "flushing"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, monkeypatch, moment, is_there):
    path = tmp_path / "a.txt"
    if is_there:
        path.write_text("old")
    if moment == "flushing":
        monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(InputError) as caught:
        write_whole(path, half_of_it if moment == "writing" else lambda stream: stream.write(b"half"))
    assert str(caught.value) == f"{path}: cannot be written: No space left on device"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == ({"a.txt": "old"} if is_there else {})


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_is_no_fault_of_the_disk_goes_its_way_and_leaves_nothing(tmp_path, error):
    def write(stream):
        stream.write(b"half")
        raise error

    with pytest.raises(error):
        write_whole(tmp_path / "a.bin", write)
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "\ud800")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [("folder", "Is a directory"), ("file/a.txt", "Not a directory|File exists"), ("a" * 300, "File name too long")],
)
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=f"{name}: cannot be written: ({reason})$"):
        write_text(tmp_path / name, "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_system_that_flushes_no_folders_still_takes_files(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    flush_to_disk(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(OSError, match="Invalid argument"):
        flush_to_disk(tmp_path / "a.txt")
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        flush_to_disk(tmp_path)
