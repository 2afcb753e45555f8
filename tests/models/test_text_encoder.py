"""Text encoders of every kind: the vectors of transformers' own model, its weights, and its longest text."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.models.test_build import vqa_config
from tests.models.vqa_model import build_vqa_model
from vl_absvit.config import TextConfig, VisionConfig
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.models import VLAbSViT
from vl_absvit.models.architecture import build_from_architecture, read_text_config
from vl_absvit.models.text_encoder import KINDS, TextEncoder, longest_text
from vl_absvit.models.text_weights import read_text_weights
from vl_absvit.tasks.tokenizers import tokenizer_of

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "is", "the", "ring", "red", "blue", "?"]
SIZES = dict(
    hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, max_position_embeddings=20
)
VISION = VisionConfig(model="absvit_tiny_patch16_224", image_size=32, width=16, depth=1, num_heads=2)


def saved(kind: str, folder: Path, **changes) -> nn.Module:
    """A tiny encoder of transformers, no number of which is 0 or 1, in a folder."""
    torch.manual_seed(0)
    model = KINDS[kind].model(KINDS[kind].config(**(SIZES | {"vocab_size": len(WORDS)} | changes))).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_transformers(tmp_path, kind):
    model = saved(kind, tmp_path)
    state, entries = read_text_weights(str(tmp_path), kind)
    encoder = TextEncoder(read_text_config(str(tmp_path))).eval()
    encoder.roberta.load_state_dict(state)
    ids = torch.tensor([[2, 5, 6, 7, 10, 3], [2, 8, 3, 0, 0, 0]])
    if kind != "bert":
        ids[1, 3:] = 1  # the padding, from which these count positions
    is_token = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
    expected = model(input_ids=ids, attention_mask=is_token.long()).last_hidden_state
    torch.testing.assert_close(encoder(ids, is_token)[is_token], expected[is_token])
    pooler = {entry.name for entry in entries if entry.status == "dropped"}
    assert pooler == {"pooler.dense.weight", "pooler.dense.bias"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_text_has_a_position_for_every_token_and_a_longer_one_none(kind):
    config = KINDS[kind].config(**SIZES, vocab_size=len(WORDS))
    encoder, most = TextEncoder(config).eval(), longest_text(config)
    assert most == (20 if kind == "bert" else 18)
    ids = torch.full((1, most + 1), 5)
    assert encoder(ids[:, :most], torch.ones(1, most, dtype=torch.bool)).shape == (1, most, 8)
    with pytest.raises((IndexError, RuntimeError)):
        encoder(ids, torch.ones(1, most + 1, dtype=torch.bool))


def test_a_model_with_a_bert_starts_from_it_and_is_saved_and_read(tmp_path):
    bert = saved("bert", tmp_path)
    tokenizer = tokenizer_of(TextConfig(model=str(tmp_path)))
    assert tokenizer("is the ring red ?")["input_ids"] == [2, 5, 6, 7, 8, 10, 3]
    model = build_vqa_model(vqa_config(VISION, model=str(tmp_path)), 7, tokenizer).eval()
    words = model.text.roberta.embeddings.word_embeddings.weight
    assert torch.equal(words, bert.embeddings.word_embeddings.weight)
    (tmp_path / "saved").mkdir()
    model.save_weights(tmp_path / "saved")
    again = VLAbSViT.from_pretrained(tmp_path / "saved")
    batch = torch.randn(1, 3, 32, 32), torch.tensor([[2, 5, 7, 3]]), torch.ones(1, 4, dtype=torch.bool)
    assert torch.equal(again(*batch).logits, model(*batch).logits)
    architecture = model.architecture | {"text": model.architecture["text"] | {"model_type": "electra"}}
    with pytest.raises(InputError, match="here: expected a text encoder of kind roberta, .*, got 'electra'"):
        build_from_architecture(architecture, "here")


def test_a_decoder_is_refused(tmp_path):
    saved("bert", tmp_path, is_decoder=True)
    with pytest.raises(ConfigError, match="expected an encoder, whose tokens see the whole text, got a decoder"):
        read_text_config(str(tmp_path))
