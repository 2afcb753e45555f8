"""The table of images: sizes by id, without opening anything."""

import pytest
from PIL import Image

from tests.data.preparation.raw_vqav2 import image_path, write_small_vqav2
from vl_absvit.data.preparation.vqav2 import PrepareOptions, prepare_vqav2
from vl_absvit.data.records import ImageTable

SIZES = {1: (12, 8), 3: (5, 30), 4: (40, 7)}


@pytest.mark.parametrize("embed_images", [False, True])
def test_sizes_are_those_of_the_upright_pictures_whatever_is_missing_in_between(tmp_path, embed_images):
    raw = write_small_vqav2(tmp_path / "raw")
    image_path(raw, "train", 2).unlink()
    turned = Image.Exif()
    turned[0x0112] = 6
    for image_id, (width, height) in SIZES.items():
        Image.new("RGB", (height, width)).save(image_path(raw, "train", image_id), exif=turned)
    options = PrepareOptions(
        root=raw, min_count=1, minival_images=1, allow_missing_images=True, embed_images=embed_images
    )
    prepare_vqav2(options, tmp_path / "out", 1)
    images = ImageTable(tmp_path / "out")
    asked = [4, 1, 3, 1]
    assert images.sizes(asked).tolist() == [list(SIZES[image_id]) for image_id in asked]
    assert [picture.size for picture in images.open(asked)] == [SIZES[image_id] for image_id in asked]
