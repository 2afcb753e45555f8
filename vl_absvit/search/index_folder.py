"""The folder of an index: ``index.json`` says what it was made with and which segments count; ``bad.jsonl`` lists bad
pictures. Both are written last, so that a folder without ``index.json`` is unfinished."""

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from vl_absvit.config import EvaluationPrecision
from vl_absvit.data.files import write_text
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.data.picture_folder import PictureFile
from vl_absvit.data.raw_folder import FROM_HERE, ROOT, place_of
from vl_absvit.data.strict_json import shown
from vl_absvit.data.whole_folder import fingerprint
from vl_absvit.errors import InputError
from vl_absvit.looking.json_lines import read_json_lines
from vl_absvit.search.gallery import Pool
from vl_absvit.search.segments import Layout, Segment, open_vectors, pictures_of
from vl_absvit.tasks.vl_checkpoint import PREPROCESSING

INDEX, BAD = "index.json", "bad.jsonl"
FORMAT = 1
OF_CHECKPOINT = ("config.json", "model.safetensors", "tokenizer.json", PREPROCESSING)
"""The files of a checkpoint that vectors and priors depend on."""
_EXPECTED: dict[str, type] = {
    "format": int, "made_with": dict, "checkpoint": str, "stamps": dict, "vectors": int, "width": int, "dtype": str,
    ROOT: str, FROM_HERE: str, "segments": list, "pictures": int, "bad": int,
}  # fmt: skip


class Index(NamedTuple):
    """A finished index."""

    folder: Path
    made_with: dict[str, Any]  # digests of the checkpoint's files, pool, precision
    checkpoint: str  # where it was, or its name on the hub
    stamps: dict[str, list[int]]  # size and time of the checkpoint's files, when their digests were taken
    layout: Layout
    root: Path  # folder of the pictures, where it was
    from_here: str  # the same, relative to ``folder``
    segments: list[Segment]
    approximate: dict[str, Any] | None = None  # about the file of FAISS, if there is one

    @property
    def pool(self) -> Pool:
        return self.made_with["pool"]

    @property
    def pictures(self) -> int:
        return sum(segment.rows for segment in self.segments)

    def parts(self) -> Iterator[np.ndarray]:
        """The vectors of all pictures, (R, V, D) each."""
        for segment in self.segments:
            yield open_vectors(self.folder, segment.name, segment.rows, self.layout)

    def files_at(self, rows: Sequence[int]) -> list[PictureFile]:
        """The pictures of rows, counted over all segments."""
        starts = [0, *accumulate(segment.rows for segment in self.segments)]
        of_segment: dict[int, list[int]] = {}
        for row in rows:
            of_segment.setdefault(bisect_right(starts, row) - 1, []).append(row)
        found: dict[int, PictureFile] = {}
        for number, own in of_segment.items():
            name, total = self.segments[number]
            inside = [row - starts[number] for row in own]
            found |= dict(zip(own, pictures_of(self.folder, name, total, inside), strict=True))
        return [found[row] for row in rows]

    def root_with(self, file: str) -> Path:
        """The folder of the pictures, which may have been moved with the index; ``file`` is one of them."""
        moved = Path(os.path.normpath(self.folder.resolve() / self.from_here))
        return moved if (moved / file).exists() else self.root


