"""Finished parts of a long evaluation on disk, so that an interrupted one goes on where it stopped."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from vl_absvit.data.files import write_whole
from vl_absvit.data.whole_folder import partial_folder, start_or_continue
from vl_absvit.errors import InputError


class FileChunkStore:
    """Arrays by name in ``<output>.partial``; every file is whole or absent.

    Args:
        output: the file that the evaluation will write.
    """

    def __init__(self, output: str | Path) -> None:
        self.folder = partial_folder(Path(output))

    def start(self, request: dict[str, Any]) -> bool:
        """Make the folder, or keep what an interrupted evaluation left there; True in the latter case.

        Call it in one process, before any other asks for something.

        Args:
            request: everything that the arrays depend on, as JSON. Parts made for another request are removed.

        Raises:
            InputError: something else is there.
        """
        return start_or_continue(self.folder, request, work="evaluation")

    def get(self, name: str) -> np.ndarray | None:
        """What was kept under this name; None if there is nothing."""
        path = self.folder / f"{name}.npy"
        if not path.exists():
            return None
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: not what was kept there ({error}); remove the folder to start over") from error

    def put(self, name: str, array: np.ndarray) -> None:
        """Keep an array."""
        path = self.folder / f"{name}.npy"
        write_whole(path, lambda stream: np.save(stream, array, allow_pickle=False))

    def remove(self) -> None:
        """Forget everything, once the result is written."""
        shutil.rmtree(self.folder)
