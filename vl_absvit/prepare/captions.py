"""From captions of Flickr30K, Flickr8k or COCO, in their common forms, to the folder that training reads."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vl_absvit.data.whole_folder import fingerprint, make_request
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.caption_lists import read_captions, read_splits, split_of_list
from vl_absvit.prepare.caption_sets import CAPTION_SETS
from vl_absvit.prepare.caption_source import CaptionSet
from vl_absvit.prepare.check_images import Finder, Images, refuse_without_any
from vl_absvit.prepare.coco_images import CocoImages, is_named_as_cocos
from vl_absvit.prepare.exclusions import TRAINING, Excluded
from vl_absvit.prepare.journal import Journal
from vl_absvit.prepare.karpathy_source import CaptionedImage, Ids, read_images
from vl_absvit.prepare.listed_captions import ListedImages, as_in, by_image, numbered
from vl_absvit.prepare.named_images import NamedImages
from vl_absvit.prepare.prepare import Content, ImageFolder, Records, Source, count_rows, prepare
from vl_absvit.prepare.tables import table_of, write_table

_SCHEMA = pa.schema(
    [
        ("caption_id", pa.int64()),
        ("image_id", pa.int64()),
        ("caption", pa.string()),
        ("is_first", pa.bool_()),  # no earlier caption of the image has the same text
    ]
)


@dataclass(frozen=True, kw_only=True)
class CaptionOptions:
    """The options that the prepared folder depends on."""

    dataset: str
    """A key of ``caption_sets.CAPTION_SETS``."""
    root: Path
    """Folder of the images, at any depth."""
    karpathy: Path | None = None
    """``dataset_flickr30k.json`` or a file like it, plain or gzipped. It holds captions and splits; with ``captions``
    only its splits count."""
    captions: Sequence[Path] = ()
    """Lists of captions. Splits come from ``karpathy`` or ``splits``, or else from the names of the lists."""
    splits: Sequence[Path] = ()
    """Lists of images, one per split."""
    images: Path | None = None
    """Folder of the images, if it is not ``root``."""
    exclude: Sequence[str] = ()
    """What must not be trained on, see ``Excluded``."""
    embed_images: bool = False
    allow_missing_images: bool = False

    def __post_init__(self) -> None:
        if not self.karpathy and not self.captions:
            raise ConfigError("expected the captions by --karpathy or --captions, got neither")
        if self.splits and (self.karpathy or not self.captions):
            raise ConfigError("--splits divides the images of --captions where there is no --karpathy")
        if self.karpathy and self.karpathy.name.endswith((".token", ".txt")):
            raise ConfigError(f"--karpathy takes captions with splits; give {self.karpathy} as --captions")
        names = [file.name for file in self.sources]
        if len(set(names)) < len(names):
            raise ConfigError(f"two of the files have the same name: {', '.join(sorted(names))}; rename one")

    @property
    def sources(self) -> list[Path]:
        """The files of captions and splits."""
        return [*([self.karpathy] if self.karpathy else []), *self.captions, *self.splits]

    @property
    def described(self) -> CaptionSet:
        """The data set's description."""
        return CAPTION_SETS[self.dataset]

    @property
    def folder(self) -> Path:
        """The folder of the images."""
        return self.root if self.images is None else self.images


