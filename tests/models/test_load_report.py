"""The account of start weights: every tensor of the model and of the files is in it, and the sums are right."""

import logging
import re
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed
from transformers import RobertaConfig, RobertaForMaskedLM

from tests.models.test_build import SIZE, TWIN, Tokens, vqa_config
from tests.models.vqa_model import build_vqa_model
from vl_absvit.config import VisionConfig
from vl_absvit.models.build import build_classifier, build_model
from vl_absvit.models.labels import match_labels
from vl_absvit.tasks.retrieval import RetrievalConfig, RetrievalTask

ROW = re.compile(r" {4}(loaded|resampled|fresh|dropped) +(\D*?) +([\d,]+) +([\d,]+)  (.*)")


@pytest.fixture
def table(caplog):
    """The rows of the one table that building a model logs, as (status, part, tensors, numbers, which)."""
    caplog.set_level(logging.INFO, logger="vl_absvit")

    def rows(model) -> list[tuple[str, str, int, int, str]]:
        (record,) = [record for record in caplog.records if record.message.startswith("start weights: ")]
        caplog.clear()
        first, *lines = record.message.splitlines()
        found = [match.groups() for line in lines if (match := ROW.fullmatch(line))]
        found = [
            (status, part, *(int(n.replace(",", "")) for n in counts), which) for status, part, *counts, which in found
        ]
        state = model.state_dict()
        kept = [row for row in found if row[0] != "dropped"]
        numbers = sum(value.numel() for value in state.values())
        assert first == f"start weights: the model's {len(state):,} tensors, {numbers:,} numbers"
        assert sum(row[2] for row in kept) == len(state) and sum(row[3] for row in kept) == numbers
        return found

    return rows


def summed(rows, status: str) -> int:
    return sum(row[3] for row in rows if row[0] == status)


def numbers_in(file) -> int:
    return sum(value.numel() for value in load_file(file).values())


def vision(**changes) -> VisionConfig:
    return VisionConfig(model="absvit_tiny_patch16_224", **({"image_size": 32} | SIZE | changes))


@pytest.fixture
def trunk(tmp_path) -> str:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, **TWIN)
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    return str(tmp_path / "vit.safetensors")


def test_a_model_without_start_weights_is_fresh(table):
    rows = table(build_vqa_model(vqa_config(vision()), 7, Tokens()))
    assert {row[0] for row in rows} == {"fresh"}
    parts = {"vision trunk", "feedback decoders", "text encoder", "prior", "fusion", "head"}
    assert {row[1] for row in rows} == parts


@pytest.mark.parametrize("most", ["1GB", "5KB"])
def test_a_trunk_and_a_text_encoder_are_accounted_for_in_one_table(table, trunk, tmp_path, most):
    sizes = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, type_vocab_size=1)
    roberta = RobertaForMaskedLM(RobertaConfig(vocab_size=50, max_position_embeddings=20, **sizes))
    roberta.save_pretrained(tmp_path / "t", max_shard_size=most)
    config = vqa_config(vision(weights=trunk, image_size=48), model=str(tmp_path / "t"))
    rows = table(build_vqa_model(config, 7, Tokens()))
    (resampled,) = [row for row in rows if row[0] == "resampled"]
    assert resampled[4] == "vision.pos_embed: (1, 17, 16) -> (1, 37, 16)" and resampled[3] == 37 * 16
    files = list((tmp_path / "t").glob("*.safetensors"))
    assert (len(files) > 1) == (most == "5KB")
    in_files = numbers_in(trunk) + sum(map(numbers_in, files))
    assert summed(rows, "loaded") + summed(rows, "dropped") + 17 * 16 == in_files
    assert {row[1] for row in rows if row[0] == "fresh"} == {"feedback decoders", "prior", "fusion", "head"}
    head, lm_head = [row for row in rows if row[0] == "dropped"]
    assert head[2] == 2 and head[4].startswith("head.weight, head.bias: ")
    assert lm_head[2] == 5 and lm_head[4].startswith("lm_head.") and lm_head[4].endswith(": no part of the encoder")


def checkpoint(folder, top_down: str = "absvit", answers: int = 5) -> str:
    build_vqa_model(vqa_config(vision(top_down=top_down)), answers, Tokens()).save_pretrained(folder)
    return str(folder)


