"""Whoever reads training images has them decoded as their transform wants it."""

import torch
from PIL import Image

from tests.data.caption_folder import write_captions
from vl_absvit.data.class_folders import ImageFolderDataset
from vl_absvit.data.image_loader import ImageLoader
from vl_absvit.data.records import ImageTable
from vl_absvit.data.transforms import ImageTransform

LENGTHS = ImageTransform(lambda number: torch.full((3, 1, 1), number), False, None, decode=len)
"""A picture is the number of its file's bytes."""


def test_images_of_a_table_and_of_folders_are_decoded_by_their_transform(tmp_path):
    table = ImageTable(write_captions(tmp_path, {"train": [(0, 7, "a"), (1, 8, "b")]}))
    loader, size = ImageLoader(table, LENGTHS, 2), (tmp_path / "raw/7.png").stat().st_size
    assert loader.load([7])[7][0, 0, 0] == size
    assert {int(image[0, 0, 0]) for image in loader.sample(table.available, 2, 0, LENGTHS)} >= {size}

    file = tmp_path / "split/class/1.png"
    file.parent.mkdir(parents=True)
    Image.new("RGB", (9, 7)).save(file)
    images = ImageFolderDataset(tmp_path, ["split"], LENGTHS)
    assert images[0].image[0, 0, 0] == next(images.sample_images(1, 0, LENGTHS))[0, 0, 0] == file.stat().st_size