def prepare_captions(options: CaptionOptions, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest. A finished ``output`` is only compared with the request.

    Raises:
        InputError: the files have a fault, or ``output`` was made with other options or from other files.
    """
    if not options.folder.is_dir():
        raise InputError(f"{options.folder}: no such folder; expected the images of {options.dataset} there")
    for file in options.sources:
        if not file.exists():
            raise InputError(f"{file}: no such file")

    def finder(root: Path, files: Iterable[str]) -> Finder:
        """A finder by id for COCO's images, or by name for others."""
        files = list(files)
        by_id = options.described.is_on_coco and all(map(is_named_as_cocos, files))
        return CocoImages(root) if by_id else NamedImages(root, files)

    images = ImageFolder(options.folder, finder, options.embed_images, options.allow_missing_images)
    return prepare(CaptionSource(options), images, output, workers)


class CaptionSource(Source):
    """Captions and the splits of their images."""

    row_type = "captions"

    def __init__(self, options: CaptionOptions) -> None:
        self._options, self._excluded = options, Excluded(options.exclude)

    def request(self) -> dict[str, Any]:
        """The folder of images, the options and the content of the files."""
        options = self._options
        settings: dict[str, Any] = {name: asdict(options)[name] for name in ("embed_images", "allow_missing_images")}
        if not options.karpathy:
            settings["lists"] = {split: [] for split in options.described.images}
            for path in options.splits or options.captions:
                settings["lists"][split_of_list(path, options.dataset)].append(fingerprint(path)["sha256"])
        settings |= self._excluded.settings()
        return {"dataset": options.dataset, **make_request("captions", options.folder, settings, options.sources)}

    def read(self) -> Records:
        """The captions of every split, repeated ones included, in the order of the file."""
        options, ids, listed = self._options, None, None
        if options.karpathy:
            ids, captioned = read_images(options.karpathy, options.dataset)
        if options.captions:
            listed = self._read_lists()
            if options.karpathy:
                captioned = as_in(options.karpathy, captioned, listed)
            else:
                split_of = read_splits(options.splits, options.dataset) if options.splits else None
                captioned = numbered(listed, options.described, split_of)
        path = options.karpathy or options.captions[0]
        images = _checked(captioned, path)
        self._trained_on = trained_on(images)
        warnings = (_without_ids(ids) if ids else []) + (self._oddities(listed, images) if listed else [])
        splits = {split: [image for image in images if image.split == split] for split in options.described.images}
        return Records(
            {split: captions_table(of_split, f"captions of {split}") for split, of_split in splits.items() if of_split},
            {image.image_id: image.file for image in images},
            warnings,
        )

    def _read_lists(self) -> ListedImages:
        options = self._options
        names_tell = not (options.karpathy or options.splits)
        return by_image(
            (split_of_list(path, options.dataset) if names_tell else None, read_captions(path, options.dataset))
            for path in options.captions
        )

    def _oddities(self, listed: ListedImages, divided: Sequence[CaptionedImage]) -> list[str]:
        """Warnings about lines of lists that were mended, and about images that are left out.

        Raises:
            InputError: no image is left.
        """
        options = self._options
        lists = ", ".join(path.name for path in options.captions)
        if not divided:
            dividing = ", ".join(path.name for path in options.sources if path not in options.captions)
            raise InputError(f"none of the {len(listed):,} images of {lists} is in {dividing}")
        warnings = [
            f"the caption of {caption.file} lacked the mark before it and was mended"
            for _, captions in listed.values()
            for caption in captions
            if caption.is_repaired
        ]
        if len(divided) < len(listed):
            number = len(listed) - len(divided)
            warnings.append(f"{number:,} of the {len(listed):,} images of {lists} are in no split and left out")
        return warnings

    def check(self, journal: Journal, images: Images) -> None:
        """Refuse a folder without any of the images, raising ``InputError``, and leave out what is excluded."""
        refuse_without_any(images)
        self._excluded.leave_out(images, self._trained_on, is_published=True)

    def write(self, folder: Path, records: Records, images: Images) -> Content:
        """Write a table for each split that has captions. Repeated captions of an image are left out."""
        counts = write_captions(folder, records.splits, images)
        return Content(counts, repetitions(counts) + _deviations(counts, self._options), self._excluded.account())


def trained_on(images: Iterable[CaptionedImage]) -> set[int]:
    """Ids of the images of training splits."""
    return {image.image_id for image in images if image.split in TRAINING}


def write_captions(folder: Path, splits: Mapping[str, pa.Table], images: Images) -> dict[str, dict[str, int]]:
    """Write a table for each split that has captions; returns the counts of each. Repeats of an image are left out."""
    counts = {}
    for split, table in splits.items():
        usable = table.filter(pa.array(images.are_usable(table.column("image_id").to_numpy())))
        first = usable.filter(usable.column("is_first")).drop_columns(["is_first"])
        if len(first):
            write_table(folder / f"{split}.parquet", first)
            counts[split] = count_rows("captions", first.column("image_id").to_numpy(), images)
            counts[split]["duplicates_removed"] = len(usable) - len(first)
    return counts


def _checked(captioned: Iterable[CaptionedImage], path: Path) -> list[CaptionedImage]:
    """All images of a file.

    Raises:
        InputError: an image, its file or a caption id occurs twice.
    """
    by_id: dict[int, CaptionedImage] = {}
    id_of_file: dict[str, int] = {}
    caption_ids: set[int] = set()
    for image in captioned:
        earlier = by_id.setdefault(image.image_id, image)
        if earlier.split != image.split:
            location = f"{path}: image {image.image_id} ({earlier.file})"
            raise InputError(f"{location} is both in {earlier.split} and in {image.split}")
        if earlier is not image:
            raise InputError(f"{path}: image {image.image_id} ({earlier.file}) occurs twice")
        other = id_of_file.setdefault(image.file, image.image_id)
        if other != image.image_id:
            raise InputError(f"{path}: the images {other} and {image.image_id} are the same file, {image.file}")
        for caption_id, _ in image.captions:
            if caption_id in caption_ids:
                raise InputError(f"{path}: image {image.image_id}: the caption id {caption_id} occurs twice")
            caption_ids.add(caption_id)
    return list(by_id.values())


def captions_table(captioned: Iterable[CaptionedImage], description: str) -> pa.Table:
    """The captions of images, in their order, each with whether it is the first of its words about its image."""

    def rows() -> Iterator[tuple[int, int, str, bool]]:
        for image in captioned:
            texts = set()
            for caption_id, text in image.captions:
                yield caption_id, image.image_id, text, text not in texts
                texts.add(text)

    return table_of(rows(), _SCHEMA, description)


def _without_ids(ids: Ids) -> list[str]:
    absent = [name for name, are_given in (("images", ids.of_images), ("captions", ids.of_captions)) if not are_given]
    return [f"there are no ids of {' and '.join(absent)}; they are numbered in file order"] if absent else []


def repetitions(splits: dict[str, dict[str, int]]) -> list[str]:
    """A warning about captions that ``write_captions`` left out."""
    removed = {split: number for split, counts in splits.items() if (number := counts["duplicates_removed"])}
    if not removed:
        return []
    by_split = ", ".join(f"{count:,} of {split}" for split, count in removed.items())
    return [f"captions that repeat another one of the same image are left out: {by_split}"]


def _deviations(splits: dict[str, dict[str, int]], options: CaptionOptions) -> list[str]:
    """Warnings about splits whose size is not the official one."""
    warnings = []
    for split, expected in options.described.images.items():
        images = splits[split]["images"] if split in splits else 0
        if images != expected:
            some = "; some papers use 1,000" if (options.dataset, split) == ("flickr30k", "val") else ""
            warnings.append(f"{split}: has captions of {images:,} images, the official split of {expected:,}{some}")
    return warnings
