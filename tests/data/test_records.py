"""The table of images: sizes by id without opening anything, embedded pictures without writing anything."""

import os
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from tests.prepare.raw_vqav2 import image_path, write_small_vqav2
from tests.run_script import ROOT
from vl_absvit.data.records import ImageTable
from vl_absvit.prepare import tables
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2

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


READ_ALL = """
import sys
from vl_absvit.data.records import ImageTable, read_questions
images, questions = ImageTable(sys.argv[1]), read_questions(sys.argv[1], ["train", "val"])
pictures = [picture.tobytes()[:3].hex() for picture in images.open(images.available[::-1])]
print(len(questions), *pictures)
"""


@pytest.mark.parametrize("group, file", [(1, 1), (1, 2**30), (2**30, 2**30)])  # bytes; the last is as of old
def test_embedded_pictures_are_those_of_the_files_whatever_the_row_groups(tmp_path, monkeypatch, group, file):
    monkeypatch.setattr(tables, "_BYTES_PER_GROUP", group)
    monkeypatch.setattr(tables, "_BYTES_PER_FILE", file)
    raw = write_small_vqav2(tmp_path / "raw")
    prepare_vqav2(PrepareOptions(root=raw, min_count=1, minival_images=1, embed_images=True), tmp_path / "out", 1)
    shutil.rmtree(raw / "val2014")
    images = ImageTable(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("images-*.parquet"))) == (12 if file == 1 else 1)
    assert images.available.tolist() == [*range(1, 5), *range(101, 105), *range(201, 205)]
    asked = [202, 1, 104, 1, 3]
    records = images.records(asked)
    assert [record.image_id for record in records] == asked
    assert records[1].content == image_path(raw, "train", 1).read_bytes()
    assert [round(picture.getpixel((5, 5))[0] / 10) for picture in images.open(asked)] == [20, 0, 10, 0, 0]


@pytest.mark.slow
def test_reading_by_two_processes_at_once_leaves_no_new_file_anywhere(tmp_path):
    raw, home = write_small_vqav2(tmp_path / "raw"), tmp_path / "home"
    prepare_vqav2(PrepareOptions(root=raw, min_count=1, minival_images=1, embed_images=True), tmp_path / "out", 1)
    home.mkdir()
    for path in (tmp_path / "out").iterdir():
        path.chmod(0o444)
    (tmp_path / "out").chmod(0o555)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    environment = os.environ | {"HOME": str(home), "HF_HOME": str(home / "hf")}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", READ_ALL, tmp_path / "out"]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert said[0] == said[1] and said[0].startswith("21 ") and len(said[0].split()) == 13
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
