"""Preparing takes so little memory for a question, or a pair, that the largest data sets fit any machine."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.prepare.raw_pairs import write_many_pairs
from tests.prepare.raw_vqav2 import write_many_questions

ROOT = Path(__file__).parents[2]
QUESTIONS = """
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2
prepare_vqav2(PrepareOptions(root=raw, min_count=1, allow_missing_images=True), output, workers=1)
"""
PAIRS = """
from vl_absvit.prepare.pair_filters import PairFilters
from vl_absvit.prepare.pairs import PairOptions, prepare_pairs
filters = PairFilters(max_repeats=1000)
prepare_pairs(PairOptions(dataset="shop", root=raw, val_share=0.01, filters=filters), output, workers=1)
"""
BEFORE = "import re, sys; from pathlib import Path; raw, output = map(Path, sys.argv[1:])"
AFTER = r"""print(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])"""


def peak_mebibytes(folder: Path, prepare: str) -> float:
    """The most memory that a process holds which prepares the raw data of a folder."""
    command = [sys.executable, "-c", f"{BEFORE}{prepare}{AFTER}", folder / "raw", folder / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return int(done.stdout) / 1024


@pytest.mark.slow
def test_all_questions_of_vqav2_would_take_less_than_three_gigabytes(tmp_path):
    # Train is the largest file, and is in memory as a whole: 443,757 questions.
    peaks = []
    for name, questions in (("some", 20_000), ("more", 50_000)):
        write_many_questions(tmp_path / name / "raw", questions, images=questions // 5)
        peaks.append(peak_mebibytes(tmp_path / name, QUESTIONS))
    first, all_of_them = peaks
    per_question = (all_of_them - first) / 30_000
    assert first + per_question * (443_757 - 20_000) < 2_800


@pytest.mark.slow
def test_twelve_million_pairs_would_take_less_than_three_gigabytes(tmp_path):
    peaks = []
    for name, pairs in (("some", 20_000), ("more", 80_000)):
        write_many_pairs(tmp_path / name / "raw", pairs)
        peaks.append(peak_mebibytes(tmp_path / name, PAIRS))
    per_pair = (peaks[1] - peaks[0]) / 60_000
    assert peaks[0] + per_pair * 12_000_000 < 3_000
