"""The whole model: the authors' reference outputs, masks, sharing, saving and loading."""

import json

import pytest
import torch
from huggingface_hub import constants
from torch import Tensor
from transformers import RobertaConfig

from vl_absvit.errors import InputError
from vl_absvit.models import VLAbSViT
from vl_absvit.models.architecture import build_from_architecture
from vl_absvit.models.vl_model import Pairs
from vl_absvit.tasks.vl_checkpoint import load_parts

TEXT = RobertaConfig(
    vocab_size=100, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=40, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2,
)  # fmt: skip
ARCHITECTURE = {
    "format": 2,
    "vision": {
        "model": "absvit_tiny_patch8_224", "image_size": 32, "width": 16, "depth": 2, "num_heads": 4,
        "modulation": "reweight_project", "gain": 5.0,
    },
    "text": TEXT.to_dict(),
    "sentence": "padded_mean",
    "fusion": {"width": 32, "num_layers": 2, "num_heads": 4, "mlp_ratio": 2.0, "dropout": 0.1},
    "pool": "max",
    "head": {"kind": "vqa", "num_answers": 17},
}  # fmt: skip


@pytest.fixture
def model() -> VLAbSViT:
    architecture = ARCHITECTURE | {"sentence": "cls"}
    return build_from_architecture(architecture, "test").eval()


@pytest.fixture
def batch() -> dict[str, Tensor]:
    is_token = torch.arange(8) < torch.tensor([[8], [5], [3]])
    token_ids = torch.randint(3, 100, (3, 8)).masked_fill(~is_token, 1)
    return {
        "images": torch.randn(2, 3, 32, 32),
        "token_ids": token_ids,
        "is_token": is_token,
        "image_index": torch.tensor([1, 0, 1]),
    }


@pytest.mark.parametrize("sentence", ["cls", "masked_mean", "eos"])
def test_padding_moves_neither_prior_nor_answer(batch, sentence):
    model = build_from_architecture(ARCHITECTURE | {"sentence": sentence}, "test").eval()
    out = model(**batch)
    longer = batch | {
        "token_ids": torch.cat([batch["token_ids"], torch.ones(3, 8, dtype=torch.long)], dim=1),
        "is_token": torch.cat([batch["is_token"], torch.zeros(3, 8, dtype=torch.bool)], dim=1),
    }
    padded = model(**longer)
    torch.testing.assert_close(padded.prior, out.prior, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(padded.logits, out.logits, rtol=1e-4, atol=1e-6)


def test_reading_with_weights_on_request_answers_alike(model, batch):
    texts = model.encode_texts(batch["token_ids"], batch["is_token"])
    first, pairs = model.vision.look_once(batch["images"]), Pairs(texts, batch["image_index"])
    plain, asked = model.read(first, pairs), model.read(first, pairs, need_weights=True)
    torch.testing.assert_close(asked.logits, plain.logits, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(asked.looks.second.tokens, plain.looks.second.tokens, rtol=0, atol=0)
    assert plain.text_to_image is None
    assert [tuple(each.shape) for each in asked.text_to_image] == [(3, 4, 8, 17)] * 2


def test_saved_models_load_as_they_were(model, batch, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = VLAbSViT.from_pretrained(tmp_path).eval()
    assert VLAbSViT.from_pretrained(tmp_path, map_location=torch.device("meta")).vision.pos_embed.is_meta
    with pytest.raises(RuntimeError, match="nowhere"):  # in the library's own words: nothing is wrong with the weights
        VLAbSViT.from_pretrained(tmp_path, map_location="nowhere")
    assert loaded.architecture == json.loads((tmp_path / "config.json").read_text())
    torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits, rtol=0, atol=0)
    assert {file.name for file in tmp_path.iterdir()} >= {"config.json", "model.safetensors"}


def test_a_model_is_loaded_by_its_name_on_the_hub(model, batch, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for commit, branch in (("1" * 40, "main"), ("2" * 40, "v2")):
        repository = tmp_path / "models--lab--model"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / branch).write_text(commit)
        model.save_pretrained(repository / "snapshots" / commit)
        model.head[-1].bias.data += 1
    for name, options, difference in (
        ("lab/model", {}, -2),
        ("lab/model@v2", {}, -1),
        ("lab/model", {"revision": "v2"}, -1),
    ):
        loaded = VLAbSViT.from_pretrained(name, **options)
        torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits + difference)


def test_what_from_pretrained_does_not_know_is_named(tmp_path):
    with pytest.raises(TypeError, match="unexpected keyword argument 'revison'"):
        VLAbSViT.from_pretrained("lab/model", revison="v2")
    with pytest.raises(InputError, match="^nowhere: no config.json there .*; expected a folder"):
        VLAbSViT.from_pretrained("nowhere")
    with pytest.raises(InputError, match="^model lab/nowhere@v2: no such folder, and not to be had by that name: "):
        VLAbSViT.from_pretrained("lab/nowhere", revision="v2")


def test_a_model_alone_is_not_uploaded_and_says_what_it_is(model, tmp_path):
    with pytest.raises(InputError, match="vl-absvit push-to-hub --checkpoint FOLDER uploads all"):
        model.push_to_hub("lab/model")
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "library_name: vl_absvit" in card and "and no more" in card and "More Information Needed" not in card
    with pytest.raises(
        InputError, match="a model alone, .* there is no tokenizer.json, preprocessor_config.json, train"
    ):
        load_parts(tmp_path)


def test_a_folder_of_another_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="config.json: expected a vl_absvit architecture of format 2"):
        VLAbSViT.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="no config.json there"):
        (tmp_path / "empty").mkdir()
        VLAbSViT.from_pretrained(tmp_path / "empty")


def test_weights_of_another_architecture_are_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision"]["depth"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="does not fit"):
        VLAbSViT.from_pretrained(tmp_path)
