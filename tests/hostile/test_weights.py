"""Weights, checkpoints and tokenizers made to run something, to fill the memory or never to end."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from transformers import RobertaConfig, RobertaModel

from tests.hostile.bounded import MEMORY, complaint_of, run_bounded
from tests.hostile.corpus import Attack, bad_checkpoints, bad_safetensors, pickled_safetensors, safetensors, tensor
from tests.tiny_released import tiny_tokenizer
from vl_absvit.config import VisionConfig
from vl_absvit.errors import InputError
from vl_absvit.models.architecture import build_vision
from vl_absvit.models.start_weights import load_trunk
from vl_absvit.tasks.tokenizers import load_tokenizer

CONVERT = "scripts/convert_released.py"
TINY = dict(model="absvit_tiny_patch16_224", image_size=32, width=16, depth=1, num_heads=2)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> tuple[dict[str, Path], Path]:
    """Files to be refused, and the folder that some of them would make."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return bad_checkpoints(folder / "files", folder / "made"), folder / "made"


NAMES = (
    "reduce", "reduce in the optimizer", "reduce as a key", "reduce, old format", "pickle 0", "pickle 2", "pickle 4",
    "terabytes of zeros", "tuples without end", "tuples beyond the stack", "tuples without a protocol",
    "tuples, old format", "tuples, wrong checksum", "compressed", "text", "empty",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_checkpoint_is_one_line_and_runs_nothing(checkpoints, tmp_path, name):
    files, target = checkpoints
    assert set(files) == set(NAMES)
    line = complaint_of(1, CONVERT, "--checkpoint", files[name], "--output", tmp_path / "out", memory=MEMORY // 2)
    assert files[name].name in line and not target.exists() and not (tmp_path / "out").exists()
    expected = {
        "terabytes of zeros": "its tensors would take 4,398,046,511,104 bytes",
        "compressed": "is compressed, which PyTorch's own files never are",
        "text": "refused, it holds more than tensors",
        "empty": "not a PyTorch checkpoint",
        "tuples, wrong checksum": "not a PyTorch checkpoint, or cut short",
    }
    refusal = "refused, it holds tuples in tuples" if name.startswith("tuples") else "nothing of it was run"
    assert expected.get(name, refusal) in line


@pytest.mark.parametrize("name", ["reduce", "pickle 2", "tuples without end", "compressed", "text"])
def test_a_hostile_checkpoint_is_no_trunk_and_runs_nothing(checkpoints, name):
    files, target = checkpoints

    def load() -> None:
        with pytest.raises(InputError, match="^vision.weights .*[.]pth: ") as caught:
            trunk_from(files[name])
        assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)

    outcome = run_bounded(load, memory=MEMORY // 2)
    assert outcome.code == 0 and not target.exists(), outcome.err


def trunk_from(file: Path) -> None:
    config = VisionConfig(**TINY, weights=str(file))
    load_trunk(build_vision(config, num_classes=0), config.weights, config.model)


@pytest.mark.parametrize("name", list(bad_safetensors()))
def test_what_is_no_safetensors_file_is_named(tmp_path, name):
    file = tmp_path / "model.safetensors"
    file.write_bytes(bad_safetensors()[name])
    with pytest.raises(InputError, match="vision.weights .*model.safetensors: not a safetensors file: ") as caught:
        trunk_from(file)
    assert "\n" not in str(caught.value)


def test_a_pickle_by_the_name_of_safetensors_is_not_unpickled(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(pickled_safetensors(tmp_path / "made"))
    with pytest.raises(InputError, match="not a safetensors file"):
        trunk_from(file)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({}, b""),
        ({"__metadata__": {"format": "tf"}}, b""),
        ({"cls_token": tensor([1, 1, 16], 0, 64)}, bytes(64)),
        ({"cls_token": tensor([64], 0, 64, "F8_E5M2")}, bytes(64)),
        ({"cls_token": tensor([1, 1, 16], 0, 128, "F64")}, struct.pack("<16d", *[float("nan")] * 16)),
    ],
)
def test_safetensors_of_something_else_are_refused(tmp_path, header, data):
    (tmp_path / "model.safetensors").write_bytes(safetensors(header, data))
    with pytest.raises(InputError, match="not the weights of the configured absvit_tiny_patch16_224"):
        trunk_from(tmp_path)


# Tokenizers and text encoders: transformers runs code that comes with them if it is told to, or asks whether it may.


@pytest.fixture
def tokenizer(tmp_path) -> Path:
    """A tokenizer's folder with a program beside it, which nothing names yet."""
    folder = tmp_path / "tokenizer"
    tiny_tokenizer().save_pretrained(folder)
    code = "import os\nfrom transformers import PreTrainedTokenizerFast, RobertaConfig\n"
    code += f"os.mkdir({str(tmp_path / 'made')!r})\n"
    code += "class Mine(PreTrainedTokenizerFast): pass\nclass MyConfig(RobertaConfig): pass\n"
    (folder / "mine.py").write_text(code)
    return folder


def rewritten(file: Path, **changes: object) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | changes))


