"""Names that lead out of a folder, links, pipes and devices where files should be."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.exported import add_question
from tests.hostile.bounded import complaint_of, run_bounded
from tests.hostile.corpus import CLIMBING, encoded, noise
from tests.prepare.raw_captions import image_record, write_karpathy
from tests.prepare.raw_vqa_hat import questions_file as hat_questions_file
from tests.prepare.raw_vqa_hat import write_small_hat
from tests.prepare.raw_vqav2 import annotation, image_path, question, questions_file, write_split
from tests.run_script import run_script
from vl_absvit.data.json_files import read_json
from vl_absvit.data.records import ImageRecord, ImageTable, open_image
from vl_absvit.errors import InputError
from vl_absvit.looking.export_reader import read_index
from vl_absvit.looking.own_texts import read_requests
from vl_absvit.prepare.captions import CaptionOptions, prepare_captions

PREPARE = "data_prep/prepare_vqav2.py"


@pytest.fixture
def raw(tmp_path) -> Path:
    """Questions about images 1 and 2, of which 1 is to be replaced, and a secret beside the folder."""
    (tmp_path / "secret.png").write_bytes(encoded(noise()))
    questions = [question(1000 * image, image) for image in (1, 2)]
    write_split(tmp_path / "raw", "train", questions, [annotation(1000 * image, image) for image in (1, 2)])
    image_path(tmp_path / "raw", "train", 1).unlink()
    return tmp_path / "raw"


def options(raw: Path) -> tuple:
    return ("--root", raw, "--output", raw.parent / "out", "--min-count", 1, "--workers", 1)


def skipped(raw: Path) -> str:
    """Why image 1, and no other, is left out."""
    outcome = run_bounded(lambda: run_script(PREPARE, *options(raw)))
    assert outcome.code == 0, outcome.err
    (image,) = json.loads((raw.parent / "out/manifest.json").read_text())["skipped_images"]
    assert image["image_id"] == 1
    return image["reason"]


# Names.


@pytest.mark.parametrize("name", CLIMBING)
@pytest.mark.parametrize("key", ["filename", "filepath"])
def test_a_caption_file_does_not_lead_out_of_its_folder(tmp_path, key, name):
    record = image_record("coco", 1, "train") | {key: name}
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "dataset_coco.json").write_text(json.dumps({"images": [record]}))
    wanted = CaptionOptions(dataset="coco", root=raw, karpathy=raw / "dataset_coco.json")
    with pytest.raises(InputError, match="expected a file inside the images' folder, got "):
        prepare_captions(wanted, tmp_path / "out", workers=1)


def test_a_name_longer_than_any_file_has_is_one_line(tmp_path):
    file = write_karpathy(tmp_path / "raw", "flickr30k", [image_record("flickr30k", 1, "train")])
    record = image_record("flickr30k", 1, "train") | {"filename": "a" * 100_000}
    file.write_text(json.dumps({"images": [record]}))
    asked = ("--dataset", "flickr30k", "--root", tmp_path / "raw", "--karpathy", file, "--output", tmp_path / "out")
    assert "File name too long" in complaint_of(1, "data_prep/prepare_captions.py", *asked)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../secret.png", "..", "a\0b"])
def test_a_table_of_images_does_not_lead_out_of_the_raw_data(raw, name):
    image_path(raw, "train", 1).write_bytes(encoded(noise()))
    assert run_bounded(lambda: run_script(PREPARE, *options(raw))).code == 0
    file = raw.parent / "out/images.parquet"
    table = pq.read_table(file)
    pq.write_table(table.set_column(1, "file", pa.array([name, "train2014/x.jpg"])), file)
    with pytest.raises(InputError, match="images.parquet: expected files inside the raw data's folder, got "):
        ImageTable(raw.parent / "out")


@pytest.mark.parametrize("name", ["../1.npz", "/etc/passwd", "a/1.npz", "a\0b.npz", "", ".."])
def test_an_index_of_maps_names_archives_beside_itself_only(tmp_path, name):
    add_question(tmp_path, "1")
    entry = json.loads((tmp_path / "index.jsonl").read_text())
    (tmp_path / "index.jsonl").write_text(json.dumps(entry | {"npz": name}))
    with pytest.raises(InputError, match="index.jsonl:1: expected the name of a file beside the index under 'npz'"):
        read_index(tmp_path)


# Links.


def test_a_link_to_a_picture_is_followed(raw):
    image_path(raw, "train", 1).symlink_to(raw.parent / "secret.png")
    outcome = run_bounded(lambda: run_script(PREPARE, *options(raw)))
    assert outcome.code == 0 and "2 questions on 2 images" in outcome.out


def test_a_link_to_something_else_gives_none_of_it_away(raw):
    (raw.parent / "secret.txt").write_text("the secret")
    image_path(raw, "train", 1).symlink_to(raw.parent / "secret.txt")
    outcome = run_bounded(lambda: run_script(PREPARE, *options(raw), "--embed-images"))
    assert outcome.code == 0 and "1 images cannot be used" in outcome.err
    assert all(b"the secret" not in file.read_bytes() for file in (raw.parent / "out").iterdir())


def test_a_circle_of_links_is_a_missing_image(raw):
    path = image_path(raw, "train", 1)
    path.symlink_to(path)
    assert "1 images are missing, the first is" in complaint_of(1, PREPARE, *options(raw))


def test_a_circle_of_folders_is_one_line(raw):
    os.rename(raw / "train2014", raw / "images")
    (raw / "train2014").symlink_to(raw / "train2014")
    assert "train2014: Too many levels of symbolic links" in complaint_of(1, PREPARE, *options(raw))


# Pipes, devices, folders.


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full", "pipe"])
def test_what_is_no_ordinary_file_is_a_bad_image(raw, device):
    path = image_path(raw, "train", 1)
    os.mkfifo(path) if device == "pipe" else path.symlink_to(device)
    assert skipped(raw) == "not an ordinary file, but a pipe, a device or a socket"


def test_a_folder_where_an_image_should_be_stops_the_preparation(raw):
    image_path(raw, "train", 1).mkdir()
    assert "Is a directory" in complaint_of(1, PREPARE, *options(raw))


@pytest.mark.parametrize("device", ["/dev/zero", "pipe"])
def test_what_is_no_ordinary_file_holds_no_json(raw, device):
    path = questions_file(raw, "train")
    path.unlink()
    os.mkfifo(path) if device == "pipe" else path.symlink_to(device)
    assert "not an ordinary file" in complaint_of(1, PREPARE, *options(raw))
    for read in (read_json, read_requests):
        with pytest.raises(InputError, match="not an ordinary file"):
            read(path)


def test_a_map_of_human_attention_that_is_no_file_is_named(tmp_path):
    raw = write_small_hat(tmp_path / "raw", images=(1,))
    (raw / "maps/10_1.png").unlink()
    os.mkfifo(raw / "maps/10_1.png")
    asked = ("--maps", raw / "maps", "--questions", hat_questions_file(raw), "--images", raw)
    line = complaint_of(1, "data_prep/prepare_vqa_hat.py", *asked, "--output", tmp_path / "out")
    assert "expected only files {question_id}_{n}.png, got 10_1.png" in line


def test_an_image_that_became_a_pipe_since_is_named(raw, tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"a.jpg \(image 7\): not an ordinary file"):
        open_image(ImageRecord(7, "a.jpg", None), tmp_path)
