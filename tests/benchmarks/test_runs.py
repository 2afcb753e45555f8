"""Every benchmark of a model as a whole, on a small one: what is compared, measured, shown and written."""

import json

import pytest
import torch

from benchmarks import again, precisions, train_frozen, train_retrieval, train_vqa, vision, vqa
from tests.benchmarks.test_naive import VARIANTS, make_model
from vl_absvit.models import VLAbSViT

ONE = {"device": "cpu", "repeats": 1, "size": "tiny"}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A small model in place of a tiny one, and a small product of matrices."""
    monkeypatch.setattr("benchmarks.measure.MATMUL_SIDE", {"cpu": 16})
    monkeypatch.setenv("COLUMNS", "200")
    for module in (again, precisions, vision, vqa, train_vqa, train_frozen, train_retrieval):
        monkeypatch.setattr(module, "random_model", small_model)


def small_model(size: str, head: dict, **vision: int):
    return make_model(*VARIANTS[0], head, vocabulary=50265, **vision)


def read(file) -> dict:
    return json.loads(file.read_text())


def test_vision_is_measured_in_either_precision(tmp_path, capsys):
    vision.run(images=2, compiled=False, precision=["bf16", "fp32"], output=tmp_path / "t.json", **ONE)
    table = read(tmp_path / "t.json")
    assert (table["benchmark"], table["images"], list(table["results"])) == ("vision", 2, ["fp32", "bf16"])
    for result in table["results"].values():
        case = result["cases"]["2 images"]
        assert 1 < case["floor"] < 2 and 0 < case["agreement"]["tokens_with_signal"] <= 1
        assert all(side["ratio_to_fp32_naive"] > 0 for side in case["sides"].values())
    assert table["results"]["fp32"]["cases"]["2 images"]["agreement"]["largest_difference"] < 1e-4
    assert "2 images: ours" in capsys.readouterr().out


def test_questions_are_measured_for_every_number_of_them(tmp_path, capsys):
    vqa.run(images=1, questions=[4, 1, 4], compiled=False, precision=["fp32"], output=tmp_path / "t.json", **ONE)
    table = read(tmp_path / "t.json")
    result = table["results"]["fp32"]
    assert table["questions"] == [1, 4] and list(result["cases"]) == ["1 image x 1 question", "1 image x 4 questions"]
    assert result["extra_question"]["naive"]["flop"] == pytest.approx(1)
    assert 0 < result["extra_question"]["ours"]["flop"] < 1
    assert "another question on an image costs ours" in capsys.readouterr().out


@pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="this CPU has no VNNI instructions")
def test_precisions_are_measured_for_every_number_of_pictures(tmp_path, capsys):
    precisions.run(size="tiny", images=[1, 2], repeats=1, output=tmp_path / "t.json")
    results = read(tmp_path / "t.json")["results"]
    assert list(results) == ["1", "2"]
    for result in results.values():
        correlations = [numbers["correlation"] for numbers in result.values()]
        assert list(result) == ["fp32", "bf16", "int8"] and correlations[0] == 1 > min(correlations) > 0.9
        assert result["fp32"]["times_as_fast"] == 1
    assert "2 x 1 question" in capsys.readouterr().out


def test_texts_are_measured_for_every_start_of_the_second_look(tmp_path, capsys):
    again.run(image_size=32, texts=2, starts=[2, 1], precision=["fp32"], output=tmp_path / "t.json", **ONE)
    result = read(tmp_path / "t.json")["results"]["fp32"]
    starts = result["starts"]
    assert result["blip"]["flop"] > 0 and all(found["pair"]["of_blips"]["median"] > 0 for found in starts.values())
    assert list(starts) == ["0", "1", "2"]
    for kind in ("question", "pair"):
        shares = [found[kind]["share_of_flop"] for found in starts.values()]
        assert shares[0] == 1 > shares[1] > shares[2] > 0 and starts["0"][kind]["share"]["median"] == 1
        assert shares[0] - shares[1] == pytest.approx(shares[1] - shares[2]), "all blocks are alike"
    assert "answers differ from the naive ones" in capsys.readouterr().out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_on_questions_is_measured_in_parts(tmp_path, precision):
    train_vqa.run(images=1, questions=[1, 2], compiled=False, precision=[precision], output=tmp_path / "t.json", **ONE)
    case = read(tmp_path / "t.json")["results"][precision]["cases"]["1 image x 2 questions"]
    assert list(case["sides"]["ours"]["parts"]) == ["batch", "forward", "backward", "optimizer"]
    assert case["sides"]["ours"]["activation_bytes"] < case["sides"]["naive"]["activation_bytes"]
    assert case["agreement"]["correlation"] > 0.99
    assert all(side["peak_bytes"] > side["activation_bytes"] > 0 for side in case["sides"].values())


def test_training_with_frozen_parts_is_measured(tmp_path, capsys):
    train_frozen.run(images=1, questions=[2], precision=["fp32"], output=tmp_path / "t.json", **ONE)
    sides = read(tmp_path / "t.json")["results"]["fp32"]["cases"]["1 image x 2 questions"]
    floors, memory = ([side[name] for side in sides.values()] for name in ("floor", "memory"))
    assert len(sides) == 5 and floors == sorted(floors) and floors[0] == 1 < floors[1]
    assert memory == sorted(memory, reverse=True) and memory[0] == 1 > memory[1]
    assert "trunk frozen, looks kept" in capsys.readouterr().out


def test_training_on_captions_is_measured(tmp_path):
    train_retrieval.run(images=2, negatives=2, precision=["fp32"], output=tmp_path / "t.json", **ONE)
    table = read(tmp_path / "t.json")
    assert table["negatives"] == 2
    assert table["results"]["fp32"]["cases"]["2 images x 3 captions"]["floor"] > 1.3


@pytest.mark.parametrize("module", [vision, vqa])
def test_outputs_that_differ_stop_the_benchmark_before_anything_is_shown(module, monkeypatch, tmp_path, capsys):
    function = {vision: "naive_tokens", vqa: "naive_forward"}[module]
    original = getattr(module, function)

    def wrong(*args):
        out = original(*args)
        return out + 0.1 if isinstance(out, torch.Tensor) else out._replace(logits=out.logits + 0.1)

    monkeypatch.setattr(module, function, wrong)
    options = {"questions": [1]} if module is vqa else {}
    with pytest.raises(RuntimeError, match="outputs differ"):
        module.run(images=1, compiled=False, precision=["fp32"], output=tmp_path / "t.json", **options, **ONE)
    assert not (tmp_path / "t.json").exists() and not capsys.readouterr().out


@pytest.mark.slow
def test_compiled_code_takes_part_if_asked(monkeypatch, tmp_path):
    compiled = []  # compiling takes a minute
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    train_vqa.run(images=1, questions=[1], compiled=True, precision=["fp32"], output=tmp_path / "t.json", **ONE)
    sides = read(tmp_path / "t.json")["results"]["fp32"]["cases"]["1 image x 1 question"]["sides"]
    assert list(sides) == ["naive", "ours", "compiled"] and sides["compiled"]["flop"] == sides["ours"]["flop"]
    assert [type(model) for model in compiled] == [VLAbSViT]
