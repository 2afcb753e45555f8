"""``data_prep/make_demo.py``: exit codes and one clear line for whatever is wrong."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def make_demo(*arguments):
    command = [sys.executable, str(ROOT / "data_prep" / "make_demo.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


def test_a_folder_with_other_things_ends_with_code_1_and_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    done = make_demo("--output", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}: the folder is not empty") and done.stderr.count("\n") == 1


def test_no_scenes_is_a_usage_error_and_makes_nothing(tmp_path):
    done = make_demo("--output", tmp_path / "world", "--scenes", 0)
    assert done.returncode == 2
    assert "--scenes" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
