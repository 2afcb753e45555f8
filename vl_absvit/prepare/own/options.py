"""The options that preparations of one's own tables share, and what they say about files and splits."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from vl_absvit.data.files import check_name
from vl_absvit.data.whole_folder import fingerprint, make_request
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.own.pictures import OwnPictures
from vl_absvit.prepare.own.splits import SplitTable, check_shares, split_table
from vl_absvit.prepare.own.table_rows import files_of
from vl_absvit.prepare.prepare import ImageFolder


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What a prepared folder depends on, whatever is in its tables."""

    name: str
    """Of the data set, in its manifest and in everything that comes of it."""
    images: Path
    """Folder of the pictures."""
    table: Sequence[str]
    """``FILE`` or ``SPLIT=FILE`` each."""
    columns: Sequence[str] = ()
    """``ROLE=COLUMN`` each, where a column has no usual name."""
    no_header: bool = False
    """The columns are called 1, 2 and so on."""
    val_share: float | None = None
    """Share of the pictures for ``val`` where nothing names splits; None is a tenth."""
    test_share: float | None = None
    """Share of the pictures for ``test``; None is nothing."""
    seed: int = 0
    """Draws these pictures."""
    embed_images: bool = False
    allow_missing_images: bool = False
    tables: list[SplitTable] = field(init=False)

    def __post_init__(self) -> None:
        check_shares(self.shares)
        object.__setattr__(self, "tables", [split_table(text) for text in self.table])
        if any(table.split for table in self.tables) and not all(table.split for table in self.tables):
            without = next(table.path for table in self.tables if not table.split)
            raise ConfigError(f"--table: others have a split; expected SPLIT={without}, got {without}")
        names = [table.path.name for table in self.tables]
        if len(set(names)) < len(names):
            raise ConfigError(f"--table: two files have the same name: {', '.join(sorted(names))}; rename one")

    @property
    def shares(self) -> dict[str, float | None]:
        """Split -> share of the pictures."""
        return {"val": self.val_share, "test": self.test_share}

    @cached_property
    def pictures(self) -> OwnPictures:
        """The pictures by name."""
        return OwnPictures(self.images)

    def image_folder(self) -> ImageFolder:
        """The pictures, as the frame of all preparations takes them.

        Raises:
            InputError: there is no such folder.
        """
        if not self.images.is_dir():
            raise InputError(f"{self.images}: no such folder; expected the pictures there")

        def finder(_: Path, __: Iterable[str]) -> OwnPictures:
            return self.pictures

        return ImageFolder(self.images, finder, self.embed_images, self.allow_missing_images)

    def request(self, kind: str, not_settings: Sequence[str] = ()) -> dict[str, Any]:
        """Name, options and the content of all tables; see ``Source.request``.

        Raises:
            InputError: a table cannot be read.
        """
        elsewhere = {"name", "images", "table", "tables", *not_settings}
        settings = {name: value for name, value in asdict(self).items() if name not in elsewhere}
        settings["columns"] = sorted(self.columns)
        sources: dict[str, Any] = {}
        settings["tables"] = []
        for table in self.tables:
            if not table.path.exists():
                raise InputError(f"{table.path}: no such file")
            files = files_of(table.path)
            for name in files:
                check_name(name)
            prints = {name: fingerprint(file) for name, file in files.items()}
            sources |= prints
            settings["tables"].append([table.split, _digest(prints)])
        return {"dataset": self.name, **make_request(kind, self.images, settings, ()), "sources": sources}


def _digest(prints: Mapping[str, Mapping[str, Any]]) -> str:
    return hashlib.sha256(json.dumps([each["sha256"] for each in prints.values()]).encode()).hexdigest()
