"""Images that lie, break off or are no images: counted with a reason where data is prepared, one line elsewhere."""

import json
import os
from pathlib import Path

import pytest

from tests.hostile.bounded import run_bounded
from tests.hostile.corpus import POSTSCRIPT, bad_images, encoded, noise, odd_images
from tests.prepare.raw_vqav2 import annotation, image_path, question, write_split
from tests.run_script import run_script
from vl_absvit.data import bounded
from vl_absvit.data.rgb import decode_rgb
from vl_absvit.errors import InputError


@pytest.fixture(scope="module")
def bad() -> dict:
    return bad_images()


def raw_vqav2(folder: Path, contents: list[bytes]) -> Path:
    """A question about each image, image ids from 1."""
    ids = range(1, len(contents) + 1)
    write_split(folder, "train", [question(1000 * i, i) for i in ids], [annotation(1000 * i, i) for i in ids])
    for image_id, content in zip(ids, contents, strict=True):
        image_path(folder, "train", image_id).write_bytes(content)
    return folder


def prepare(folder: Path) -> tuple:
    return ("--root", folder / "raw", "--output", folder / "out", "--min-count", 1, "--workers", 1)


def test_bad_images_are_left_out_with_their_reasons_and_odd_ones_are_used(tmp_path, bad):
    odd = odd_images()
    raw_vqav2(tmp_path / "raw", [*(content for content, _ in bad.values()), *odd.values()])
    outcome = run_bounded(lambda: run_script("data_prep/prepare_vqav2.py", *prepare(tmp_path)))
    assert outcome.code == 0, outcome.err
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    skipped = {image["image_id"]: image["reason"] for image in manifest["skipped_images"]}
    for image_id, (name, (_, words)) in enumerate(bad.items(), start=1):
        assert words in skipped.pop(image_id), name
    assert not skipped and manifest["splits"]["train"]["questions"] == len(odd)


@pytest.mark.parametrize("name", list(odd_images()))
def test_an_odd_image_is_seen_upright_and_whole(name):
    picture = decode_rgb(odd_images()[name])
    assert picture.mode == "RGB" and picture.size == (40, 30)


def test_no_program_is_run_for_a_picture(tmp_path, monkeypatch):
    """Pillow hands PostScript to Ghostscript, which lies on many machines' paths."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "bin/gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    raw_vqav2(tmp_path / "raw", [POSTSCRIPT, encoded(noise())])
    outcome = run_bounded(lambda: run_script("data_prep/prepare_vqav2.py", *prepare(tmp_path)))
    assert outcome.code == 0 and "1 images cannot be used" in outcome.err and not (tmp_path / "ran").exists()


def test_the_formats_that_people_have_are_read():
    for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "MPO"):
        assert decode_rgb(encoded(noise(), form)).size == (40, 30), form


def test_a_file_too_large_for_a_picture_is_not_read(tmp_path):
    path = tmp_path / "endless.png"
    with path.open("wb") as stream:
        stream.truncate(bounded.MAX_PICTURE_BYTES + 1)  # takes no room on the disk
    with pytest.raises(InputError, match="1,073,741,825 bytes, the limit is 1,073,741,824"):
        bounded.read_picture(path)
