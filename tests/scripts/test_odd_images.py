"""Images and questions that are odd but real are used; those that cannot be are left out, with the reason."""

import io
import json

import numpy as np
from PIL import Image

from tests.prepare.raw_vqav2 import annotation, image_path, question, write_split
from tests.run_script import run_script
from tests.tiny_vqa import tiny_vqa_config, write_config


def encoded(picture: Image.Image, form: str = "JPEG", **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def noise(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50)


def upright_when_turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_odd_images_and_an_endless_question_are_trained_on_and_bad_images_left_out(world, tmp_path, capfd):
    odd = {
        1: encoded(noise().convert("P"), "PNG"),
        2: encoded(noise().convert("CMYK")),
        3: encoded(noise().convert("L")),
        4: encoded(noise(), exif=upright_when_turned()),
        5: encoded(sixteen_bits(), "PNG"),
    }
    bad = {
        11: (encoded(noise())[:300], "cannot be decoded"),
        12: (b"<html>", "not an image"),
        13: (encoded(noise(width=1)), "1 x 30 pixels, at least 2 x 2 are needed"),
        14: (encoded(Image.new("1", (9_460, 9_460)), "PNG"), "9460 x 9460 pixels, the limit is 89,478,485"),
    }
    raw, prepared = tmp_path / "raw", tmp_path / "prepared"
    questions = [question(1000 * i, i, "why " * 10_000 if i == 1 else "Is it red?") for i in (*odd, *bad)]
    write_split(raw, "train", questions, [annotation(1000 * i, i) for i in (*odd, *bad)])
    for image_id, content in (odd | {i: content for i, (content, _) in bad.items()}).items():
        image_path(raw, "train", image_id).write_bytes(content)
    files = ("--root", raw, "--output", prepared, "--min-count", 1, "--workers", 1)
    assert run_script("data_prep/prepare_vqav2.py", *files) == 0
    skipped = json.loads((prepared / "manifest.json").read_text())["skipped_images"]
    assert [each["image_id"] for each in skipped] == list(bad)
    assert all(bad[each["image_id"]][1] in each["reason"] for each in skipped)
    assert "4 images cannot be used, see skipped_images in manifest.json" in capfd.readouterr().err

    config = write_config(tiny_vqa_config(world, tmp_path / "run"), tmp_path / "vqa.yaml")
    changes = ("--data.root", prepared, "--data.select_split", "null", "--optim.batch_size", 5, "--text.max_tokens", 20)
    assert run_script("scripts/finetune_vqa.py", "--config", config, *changes) == 0
    assert "1 questions are longer than 20 tokens and are cut" in capfd.readouterr().err
