"""The folder of an attention export while it is written; ``exported.py`` reads it when it is complete.

``export.json`` says what is exported, ``<id>.npz`` and ``<id>.png`` belong to one question, and ``index.jsonl`` appears
when all are there. Until then every process notes its finished questions in ``index.partial``, so that an interrupted
export goes on where it stopped.
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

from vl_absvit.attention.exported import IMAGE_FROM_HERE
from vl_absvit.data.files import check_name, write_text, write_whole
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.errors import InputError

DESCRIPTION, INDEX = "export.json", "index.jsonl"
_PARTIAL, _KEPT = "index.partial", "kept.jsonl"
FIRST = {"precision": "fp32"}
"""What held before descriptions said so."""
_PNG_EFFORT = 1  # zlib's; panels are many, and more effort makes them little smaller


class ExportFolder:
    """One process's view of the folder; several processes may write into it."""

    def __init__(self, folder: str | Path, process: int = 0) -> None:
        """
        Args:
            process: which of the processes this is.
        """
        self.folder = Path(folder)
        self._notes = self.folder / _PARTIAL / f"process-{process:05d}.jsonl"

    def start(self, description: Mapping[str, Any]) -> set[str]:
        """Make the folder, or go on with what an earlier start left there.

        Call it in one process, before any other writes.

        Args:
            description: everything that the files depend on, as JSON.

        Returns:
            Ids of the questions whose files are there.

        Raises:
            InputError: something else is there, such as an export that is described otherwise.
        """
        path, wanted = self.folder / DESCRIPTION, json.loads(json.dumps({"format": 1, **description}))
        if path.is_file():
            found, wanted = (FIRST | each for each in (read_json(path, dict), wanted))
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
        """A question's files, each whole or absent; ``note`` it afterwards.

        Args:
            entry: its line of the index.
            maps: kind -> (h, w).
            panel: its picture with the maps; None if there is to be none.

        Raises:
            InputError: a file cannot be written, or a map has a value that is no number.
        """
        for name, grid in maps.items():
            if not np.isfinite(grid).all():
                raise InputError(f"question {entry['id']}: the map {name} is not made of finite numbers")
        arrays = {name: np.asarray(grid, dtype=np.float32) for name, grid in maps.items()}
        place = {"box": np.array(entry["box"]), "image_size": np.array(entry["image_size"])}
        write_whole(self.folder / entry["npz"], lambda stream: np.savez_compressed(stream, **arrays, **place))
        if panel is not None:
            path = self.folder / entry["png"]
            write_whole(path, lambda stream: panel.save(stream, "PNG", compress_level=_PNG_EFFORT))

    def place_of(self, picture: Path) -> dict[str, str]:
        """Where a picture's file is, for the index: from the root of the file system, and from here.

        Raises:
            InputError: its name is not in UTF-8.
        """
        check_name(picture)
        return {"image": str(picture), IMAGE_FROM_HERE: os.path.relpath(picture, self.folder.resolve())}

    def keep_picture(self, name: str, content: bytes) -> str:
        """A picture that is in no file of its own, as one; returns its path below the folder."""
        path = self.folder / "images" / name
        if not path.is_file():
            write_whole(path, lambda stream: stream.write(content))
        return f"images/{name}"

    def note(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Remember questions whose files are written."""
        self._notes.parent.mkdir(exist_ok=True)
        with self._notes.open("a", encoding="utf-8") as stream:
            stream.writelines(f"{json.dumps(entry, allow_nan=False)}\n" for entry in entries)

    def complete(self, ids: Sequence[str]) -> None:
        """Write the index.

        Call it in one process, when no other writes any more.

        Args:
            ids: of all questions, in the index's order; every one has been noted.
        """
        lines = self._read_lines()
        missing = [id for id in ids if id not in lines]
        assert not missing, f"{len(missing)} of {len(ids)} questions were not exported, e.g. {missing[0]}"
        write_text(self.folder / INDEX, "".join(lines[id] for id in ids))
        shutil.rmtree(self.folder / _PARTIAL, ignore_errors=True)

    def _read_lines(self) -> dict[str, str]:
        """Id -> line of every noted question whose files are there; a line that was cut short counts for nothing."""
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
        """Whether a question's files are; an archive ends in a directory, which one that was cut short lacks."""
        panel = None if entry["png"] is None else self.folder / entry["png"]
        has_panel = panel is None or (panel.is_file() and panel.stat().st_size > 0)
        return has_panel and zipfile.is_zipfile(self.folder / entry["npz"])

    def _consolidate(self, lines: Mapping[str, str]) -> None:
        """Notes of all earlier processes in one file; this start may have fewer processes."""
        partial = self.folder / _PARTIAL
        write_text(partial / _KEPT, "".join(lines.values()))
        for file in partial.iterdir():
            if file.name != _KEPT:
                file.unlink()
