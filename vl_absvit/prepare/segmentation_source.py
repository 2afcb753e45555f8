"""What a data set of labelled pixels is: its files, and how the values in its label files become classes."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vl_absvit.data.bounded import read_picture
from vl_absvit.data.segmentation_labels import VOID, Colour, decode_label
from vl_absvit.errors import InputError
from vl_absvit.prepare.text_lines import read_lines

_NO_CLASS = -1
_VALUES_SHOWN = 5


def _unexplained(wrong: Sequence[int]) -> str:
    return ""


class LabelValues(NamedTuple):
    """How values in a label file become classes. It can be sent to other processes."""

    class_of: Mapping[int, int]  # value in a file -> class, or ``VOID``
    expected: str  # the values, in words
    explain: Callable[[Sequence[int]], str] = _unexplained  # what wrong values, ascending, probably are; "" if unknown

    def read(self, path: Path) -> np.ndarray:
        """The classes of a label file's pixels, (H, W), uint8.

        Raises:
            InputError: the file cannot be read, holds no class numbers, or other values. The message names the file.
        """
        try:
            values = decode_label(read_picture(path))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        table = np.full(256, _NO_CLASS, np.int16)
        table[list(self.class_of)] = list(self.class_of.values())
        classes = table[values]
        if (classes == _NO_CLASS).any():
            raise InputError(f"{path}: {self._describe(np.unique(values[classes == _NO_CLASS]).tolist())}")
        return classes.astype(np.uint8)

    def _describe(self, wrong: Sequence[int]) -> str:
        more = f" and {len(wrong) - _VALUES_SHOWN} other values" if len(wrong) > _VALUES_SHOWN else ""
        shown = ", ".join(map(str, wrong[:_VALUES_SHOWN]))
        reason = self.explain(wrong)
        return f"expected {self.expected}, got {shown}{more}" + (f"; {reason}" if reason else "")


def numbered_from_0(classes: int) -> LabelValues:
    """Values that are classes already."""
    class_of = {value: value for value in (*range(classes), VOID)}
    return LabelValues(class_of, f"the classes 0 to {classes - 1} and {VOID} for void")


class Pair(NamedTuple):
    """A picture and its label, both relative to the data set's folder."""

    name: str  # of both, within the data set
    image: str
    label: str | None  # None where labels are held back


class Layout(NamedTuple):
    """What is in the folder of a data set."""

    root: Path  # that the files are relative to
    splits: dict[str, list[Pair]]  # splits that are there, training first
    classes: list[str]
    colours: list[Colour]
    values: LabelValues
    lists: list[Path] = []  # text files that say what is in the splits, and the classes


class SegmentationSet(NamedTuple):
    """A data set of labelled pixels."""

    title: str
    published: dict[str, int]  # split -> published number of pictures; empty if nobody knows
    read: Callable[[Path], Layout]
    """Finds out what is in a folder; raises ``InputError`` where that is not the data set."""
    submitted: Mapping[int, int] | None = None
    """Class -> value in files of predictions, as the set's server or script takes them; None where it is the class."""


def first_folder(root: Path, places: Iterable[str], needed: str) -> Path:
    """The first of some places below ``root`` that has a folder ``needed``.

    Raises:
        InputError: none has.
    """
    places = list(places)
    for place in places:
        if (root / place / needed).is_dir():
            return root / place
    looked = ", ".join(str(root / place) for place in places)
    raise InputError(f"{root}: expected a folder {needed} in it; looked in {looked}")


def read_names(path: Path) -> list[str]:
    """Names of pictures out of a list, one a line, as VOC's are: of a line with more words the first one counts.

    Raises:
        InputError: the list is missing, cannot be read or is empty, or a name is a path or stands there twice.
    """
    names = []
    for location, line in read_lines(path):
        name = line.split()[0]
        if "/" in name or name in (".", ".."):
            raise InputError(f"{location}: expected the name of a picture without folder and ending, got {line!r:.80}")
        names.append(name)
    if not names:
        raise InputError(f"{path}: expected names of pictures, one a line, got an empty list")
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise InputError(f"{path}: {name} stands there {times} times")
    return names


def check_apart(splits: Mapping[str, Sequence[Pair]]) -> None:
    """Refuse a picture in two splits.

    Raises:
        InputError: names the first picture and both splits.
    """
    split_of: dict[str, str] = {}
    for split, pairs in splits.items():
        both = [pair.name for pair in pairs if pair.name in split_of]
        if both:
            more = f" and {len(both) - 1} more pictures are" if len(both) > 1 else " is"
            raise InputError(
                f"{both[0]}{more} in both {split_of[both[0]]} and {split}: what is trained on cannot be judged on"
            )
        split_of |= {pair.name: split for pair in pairs}
