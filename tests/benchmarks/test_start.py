"""The benchmark of a program's start: made-up inputs that a program reads, sides that take turns."""

import json
from pathlib import Path

import pytest

from benchmarks import start
from benchmarks.checkouts import OTHER, OURS, ROOT
from benchmarks.start import PROGRAM, Run, explain, make_inputs, run
from vl_absvit.errors import ConfigError, InputError


def test_a_program_explains_the_made_up_picture_and_one_that_fails_is_no_result(tmp_path):
    make_inputs(tmp_path, "tiny", [1])
    taken = explain(ROOT, tmp_path, 1)
    assert 0 < taken.seconds and 0 < taken.processor_seconds and not (tmp_path / "out").exists()
    (tmp_path / "picture.jpg").unlink()
    with pytest.raises(InputError, match="failed: .*there is no|failed: .*picture"):
        explain(ROOT, tmp_path, 1)


def test_sides_take_turns_and_everything_is_written(tmp_path, monkeypatch, capsys):
    order = []

    def explain_at_once(checkout: Path, folder: Path, asked: int) -> Run:
        order.append((checkout == ROOT, asked))
        return Run(2.0 if checkout == ROOT else 6.0, 1.0)

    monkeypatch.setattr(start, "explain", explain_at_once)
    monkeypatch.setattr(start, "make_inputs", lambda *_: None)
    other = tmp_path / "other"
    (other / PROGRAM).parent.mkdir(parents=True)
    (other / PROGRAM).touch()
    run(size="tiny", questions=[1, 20], beside=other, repeats=2, output=tmp_path / "t.json")
    assert order == 2 * [(True, 1), (False, 1), (True, 20), (False, 20)]
    cases = json.loads((tmp_path / "t.json").read_text())["cases"]
    assert cases["20 questions"]["ratio"]["seconds"]["median"] == 3 and {OURS, OTHER} < cases["1 question"].keys()
    assert "1 question" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="expected a checkout"):
        run(size="tiny", questions=[1], beside=tmp_path, repeats=1, output=None)