def digests(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of the files of a checkpoint."""
    return {name: fingerprint(checkpoint / name)["sha256"] for name in OF_CHECKPOINT}


def stamps(checkpoint: Path) -> dict[str, list[int]]:
    """Size and time of these files."""
    status = {name: (checkpoint / name).stat() for name in OF_CHECKPOINT}
    return {name: [found.st_size, found.st_mtime_ns] for name, found in status.items()}


def key_of(made_with: Mapping[str, Any]) -> str:
    """What segments are told apart by."""
    return hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()


def read_index(folder: Path) -> Index:
    """A finished index.

    Raises:
        InputError: there is none, it is unfinished, or it is damaged.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such index; vl-absvit index makes one")
    if not (folder / INDEX).is_file():
        if any(folder.glob("*.rows")):
            raise InputError(f"{folder}: the index is unfinished; give the same vl-absvit index again to finish it")
        raise InputError(f"{folder}: expected an index of pictures, got a folder without {INDEX}")
    path, content = folder / INDEX, read_json(folder / INDEX, dict)
    for name, form in _EXPECTED.items():
        if type(content.get(name)) is not form:
            raise InputError(f"{path}: expected {form.__name__} under {name!r}, got {shown(content.get(name))}")
    if content["format"] != FORMAT:
        raise InputError(f"{path}: expected format {FORMAT}, got {content['format']}; another version wrote it")
    try:
        segments = [Segment(str(name), int(rows)) for name, rows in content["segments"]]
        made_with = content["made_with"]
        layout = Layout(key_of(made_with), content["vectors"], content["width"], np.dtype(content["dtype"]).name)
        is_right = made_with["pool"] in ("lse", "max", "mean", "cls")
        is_right &= made_with["precision"] in get_args(EvaluationPrecision)
        is_right &= layout.row_bytes > 0 and sum(rows for _, rows in segments) == content["pictures"]
        is_right &= all(Path(name).name == name and rows > 0 for name, rows in segments)
    except (TypeError, ValueError, KeyError):
        is_right = False
    if not is_right:
        raise InputError(f"{path}: its entries contradict each other: the index is damaged; make it again")
    approximate = content.get("approximate")
    return Index(
        folder, made_with, content["checkpoint"], content["stamps"], layout, Path(content[ROOT]), content[FROM_HERE],
        segments, approximate if isinstance(approximate, dict) else None,
    )  # fmt: skip


def write_index(index: Index, bad: Mapping[PictureFile, str]) -> None:
    """Write what makes segments an index.

    Args:
        bad: pictures that cannot be used, and why.
    """
    lines = (json.dumps({**picture._asdict(), "reason": reason}) + "\n" for picture, reason in sorted(bad.items()))
    write_text(index.folder / BAD, "".join(lines))
    content = {
        "format": FORMAT,
        "made_with": index.made_with,
        "checkpoint": index.checkpoint,
        "stamps": index.stamps,
        "vectors": index.layout.vectors,
        "width": index.layout.width,
        "dtype": index.layout.dtype,
        **place_of(index.root, index.folder),
        "segments": index.segments,
        "pictures": index.pictures,
        "bad": len(bad),
        "approximate": index.approximate,
    }
    write_json(index.folder / INDEX, content, indent=1)


def read_bad(folder: Path) -> dict[PictureFile, str]:
    """The pictures that could not be used, and why; none where no such list is."""
    if not (folder / BAD).is_file():
        return {}
    try:
        lines = [line for _, line in read_json_lines(folder / BAD)]
        return {PictureFile(line["file"], line["size"], line["modified"]): line["reason"] for line in lines}
    except (InputError, KeyError):
        return {}  # they are read again


def check_checkpoint(index: Index, checkpoint: Path) -> None:
    """Refuse a checkpoint that the index was not made with. Its files are read only if they were touched since.

    Raises:
        InputError: it is another one.
    """
    missing = [name for name in OF_CHECKPOINT if not (checkpoint / name).is_file()]
    if missing:
        raise InputError(
            f"{index.folder}: the checkpoint that it was made with is no longer at {checkpoint} (no {missing[0]}); "
            "say where it is with --checkpoint"
        )
    if stamps(checkpoint) == index.stamps:
        return
    expected, got = index.made_with.get("files"), digests(checkpoint)
    if got != expected:
        differing = next((name for name in OF_CHECKPOINT if got[name] != (expected or {}).get(name)), "")
        raise InputError(
            f"{index.folder}: was made with another checkpoint than {checkpoint}, which has another {differing}"
        )
