"""Preparing takes so little memory for a question that all of VQAv2 fits any machine."""

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
def test_all_questions_of_vqav2_would_take_less_than_three_gigabytes(tmp_path):
    # Train is the largest file, and is in memory as a whole: 443,757 questions.
    first, all_of_them = peak_mebibytes(tmp_path / "some", 20_000), peak_mebibytes(tmp_path / "more", 50_000)
    per_question = (all_of_them - first) / 30_000
    assert first + per_question * (443_757 - 20_000) < 2_800
