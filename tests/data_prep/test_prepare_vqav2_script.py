"""``data_prep/prepare_vqav2.py``: what it prints, and exit codes with one line for whatever is wrong."""

import os
import subprocess
import sys
from pathlib import Path

from tests.data.preparation.raw_vqav2 import image_path, write_small_vqav2

ROOT = Path(__file__).parents[2]


def prepare(*arguments):
    command = [sys.executable, str(ROOT / "data_prep" / "prepare_vqav2.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_it_says_what_was_prepared_and_the_second_time_that_nothing_was_to_do(tmp_path):
    raw = write_small_vqav2(tmp_path / "raw")
    options = ("--root", raw, "--output", tmp_path / "out", "--min-count", 1, "--workers", 1)
    done = prepare(*options)
    assert done.returncode == 0
    assert "train    12 questions on 4 images, 12 with an answer in the vocabulary" in done.stdout
    assert "3 answers in " in done.stdout and "nothing to do" not in done.stdout
    assert "warning: train: 12 questions are usable, the official split has 443,757" in done.stderr
    again = prepare(*options)
    assert again.returncode == 0 and "is finished already; nothing to do" in again.stdout


def test_a_missing_image_ends_with_code_1_and_one_line(tmp_path):
    raw = write_small_vqav2(tmp_path / "raw")
    image_path(raw, "train", 2).unlink()
    done = prepare("--root", raw, "--output", tmp_path / "out", "--min-count", 1)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: 1 images are missing, the first is ")


def test_wrong_options_end_with_code_2(tmp_path):
    for options in ((), ("--root", tmp_path, "--output", tmp_path / "out", "--min-count", 0)):
        done = prepare(*options)
        assert done.returncode == 2 and "Traceback" not in done.stderr
