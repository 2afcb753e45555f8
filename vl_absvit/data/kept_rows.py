"""Rows of numbers that stay on disk in bf16: made once, by any number of processes, and read by key.

A row lies in one of several files. Every file is whole or absent, so an interrupted work goes on at the first that is
missing.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vl_absvit.data.files import write_whole
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.errors import InputError

BYTES = 2
"""Of a number in bf16."""
FILE_BYTES = 2**26
"""Size of a file, but for its last row, which may go beyond."""
_REQUEST = "request.json"


class KeptRows:
    """Rows of bf16 numbers by key.

    Args:
        folder: where they lie.
        keys: of the rows, ascending, (R,).
        lengths: numbers in each row, (R,).
    """

    def __init__(self, folder: Path, keys: np.ndarray, lengths: np.ndarray) -> None:
        self.folder, self._keys, self._lengths = folder, keys, lengths
        starts = np.cumsum(lengths) - lengths
        _, self._file_of = np.unique(starts * BYTES // FILE_BYTES, return_inverse=True)  # (R,)
        self._first = np.searchsorted(self._file_of, np.arange(self.files + 1))  # row of every file, and R
        self._offsets = starts - starts[self._first[self._file_of]]  # of a row in its file, in numbers

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def files(self) -> int:
        """Number of files."""
        return int(self._file_of[-1]) + 1

    def bytes_of(self, files: Iterable[int]) -> int:
        """Size of some files."""
        return sum(BYTES * int(self._lengths[self._rows(file)].sum()) for file in files)

    def start(self, request: Mapping[str, Any]) -> None:
        """Make the folder, or check that it was made for the same request. One process calls this.

        Args:
            request: everything that the rows depend on, as JSON.

        Raises:
            InputError: the folder holds something else.
        """
        path, advice = self.folder / _REQUEST, "name another folder, or remove this one to have it made anew"
        if not path.is_file():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise InputError(f"{self.folder}: exists and holds something else; {advice}")
            write_json(path, dict(request), indent=1)
            return
        found = read_json(path, dict)
        for part in {**request, **found}:
            if found.get(part) != request.get(part):
                was, now = (str(each.get(part))[:100] for each in (found, request))
                raise InputError(f"{self.folder}: was made with another {part}: {was}, now it is {now}; {advice}")

    def missing(self) -> list[int]:
        """Files that are not there yet.

        Raises:
            InputError: one that is there was damaged.
        """
        missing = []
        for file in range(self.files):
            try:
                found = self._path(file).stat().st_size
            except FileNotFoundError:
                missing.append(file)
                continue
            if found != (expected := self.bytes_of([file])):
                raise InputError(
                    f"{self._path(file)}: expected {expected} bytes, got {found}; remove it to have it made anew"
                )
        return missing

    def keys_of(self, file: int) -> np.ndarray:
        """Keys of the rows of a file, in their order."""
        return self._keys[self._rows(file)]

    def write(self, file: int, rows: Sequence[Tensor]) -> None:
        """Write a file.

        Args:
            rows: in the order of ``keys_of``, of any shape and precision.
        """
        content = [row.to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy() for row in rows]
        assert [row.size for row in content] == self._lengths[self._rows(file)].tolist()
        write_whole(self._path(file), lambda stream: [stream.write(row.tobytes()) for row in content])

    def load(self, keys: Sequence[int] | np.ndarray) -> list[Tensor]:
        """The rows of some keys, each of them known, bf16 on the CPU.

        Raises:
            InputError: a file is gone or was damaged.
        """
        return [self._read(row) for row in np.searchsorted(self._keys, keys).tolist()]

    def _read(self, row: int) -> Tensor:
        path, length = self._path(int(self._file_of[row])), int(self._lengths[row])
        # A file is opened for each row: mapped files would need a descriptor each for as long as they are mapped.
        try:
            numbers = np.fromfile(path, np.int16, length, offset=BYTES * int(self._offsets[row]))
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
        if len(numbers) < length:
            raise InputError(f"{path}: ends too early; remove it to have it made anew")
        return torch.from_numpy(numbers).view(torch.bfloat16)

    def _rows(self, file: int) -> slice:
        return slice(int(self._first[file]), int(self._first[file + 1]))

    def _path(self, file: int) -> Path:
        return self.folder / f"{file:06}.bf16"
