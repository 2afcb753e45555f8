"""What a program imports, reads and starts before it does its work."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from tests.run_script import ROOT
from vl_absvit.__main__ import COMMANDS

SLOW = ("torch", "transformers", "timm", "datasets", "scipy", "pandas", "gradio")
NEEDLESS = ("datasets", "gradio", "tensorboard")
HELP = """
import io, json, sys
from contextlib import redirect_stdout
import vl_absvit.__main__ as program
found = {}
for name in json.loads(sys.argv[1]):
    sys.argv = ["vl-absvit", name, "--help"]
    with redirect_stdout(io.StringIO()) as said:
        try:
            program.main()
        except SystemExit as end:
            code = end.code
    found[name] = [code, "usage" in said.getvalue(), [slow for slow in json.loads(%r) if slow in sys.modules]]
print(json.dumps(found))
"""
RUN = """
import atexit, json, os, sys
import vl_absvit.__main__ as program
forks, opened = [], []
os.register_at_fork(before=lambda: forks.append(1))
sys.addaudithook(lambda event, values: opened.append(str(values[0])) if event == "open" else None)
def tell():
    weights = sum(path.endswith("model.safetensors") for path in opened)
    print(json.dumps([[name for name in %r if name in sys.modules], len(forks), weights]))
atexit.register(tell)
program.main()
"""


def run(code: str, *words: object) -> list | dict:
    """The JSON that Python prints last when it runs the code with these words."""
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-500:]
    return json.loads(done.stdout.splitlines()[-1])


def test_no_help_waits_for_a_library_that_takes_long():
    names = [name for group in COMMANDS.values() for name in group]
    found = run(HELP % json.dumps(SLOW), json.dumps(names))
    assert found == {name: [0, True, []] for name in names}


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_one_picture_is_explained_without_what_nobody_needs(finetuned, picture, tmp_path):
    """No library that nobody calls, no loader process; Python reads the weights once, for their hash."""
    words = ["--checkpoint", finetuned / "vqa/checkpoints/best", "--image", picture, "--question", "What is it?"]
    needless, forks, readings = run(RUN % (NEEDLESS,), "export-attention", *words, "--output", tmp_path / "out")
    assert (needless, forks, readings) == ([], 0, 1)
    assert (tmp_path / "out/index.jsonl").read_text().count("\n") == 1
