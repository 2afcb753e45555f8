"""Write the folder of an attention export. ``exported.py`` reads it when it is complete.

``export.json`` says what is exported. ``<id>.npz`` and ``<id>.png`` belong to one question. ``index.jsonl`` is written
when all questions are there. Until then every process notes its finished questions in ``index.partial``, and an
interrupted export goes on from these notes.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vl_absvit.data.files import check_name, write_text, write_whole
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.errors import InputError
from vl_absvit.looking.export_reader import IMAGE_FROM_HERE, kind_of

DESCRIPTION, INDEX = "export.json", "index.jsonl"
_PARTIAL, _KEPT = "index.partial", "kept.jsonl"
FIRST = {"precision": "fp32"}
"""Values that held before descriptions stated them."""
_PNG_EFFORT = 1  # zlib's level; more effort makes the many panels only a little smaller


class ExportFolder:
    """The folder as one process sees it. Several processes may write into it."""

    def __init__(self, folder: str | Path, process: int = 0) -> None:
        """
        Args:
            process: number of this process.
        """
        self.folder = Path(folder)
        self._notes = self.folder / _PARTIAL / f"process-{process:05d}.jsonl"

    def start(self, description: Mapping[str, Any]) -> set[str]:
        """Make the folder, or go on with the files of an earlier start.

        One process calls this, before any process writes.

        Args:
            description: everything that the files depend on, as JSON.

        Returns:
            Ids of the questions whose files are there.

        Raises:
            InputError: the folder holds something else, such as an export with another description.
        """
        path, wanted = self.folder / DESCRIPTION, json.loads(json.dumps({"format": 1, **description}))
        if path.is_file():
            found, wanted = (FIRST | content for content in (read_json(path, dict), wanted))
            if found != wanted:
                differing = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
                raise InputError(
                    f"{self.folder}: holds another export, which differs in {', '.join(differing)}; "
                    "choose another --output or remove it"
                )
        elif self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder}: is a file, expected a folder to write into")
        elif self.folder.exists() and any(not file.name.startswith(".") for file in self.folder.iterdir()):
            raise InputError(f"{self.folder}: exists and is not an attention export; choose another --output")
        else:
            write_json(path, wanted, indent=1)
        for unfinished in self.folder.rglob(".*.tmp"):
            unfinished.unlink()
        lines = self._read_lines()
        self._consolidate(lines)
        return set(lines)

    def write(self, entry: Mapping[str, Any], maps: Mapping[str, np.ndarray], panel: Image.Image | None) -> None:
        """Write the files of a question, each whole or not at all. Call ``note`` afterwards.

        Args:
            entry: the question's line of the index.
            maps: kind -> (h, w).
            panel: the picture with the maps; None writes none.

        Raises:
            InputError: a file cannot be written, or a map has a value that is not finite.
        """
        for name, grid in maps.items():
            if not np.isfinite(grid).all():
                raise InputError(f"{kind_of(entry)} {entry['id']}: the map {name} is not made of finite numbers")
        arrays: dict[str, Any] = {name: np.asarray(grid, dtype=np.float32) for name, grid in maps.items()}
        place: dict[str, Any] = {"box": np.array(entry["box"]), "image_size": np.array(entry["image_size"])}
        write_whole(self.folder / entry["npz"], lambda stream: np.savez_compressed(stream, **arrays, **place))
        if panel is not None:
            path = self.folder / entry["png"]
            write_whole(path, lambda stream: panel.save(stream, "PNG", compress_level=_PNG_EFFORT))

    def place_of(self, picture: Path) -> dict[str, str]:
        """The path of a picture's file for the index: absolute, and relative to this folder.

        Raises:
            InputError: its name is not in UTF-8.
        """
        check_name(picture)
        return {"image": str(picture), IMAGE_FROM_HERE: os.path.relpath(picture, self.folder.resolve())}

    def keep_picture(self, name: str, content: bytes) -> str:
        """Write a picture that has no file of its own. Returns its path below the folder."""
        path = self.folder / "images" / name
        if not path.is_file():
            write_whole(path, lambda stream: stream.write(content))
        return f"images/{name}"

    def note(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Record questions whose files are written."""
        self._notes.parent.mkdir(exist_ok=True)
        with self._notes.open("a", encoding="utf-8") as stream:
            stream.writelines(f"{json.dumps(entry, allow_nan=False)}\n" for entry in entries)

    def complete(self, ids: Sequence[str]) -> None:
        """Write the index.

        One process calls this, after all processes have finished writing.

        Args:
            ids: of all questions, in the index's order; all of them have been noted.
        """
        lines = self._read_lines()
        missing = [id for id in ids if id not in lines]
        assert not missing, f"{len(missing)} of {len(ids)} questions were not exported, e.g. {missing[0]}"
        write_text(self.folder / INDEX, "".join(lines[id] for id in ids))
        shutil.rmtree(self.folder / _PARTIAL, ignore_errors=True)

    def _read_lines(self) -> dict[str, str]:
        """Id -> line of every noted question whose files are there. A line that was cut short is ignored."""
        lines = {}
        for file in (self.folder / INDEX, *sorted((self.folder / _PARTIAL).glob("*.jsonl"))):
            if not file.is_file():
                continue
            for line in file.read_bytes().split(b"\n"):
                try:
                    entry = json.loads(line)
                    if self._is_there(entry):
                        lines[entry["id"]] = f"{line.decode()}\n"
                except (ValueError, TypeError, KeyError):
                    continue
        return lines

    def _is_there(self, entry: Mapping[str, Any]) -> bool:
        """Whether a question's files are there and whole. A cut archive lacks the directory at its end."""
        panel = None if entry["png"] is None else self.folder / entry["png"]
        has_panel = panel is None or (panel.is_file() and panel.stat().st_size > 0)
        return has_panel and zipfile.is_zipfile(self.folder / entry["npz"])

    def _consolidate(self, lines: Mapping[str, str]) -> None:
        """Join the notes of all earlier processes into one file. This start may have fewer processes."""
        partial = self.folder / _PARTIAL
        write_text(partial / _KEPT, "".join(lines.values()))
        for file in partial.iterdir():
            if file.name != _KEPT:
                file.unlink()
