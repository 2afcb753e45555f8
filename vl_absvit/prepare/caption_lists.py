"""Read lists of captions in common forms other than Karpathy's, and check every caption.

- Flickr's form: ``1000092795.jpg#0<TAB>caption`` (``results_20130124.token``, ``Flickr8k.token.txt``).
- Tables with a header: ``image_name| comment_number| comment`` (``results.csv``) or ``image,caption``
  (``captions.txt``, ``flickr30k_test_karpathy.txt``); tabs and semicolons may separate cells, too.
- The form of ALBEF, BLIP and LAVIS: a JSON list of ``{"image": path, "caption": text or list of texts}`` per split.
- Lists of a split's images, one name per line (``Flickr_8k.trainImages.txt``).

All of them name an image by its file.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vl_absvit.data.json_files import form_name
from vl_absvit.errors import InputError
from vl_absvit.prepare.caption_sets import CAPTION_SETS, split_in
from vl_absvit.prepare.caption_source import CaptionLine, is_inside
from vl_absvit.prepare.json_records import read_records, string, value
from vl_absvit.prepare.text_lines import read_lines

_TOKEN = re.compile(r"(.*\S)\s*#([0-9]{1,9})\t(.*)")
_WITHOUT_BAR = re.compile(r"\s*([0-9]{1,9})\s+(\S.*)")
_IMAGE_COLUMNS, _CAPTION_COLUMNS = ("image_name", "image", "filename"), ("comment", "caption")
_NUMBER_COLUMNS = ("comment_number", "caption_number")
_COCO_FILE = re.compile(r"COCO_(train|val)2014_([0-9]{12})\.jpg")
_FORMS = "1.jpg#0<TAB>caption, or a header image_name| comment_number| comment or image,caption"


class ListedCaption(NamedTuple):
    """One caption of a list."""

    file: str  # the image's official file: "flickr30k-images/1000092795.jpg"
    number: int | None  # see ``CaptionLine``
    caption: str
    is_repaired: bool = False


def read_captions(path: Path, dataset: str) -> Iterator[ListedCaption]:
    """The captions of a list, in its order.

    Raises:
        InputError: the list has a fault; the message names file, line or record, and fault.
    """
    is_json = path.name.removesuffix(".gz").endswith(".json")
    read_list = CAPTION_SETS[dataset].read_list or (_of_records if is_json else _of_lines)
    for location, name, number, caption, is_repaired in read_list(path):
        if not caption.strip():
            raise InputError(f"{location}: the caption of {name} is empty")
        yield ListedCaption(_official(name, dataset, location), number, caption.strip(), is_repaired)


def read_splits(paths: Sequence[Path], dataset: str) -> dict[str, str]:
    """Image file -> split, from one list of images per split. Names without an ending get ``.jpg``.

    Raises:
        InputError: the name of a list does not contain its split, or an image is in two lists.
    """
    split_of: dict[str, str] = {}
    for path in paths:
        split = split_of_list(path, dataset)
        for location, line in read_lines(path):
            name = line.strip()
            name = name if PurePosixPath(name).suffix.lower() in (".jpg", ".jpeg", ".png") else f"{name}.jpg"
            file = _official(name, dataset, location)
            if split_of.setdefault(file, split) != split:
                raise InputError(f"{location}: {name} is both in {split_of[file]} and in {split}")
    return split_of


def split_of_list(path: Path, dataset: str) -> str:
    """The split that the name of a list contains.

    Raises:
        InputError: it contains none, several, or one that the data set does not have.
    """
    split, splits = split_in(path.name), CAPTION_SETS[dataset].images
    if split not in splits:
        raise InputError(
            f"{path}: its name does not say which of {', '.join(splits)} it is of; rename it, or give "
            "--karpathy or --splits, which divide the images"
        )
    return split


def coco_id(file: str) -> int:
    """The id in the official name of one of COCO's images."""
    found = _COCO_FILE.fullmatch(PurePosixPath(file).name)
    assert found is not None, f"{file} is no official name of COCO's"
    return int(found[2])


def _official(name: str, dataset: str, location: str) -> str:
    """The official file of an image, out of its name or any path to it."""
    path = PurePosixPath(name.strip().replace("\\", "/"))
    if not is_inside(PurePosixPath(path.name)):
        raise InputError(f"{location}: expected the file of an image, got {name!r:.60}")
    if not CAPTION_SETS[dataset].is_on_coco:
        return f"{CAPTION_SETS[dataset].folder}/{path.name}"
    found = _COCO_FILE.fullmatch(path.name)
    if not found:
        raise InputError(f"{location}: expected an image COCO_{{train,val}}2014_{{id}}.jpg, got {name!r:.60}")
    return f"{found[1]}2014/{path.name}"


def _of_records(path: Path) -> Iterator[CaptionLine]:
    for location, record in read_records(path, "annotations", ("image", "caption")):
        name = string(record, "image", location)
        captions = value(record, "caption", location)
        if captions == []:
            raise InputError(f"{location}: {name} has no caption")
        for caption in captions if isinstance(captions, list) else [captions]:
            if not isinstance(caption, str):
                raise InputError(
                    f"{location}: expected caption to be a string or a list of them, got {form_name(caption)}"
                )
            yield CaptionLine(location, name, None, caption)


def _of_lines(path: Path) -> Iterator[CaptionLine]:
    lines = read_lines(path)
    location, first = next(lines, (f"{path}: line 1", ""))
    token = _token(first)
    read = _table(first, location) if token is None else _token
    if token is not None:
        yield CaptionLine(location, *token)
    for location, line in lines:
        row = read(line)
        if row is None:
            raise InputError(f"{location}: expected it to be as the first lines are, got {line!r:.80}")
        yield CaptionLine(location, *row)


_Row = tuple[str, int | None, str, bool]
"""Name, number, caption, and whether the line was repaired."""


def _token(line: str) -> _Row | None:
    found = _TOKEN.fullmatch(line)
    return (found[1], int(found[2]), found[3], False) if found else None


def _table(header: str, location: str) -> Callable[[str], _Row | None]:
    """A function that reads a line below this header, or gives None if the line has another form."""
    mark = next((mark for mark in "|\t;" if mark in header), ",")
    columns = [_unquoted(column).lower() for column in header.split(mark)]
    is_numbered = len(columns) == 3 and columns[1] in _NUMBER_COLUMNS
    if not (columns[0] in _IMAGE_COLUMNS and columns[-1] in _CAPTION_COLUMNS and (is_numbered or len(columns) == 2)):
        raise InputError(f"{location}: expected {_FORMS}; got {header!r:.80}")

    def read(line: str) -> _Row | None:
        name, *cells = line.split(mark, len(columns) - 1)
        name = _unquoted(name)
        if not is_numbered:
            return (name, None, _unquoted(cells[0]), False) if cells else None
        # One line of the published results.csv has its second mark missing.
        if len(cells) == 1 and (found := _WITHOUT_BAR.fullmatch(cells[0])):
            return name, int(found[1]), found[2], True
        if len(cells) == 2 and (number := _unquoted(cells[0])).isdecimal():
            return name, int(number), _unquoted(cells[1]), False
        return None

    return read


def _unquoted(cell: str) -> str:
    """A cell without the quotation marks that CSV puts around cells. Other quotation marks belong to the caption."""
    cell = cell.strip()
    is_quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1].replace('""', "")
    return cell[1:-1].replace('""', '"') if is_quoted else cell
