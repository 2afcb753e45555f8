"""A text encoder is read with the tokenizer that it was trained with; another one is refused in one line."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import DistilBertConfig, ElectraConfig, MPNetConfig, RobertaConfig

from tests.tiny_released import WORDS, tiny_tokenizer
from vl_absvit.config import TextConfig
from vl_absvit.errors import ConfigError
from vl_absvit.tasks.tokenizers import save_tokenizer, tokenizer_of


def a_roberta(folder: Path, words: int | None = WORDS, **config) -> str:
    """The folder of a text encoder (its weights do not matter here), with its own tokenizer if it has any."""
    if words is not None:
        tiny_tokenizer(words).save_pretrained(folder)
    RobertaConfig(**(dict(vocab_size=WORDS, max_position_embeddings=40) | config)).save_pretrained(folder)
    return str(folder)


def a_tokenizer(folder: Path, words: int = WORDS, **swapped: str) -> str:
    """The folder of a tokenizer, with some tokens' ids exchanged."""
    tiny_tokenizer(words).save_pretrained(folder)
    text = (folder / "tokenizer.json").read_text()
    content = json.loads(text)
    vocabulary = content["model"]["vocab"]
    for one, other in swapped.items():
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return str(folder)


def refusal(**text) -> str:
    with pytest.raises(ConfigError) as caught:
        tokenizer_of(TextConfig(**text))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_encoders_own_tokenizer_is_taken_also_under_another_name(tmp_path):
    model = a_roberta(tmp_path / "model")
    shutil.copytree(tmp_path / "model", tmp_path / "copy")
    for tokenizer in (None, model, str(tmp_path / "copy")):
        assert len(tokenizer_of(TextConfig(model=model, tokenizer=tokenizer))) == WORDS


@pytest.mark.parametrize("words, swapped", [(WORDS - 40, {}), (WORDS, {"a": "b"})])
def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path, words, swapped):
    model, tokenizer = a_roberta(tmp_path / "model"), a_tokenizer(tmp_path / "other", words, **swapped)
    line = refusal(model=model, tokenizer=tokenizer)
    assert line.startswith(
        f"text.tokenizer {tokenizer} has another vocabulary than the tokenizer in text.model {model}"
    )
    assert f"{words} against {WORDS} tokens" in line and "without text.tokenizer its own is taken" in line


def test_where_the_encoder_has_no_tokenizer_sizes_and_special_tokens_have_to_fit(tmp_path):
    tokenizer = a_tokenizer(tmp_path / "tokenizer")
    filled_up = a_roberta(tmp_path / "filled", words=None, vocab_size=128)
    assert len(tokenizer_of(TextConfig(model=filled_up, tokenizer=tokenizer))) == WORDS
    for vocab_size in (WORDS - 1, 50_265):
        model = a_roberta(tmp_path / str(vocab_size), words=None, vocab_size=vocab_size)
        line = refusal(model=model, tokenizer=tokenizer)
        assert f"{tokenizer} has {WORDS} tokens" in line and f"text.model {model} {vocab_size:,}" in line


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"eos_token_id": 5}, "puts token 2 at the end of a text, where text.model {} expects </s>, token 5"),
        ({"bos_token_id": 3}, "puts token 0 at the beginning of a text, where text.model {} expects <s>, token 3"),
    ],
)
def test_a_text_begins_and_ends_as_the_encoder_has_learned(tmp_path, config, message):
    model = a_roberta(tmp_path / "model", **config)
    assert message.format(model) in refusal(model=model)


def test_the_padding_is_the_encoders(tmp_path):
    from tests.models.test_build import vqa_config
    from tests.models.vqa_model import build_vqa_model
    from vl_absvit.config import VisionConfig

    model = a_roberta(tmp_path / "model", pad_token_id=3, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    vision = VisionConfig(model="absvit_tiny_patch16_224", image_size=32, width=16, depth=1, num_heads=2)
    with pytest.raises(ConfigError, match="<pad> is token 3 of the text encoder, the tokenizer has token 1"):
        build_vqa_model(vqa_config(vision, model=model), 7, tiny_tokenizer())


@pytest.mark.parametrize("other", [DistilBertConfig, ElectraConfig, MPNetConfig])
def test_an_encoder_of_another_kind_is_refused_with_what_works(tmp_path, other):
    model = a_roberta(tmp_path / "model")
    other(vocab_size=WORDS).save_pretrained(model)
    line = refusal(model=model)
    assert (
        f"text.model {model}: expected a RoBERTa or a BERT, got {other.model_type}; " in line and "roberta-base" in line
    )


def test_a_roberta_without_a_padding_token_is_one_line(tmp_path):
    assert "expected a pad_token_id" in refusal(model=a_roberta(tmp_path / "model", pad_token_id=None))


def test_a_saved_tokenizer_reads_whole_texts_in_other_programs(tmp_path):
    tokenizer, text = tiny_tokenizer(), "a b c a b c a b c"
    whole = tokenizer(text)["input_ids"]
    tokenizer("a", truncation=True, max_length=5, padding="max_length")  # a length that is for this text alone
    save_tokenizer(tmp_path, tokenizer)
    raw = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert raw.encode(text).ids == whole and raw.encode("a").ids == tokenizer("a")["input_ids"]


@pytest.mark.slow
def test_the_real_tokenizer_is_told_from_a_shuffled_one(real_data, tmp_path):
    original = shutil.copytree(real_data / "roberta-base-tokenizer", tmp_path / "model")
    RobertaConfig().save_pretrained(tmp_path / "config")  # 50,265 tokens
    shutil.copy(tmp_path / "config/config.json", original)
    copy = shutil.copytree(real_data / "roberta-base-tokenizer", tmp_path / "copy")
    assert len(tokenizer_of(TextConfig(model=str(original), tokenizer=str(copy)))) == 50_265
    vocabulary = json.loads((copy / "vocab.json").read_text())
    vocabulary["Ġa"], vocabulary["Ġthe"] = vocabulary["Ġthe"], vocabulary["Ġa"]
    (copy / "vocab.json").chmod(0o644), (copy / "vocab.json").write_text(json.dumps(vocabulary))
    assert "has another vocabulary" in refusal(model=str(original), tokenizer=str(copy))
