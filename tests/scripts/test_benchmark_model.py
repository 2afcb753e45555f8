"""The count of parameters and operations from the command line."""

import json

from benchmarks import model, trunks
from tests.run_script import run_script


def test_parameters_and_operations_are_shown_and_written_beside_the_papers(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(model, "MODELS", model.MODELS[:2])
    monkeypatch.setattr(trunks, "MODELS", [each for each in trunks.MODELS if each.label == "RVT-Ti* VARS-S"])
    assert run_script("scripts/benchmark.py", "model", "--output", tmp_path / "out/table.json") == 0
    table = json.loads((tmp_path / "out/table.json").read_text())
    assert table["benchmark"] == "model" and table["operations"] == "multiply-adds" and table["machine"]["device"]
    vit, absvit = table["results"]
    assert (vit["model"], vit["size"], vit["paper_flops_g"]) == ("ViT", "tiny", 1.3)
    assert (absvit["model"], absvit["size"], absvit["paper_parameters_m"]) == ("AbSViT", "tiny", 7)
    assert vit["evaluation"] < absvit["evaluation"] < absvit["all_tokens"] < absvit["naive"]
    assert 0 < absvit["with_signal"] < 1 and absvit["difference"] < 1e-5
    (vars_s,) = table["trunks"]
    assert (vars_s["parameters"], vars_s["paper_parameters_m"], vars_s["paper_source"]) == (10_152_424, 9.2, "VARS")
    shown = capsys.readouterr().out
    assert "3 atoms per channel, where the release has 5" in shown
    assert "AbSViT tiny" in shown and "2.94" in shown and "multiply-adds of matrix products" in shown


def test_it_takes_no_times_and_no_options_of_those_that_do(complaint):
    assert "unrecognized arguments: --repeats 3" in complaint(2, "scripts/benchmark.py", "model", "--repeats", "3")


def test_an_output_that_cannot_be_written_is_told_before_anything_is_counted(complaint, tmp_path):
    assert "it is a folder" in complaint(1, "scripts/benchmark.py", "model", "--output", tmp_path)
