"""docs/own_data.md: its commands run one after the other, as printed, on a made-up shop and with tiny models."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.prepare.own.own_shop import write_pictures
from tests.run_script import ROOT, run_script
from tests.scripts.test_documents import commands
from tests.tiny_vqa import tiny_retrieval_config, tiny_vision, tiny_vqa_config, write_config
from vl_absvit.data.answers import AnswerVocabulary

PICTURES = 50


def write_table(path, columns, rows):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])


@pytest.fixture(scope="module")
def done(world, tmp_path_factory):
    """The folder in which all commands were given. Tiny configs have the names of those that are printed."""
    folder = tmp_path_factory.mktemp("stranger")
    write_pictures(folder / "shop", PICTURES)
    asked = [(f"{n}.jpg", f"Is it {what}, or not?", n % 2) for n in range(PICTURES) for what in ("red", "open")]
    write_table(folder / "shop/questions.csv", ("image", "question", "answer"), asked)
    said = [(f"{n}.jpg", f"thing {n}, {side}") for n in range(PICTURES) for side in ("front", "back")]
    write_table(folder / "shop/captions.csv", ("image", "caption"), said)
    tiny = {
        "vqa_absvit_base": tiny_vqa_config(world, folder, vision=tiny_vision(depth=3)),
        "retrieval_absvit_base": tiny_retrieval_config(world, folder, dataset="flickr30k"),
    }
    for name, config in tiny.items():
        write_config(dataclasses.replace(config, optim=dataclasses.replace(config.optim, epochs=1)), folder / name)
    given = [words for words in commands(ROOT / "docs/own_data.md") if words[0] == "vl-absvit" and words[2:]]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for program, *words in given:
            if any("runs/vqa" in word for word in words) and not Path("runs/vqa").exists():
                shutil.copytree("runs/shop", "runs/vqa")  # a model that answers already
            if words[0] not in ("app", "ask"):
                assert run_script(program, *words) == 0, words
    return folder


def test_a_stranger_gets_a_trained_evaluated_and_explained_model(done):
    about = json.loads((done / "runs/shop/test.about.json").read_text())
    assert about["dataset"] == "shop" and 0 <= about["share_accuracy"] <= 100 and "accuracy" not in about
    assert len(json.loads((done / "runs/shop/test.json").read_text())) == 10  # two questions on a tenth of the pictures
    assert "Is it red, or not?" in (done / "runs/shop/report.html").read_text()


def test_a_model_that_answers_already_starts_both_recipes(done):
    frozen, whole = (
        load_file(done / f"runs/{name}/checkpoints/last/model.safetensors") for name in ("shop_few", "shop_many")
    )
    start = load_file(done / "runs/vqa/checkpoints/best/model.safetensors")
    for part, moves in (("vision.blocks.0.attn.qkv.weight", False), ("text.", False), ("head.3.weight", True)):
        names = [name for name in start if name.startswith(part) and start[name].is_floating_point()]
        assert names and all(start[name].equal(frozen[name]) != moves for name in names)
        assert not all(start[name].equal(whole[name]) for name in names)
    assert 0 <= json.loads((done / "untrained.about.json").read_text())["share_accuracy"] <= 100
    assert AnswerVocabulary.load(done / "data/shop_known/answers.json") == AnswerVocabulary.load(
        done / "runs/vqa/checkpoints/best/answers.json"
    )


def test_retrieval_says_its_own_name_and_claims_nothing_else(done):
    result = json.loads((done / "find.json").read_text())
    assert result["dataset"] == "shop" and result["images"] == 5 and result["captions"] == 10
    assert result["protocol"].startswith("finetuned on shop test, 5 images x 10 captions")
