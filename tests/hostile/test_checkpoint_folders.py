"""Folders that look like prepared data or like a checkpoint: one line of the programs that would use them."""

import json
import shutil
from pathlib import Path

import pytest

from tests.hostile.bounded import MEMORY, complaint_of, run_bounded
from tests.hostile.corpus import bad_images, bad_safetensors, hostile_json, pickled_safetensors
from tests.tiny_segmentation import pixels, tiny_segmentation_config  # noqa: F401
from tests.tiny_vqa import tiny_pretrain_config, tiny_vqa_config, world, write_config  # noqa: F401
from vl_absvit.errors import InputError
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.classifier_checkpoint import load_classifier
from vl_absvit.tasks.segmentation import SegmentationTask
from vl_absvit.tasks.segmenter_checkpoint import load_segmenter
from vl_absvit.tasks.vqa import VQATask

EVALUATE = "scripts/evaluate_vqa.py"
SOME = ("empty", "deep inside", "NaN", "key twice", "half a surrogate pair", "cut short")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def saved(world, tmp_path_factory) -> Path:  # noqa: F811
    """An untrained VQA checkpoint."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    folder.mkdir()
    VQATask(tiny_vqa_config(world, folder)).save(folder)
    return folder


@pytest.fixture
def evaluate(world, saved, tmp_path):  # noqa: F811
    """The complaint of an evaluation with a checkpoint whose files were changed; it writes nothing."""

    def run(name: str, content: bytes, **bounds: int) -> str:
        folder = Path(shutil.copytree(saved, tmp_path / "checkpoint", dirs_exist_ok=True))
        (folder / name).write_bytes(content)
        options = ("--checkpoint", folder, "--data", world / "prepared", "--split", "val", "--num-workers", 0)
        line = complaint_of(1, EVALUATE, *options, "--output", tmp_path / "out/p.json", **bounds)
        assert not (tmp_path / "out").exists() and str(folder) in line
        return line

    return run


def test_weights_that_are_none_are_one_line_of_an_evaluation(evaluate, tmp_path):
    for content in (*bad_safetensors().values(), pickled_safetensors(tmp_path / "made")):
        evaluate("model.safetensors", content)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "training.json", "answers.json"])
def test_hostile_json_in_a_checkpoint_is_one_line_of_an_evaluation(evaluate, saved, name):
    hostile = hostile_json((saved / name).read_text())
    for content, words in map(hostile.get, SOME):
        line = evaluate(name, content)
        assert name in line and words in line


@pytest.mark.parametrize(
    ("part", "changes", "words"),
    [
        ("vision", {"depth": 10**9}, "expected at most 200 layers, got 1,000,000,000"),
        ("text", {"num_hidden_layers": 10**9}, "expected at most 200 layers"),
        ("fusion", {"num_layers": 10**9}, "expected at most 200 layers"),
        ("vision", {"depth": 200}, "does not fit the architecture in config.json"),
        ("vision", {"width": 40_000}, "does not fit the architecture in config.json"),
        ("text", {"hidden_size": 10**6}, "does not fit the architecture in config.json"),
        ("text", {"vocab_size": 10**12}, "does not fit the architecture in config.json"),
        ("head", {"num_answers": 10**12}, "does not fit the architecture in config.json"),
        ("vision", {"width": -1}, "config"),
        ("vision", {"num_heads": 0}, "checkpoint"),
        ("text", {"num_attention_heads": 0}, "checkpoint"),
        ("text", {"hidden_act": "os.system"}, "checkpoint"),
        ("fusion", {"width": "16"}, "checkpoint"),
        ("vision", {"model": "../../etc/passwd"}, "config.json"),
    ],
)
def test_a_model_that_its_weights_are_not_takes_no_memory(evaluate, saved, part, changes, words):
    content = json.loads((saved / "config.json").read_text())
    content[part] |= changes
    assert words in evaluate("config.json", json.dumps(content).encode(), memory=MEMORY // 2)


@pytest.mark.parametrize(
    ("load", "part", "changes"),
    [
        (load_classifier, "vision", {"width": 40_000}),
        (load_classifier, "vision", {"depth": 200}),
        (load_segmenter, "vision", {"width": 40_000}),
        (load_segmenter, "head", {"channels": 10**7}),
    ],
)
def test_an_encoder_that_its_weights_are_not_takes_no_memory(world, pixels, tmp_path, load, part, changes):  # noqa: F811
    if load is load_classifier:
        task = ClassificationTask(tiny_pretrain_config(world, tmp_path / "run"))
    else:
        task = SegmentationTask(tiny_segmentation_config(pixels, tmp_path / "run"))
    (tmp_path / "model").mkdir()
    task.save(tmp_path / "model")
    content = json.loads((tmp_path / "model/config.json").read_text())
    (content if part in content else content["segmenter"])[part] |= changes
    (tmp_path / "model/config.json").write_text(json.dumps(content))

    def refused() -> int:
        with pytest.raises(InputError, match="model.safetensors: does not fit the architecture in config.json beside"):
            load(tmp_path / "model")
        return 0

    outcome = run_bounded(refused, memory=MEMORY // 2)
    assert outcome.code == 0, outcome.err[-2000:]


def test_a_tokenizer_with_ids_beyond_the_model_is_one_line(evaluate, saved):
    content = json.loads((saved / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary[next(word for word in vocabulary if word.isalpha())] = 2**31
    line = evaluate("tokenizer.json", json.dumps(content).encode())
    assert "tokenizer" in line


@pytest.mark.parametrize("name", ["manifest.json", "answers.json"])
def test_hostile_json_in_prepared_data_is_one_line_of_a_finetuning(world, tmp_path, name):  # noqa: F811
    prepared = Path(shutil.copytree(world / "prepared", tmp_path / "prepared"))
    config = write_config(tiny_vqa_config(world, tmp_path / "run"), tmp_path / "vqa.yaml")
    hostile = hostile_json((world / "prepared" / name).read_text())
    for content, words in map(hostile.get, SOME):
        (prepared / name).write_bytes(content)
        line = complaint_of(1, "scripts/finetune_vqa.py", "--config", config, "--data.root", prepared)
        assert words in line and name in line and not (tmp_path / "run/checkpoints").exists()


@pytest.mark.parametrize("option", ["--vision.weights", "--from_checkpoint"])
def test_weights_to_start_from_that_are_none_are_one_line_of_a_finetuning(world, tmp_path, option):  # noqa: F811
    config = write_config(tiny_vqa_config(world, tmp_path / "run"), tmp_path / "vqa.yaml")
    folder = tmp_path / "weights"
    folder.mkdir()
    contents = bad_safetensors()
    for content in (
        contents["header of 2^63 bytes"],
        contents["cut in its data"],
        pickled_safetensors(folder / "made"),
    ):
        (folder / "model.safetensors").write_bytes(content)
        line = complaint_of(1, "scripts/finetune_vqa.py", "--config", config, option, folder)
        assert str(folder) in line and not (folder / "made").exists()


def test_a_bad_picture_is_one_line_of_an_export_and_of_a_pretraining(world, saved, tmp_path):  # noqa: F811
    pictures = Path(shutil.copytree(world / "demo/single_objects", tmp_path / "pictures"))
    first, *others = sorted(file for file in (pictures / "train").rglob("*") if file.is_file())
    config = write_config(tiny_pretrain_config(world, tmp_path / "run"), tmp_path / "pretrain.yaml")
    for number, name in enumerate(("claims 100,000 x 100,000", "cut in its pixels", "program", "empty")):
        content, words = bad_images()[name]
        first.write_bytes(content)
        asked = ("--image", first, "--question", "What is it?", "--block", -1, "--num-workers", 0)
        options = ("--checkpoint", saved, "--output", tmp_path / "maps", *asked)
        assert words in complaint_of(1, "scripts/export_attention.py", *options)
        whole = ("--optim.batch_size", 1 + len(others))  # the first step sees every picture
        run = ("--data.root", pictures, "--run.output", tmp_path / f"run-{number}", *whole)
        line = complaint_of(1, "scripts/pretrain_vision.py", "--config", config, *run)
        assert words in line and first.name in line
