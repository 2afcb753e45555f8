"""The folders of several domains, found below a root."""

from collections.abc import Iterator, Sequence
from pathlib import Path

_LEVELS = 3  # below the root


class DomainFolders:
    """The folders of all domains, beside each other in a folder or a few levels below it.

    Args:
        root: the folder.
        domains: their names.
    """

    def __init__(self, root: Path, domains: Sequence[str]) -> None:
        self._root, self._domains = root, domains
        found = (
            folder for folder in _folders_below(root, _LEVELS) if all((folder / name).is_dir() for name in domains)
        )
        self._base = next(found, None)

    @property
    def has_pictures(self) -> bool:
        """Whether the folders are there."""
        return self._base is not None

    def find(self, file: str) -> str | None:
        """Path of a picture relative to the root; None if it is not there."""
        if self._base is None or not (self._base / file).is_file():
            return None
        return str((self._base / file).relative_to(self._root))

    def looked_for(self, file: str) -> str:
        """Words about a missing picture."""
        if self._base is None:
            return (
                f"looked for the folders {', '.join(self._domains)} beside each other in {self._root} and {_LEVELS} "
                "levels below it"
            )
        return f"looked for {file} in {self._base}"

    def pictures(self) -> Iterator[str]:
        """Paths of all files in the classes' folders but hidden ones, relative to the folder of the domains."""
        if self._base is not None:
            files = (path for name in self._domains for path in sorted((self._base / name).glob("*/*")))
            yield from (str(path.relative_to(self._base)) for path in files if not path.name.startswith("."))


def _folders_below(folder: Path, levels: int) -> Iterator[Path]:
    """A folder, then those below it, the nearer ones first."""
    level = [folder]
    for _ in range(levels + 1):
        yield from level
        level = [
            entry for above in level for entry in sorted(above.iterdir()) if entry.is_dir() and entry.name[0] != "."
        ]
