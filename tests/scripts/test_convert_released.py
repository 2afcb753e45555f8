"""Released files become folders that the rest of the project reads, and everything else is one line."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.models.test_build import Tokens, vqa_config
from tests.models.vqa_model import build_vqa_model
from tests.run_script import run_script
from tests.tiny_released import (
    ANSWERS,
    released_classifier,
    released_config,
    released_state,
    save_lightning,
    tiny_tokenizer,
)
from tests.tiny_vqa import world  # noqa: F401
from vl_absvit.config import VisionConfig
from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.errors import InputError
from vl_absvit.models import VLAbSViT
from vl_absvit.models.released import rebuild_classifier
from vl_absvit.tasks.classifier_checkpoint import load_classifier
from vl_absvit.tasks.vl_checkpoint import load_parts
from vl_absvit.tasks.vqa import load_checkpoint

SCRIPT = "scripts/convert_released.py"
HEADS = ("--num-heads", 4, "--text-heads", 4)


@pytest.fixture
def tokenizer(tmp_path) -> Path:
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.fixture
def answers(tmp_path) -> Path:
    AnswerVocabulary(tuple(f"answer {n}" for n in range(ANSWERS)), 9, "meter-1").save(tmp_path / "answers.json")
    return tmp_path / "answers.json"


@pytest.fixture
def released(tmp_path):
    """Write a tiny Lightning file of a kind; our model with the same weights, and the file."""

    def make(kind: str, feedback: bool = True, **config) -> tuple[torch.nn.Module, Path]:
        model, state = released_state(kind, feedback)
        file = save_lightning(tmp_path / f"{kind}.ckpt", state, released_config(kind, feedback, **config))
        return model, file

    return make


def inputs() -> dict[str, torch.Tensor]:
    """Images and texts of the length that the release pads to."""
    is_token = torch.arange(12) < torch.tensor([[12], [7]])
    ids = torch.randint(40, 90, (2, 12)).masked_fill(~is_token, 1)
    return {"images": torch.randn(2, 3, 32, 32), "token_ids": ids, "is_token": is_token}


@pytest.mark.parametrize("feedback", [True, False])
def test_a_vqa_model_becomes_a_folder_that_answers_alike(tmp_path, released, tokenizer, answers, capfd, feedback):
    model, file = released("vqa", feedback)
    options = ("--checkpoint", file, "--answers", answers, "--tokenizer", tokenizer, *HEADS)
    assert run_script(SCRIPT, *options, "--output", tmp_path / "folder") == 0
    checkpoint = load_checkpoint(tmp_path / "folder")
    batch = inputs()
    torch.testing.assert_close(checkpoint.model(**batch).logits, model(**batch).logits, rtol=0, atol=0)
    assert checkpoint.preprocessing.max_tokens == 12 and checkpoint.preprocessing.image_mean[0] == 0.48145466
    assert checkpoint.vocabulary.answers[3] == "answer 3"
    assert checkpoint.training["dataset"] == "vqav2"
    assert checkpoint.training["converted_from"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    out = capfd.readouterr().out
    assert "loaded" in out and "ignored" in out and ("padded_mean" in out) == feedback
    account = json.loads((tmp_path / "folder/conversion.json").read_text())
    _, state = released_state("vqa", feedback)
    assert sorted(entry["key"] for entry in account["loaded"] + account["ignored"]) == sorted(state)
    assert all(entry["reason"] for entry in account["ignored"]) and account["new"] == []
    weights = load_file(tmp_path / "folder/model.safetensors")
    assert sum(entry["parameters"] for entry in account["loaded"]) == sum(value.numel() for value in weights.values())
    assert {option["name"] for option in account["options"]} >= {"max_tokens", "image_statistics"}


@pytest.mark.parametrize("feedback", [True, False])
def test_a_retrieval_model_becomes_a_folder_that_scores_alike(tmp_path, released, tokenizer, capfd, feedback):
    model, file = released("matching", feedback)
    options = ("--checkpoint", file, "--tokenizer", tokenizer, *HEADS, "--output", tmp_path / "folder")
    assert run_script(SCRIPT, *options) == 0
    checkpoint = load_parts(tmp_path / "folder", "matching")
    batch = inputs()
    torch.testing.assert_close(checkpoint.model(**batch).logits.rank, model(**batch).logits.rank, rtol=0, atol=0)
    assert (checkpoint.training["dataset"], checkpoint.training["splits"]) == ("flickr30k", ["train", "val"])
    content = json.loads((tmp_path / "folder/tokenizer.json").read_text())
    assert content["truncation"] is content["padding"] is None  # not those of a text that was read before
    assert "--shortlist all" in " ".join(capfd.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize("kind", ["pretraining", "nlvr2", "snli"])
def test_models_without_a_task_here_load_as_they_are(tmp_path, released, kind, capfd):
    model, file = released(kind)
    assert run_script(SCRIPT, "--checkpoint", file, *HEADS, "--output", tmp_path / "folder") == 0
    loaded = VLAbSViT.from_pretrained(tmp_path / "folder")
    for key, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=0, atol=0, msg=key)
    assert "warning: no tokenizer: nothing can be evaluated" in capfd.readouterr().out
    assert not (tmp_path / "folder/tokenizer.json").exists()
    tiny_tokenizer().save_pretrained(tmp_path / "folder")
    with pytest.raises(InputError, match="expected a retrieval model, got"):
        load_parts(tmp_path / "folder", "matching")


@pytest.mark.parametrize(
    ("feedback", "options"),
    [(True, {}), (False, {"global_pool": "avg"}), (True, {"init_values": 0.3, "qkv_bias": False})],
)
def test_a_classifier_becomes_a_folder_for_vision_weights(tmp_path, feedback, options):
    model, state = released_classifier(feedback, **options)
    torch.save({"model": state}, tmp_path / "released.pth")
    folder = tmp_path / "folder"
    assert run_script(SCRIPT, "--checkpoint", tmp_path / "released.pth", "--num-heads", 4, "--output", folder) == 0
    content = json.loads((folder / "config.json").read_text())
    images = torch.randn(2, 3, 32, 32)
    rebuilt = rebuild_classifier(content, load_file(folder / "model.safetensors"))
    out = rebuilt(images)
    last = out.first_logits if out.second_logits is None else out.second_logits
    torch.testing.assert_close(last, model(images), rtol=1e-4, atol=1e-5)
    checkpoint = load_classifier(folder)
    again = checkpoint.model(images)
    torch.testing.assert_close(again.first_logits if again.second_logits is None else again.second_logits, last)
    assert len(checkpoint.classes) == 7
    statistics = json.loads((folder / "preprocessor_config.json").read_text())
    assert statistics["image_mean"] == [0.485, 0.456, 0.406] and statistics["image_size"] == 32
    sizes = {
        name: content["vision"][name] for name in ("model", "image_size", "patch_size", "width", "depth", "num_heads")
    }
    trunk = build_vqa_model(vqa_config(VisionConfig(**sizes, weights=str(folder))), 7, Tokens()).vision.eval()
    first = rebuilt.vision.look_once(images)
    torch.testing.assert_close(trunk.look_once(images).states[-1], first.states[-1])
    if "global_pool" in options:  # the norm after the pooling stands on every token
        expected = model.fc_norm(first.states[-1])
        torch.testing.assert_close(trunk.look_once(images).tokens, expected)
    if feedback:
        torch.testing.assert_close(trunk.decoders[1].transform.weight, state["decoders.1.linear2.weight"])


def test_answers_in_another_order_than_meters_are_warned_about(tmp_path, released, tokenizer, answers, capfd):
    vocabulary = AnswerVocabulary.load(answers)
    replace(vocabulary, normaliser="vqa-official-1").save(answers)
    options = ("--checkpoint", released("vqa")[1], "--answers", answers, "--tokenizer", tokenizer, *HEADS)
    assert run_script(SCRIPT, *options, "--output", tmp_path / "folder") == 0
    assert "its normaliser is vqa-official-1, not METER's" in capfd.readouterr().out
    (first, *_) = json.loads((tmp_path / "folder/conversion.json").read_text())["warnings"]
    assert "in another order every answer would be a wrong one" in first


def test_what_a_file_needs_and_has_no_use_for_is_one_line(tmp_path, released, tokenizer, answers, complaint):
    def ask(code, file, *options):
        line = complaint(code, SCRIPT, "--checkpoint", file, "--output", tmp_path / "folder", *options)
        assert not (tmp_path / "folder").exists() and not list(tmp_path.glob("*.new"))
        return line

    _, vqa = released("vqa")
    _, retrieval = released("matching")
    classifier = tmp_path / "released.pth"
    torch.save(released_classifier()[1], classifier)
    assert f"--answers is needed: the model chooses from {ANSWERS} answers" in ask(2, vqa, *HEADS)
    assert "--num-heads is needed" in ask(2, vqa, "--answers", answers)
    assert "--num-heads must be at least 1, got 0" in ask(2, vqa, "--num-heads", 0)
    assert "--answers: this is a retrieval model" in ask(2, retrieval, *HEADS, "--answers", answers)
    assert "this is an image classifier, which reads no text" in ask(2, classifier, "--num-heads", 4, "--text-heads", 4)
    AnswerVocabulary(("yes", "no"), 9, "meter-1").save(answers)
    assert f"expected the model's {ANSWERS} answers, got 2" in ask(1, vqa, *HEADS, "--answers", answers)
    assert "no such file" in ask(1, vqa, *HEADS, "--answers", tmp_path / "none.json")
    assert "nowhere: no such folder" in ask(1, retrieval, *HEADS, "--tokenizer", "nowhere")


def test_a_tokenizer_of_another_model_is_one_line(tmp_path, released, complaint):
    _, file = released("matching")
    other = tiny_tokenizer()
    other.pad_token = "<s>"
    other.save_pretrained(tmp_path / "other")
    options = ("--checkpoint", file, *HEADS, "--output", tmp_path / "folder", "--tokenizer", tmp_path / "other")
    assert "expected RoBERTa's pad_token_id 1, got 0" in complaint(1, SCRIPT, *options)
    other = tiny_tokenizer()
    other.add_tokens([f"word{n}" for n in range(5)])
    other.save_pretrained(tmp_path / "other")
    assert "it has 105 tokens, the model 100" in complaint(1, SCRIPT, *options)


def test_a_tokenizer_with_fewer_tokens_is_warned_about(tmp_path, released, capfd):
    tiny_tokenizer(words=50).save_pretrained(tmp_path / "fewer")
    options = ("--checkpoint", released("matching")[1], *HEADS, "--output", tmp_path / "folder")
    assert run_script(SCRIPT, *options, "--tokenizer", tmp_path / "fewer") == 0
    assert "it has 50 tokens, the model 100; the model's own has as many" in capfd.readouterr().out


def test_what_is_already_there_is_not_replaced(tmp_path, released, complaint):
    _, file = released("matching")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/mine.txt").write_text("mine")
    options = ("--checkpoint", file, *HEADS, "--output", tmp_path / "folder")
    assert "folder: already there; expected a new or empty folder" in complaint(1, SCRIPT, *options)
    assert (tmp_path / "folder/mine.txt").read_text() == "mine"
    (tmp_path / "folder/mine.txt").unlink()
    assert run_script(SCRIPT, *options) == 0


def test_damaged_and_foreign_files_are_one_line(tmp_path, released, complaint):
    _, file = released("matching")
    file.write_bytes(file.read_bytes()[:2000])
    options = ("--output", tmp_path / "folder")
    line = complaint(1, SCRIPT, "--checkpoint", file, *options)
    assert line == f"{file}: not a PyTorch checkpoint, or cut short"
    assert "no such" in complaint(1, SCRIPT, "--checkpoint", tmp_path / "none.pth", *options).lower()
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    line = complaint(1, SCRIPT, "--checkpoint", tmp_path / "resnet.pth", *options)
    assert "1 of 1 keys are no part of the released models, e.g. conv1.weight" in line
    assert not (tmp_path / "folder").exists()


def test_a_genuine_lightning_file_becomes_a_folder_with_the_authors_answers(golden, tmp_path, tokenizer, answers):
    folder = golden / "meter/pl_checkpoint_vqa"
    options = ("--checkpoint", folder / "last.ckpt", "--answers", answers, "--tokenizer", tokenizer, *HEADS)
    assert run_script(SCRIPT, *options, "--output", tmp_path / "folder") == 0
    batch = load_file(folder / "inputs.safetensors")
    model = load_checkpoint(tmp_path / "folder").model
    logits = model(batch["image"], batch["text_ids"], batch["text_masks"].bool()).logits.detach()
    expected = load_file(folder / "outputs_after_load_f32.safetensors")["vqa_logits"]
    assert ((logits - expected).abs().max() / expected.abs().max()).item() < 1e-5


@pytest.mark.slow
def test_a_converted_retrieval_model_is_evaluated_on_prepared_captions(world, tmp_path, released, tokenizer):  # noqa: F811
    _, file = released("matching")
    options = ("--checkpoint", file, "--tokenizer", tokenizer, *HEADS)
    assert run_script(SCRIPT, *options, "--output", tmp_path / "folder") == 0
    asked = ("--checkpoint", tmp_path / "folder", "--data", world / "prepared/flickr30k", "--split", "test")
    output = tmp_path / "scores.json"
    script = "scripts/evaluate_retrieval.py"
    assert run_script(script, *asked, "--shortlist", "all", "--num-workers", 0, "--output", output) == 0
    result = json.loads(output.read_text())
    assert result["zero_shot"] is False and "trained on flickr30k (retrieval, train+val)" in result["protocol"]
    assert 0 <= result["ir_r1"] <= 100
