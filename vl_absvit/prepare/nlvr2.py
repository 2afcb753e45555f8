"""From NLVR2's official files and images to the folder that training reads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa

from vl_absvit.data.records import NLVR2
from vl_absvit.data.whole_folder import make_request
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare import nlvr2_source as source
from vl_absvit.prepare.check_images import Images
from vl_absvit.prepare.prepare import Content, ImageFolder, Records, prepare
from vl_absvit.prepare.statements import StatementSource, image_columns, refuse_repeated_names, schema_of
from vl_absvit.prepare.tables import table_of

USUAL = ("train", "dev", "test1")
"""Splits whose images the authors give out."""


@dataclass(frozen=True, kw_only=True)
class NLVR2Options:
    """The options that the prepared folder depends on."""

    root: Path
    """Folder with the lines (``nlvr2/data/dev.json``) and the images (``dev/``, ``test1/``, ``images/train/``)."""
    images: Path | None = None
    """Folder of the images, if it is not ``root``."""
    splits: Sequence[str] = ()
    """Splits to prepare; none named means those of ``USUAL`` that are there."""
    embed_images: bool = False
    allow_missing_images: bool = False

    def __post_init__(self) -> None:
        unknown = [split for split in self.splits if split not in source.OFFICIAL]
        if unknown or len(set(self.splits)) < len(self.splits):
            raise ConfigError(f"--splits: expected some of {', '.join(source.OFFICIAL)}, got {' '.join(self.splits)}")

    @property
    def folder(self) -> Path:
        """The folder of the images."""
        return self.root if self.images is None else self.images


def prepare_nlvr2(options: NLVR2Options, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest. A finished ``output`` is only compared with the request.

    Raises:
        InputError: lines or images have a fault, or ``output`` was made from others.
    """
    for folder in (options.root, options.folder):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected NLVR2's files there")
    images = ImageFolder(options.folder, source.PairImages, options.embed_images, options.allow_missing_images)
    return prepare(NLVR2Source(options), images, output, workers)


class NLVR2Source(StatementSource):
    """Sentences about pairs of photographs."""

    def __init__(self, options: NLVR2Options) -> None:
        """
        Raises:
            InputError: there are no lines, or those of a named split are not there.
        """
        super().__init__(NLVR2, source.OFFICIAL)
        self._options = options
        found = {split: source.find_list(options.root, split) for split in options.splits or USUAL}
        self._lists = {split: path for split, path in found.items() if path is not None}
        missing = [split for split in options.splits if split not in self._lists]
        if missing or not self._lists:
            places = ", ".join(str(options.root / folder) for folder in source.LISTS)
            raise InputError(f"{options.root}: there is no {(missing or USUAL)[0]}.json; looked for it in {places}")
        self._urls: dict[str, set[str]] = {}

    def request(self) -> dict[str, Any]:
        """The folder of images, the options and the content of the lines."""
        options = self._options
        settings = {"embed_images": options.embed_images, "allow_missing_images": options.allow_missing_images}
        lists = [*self._lists.values()]
        for split, path in self._lists.items():
            subsets = (source.find_list(path.parent / name, f"{name}_{split}") for name in source.SUBSETS)
            lists += [file for file in subsets if file is not None]
        return {"dataset": NLVR2, **make_request(NLVR2, options.folder, settings, lists)}

    def read(self) -> Records:
        """The lines of every split, in file order, each with the subset that it is in."""
        splits: dict[str, pa.Table] = {}
        files: dict[int, str] = {}
        warnings = []
        for split, path in self._lists.items():
            subset_of = source.read_subsets(path, split)
            if split != "train" and not subset_of:
                warnings.append(f"{split}: the files of the balanced and the unbalanced subset are not there")
            rows = self._rows(split, path, subset_of, files)
            table = table_of(rows, schema_of(NLVR2), f"statements of {split}")
            if not len(table):
                raise InputError(f"{path}: expected one line of JSON for each statement, got none")
            refuse_repeated_names(table, path)
            if unknown := subset_of.keys() - set(table.column("name").to_pylist()):
                raise InputError(f"{path}: {len(unknown)} statements of its subsets are not in it, e.g. {min(unknown)}")
            splits[split] = table
        return Records(splits, files, warnings, image_columns(NLVR2))

    def _rows(self, split: str, path: Path, subset_of: Mapping[str, str], files: dict[int, str]) -> Iterator[tuple]:
        """Rows of a split's table. Official files of images are added to ``files``, and their addresses are kept."""
        urls = self._urls.setdefault(split, set())
        for line in source.read_lines_of(path, split):
            image_ids = [line.identifier.image_id(side) for side in (0, 1)]
            files.update({image_id: line.file(side) for side, image_id in enumerate(image_ids)})
            urls.update(line.urls)
            yield (
                line.identifier.statement_id,
                *image_ids,
                line.sentence,
                line.label,
                line.name,
                subset_of.get(line.name),
            )

    def write(self, folder: Path, records: Records, images: Images) -> Content:
        """Write the tables; the manifest also counts pictures that two splits took from the same address."""
        content = super().write(folder, records, images)
        shared = {
            f"{one} and {other}": number
            for one, other in combinations(self._urls, 2)
            if (number := len(self._urls[one] & self._urls[other]))
        }
        said = [f"{pair} share {number:,} addresses of images" for pair, number in shared.items()]
        return Content(content.splits, content.warnings + said, content.more | {"shared_addresses": shared})
