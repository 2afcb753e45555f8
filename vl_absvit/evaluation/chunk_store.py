"""Keep finished parts of a long evaluation on disk, so that an interrupted evaluation goes on."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from vl_absvit.data.files import write_whole
from vl_absvit.data.whole_folder import partial_folder, start_or_continue
from vl_absvit.errors import InputError


class FileChunkStore:
    """Arrays by name in the folder ``<output>.partial``. Every file is whole or absent.

    Args:
        output: the file that the evaluation will write.
    """

    def __init__(self, output: str | Path) -> None:
        self.folder = partial_folder(Path(output))

    def start(self, request: dict[str, Any]) -> bool:
        """Make the folder, or keep the parts of an interrupted evaluation. Returns whether parts are kept.

        One process calls this, before any process reads or writes.

        Args:
            request: everything that the arrays depend on, as JSON. Parts of another request are removed.

        Raises:
            InputError: the folder holds something else.
        """
        return start_or_continue(self.folder, request, work="evaluation")

    def get(self, name: str) -> np.ndarray | None:
        """The array of this name; None if there is none."""
        path = self.folder / f"{name}.npy"
        if not path.exists():
            return None
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: not what was kept there ({error}); remove the folder to start over") from error

    def names(self) -> list[str]:
        """The names of all arrays that are there, in order."""
        return sorted(path.stem for path in self.folder.glob("*.npy"))

    def put(self, name: str, array: np.ndarray) -> None:
        """Write an array under a name."""
        path = self.folder / f"{name}.npy"
        write_whole(path, lambda stream: np.save(stream, array, allow_pickle=False))

    def remove(self) -> None:
        """Remove the folder. Call this when the result is written."""
        shutil.rmtree(self.folder)
