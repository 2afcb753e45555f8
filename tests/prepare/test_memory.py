"""Preparing takes no more memory for more questions."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.prepare.raw_vqav2 import write_many_questions

ROOT = Path(__file__).parents[2]
PREPARE = """
import re, sys
from pathlib import Path
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2
raw, output = map(Path, sys.argv[1:])
prepare_vqav2(PrepareOptions(root=raw, min_count=1, allow_missing_images=True), output, workers=1)
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def peak_mebibytes(folder: Path, questions: int) -> float:
    """The most memory that a process holds which prepares so many questions, five about each image."""
    write_many_questions(folder / "raw", questions, images=questions // 5)
    command = [sys.executable, "-c", PREPARE, folder / "raw", folder / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return int(done.stdout) / 1024


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_questions(tmp_path):
    # The first fill the database's cache and a row group. The others are 70 MiB as rows, more as JSON.
    first, all_of_them = peak_mebibytes(tmp_path / "some", 20_000), peak_mebibytes(tmp_path / "more", 50_000)
    assert all_of_them - first < 40
    assert all_of_them < 400
