"""Starting from a checkpoint of other answers: rows of the head follow their answers; it is said which were known."""

import json
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.tiny_vqa import tiny_pretrain_config, tiny_retrieval_config, tiny_vision, tiny_vqa_config
from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2
from vl_absvit.tasks.changed_use import check_use
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vl_checkpoint import load_parts
from vl_absvit.tasks.vqa import VQATask


@pytest.fixture(scope="module")
def start(world, tmp_path_factory) -> Path:
    """A checkpoint of a VQA model, no number of which is 0 or 1."""
    folder = tmp_path_factory.mktemp("start")
    task = VQATask(tiny_vqa_config(world, folder))
    for weight in task.model.parameters():
        nn.init.normal_(weight, std=0.2)
    task.save(folder)
    return folder


def begin(world, start, data=None) -> VQATask:
    config = tiny_vqa_config(world, start)
    data = config.data if data is None else replace(config.data, root=str(data))
    return VQATask(replace(config, data=data, from_checkpoint=str(start)))


def with_answers(world, folder: Path, answers: list[str]) -> Path:
    """The prepared world with these answers in this order."""
    (folder / "answers.json").write_text(json.dumps(answers))
    options = PrepareOptions(root=world / "demo/vqav2", vocabulary=folder / "answers.json", minival_images=1)
    prepare_vqav2(options, folder / "prepared", workers=1)
    return folder / "prepared"


def test_answers_in_another_order_answer_alike(world, start, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="vl_absvit")
    before = begin(world, start)
    assert "has other answers" not in caplog.text, "the same answers change nothing"
    answers = list(before.vocabulary.answers)
    after = begin(world, start, with_answers(world, tmp_path, answers[::-1]))
    assert after.vocabulary.answers == tuple(answers[::-1])
    assert torch.equal(after.model.head[3].weight, before.model.head[3].weight.flip(0))
    assert torch.equal(after.model.head[3].bias, before.model.head[3].bias.flip(0))
    assert after.evaluate(after.model.eval()) == before.evaluate(before.model.eval())
    line = f"{len(answers)} of {len(answers)} answers known to the start weights, their rows of the head kept; 0 new"
    assert line in caplog.text


def test_known_answers_keep_their_rows_and_the_hidden_layer_stays(world, start, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="vl_absvit")
    before = begin(world, start)
    answers = list(before.vocabulary.answers)
    after = begin(world, start, with_answers(world, tmp_path, ["something new", *answers[5:2:-1], "another"]))
    for number in (0, 1):
        assert torch.equal(after.model.head[number].weight, before.model.head[number].weight)
    for name in ("weight", "bias"):
        mine, theirs = (getattr(task.model.head[3], name) for task in (after, before))
        assert torch.equal(mine[1:4], theirs[[5, 4, 3]])
    assert torch.equal(after.model.head[3].bias[[0, 4]], torch.zeros(2)), "a new answer's row is as it was made"
    assert "3 of 5 answers known to the start weights, their rows of the head kept; 2 new" in caplog.text
    assert f"{len(answers) - 3} dropped" in caplog.text and "'something new', 'another'" in caplog.text


def test_a_head_whose_answers_nobody_knows_is_refused(world, start, tmp_path):
    folder = Path(shutil.copytree(start, tmp_path / "start"))
    (folder / "answers.json").unlink()
    with pytest.raises(InputError, match="there is no answers.json, so nobody knows which answer a row of its head"):
        begin(world, folder)
    AnswerVocabulary(("yes", "no"), 9, "vqa-official-1").save(folder / "answers.json")
    with pytest.raises(InputError, match=r"head.3.weight: expected the shape \(2, 32\) of 2 labels, got"):
        begin(world, folder)


def test_answers_are_no_matter_where_another_head_is_trained(world, start, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="vl_absvit")
    folder = Path(shutil.copytree(start, tmp_path / "start"))
    (folder / "answers.json").unlink()
    config = replace(tiny_retrieval_config(world, tmp_path), from_checkpoint=str(folder))
    task = RetrievalTask(config)
    assert "a head of another kind" in caplog.text
    (tmp_path / "retrieval").mkdir()
    task.save(tmp_path / "retrieval")
    caplog.clear()
    begin(world, tmp_path / "retrieval")
    assert "a head of another kind" in caplog.text


def test_special_tokens_of_other_ids_are_refused(world, start, tmp_path):
    folder = Path(shutil.copytree(start, tmp_path / "start"))
    content = json.loads((folder / "config.json").read_text())
    content["text"]["eos_token_id"] = 7
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="from_checkpoint .*: </s> is token 7 of the text encoder, the tokenizer has"):
        begin(world, folder)


