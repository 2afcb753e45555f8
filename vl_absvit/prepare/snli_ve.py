"""From SNLI-VE's or e-SNLI-VE's files and Flickr30K's images to the folder that training reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vl_absvit.data.records import SNLI_VE
from vl_absvit.data.whole_folder import make_request
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare import snli_ve_source as source
from vl_absvit.prepare.named_images import NamedImages
from vl_absvit.prepare.prepare import ImageFolder, Records, prepare
from vl_absvit.prepare.statements import StatementSource, image_columns, refuse_repeated_names, schema_of
from vl_absvit.prepare.tables import table_of

_ID_STEP = 10**10  # ids of a split's statements begin at its place times this


@dataclass(frozen=True, kw_only=True)
class SNLIVEOptions:
    """The options that the prepared folder depends on."""

    root: Path
    """Folder of the official files, and of Flickr30K's images."""
    images: Path | None = None
    """Folder of the images, if it is not ``root``."""
    lists: Sequence[str] = ()
    """``SPLIT=FILE`` each, for files that have other names than the official ones."""
    embed_images: bool = False
    allow_missing_images: bool = False
    named: dict[str, Path] = field(init=False)

    def __post_init__(self) -> None:
        parts = [text.partition("=") for text in self.lists]
        for text, (split, _, file) in zip(self.lists, parts, strict=True):
            if split not in source.SPLITS or not file:
                raise ConfigError(f"--lists: expected SPLIT=FILE with one of {', '.join(source.SPLITS)}, got {text}")
        object.__setattr__(self, "named", {split: Path(file) for split, _, file in parts})
        if len(self.named) < len(parts) or len({file.name for file in self.named.values()}) < len(parts):
            raise ConfigError(
                f"--lists: expected every split and every name of a file once, got {' '.join(self.lists)}"
            )

    @property
    def folder(self) -> Path:
        """The folder of the images."""
        return self.root if self.images is None else self.images


def prepare_snli_ve(options: SNLIVEOptions, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest. A finished ``output`` is only compared with the request.

    Raises:
        InputError: files or images have a fault, or ``output`` was made from others.
    """
    for folder in (options.root, options.folder):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected SNLI-VE's files or Flickr30K's images there")
    images = ImageFolder(options.folder, NamedImages, options.embed_images, options.allow_missing_images)
    return prepare(SNLIVESource(options), images, output, workers)


class SNLIVESource(StatementSource):
    """Hypotheses about photographs of Flickr30K."""

    def __init__(self, options: SNLIVEOptions) -> None:
        """
        Raises:
            InputError: there are no files, or files of both data sets.
        """
        self._options = options
        self._lists = options.named or find_lists(options.root)
        sets = {source.dataset_of(path): path for path in self._lists.values()}
        if len(sets) > 1:
            raise InputError(
                f"{sets['snli_ve']} is of SNLI-VE and {sets['e_snli_ve']} of e-SNLI-VE, whose labels differ: scores on "
                "the two are not comparable; name the files of one of them by --lists"
            )
        (self._dataset,) = sets
        super().__init__(SNLI_VE, source.OFFICIAL[self._dataset])

    def request(self) -> dict[str, Any]:
        """The folder of images, the options and the content of the files, each with its split."""
        options = self._options
        settings = {"embed_images": options.embed_images, "allow_missing_images": options.allow_missing_images}
        request = make_request(SNLI_VE, options.folder, settings, self._lists.values())
        request["options"]["lists"] = {
            split: request["sources"][path.name]["sha256"] for split, path in self._lists.items()
        }
        return {"dataset": self._dataset, **request}

    def read(self) -> Records:
        """The pairs of every split, in file order."""
        splits: dict[str, pa.Table] = {}
        files: dict[int, str] = {}
        for split, path in self._lists.items():
            rows = self._rows(split, path, files)
            table = table_of(rows, schema_of(SNLI_VE), f"statements of {split}")
            if not len(table):
                raise InputError(f"{path}: expected a pair of image and hypothesis in each row, got none")
            refuse_repeated_names(table, path)
            splits[split] = table
        return Records(splits, files, _shared_images(splits), image_columns(SNLI_VE))

    def _rows(self, split: str, path: Path, files: dict[int, str]) -> Iterator[tuple]:
        """Rows of a split's table. Official files of images are added to ``files``."""
        first = source.SPLITS.index(split) * _ID_STEP
        for number, pair in enumerate(source.read_pairs(path)):
            files[pair.image_id] = f"flickr30k-images/{pair.image_id}.jpg"
            yield first + number, pair.image_id, pair.hypothesis, pair.label, pair.pair_id


def find_lists(root: Path) -> dict[str, Path]:
    """The files of official names in a folder, by split: SNLI-VE's if there are any, else e-SNLI-VE's.

    Raises:
        InputError: there are none, or some of both data sets.
    """
    there = {
        dataset: {
            split: path
            for split in source.SPLITS
            for path in (root / pattern.format(split), root / f"{pattern.format(split)}.gz")
            if path.is_file()
        }
        for dataset, pattern in source.FILES.items()
    }
    found = [lists for lists in there.values() if lists]
    if len(found) > 1:
        raise InputError(f"{root}: has files of SNLI-VE and of e-SNLI-VE; name those of one of them by --lists")
    if not found:
        names = " or ".join(pattern.format("dev") for pattern in source.FILES.values())
        raise InputError(f"{root}: there is no {names}; --lists dev=FILE takes files of other names")
    return found[0]


def _shared_images(splits: dict[str, pa.Table]) -> list[str]:
    """Warnings about images that training and another split share, which are not official."""
    if "train" not in splits:
        return []
    seen = splits["train"].column("image_id").to_numpy()
    shared = {
        split: len(np.intersect1d(seen, table.column("image_id").to_numpy()))
        for split, table in splits.items()
        if split != "train"
    }
    return [f"{number:,} images of {split} are images of train, too" for split, number in shared.items() if number]
