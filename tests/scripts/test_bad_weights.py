"""Weights, text encoders and checkpoints of another kind are one line and an exit code."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, RobertaConfig, RobertaModel

from tests.damage import removed, replaced
from tests.tiny_released import tiny_tokenizer


def test_weights_of_another_architecture_are_refused(finetune, finetuned):
    weights = finetuned / "pretrained/checkpoints/best"
    line = finetune(1, vision__weights=weights, vision__width=32)
    assert f"vision.weights {weights}: not the weights of the configured absvit_tiny_patch16_224" in line
    assert "size mismatch for cls_token" in line
    assert "missing ['blocks.2.norm1.weight'" in finetune(1, vision__weights=weights, vision__depth=3)


def test_weights_that_are_not_to_be_had_offline_are_one_line(finetune, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    assert "vision.weights timm: no weights for absvit_tiny_patch16_224 to be had: " in finetune(
        1, vision__weights="timm"
    )


def tiny_roberta(world, folder, **changes) -> Path:
    """A RoBERTa folder with the tiny world's tokenizer."""
    shutil.copytree(world / "demo/tokenizer", folder)
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, type_vocab_size=1)
    sizes |= dict(vocab_size=len(AutoTokenizer.from_pretrained(folder)), max_position_embeddings=40, pad_token_id=1)
    RobertaModel(RobertaConfig(**sizes | changes)).save_pretrained(folder)
    return folder


def without_some_weights(folder):
    weights = load_file(folder / "model.safetensors")
    weights = {name: weight for name, weight in weights.items() if ".query." not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def without_its_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()


@pytest.mark.parametrize(
    "damage, code, message",
    [
        (removed("model.safetensors"), 1, "its weights cannot be read: Error no file named model.safetensors"),
        (replaced("model.safetensors", "nonsense"), 1, "its weights cannot be read: "),
        (without_some_weights, 1, "2 weights are missing, e.g. encoder.layer.0.attention.self.query.bias"),
        (without_its_tokenizer, 1, "nothing but special tokens there; expected tokenizer.json"),
        (replaced("tokenizer.json", "{}"), 1, "no tokenizer there: "),
        (replaced("config.json", '{"model_type": "electra"}'), 2, "expected a RoBERTa or a BERT, got electra"),
        (removed("config.json"), 2, "no text encoder there: "),
    ],
)
def test_a_text_encoder_of_another_form_is_refused(finetune, world, tmp_path, damage, code, message):
    folder = tiny_roberta(world, tmp_path / "roberta")
    damage(folder)
    line = finetune(code, text__model=folder, text__tokenizer="null")
    assert message in line and str(folder) in line


@pytest.mark.parametrize(
    "script, options",
    [
        ("compare_priors", ["--pairs", "pairs"]),
        ("decode_attention", ["--data", "data", "--split", "val", "--questions", 1]),
    ],
)
def test_something_else_than_a_checkpoint_is_one_line(tmp_path, complaint, script, options):
    arguments = ("--checkpoint", tmp_path, "--output", tmp_path / "out", *options)
    assert complaint(1, f"scripts/{script}.py", *arguments) == f"{tmp_path / 'config.json'}: no such file"
    (tmp_path / "config.json").write_text("{}")
    assert "expected a folder such as RUN/checkpoints/best" in complaint(1, f"scripts/{script}.py", *arguments)


def test_a_tokenizer_that_is_not_the_text_encoders_is_refused(finetune, world, tmp_path):
    model, tokenizer = tiny_roberta(world, tmp_path / "roberta"), tmp_path / "tokenizer"
    tiny_tokenizer().save_pretrained(tokenizer)
    line = finetune(2, text__model=model, text__tokenizer=tokenizer)
    assert f"text.tokenizer {tokenizer} has another vocabulary than the tokenizer in text.model {model}" in line
    without_its_tokenizer(model)
    line = finetune(2, text__model=model, text__tokenizer=tokenizer)
    assert f"text.tokenizer {tokenizer} has 100 tokens, the text encoder of text.model {model} " in line


def test_a_text_encoder_that_is_too_small_for_the_texts_is_refused(finetune, world, tmp_path):
    few = tiny_roberta(world, tmp_path / "few", vocab_size=50)
    assert "tokens, the text encoder 50: they do not" in finetune(2, text__model=few, text__tokenizer="null")
    short = tiny_roberta(world, tmp_path / "short", max_position_embeddings=20)
    line = finetune(2, text__model=short, text__tokenizer="null")
    assert "text.max_tokens 24 is more than the 18 positions of the text encoder" in line
