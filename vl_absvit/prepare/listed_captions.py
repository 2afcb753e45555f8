"""Captions from lists, brought together by image and numbered as Karpathy's files are."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from vl_absvit.errors import InputError
from vl_absvit.prepare.caption_lists import ListedCaption, coco_id
from vl_absvit.prepare.caption_source import CaptionSet
from vl_absvit.prepare.karpathy_source import CaptionedImage

ListedImages = dict[str, tuple[str | None, list[ListedCaption]]]
"""Image file -> the split of its list, where lists are of one split, and its captions by number; files ascend."""


def by_image(lists: Iterable[tuple[str | None, Iterable[ListedCaption]]]) -> ListedImages:
    """The captions of lists, image by image.

    Args:
        lists: the split of all images of a list, where it is of one split, and its captions.

    Raises:
        InputError: the lists have an image in two splits, or a caption twice.
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
    """The images that are in a split, by name, numbered from 0 like their captions; COCO's have their own ids.

    Of the whole of Flickr30K these are the ids of Karpathy's file.

    Args:
        split_of: image file -> split; None where the lists tell.
    """
    number = captions = 0
    for file, (split, listed) in images.items():
        if split_of is not None:
            split = split_of.get(file)
        elif described.is_on_coco and split == "train" and file.startswith("val2014/"):
            split = "restval"  # the lists of others have it in train
        if split is None:
            continue
        texts = [(captions + place, caption.caption) for place, caption in enumerate(listed)]
        yield CaptionedImage(coco_id(file) if described.is_on_coco else number, file, split, texts)
        number, captions = number + 1, captions + len(texts)


def as_in(path: Path, karpathy: Iterable[CaptionedImage], images: ListedImages) -> Iterator[CaptionedImage]:
    """The images of Karpathy's file that have captions here: its ids, splits and order, the captions of the lists.

    Raises:
        InputError: a caption has no counterpart there.
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