def test_a_pretraining_goes_on_with_the_rows_of_its_classes(world, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="vl_absvit")
    before = ClassificationTask(tiny_pretrain_config(world, tmp_path))
    for weight in before.model.parameters():
        nn.init.normal_(weight, std=0.2)
    before.save(tmp_path)
    config = tiny_pretrain_config(world, tmp_path, vision=tiny_vision(gain=1.0, weights=str(tmp_path)))
    after = ClassificationTask(config)
    assert all(torch.equal(value, after.model.state_dict()[name]) for name, value in before.model.state_dict().items())
    assert "has other classes" not in caplog.text
    content = json.loads((tmp_path / "config.json").read_text())
    content["classes"] = [*content["classes"][:0:-1], "unknown"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    after = ClassificationTask(config)
    count = len(content["classes"])
    assert torch.equal(after.model.vision.head.weight[1:], before.model.vision.head.weight[: count - 1].flip(0))
    assert not torch.equal(after.model.vision.head.weight[0], before.model.vision.head.weight[-1])
    assert f"{count - 1} of {count} classes known to the start weights" in caplog.text


def test_what_is_no_checkpoint_to_start_from_is_named_before_data_is_read(world, start, tmp_path):
    for folder in (start.parent, start / "model.safetensors", tmp_path / "x@y"):
        config = replace(tiny_vqa_config(tmp_path, tmp_path), from_checkpoint=str(folder))
        with pytest.raises(InputError, match=f"^from_checkpoint {folder}: there is no config.json, training.json; exp"):
            VQATask(config)
    ClassificationTask(tiny_pretrain_config(world, tmp_path)).save(tmp_path)
    with pytest.raises(InputError, match="expected a VQA or retrieval model, got an image classifier; vision.weights"):
        VQATask(replace(tiny_vqa_config(tmp_path, tmp_path), from_checkpoint=str(tmp_path)))
    with pytest.raises(InputError, match=f"^checkpoint {tmp_path}: expected a VQA or retrieval model, got an image cl"):
        load_parts(tmp_path)


def test_weights_are_never_divided_into_other_heads(world, start):
    config = replace(tiny_vqa_config(world, start), from_checkpoint=str(start))
    for part, other in (("vision", 4), ("text", 4), ("fusion", 1)):
        changed = replace(config, **{part: replace(getattr(config, part), num_heads=other)})
        with pytest.raises(ConfigError, match=f"^{part}.num_heads is {other}, but the weights .* with 2 heads$"):
            VQATask(changed)
    named = {"vision": {"model": "absvit_tiny_patch16_224", "num_heads": None}}
    assert check_use(named, {"vision": {"num_heads": 3}}, "F") is None
    with pytest.raises(
        ConfigError, match="^vision.num_heads is 4, but the weights of from_checkpoint F .* with 3 heads"
    ):
        check_use(named, {"vision": {"num_heads": 4}}, "F")


def test_a_start_says_what_it_changes_in_the_use_of_the_weights(world, start, caplog):
    caplog.set_level(logging.INFO, logger="vl_absvit")
    begin(world, start)
    assert "was trained otherwise" not in caplog.text
    config = tiny_vqa_config(world, start, vision=tiny_vision(gain=5.0, image_statistics="clip"))
    VQATask(replace(config, from_checkpoint=str(start), prior=replace(config.prior, sentence="eos")))
    assert (
        "was trained otherwise: vision.gain was 10.0, now it is 5.0; vision.image_statistics was backbone, now it is "
        "clip; prior.sentence was cls, now it is eos"
    ) in caplog.text


def test_a_start_with_another_second_look_keeps_the_decoders_that_both_have_and_says_so(world, start, caplog):
    caplog.set_level(logging.INFO, logger="vl_absvit")
    config = tiny_vqa_config(world, start, vision=tiny_vision(looks_again_from=1))
    task, saved = VQATask(replace(config, from_checkpoint=str(start))), load_parts(start).model.vision.decoders
    assert "was trained otherwise: vision.looks_again_from was 0, now it is 1" in caplog.text
    assert re.search(r"dropped +2 +512  vision.decoders.0.reconstruct.weight, .*: this model has none", caplog.text)
    decoders = task.model.vision.decoders.state_dict()
    assert list(decoders) == ["1.reconstruct.weight", "1.transform.weight"]
    assert all(torch.equal(weight, saved.state_dict()[name]) for name, weight in decoders.items())
    earlier = {"vision": {"gain": 1.0}}
    changed = check_use(earlier, {"vision": {"gain": 1.0, "looks_again_from": 1}}, "F")
    assert changed == "from_checkpoint F was trained otherwise: vision.looks_again_from was 0, now it is 1"


def test_a_trunk_is_never_read_with_other_heads_and_what_its_attention_did_is_said(world, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="vl_absvit")
    vision = tiny_vision(model="absvit_deit_star_tiny", attention="vars_d", vars_generation="linked", gain=1.0)
    ClassificationTask(tiny_pretrain_config(world, tmp_path, vision=vision, pooling="avg")).save(tmp_path)
    start = replace(vision, weights=str(tmp_path), gain=10.0, top_down="absvit_qkv")
    VQATask(tiny_vqa_config(world, tmp_path, vision=start))
    assert "was trained otherwise" not in caplog.text
    VQATask(tiny_vqa_config(world, tmp_path, vision=replace(start, vars_generation=None, vars_steps=3)))
    assert (
        f"vision.weights {tmp_path} was trained otherwise: vision.vars_steps was the default, now it is 3; "
        "vision.vars_generation was linked, now it is the default"
    ) in caplog.text
    with pytest.raises(ConfigError, match=f"^vision.num_heads is 4, but the weights of vision.weights {tmp_path} were"):
        VQATask(tiny_vqa_config(world, tmp_path, vision=replace(start, num_heads=4)))
