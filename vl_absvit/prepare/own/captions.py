"""Captions of one's own, from tables to the folder that training reads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vl_absvit.data.records import CAPTIONS
from vl_absvit.errors import InputError
from vl_absvit.prepare.captions import captions_table, repetitions, trained_on, write_captions
from vl_absvit.prepare.check_images import Images
from vl_absvit.prepare.exclusions import Excluded
from vl_absvit.prepare.journal import Journal
from vl_absvit.prepare.karpathy_source import CaptionedImage
from vl_absvit.prepare.own.columns import IMAGE
from vl_absvit.prepare.own.names import check_name
from vl_absvit.prepare.own.options import TableOptions
from vl_absvit.prepare.own.refusals import Fault, Place
from vl_absvit.prepare.own.rows import OwnRow, read_rows, splits_of
from vl_absvit.prepare.own.source import OwnSource, train_first
from vl_absvit.prepare.own.values import texts_of
from vl_absvit.prepare.prepare import Content, Records, prepare

_ROLES = {
    "image": IMAGE,
    "caption": ("captions", "caption", "title", "text", "sentences", "sentence", "comment", "description"),
    "split": ("split",),
}
_WITHOUT_HEADER = {"image": ("1",), "caption": ("2",)}


@dataclass(frozen=True, kw_only=True)
class OwnCaptionOptions(TableOptions):
    """``TableOptions`` of captions."""

    exclude: Sequence[str] = ()
    """What must not be trained on, see ``Excluded``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.name, "--dataset")


class _Captioned(NamedTuple):
    """The captions of a row."""

    row: OwnRow
    captions: list[str]


def prepare_own_captions(options: OwnCaptionOptions, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest. A finished ``output`` is only compared with the request.

    Raises:
        InputError: tables or pictures have a fault, or ``output`` was made with other options or from other tables.
    """
    return prepare(OwnCaptions(options), options.image_folder(), output, workers)


class OwnCaptions(OwnSource):
    """Captions of one's own. A picture's captions may be in any number of rows, and are in one split."""

    row_type = "captions"
    roles, without_header = _ROLES, _WITHOUT_HEADER

    def __init__(self, options: OwnCaptionOptions) -> None:
        super().__init__(options)
        self._options, self._excluded = options, Excluded(options.exclude)

    def request(self) -> dict[str, Any]:
        """The folder of pictures, the options and the content of the tables."""
        request = self._options.request(CAPTIONS, ["exclude"])
        request["options"] |= self._excluded.settings()
        return request

    def read(self) -> Records:
        """The captions of every split, repeated ones included; refused rows are kept for ``write``."""
        rows = list(self._read_all())
        self._rows = len(rows) + len(self._refusals)
        self._columns.check("image", "caption")
        if not rows:
            raise InputError(f"no caption is left: {self._refusals.words(self._rows)}")
        images = self._by_image(rows, splits_of([each.row for each in rows], self._options, self._refusals))
        self._trained_on = trained_on(images)
        splits = train_first({image.split for image in images})
        of_split = {split: [image for image in images if image.split == split] for split in splits}
        return Records(
            {split: captions_table(images, f"captions of {split}") for split, images in of_split.items()},
            {image.image_id: image.file for image in images},
            self.warnings(),
        )

    def _read_all(self) -> Iterator[_Captioned]:
        for row in read_rows(self._options, self._columns, self._refusals):
            try:
                if "caption" not in row.cells:
                    raise Fault("no caption")
                yield _Captioned(row, texts_of(row.cells["caption"], "raw"))
            except Fault as fault:
                self._refusals.add(row.place, fault)

    def _by_image(self, rows: Sequence[_Captioned], split_of: Mapping[Place, str]) -> list[CaptionedImage]:
        """The captioned pictures by name. Pictures are numbered by name, captions by picture and row."""
        found: dict[str, tuple[OwnRow, list[str]]] = {}
        for row, captions in rows:
            if row.place in split_of:
                first, texts = found.setdefault(row.file, (row, []))
                if split_of[first.place] == split_of[row.place]:
                    texts += captions
                else:
                    self._refusals.add(row.place, Fault("a picture that is in another split, too", str(first.place)))
        images, captions_before = [], 0
        for number, (file, (first, texts)) in enumerate(sorted(found.items()), start=1):
            numbered = list(enumerate(texts, start=captions_before + 1))
            images.append(CaptionedImage(number, file, split_of[first.place], numbered))
            captions_before += len(texts)
        return images

    def check(self, journal: Journal, images: Images) -> None:
        """Leave out what is excluded."""
        self._excluded.leave_out(images, self._trained_on, is_published=False)

    def write(self, folder: Path, records: Records, images: Images) -> Content:
        """Write a table for each split that has captions, and the refused rows."""
        counts = write_captions(folder, records.splits, images)
        self._refusals.write(folder)
        return Content(counts, repetitions(counts), {"own": True} | self.account() | self._excluded.account())