def say_yes_and(call) -> None:
    """Call with the answer yes to whatever is asked."""
    reading, writing = os.pipe()
    os.write(writing, b"y\n" * 9)
    os.dup2(reading, 0)
    call()


def test_a_tokenizer_that_comes_as_a_program_is_refused_without_asking(tokenizer, tmp_path):
    rewritten(
        tokenizer / "tokenizer_config.json", tokenizer_class="Mine", auto_map={"AutoTokenizer": ["mine.Mine"] * 2}
    )

    def load() -> None:
        with pytest.raises(InputError, match="no tokenizer there: .*contains custom code"):
            load_tokenizer(str(tokenizer))

    outcome = run_bounded(lambda: say_yes_and(load))
    assert outcome.code == 0 and "[y/N]" not in outcome.out + outcome.err, outcome.err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", b""),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"null"),
        ("tokenizer.json", b"[" * 10_000),
        ("tokenizer.json", b"\xff\xfe"),
        ("tokenizer_config.json", b"{"),
        ("tokenizer_config.json", b"[]"),
        ("tokenizer_config.json", b'{"tokenizer_class": 3}'),
    ],
)
def test_a_broken_tokenizer_is_one_line(tokenizer, file, content):
    (tokenizer / file).write_bytes(content)
    with pytest.raises(InputError, match="no tokenizer there: ") as caught:
        load_tokenizer(str(tokenizer))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_whose_library_panics_is_one_line(tokenizer):
    single = [{"SpecialToken": {"id": "absent", "type_id": 0}}]
    rewritten(
        tokenizer / "tokenizer.json",
        post_processor={"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {}},
    )
    with pytest.raises(InputError, match="cannot read a question: no entry found for key"):
        load_tokenizer(str(tokenizer))


@pytest.fixture
def roberta(tokenizer) -> Path:
    """The same folder with a tiny RoBERTa in it."""
    sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, type_vocab_size=1)
    config = RobertaConfig(vocab_size=100, max_position_embeddings=20, pad_token_id=1, **sizes)
    RobertaModel(config).save_pretrained(tokenizer)
    return tokenizer


def text_encoder_of(folder: Path) -> None:
    from tests.models.test_build import Tokens, vqa_config
    from tests.models.vqa_model import build_vqa_model

    build_vqa_model(vqa_config(VisionConfig(**TINY), model=str(folder)), 7, Tokens())


def test_a_text_encoder_is_read_from_safetensors_only(roberta, tmp_path):
    text_encoder_of(roberta)
    (roberta / "model.safetensors").unlink()
    torch.save({"a": Attack(tmp_path / "made")}, roberta / "pytorch_model.bin")
    with pytest.raises(InputError, match="its weights cannot be read: .*no file named model.safetensors"):
        text_encoder_of(roberta)
    torch.save(RobertaModel(RobertaConfig.from_pretrained(roberta)).state_dict(), roberta / "pytorch_model.bin")
    with pytest.raises(InputError, match="no file named model.safetensors"):
        text_encoder_of(roberta)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mine", "auto_map": {"AutoConfig": "mine.MyConfig"}}, "contains custom code"),
        ({"num_hidden_layers": 10**9}, "expected at most 200 layers, got 1,000,000,000"),
        ({"hidden_size": 10**9}, "its weights cannot be read"),
        ({"hidden_size": -8}, "its weights cannot be read"),
        ({"hidden_size": "8"}, "no text encoder there"),
        ({"vocab_size": 10**12}, "its weights cannot be read"),
        ({"hidden_act": "os.system"}, "its weights cannot be read"),
        ({"dtype": "mine"}, "no text encoder there"),
        ({"layer_norm_eps": "1e-5"}, "no text encoder there"),
        ({"num_attention_heads": 0}, "text.model"),
    ],
)
def test_a_text_encoder_that_says_what_it_is_not_is_refused(roberta, tmp_path, changes, message):
    rewritten(roberta / "config.json", **changes)

    def build() -> None:
        with pytest.raises(InputError, match=message) as caught:
            text_encoder_of(roberta)
        assert "\n" not in str(caught.value)

    outcome = run_bounded(lambda: say_yes_and(build))
    assert outcome.code == 0 and "[y/N]" not in outcome.out, outcome.err
    assert not (tmp_path / "made").exists()
