"""The benchmark of attention layers: every kind on every grid, ratios to softmax, operations by hand."""

import json

from benchmarks import attention
from tests.run_script import run_script


def test_kinds_take_turns_and_stand_beside_softmax(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(attention, "LAYERS", {"tiny": (8, 2)})
    options = ("--sides", "3", "2", "--images", "2", "--repeats", "2", "--output", tmp_path / "out.json")
    assert run_script("scripts/benchmark.py", "attention", *options) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["results"]
    assert [(row["side"], row["kind"]) for row in rows] == [(s, kind) for s in (2, 3) for kind in attention.KINDS]
    for softmax, performer, vars_d in (rows[:3], rows[3:]):
        tokens = softmax["side"] ** 2
        assert softmax["ratio"] == {"median": 1.0, "low": 1.0, "high": 1.0}
        assert softmax["multiply_adds"] == tokens * 4 * 8**2 + 2 * tokens**2 * 8
        heads, channels, atoms = 2, 4, 8
        own = heads * (4 * tokens * channels * atoms + tokens * atoms)
        assert performer["multiply_adds"] == tokens * 4 * 8**2 + own
        assert vars_d["ratio_of_multiply_adds"] == vars_d["multiply_adds"] / softmax["multiply_adds"]
        assert all(row["processor_seconds"]["median"] > 0 for row in (performer, vars_d))
    assert "vars_d / softmax" in capsys.readouterr().out
