"""The benchmark from the command line: it needs no data, tells what it measured, and refuses what makes no sense."""

import json

import pytest
import torch

from benchmarks.synthetic import VOCABULARY
from tests.benchmarks.test_naive import VARIANTS, make_model
from tests.run_script import run_script

TINY = ["retrieval", "--size", "tiny", "--images", 2, "--captions", 3, "--shortlist", 1, "--repeats", 1]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A small model in place of a tiny one, and a small product of matrices."""
    monkeypatch.setattr("benchmarks.measure.MATMUL_SIDE", {"cpu": 64})
    monkeypatch.setattr(
        "benchmarks.retrieval.random_model",
        lambda size, head: make_model(*VARIANTS[0], head, vocabulary=VOCABULARY, image_size=96),
    )


@pytest.mark.slow
def test_a_tiny_gallery_is_measured_in_both_precisions(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run_script("scripts/benchmark.py", *TINY, "--output", tmp_path / "out/table.json") == 0
    table = json.loads((tmp_path / "out/table.json").read_text())
    told = {"benchmark": "retrieval", "size": "tiny", "images": 2, "captions": 3, "shortlist": 1, "repeats": 1}
    assert {name: table[name] for name in told} == told
    assert {"device", "torch_threads", "packages", "commit"} <= table["machine"].keys()
    assert list(table["results"]) == ["fp32", "bf16"]
    for result in table["results"].values():
        assert result["agreement"]["pairs"] == 6
        assert list(result["sides"]) == list(result["measured"]) == ["naive", "exact", "shortlist"]
        assert list(result["parts"]) == ["naive", "texts", "images", "pairs"]
        for side in result["sides"].values():
            assert all(side[name]["median"] > 0 for name in ("seconds_per_pair", "seconds_per_gallery", "ratio"))
            assert side["flop_per_second"] > 0 and side["ratio_to_fp32_naive"] > 0
        flops = {name: part["flop_each"] for name, part in result["parts"].items()}
        assert flops["naive"] > flops["pairs"] > flops["images"] > flops["texts"]
    shown = capsys.readouterr().out
    assert "extrapolated to Flickr30K" in shown and "6 of 6 pairs, texts padded to 40 tokens" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "required: BENCHMARK"),
        (["nothing"], "invalid choice: 'nothing'"),
        (["retrieval", "--image", "4"], "did you mean --images?"),
        (["retrieval", "--repeats", "0"], "argument --repeats: must be at least 1, got 0"),
        (["retrieval", "--captions", "²"], "argument --captions: must be at least 1"),
        (["retrieval", "--precision", "fp16"], "invalid choice: 'fp16'"),
        (["vqa", "--questions", "0"], "argument --questions: must be at least 1, got 0"),
        (["data", "--workers", "-1"], "argument --workers: must be at least"),
        (["data", "--size", "tiny"], "unrecognized arguments: --size tiny"),
        (["train-retrieval", "--compile"], "unrecognized arguments: --compile"),
        (["again", "--from", "2", "12"], "--from 12: the model has blocks 0 to 11"),
        (["scaling", "--processes", "3"], "argument --processes: invalid choice: 3"),
        (["retrieval", "--captions", "5"], "--shortlist 16 is more than the 5 captions"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(complaint, options, message):
    assert message in complaint(2, "scripts/benchmark.py", *options)


def test_a_machine_without_gpu_cannot_be_asked_for_one(complaint, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = complaint(2, "scripts/benchmark.py", "retrieval", "--device", "cuda", "--output", tmp_path / "o/t.json")
    assert "PyTorch finds no GPU on this machine" in line and not (tmp_path / "o").exists()


def test_an_output_that_cannot_be_written_is_told_before_anything_is_measured(complaint, tmp_path):
    assert "it is a folder" in complaint(1, "scripts/benchmark.py", *TINY, "--output", tmp_path)
