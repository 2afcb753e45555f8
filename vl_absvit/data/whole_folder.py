"""The folder that a preparation writes. It is whole or absent, and always made from one request.

A preparation writes into ``OUT.partial``, which becomes ``OUT`` at the end. ``OUT.partial/request.json`` holds the
files and options of an interrupted run, ``manifest.json`` those of a finished one. Files are compared by content, not
by path.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vl_absvit.data.bounded import check_ordinary
from vl_absvit.data.files import check_name, flush_to_disk
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.data.raw_folder import FROM_HERE, ROOT
from vl_absvit.errors import InputError

log = logging.getLogger(__name__)

CHECKED = "checked.jsonl"
"""Results of a preparation so far."""
_REQUEST = "request.json"
_AT_ONCE = 1 << 25  # bytes of a file; between two parts a thread may wait for another that is busy in Python
_OF_EARLIER_VERSIONS = ("scratch.sqlite", "scratch.sqlite-journal", "scratch.sqlite-wal")


def make_request(kind: str, root: Path, options: Mapping[str, Any], sources: Iterable[Path]) -> dict[str, Any]:
    """Everything that decides the result of a preparation, as its manifest holds it.

    Args:
        root: folder of the images.
        options: JSON values.

    Raises:
        InputError: a file cannot be read, or its name is not in UTF-8.
    """
    sources = list(sources)
    for path in (root.resolve(), *(Path(file.name) for file in sources)):
        check_name(path)
    return {
        "kind": kind,
        "root": str(root.resolve()),
        "options": dict(options),
        "sources": {file.name: fingerprint(file) for file in sources},
    }


def finished(output: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of a finished ``output``; None if there is none yet. The place of raw pictures is not compared.

    Raises:
        InputError: ``output`` is something else, or was made from another request.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    if not (output / "manifest.json").is_file():
        raise InputError(f"{output}: exists and is not prepared data; choose another --output")
    manifest = read_json(output / "manifest.json", dict)
    if manifest.get("kind") != request["kind"]:
        raise InputError(
            f"{output}: holds prepared data of the kind {manifest.get('kind')!r}, not {request['kind']!r}; "
            "choose another --output"
        )
    for part, wanted in request.items():
        found = manifest.get(part)
        if part not in (ROOT, FROM_HERE) and not _is_same(part, found, wanted):
            raise InputError(
                f"{output}: was prepared from other {part}: {_difference(found, wanted)}; choose another --output"
            )
    return manifest


def _is_same(part: str, found: Any, wanted: Any) -> bool:
    """Whether a part of a request is the same. Sources are compared by content alone."""
    if part == "content":  # an earlier version did not write it
        return found in (wanted, None)
    if part != "sources" or not isinstance(found, dict):
        return found == wanted
    # An earlier version listed the manifest of the shards' source, which contains paths.
    sources = {name: content for name, content in found.items() if name != "manifest.json"}
    files, others = (
        sorted(json.dumps(content, sort_keys=True) for content in contents.values()) for contents in (wanted, sources)
    )
    return files == others


def _difference(found: Any, wanted: Any) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        key = next(key for key in {**wanted, **found} if found.get(key) != wanted.get(key))
        return f"{key} was {found.get(key, 'absent')}, now it is {wanted.get(key, 'absent')}"
    return f"{found}, now it is {wanted}"


def partial_folder(output: Path) -> Path:
    """The folder where ``output`` is written: beside it, with links followed, so that renaming finishes it."""
    output = output.resolve()
    return output.with_name(f"{output.name}.partial")


def start_or_continue(partial: Path, request: dict[str, Any], work: str = "preparation") -> bool:
    """Make an empty folder, or keep that of an interrupted run for the same request. Returns whether it was kept.

    Args:
        work: name of the work, for messages.

    Raises:
        InputError: ``partial`` is something else.
    """
    if partial.exists():
        if not (partial / _REQUEST).is_file():
            raise InputError(f"{partial}: exists and is not an interrupted {work}; move it away")
        if _is_about_the_same(read_json(partial / _REQUEST, dict), request):
            log.info("going on with the interrupted %s in %s", work, partial)
            return True
        log.info("starting over: %s was begun with other options or files", partial)
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    write_json(partial / _REQUEST, request)
    return False


def _is_about_the_same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether an interrupted run had this request. It may have been moved together with its raw pictures."""
    places = {key for key in (ROOT, FROM_HERE) if key in wanted}
    is_there = not places or any(found.get(key) == wanted[key] for key in places)
    parts = {*found, *wanted} - {ROOT, FROM_HERE}
    return is_there and all(found.get(part) == wanted.get(part) for part in parts)


def finish(partial: Path, output: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, remove the preparation's own files, and give the folder its name.

    Everything is flushed to disk before, so that a folder of that name is always whole.
    """
    write_json(partial / "manifest.json", manifest, indent=1)
    for name in (CHECKED, _REQUEST, *_OF_EARLIER_VERSIONS):
        (partial / name).unlink(missing_ok=True)
    for path in {path.stat().st_ino: path for path in [*partial.rglob("*"), partial]}.values():  # links need no more
        flush_to_disk(path)
    os.replace(partial, output.resolve())
    flush_to_disk(partial.parent)


def fingerprint(path: Path) -> dict[str, Any]:
    """SHA-256 and size of a source file.

    Raises:
        InputError: it is no ordinary file; reading it might never end.
    """
    try:
        size = check_ordinary(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    digest, part = hashlib.sha256(), memoryview(bytearray(max(1, min(size, _AT_ONCE))))
    with path.open("rb", buffering=0) as stream:
        while read := stream.readinto(part):
            digest.update(part[:read])
    return {"sha256": digest.hexdigest(), "bytes": size}


def fingerprint_all(root: Path, files: Iterable[str], expected: str) -> dict[str, Any]:
    """Number of files below a folder, and one SHA-256 over the names and the SHA-256 of all.

    Args:
        files: their paths below ``root``, in an order of their own.
        expected: what each of them is, in words.

    Raises:
        InputError: a file is missing or no ordinary one, or its name is not in UTF-8.
    """
    total, number = hashlib.sha256(), 0
    for file in files:
        check_name(file)
        try:
            content = fingerprint(root / file)["sha256"]
        except OSError as error:
            raise InputError(f"{root / file}: {error.strerror}; expected {expected}") from error
        total.update(f"{content}  {file}\n".encode())
        number += 1
    return {"files": number, "sha256": total.hexdigest()}


def fingerprints(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the files of these names in a folder, as far as they are there."""
    return {name: fingerprint(folder / name)["sha256"] for name in names if (folder / name).is_file()}


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that the result may depend on."""
    packages = ("pillow", "pyarrow")
    return {"python": platform.python_version()} | {package: version(package) for package in packages}
