"""Save checkpoints whole or not at all: write beside the old one, flush to disk, then rename.

``manifest.json`` is written last. It holds the size and SHA-256 of every other file of a checkpoint's folder.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from vl_absvit.data.files import flush_to_disk
from vl_absvit.data.whole_folder import fingerprint
from vl_absvit.errors import InputError

MANIFEST = "manifest.json"


def save_checkpoint(folder: Path, write: Callable[[Path], None], keep_previous: bool = False) -> None:
    """Replace ``folder`` by the files that ``write`` puts into an empty folder. One whole checkpoint is always on disk.

    With ``keep_previous`` the replaced checkpoint stays as ``<folder>.previous``. A full disk or another failure to
    write raises ``InputError`` and does not change the old checkpoint.
    """
    new, previous = _beside(folder)
    try:
        shutil.rmtree(new, ignore_errors=True)
        if is_whole(folder, read_all=False):
            shutil.rmtree(previous, ignore_errors=True)
        new.mkdir(parents=True)
        write(new)
        _seal(new)
    except BaseException as error:
        shutil.rmtree(new, ignore_errors=True)
        if not _cannot_write(error):
            raise
        reason = getattr(error, "strerror", None) or error
        rest = "the one before it is untouched" if folder.exists() else "there was none before it"
        raise InputError(f"cannot save checkpoint {folder}: {reason}; {rest}") from error
    _put_in_place(folder, keep_previous)


def finish_save(folder: Path, keep_previous: bool = False) -> None:
    """Finish a save that was killed: put its checkpoint in place if it is whole, else remove it."""
    new, _ = _beside(folder)
    if is_whole(new):
        _put_in_place(folder, keep_previous)
    else:
        shutil.rmtree(new, ignore_errors=True)


def find_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint of ``folder`` and the one before it, and the reasons why others were passed over.

    The first is None if there is no checkpoint. Raises ``InputError`` if there are only broken ones.
    """
    passed_over = []
    for candidate in (folder, _beside(folder)[1]):
        if not candidate.exists():
            continue
        try:
            check_whole(candidate)
        except InputError as error:
            passed_over.append(str(error))
        else:
            return candidate, passed_over
    if passed_over:
        raise InputError("no whole checkpoint to go on from: " + "; ".join(passed_over))
    return None, passed_over


def is_whole(folder: Path, read_all: bool = True) -> bool:
    """Whether ``check_whole`` finds no fault."""
    try:
        check_whole(folder, read_all)
    except InputError:
        return False
    return True


def check_whole(folder: Path, read_all: bool = True) -> None:
    """Raise ``InputError`` with the first missing or cut file. With ``read_all``, also with the first changed one."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, expected in files.items():
            path = folder / name
            size = path.stat().st_size
            if size != expected["bytes"]:
                raise InputError(f"checkpoint {folder}: {name} has {size} bytes, expected {expected['bytes']}")
            if read_all and fingerprint(path)["sha256"] != expected["sha256"]:
                raise InputError(f"checkpoint {folder}: {name} is not what was saved (its SHA-256 differs)")
    except OSError as error:
        name = Path(error.filename or folder).name
        raise InputError(f"checkpoint {folder} is incomplete: {name}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"checkpoint {folder}: {MANIFEST} is not one of ours: {error!r}") from error


def _beside(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.previous")


def _put_in_place(folder: Path, keep_previous: bool) -> None:
    """Give the new checkpoint its name. The checkpoint that has this name becomes the previous one."""
    new, previous = _beside(folder)
    try:
        if folder.exists() and not previous.exists():
            folder.rename(previous)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
        flush_to_disk(folder.parent)
    except OSError as error:
        raise InputError(f"cannot put checkpoint {new} in its place: {error.strerror or error}") from error
    if not keep_previous:
        shutil.rmtree(previous, ignore_errors=True)


def _cannot_write(error: BaseException) -> bool:
    """Whether ``error`` is a failure to write. The tokenizers library raises a plain ``Exception`` for these."""
    return isinstance(error, (OSError, SafetensorError, InputError)) or type(error) is Exception


def _seal(folder: Path) -> None:
    """Flush everything to disk and write the manifest, which makes the folder a checkpoint."""
    files = {}
    for path in sorted(folder.rglob("*")):
        flush_to_disk(path)
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = fingerprint(path)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"format": 1, "files": files}, indent=1) + "\n", encoding="utf-8")
    flush_to_disk(manifest)
    flush_to_disk(folder)
