"""Write files that are whole or absent, even after a crash."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from vl_absvit.errors import InputError


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside its place, flush it to disk and move it there. Its folder is made if need be.

    After a crash or on a full disk an old file is still whole. Once this returns, the new file survives a power loss.

    Args:
        write: writes the content into the given stream.

    Raises:
        InputError: the disk is full, or the file cannot be written; no part of it is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        flush_to_disk(path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` in UTF-8 as ``write_whole`` does.

    Raises:
        InputError: as ``write_whole``.
    """
    write_whole(Path(path), lambda stream: stream.write(text.encode("utf-8")))


def check_name(path: str | Path) -> None:
    """Refuse a file or folder name that is not in UTF-8, because tables and manifests cannot hold it.

    Raises:
        InputError: the name is in another encoding; old archives have such names.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: the name is not in UTF-8; rename it") from error


def check_new_or_empty(folder: Path) -> None:
    """Refuse to write into a folder that has something in it.

    Raises:
        InputError: there is something, or a file in its place.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: already there; expected a new or empty folder to write into")


def flush_to_disk(path: Path) -> None:
    """Flush a file's content, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush a folder's list of names.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
