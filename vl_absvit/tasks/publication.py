"""The files of a checkpoint folder that go to the hub: all that opens it, and a card in place of its README."""

import json
from collections.abc import Mapping
from pathlib import Path

from vl_absvit.data.files import check_new_or_empty
from vl_absvit.errors import InputError
from vl_absvit.tasks.model_card import model_card

CARD, MANIFEST = "README.md", "manifest.json"
TRAINING_STATE = ("training_state.json", "training_state.safetensors")
SUFFIXES = (".json", ".safetensors", ".txt", ".md")
Files = dict[str, Path | bytes]


def published(folder: Path, name: str, *, license_id: str | None = None, with_state: bool = False) -> Files:
    """The files of a checkpoint folder by their names on the hub, the card included.

    Args:
        folder: of a run, or converted.
        name: by which the card calls the checkpoint.
        license_id: the hub's name of a licence; None states none.
        with_state: also what a run needs to go on: optimizer moments and position.

    Raises:
        InputError: the folder is not whole, or its run cannot go on from it although it should.
    """
    card = model_card(folder, name, license_id)
    left_out = () if with_state else TRAINING_STATE
    files: Files = {
        file.name: file
        for file in sorted(folder.iterdir())
        if file.is_file() and file.suffix in SUFFIXES and not file.name.startswith(".") and file.name not in left_out
    }
    if with_state and not set(TRAINING_STATE) <= set(files):
        raise InputError(f"{folder}: there is no {TRAINING_STATE[1]}; of a run, checkpoints/last has one")
    files[CARD] = card.encode()
    if MANIFEST in files:
        files[MANIFEST] = _manifest_of(folder / MANIFEST, files)
    return files


def unpublished(folder: Path, files: Mapping[str, Path | bytes]) -> list[str]:
    """Names in the folder that do not go to the hub."""
    return sorted(entry.name for entry in folder.iterdir() if entry.name not in files)


def write_folder(files: Mapping[str, Path | bytes], output: Path) -> None:
    """Write the files as they would be on the hub into a new or empty folder."""
    check_new_or_empty(output)
    output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (output / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())


def _manifest_of(manifest: Path, files: Mapping[str, Path | bytes]) -> bytes:
    """The sizes and hashes of the files that stay as they were saved."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        content["files"] = {
            name: entry for name, entry in content["files"].items() if isinstance(files.get(name), Path)
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{manifest}: is not one of ours: {error!r}") from error
    return (json.dumps(content, indent=1) + "\n").encode()
