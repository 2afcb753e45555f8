"""``data_prep/prepare_vqav2.py``: what it prints, and exit codes with one line for whatever is wrong."""

import re

import pytest

from tests.prepare.raw_vqav2 import image_path, write_small_vqav2
from tests.run_script import run_script


@pytest.fixture
def raw(tmp_path):
    return write_small_vqav2(tmp_path / "raw")


def prepare(*arguments):
    return run_script("data_prep/prepare_vqav2.py", *arguments)


def test_it_says_what_was_prepared_and_the_second_time_that_nothing_was_to_do(raw, tmp_path, capsys):
    options = ("--root", raw, "--output", tmp_path / "out", "--min-count", 1, "--workers", 1)
    assert prepare(*options) == 0
    done = capsys.readouterr()
    assert "train    12 questions on 4 images, 12 with an answer in the vocabulary" in done.out
    assert "3 answers in " in done.out and "nothing to do" not in done.out
    assert "warning: train: 12 questions are usable, the official split has 443,757" in done.err
    assert prepare(*options) == 0
    again = capsys.readouterr()
    assert "is finished already; nothing to do" in again.out and "took" not in again.err


def test_it_says_how_fast_it_was_and_that_it_went_on(raw, tmp_path, capsys):
    content = image_path(raw, "train", 2).read_bytes()
    image_path(raw, "train", 2).unlink()
    options = ("--root", raw, "--output", tmp_path / "out", "--min-count", 1, "--workers", 1)
    assert prepare(*options) == 1
    image_path(raw, "train", 2).write_bytes(content)
    capsys.readouterr()
    assert prepare(*options) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"going on with the interrupted preparation in {tmp_path / 'out.partial'}"
    (pace,) = {line for line in said if line.startswith("took ")}
    assert re.fullmatch(r"took [\d.]+ s: 12 images checked \([\d,]+/s\), 37 questions prepared \([\d,]+/s\)", pace)


def test_a_missing_image_ends_with_code_1_and_one_line(raw, tmp_path, capsys):
    image_path(raw, "train", 2).unlink()
    assert prepare("--root", raw, "--output", tmp_path / "out", "--min-count", 1) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: 1 images are missing, the first is ")


def test_wrong_options_end_with_code_2(tmp_path, capsys):
    for options in ((), ("--root", tmp_path, "--output", tmp_path / "out", "--min-count", 0)):
        assert prepare(*options) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
