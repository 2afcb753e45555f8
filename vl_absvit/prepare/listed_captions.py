"""Captions from lists, grouped by image and numbered as in Karpathy's files."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from vl_absvit.errors import InputError
from vl_absvit.prepare.caption_lists import ListedCaption, coco_id
from vl_absvit.prepare.caption_source import CaptionSet
from vl_absvit.prepare.karpathy_source import CaptionedImage

ListedImages = dict[str, tuple[str | None, list[ListedCaption]]]
"""Image file -> the split of its list (None if lists have several splits), and captions by number; files ascend."""


def by_image(lists: Iterable[tuple[str | None, Iterable[ListedCaption]]]) -> ListedImages:
    """The captions of lists, by image.

    Args:
        lists: the split of each list, or None if it has several, and its captions.

    Raises:
        InputError: an image is in two splits, or a caption is listed twice.
    """
    images: ListedImages = {}
    for split, captions in lists:
        for caption in captions:
            first_split, listed = images.setdefault(caption.file, (split, []))
            if split != first_split:
                raise InputError(f"{caption.file} is both in the list of {first_split} and in that of {split}")
            listed.append(caption)
    for file, (_, listed) in images.items():
        listed.sort(key=lambda caption: -1 if caption.number is None else caption.number)
        numbers = [caption.number for caption in listed if caption.number is not None]
        twice = next((number for number, after in itertools.pairwise(numbers) if number == after), None)
        if twice is not None:
            raise InputError(f"{file}: the caption {twice} is listed twice")
    return dict(sorted(images.items()))


def numbered(
    images: ListedImages, described: CaptionSet, split_of: Mapping[str, str] | None
) -> Iterator[CaptionedImage]:
    """The images that are in a split, by name. Images and captions are numbered from 0; COCO's images have ids.

    For all of Flickr30K these numbers are the ids of Karpathy's file.

    Args:
        split_of: image file -> split; None if the lists have splits.
    """
    number = captions = 0
    for file, (split, listed) in images.items():
        if split_of is not None:
            split = split_of.get(file)
        elif described.is_on_coco and split == "train" and file.startswith("val2014/"):
            split = "restval"  # lists of others count it as train
        if split is None:
            continue
        texts = [(captions + place, caption.caption) for place, caption in enumerate(listed)]
        yield CaptionedImage(coco_id(file) if described.is_on_coco else number, file, split, texts)
        number, captions = number + 1, captions + len(texts)


def as_in(path: Path, karpathy: Iterable[CaptionedImage], images: ListedImages) -> Iterator[CaptionedImage]:
    """The listed images, with ids, splits and order of Karpathy's file and with the captions of the lists.

    Raises:
        InputError: a caption has no counterpart in Karpathy's file.
    """
    for image in karpathy:
        texts = []
        for place, caption in enumerate(images[image.file][1] if image.file in images else []):
            place = place if caption.number is None else caption.number
            if place >= len(image.captions):
                raise InputError(
                    f"{path}: image {image.image_id} ({image.file}) has {len(image.captions)} captions, which the "
                    f"list's caption {place} is none of"
                )
            texts.append((image.captions[place][0], caption.caption))
        if texts:
            yield image._replace(captions=texts)