def test_a_checkpoint_with_some_of_the_answers_is_accounted_for_row_by_row(table, tmp_path, caplog):
    start = checkpoint(tmp_path / "start")
    caplog.clear()
    match = match_labels("abcde", ["e", "new", "b"])
    rows = table(build_vqa_model(replace(vqa_config(vision()), from_checkpoint=start), 3, Tokens(), match))
    width = 32 + 1
    of_head = {row[0]: row[3] for row in rows if row[1] == "head" and ("rows" in row[4] or row[0] == "fresh")}
    assert of_head == {"loaded": 2 * width, "fresh": width} and summed(rows, "dropped") == 3 * width
    assert summed(rows, "loaded") + summed(rows, "dropped") == numbers_in(tmp_path / "start/model.safetensors")


def test_a_head_of_another_kind_is_said_to_be_fresh(table, tmp_path, caplog):
    start = checkpoint(tmp_path / "start")
    caplog.clear()
    vqa = vqa_config(vision())
    config = RetrievalConfig(
        data=vqa.data, run=vqa.run, vision=vqa.vision, text=vqa.text, fusion=vqa.fusion, from_checkpoint=start
    )
    model = build_model(config, RetrievalTask.head(config, None), RetrievalTask.sentence(config), Tokens())
    rows = table(model)
    assert [(row[1], row[2]) for row in rows if row[0] == "fresh"] == [("head", 4)]
    assert [(row[2], row[4]) for row in rows if row[0] == "dropped"] == [
        (6, "head.0.bias, head.0.weight, ...: a head of another kind")
    ]
    model.save_pretrained(tmp_path / "retrieval")
    before = build_vqa_model(vqa, 5, Tokens()).state_dict()
    caplog.clear()
    torch.manual_seed(3)
    fresh = build_vqa_model(vqa, 5, Tokens()).head.state_dict()
    caplog.clear()
    torch.manual_seed(3)
    config = replace(vqa, from_checkpoint=str(tmp_path / "retrieval"))
    after = build_vqa_model(config, 5, Tokens())
    rows = table(after)
    assert all(torch.equal(value, fresh[name]) for name, value in after.head.state_dict().items())
    assert [(row[1], row[2]) for row in rows if row[0] == "fresh"] == [("head", 6)] and before.keys() == set(
        after.state_dict()
    )


@pytest.mark.parametrize("pixels, size", [(8, 48), (16, 32)])
def test_a_checkpoint_of_another_resolution_or_patch_is_said_to_be_resampled(table, tmp_path, caplog, pixels, size):
    start = checkpoint(tmp_path / "start")
    weights = load_file(tmp_path / "start/model.safetensors")
    caplog.clear()
    config = replace(vqa_config(vision(image_size=size, patch_size=pixels)), from_checkpoint=start)
    model = build_vqa_model(config, 5, Tokens(), match_labels("abcde", "abcde"))
    resampled = [row[4] for row in table(model) if row[0] == "resampled"]
    positions = f"vision.pos_embed: (1, 17, 16) -> {tuple(model.vision.pos_embed.shape)}"
    kernels = "vision.patch_embed.proj.weight: (16, 3, 8, 8) -> (16, 3, 16, 16)"
    assert sorted(resampled) == sorted([positions] if pixels == 8 else [positions, kernels])
    expected = resample_abs_pos_embed(weights["vision.pos_embed"], new_size=[size // pixels] * 2, num_prefix_tokens=1)
    assert torch.equal(model.vision.pos_embed, expected)


def test_a_plain_vit_from_an_absvit_says_that_feedback_and_prior_were_dropped(table, tmp_path, caplog):
    start = checkpoint(tmp_path / "start")
    caplog.clear()
    config = replace(vqa_config(vision(top_down="none")), from_checkpoint=start)
    rows = table(build_vqa_model(config, 5, Tokens(), match_labels("abcde", "abcde")))
    (dropped,) = [row for row in rows if row[0] == "dropped"]
    assert dropped[2] == 4 + 2 and dropped[4].endswith(": this model has none")
    assert not [row for row in rows if row[0] == "fresh"]


def test_a_classifiers_rows_follow_the_names_of_its_classes(table, trunk):
    weights = load_file(trunk)
    config = vision(weights=trunk)
    model = build_classifier(config, 3, classes=match_labels("abcde", ["c", "x", "a"]))
    rows = table(model)
    assert torch.equal(model.vision.head.weight[[0, 2]], weights["head.weight"][[2, 0]])
    assert model.vision.head.bias[1] == 0 and ("fresh", "head", 0, 17) in [row[:4] for row in rows]
    unnamed = build_classifier(config, 5)
    rows = table(unnamed)
    assert not torch.equal(unnamed.vision.head.weight, weights["head.weight"])
    assert ("fresh", "head", 2, 85) in [row[:4] for row in rows]
    assert "head.weight, head.bias: nobody knows which labels its rows stand for" in [row[4] for row in rows]
