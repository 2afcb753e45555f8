"""Runs that go on although all that they started from was moved or is gone: to the same end, bit by bit.

What they go on with is known by its content: other data is refused, and the line says what to do.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from transformers import RobertaConfig, RobertaModel

from tests.run_folders import assert_same_end, metrics
from tests.tiny_vqa import (
    tiny_pretrain_config,
    tiny_retrieval_config,
    tiny_vision,
    tiny_vqa_config,
    world,  # noqa: F401
)
from vl_absvit.config import TextConfig
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.stream_shards import StreamOptions, write_stream_shards
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.tokenizers import load_tokenizer
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.training.checkpoint import _seal
from vl_absvit.training.loop import launch


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def run(config, make_task) -> Path:
    AcceleratorState._reset_state(reset_partial_state=True)
    launch(config, make_task)
    return Path(config.run.output)


def gone_back(whole: Path, folder: Path) -> Path:
    """A copy of a finished run as it was before its second half."""
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints/last")
    (folder / "checkpoints/last.previous").rename(folder / "checkpoints/last")
    return folder


def going_on(config, folder: Path, **parts):
    """The config that goes on in ``folder``, with fields of its groups changed."""
    groups = {key: replace(getattr(config, key), **value) for key, value in parts.items() if isinstance(value, dict)}
    return replace(config, **(parts | groups | {"run": replace(config.run, output=str(folder), resume=True)}))


def checkpoints(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("checkpoints/*/*")}


@pytest.fixture(scope="module")
def sources(world, tmp_path_factory) -> Path:  # noqa: F811
    """A trunk, a RoBERTa with its tokenizer, and a copy of the world."""
    folder = tmp_path_factory.mktemp("sources")
    shutil.copytree(world, folder / "world")
    (folder / "trunk").mkdir()
    ClassificationTask(tiny_pretrain_config(world, folder)).save(folder / "trunk")
    tokenizer = load_tokenizer(str(world / "demo/tokenizer"))
    roberta = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=40, type_vocab_size=1, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    RobertaModel(roberta, add_pooling_layer=False).save_pretrained(folder / "roberta")
    tokenizer.save_pretrained(folder / "roberta")
    return folder


def vqa_config(sources: Path, output: Path, **parts):
    config = tiny_vqa_config(sources / "world", output, vision=tiny_vision(weights=str(sources / "trunk")), **parts)
    return replace(config, text=TextConfig(model=str(sources / "roberta"), max_tokens=24))


@pytest.fixture(scope="module")
def finished(sources, tmp_path_factory):
    """The config of a VQA run with dropout, and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        config = vqa_config(sources, tmp_path_factory.mktemp("finished") / "vqa", dropout=0.1)
        return config, run(config, VQATask)


def test_a_vqa_run_goes_on_after_its_data_was_moved_and_its_start_weights_are_gone(sources, finished, tmp_path):
    config, whole = finished
    folder, elsewhere = gone_back(whole, tmp_path / "run"), tmp_path / "elsewhere"
    sources = Path(shutil.copytree(sources, tmp_path / "sources"))
    shutil.rmtree(sources / "roberta"), shutil.rmtree(sources / "trunk")
    shutil.move(sources / "world", elsewhere)
    text, vision = {"model": str(sources / "roberta")}, {"weights": str(sources / "trunk")}
    moved = going_on(config, folder, data={"root": str(elsewhere / "prepared")}, text=text, vision=vision)
    run(moved, VQATask)
    assert_same_end(folder, whole)
    said = (folder / "console.log").read_text()
    assert f"data.root was {config.data.root}, now it is {elsewhere}/prepared: the same data by its content" in said
    assert "text.model was" in said and "vision.weights was" in said and "neither is read" in said


def test_pictures_alone_may_be_elsewhere_in_going_on(finished, tmp_path, sources):
    config, whole = finished
    folder, root = gone_back(whole, tmp_path / "run"), shutil.copytree(sources / "world/prepared", tmp_path / "data")
    manifest = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(json.dumps(manifest | {"root": "/nowhere", "root_from_here": "nowhere"}))
    with pytest.raises(InputError, match="say where they are with --data.images DIR"):
        run(going_on(config, folder, data={"root": str(root)}), VQATask)
    images = str(shutil.copytree(sources / "world/demo/vqav2", tmp_path / "pictures"))
    run(going_on(config, folder, data={"root": str(root), "images": images}), VQATask)
    assert_same_end(folder, whole)


@pytest.mark.slow
def test_a_retrieval_run_goes_on_after_the_checkpoint_that_it_started_from_is_gone(sources, finished, tmp_path):
    start = Path(shutil.copytree(finished[1] / "checkpoints/best", tmp_path / "start"))
    config = tiny_retrieval_config(sources / "world", tmp_path / "whole", from_checkpoint=str(start))
    tokenizer = Path(shutil.copytree(sources / "world/demo/tokenizer", tmp_path / "tokenizer"))
    config = replace(
        config, fusion=finished[0].fusion,
        text=replace(finished[0].text, tokenizer=str(tokenizer)),
    )  # fmt: skip
    whole = run(config, RetrievalTask)
    folder, elsewhere = gone_back(whole, tmp_path / "run"), tmp_path / "elsewhere"
    shutil.rmtree(start), shutil.rmtree(tokenizer)
    shutil.copytree(sources / "world", elsewhere)
    moved = going_on(config, folder, data={"root": str(elsewhere / "prepared/coco")}, from_checkpoint="/gone")
    run(moved, RetrievalTask)
    assert_same_end(folder, whole)
    chain = json.loads((folder / "checkpoints/last/training.json").read_text())
    assert chain["start"]["task"] == "vqa" and str(tmp_path) not in json.dumps(chain)


@pytest.mark.slow
def test_a_pretraining_goes_on_after_its_images_were_moved_and_its_start_weights_are_gone(sources, tmp_path):
    trunk = Path(shutil.copytree(sources / "trunk", tmp_path / "trunk"))
    vision = tiny_vision(gain=1.0, weights=str(trunk))
    config = tiny_pretrain_config(sources / "world", tmp_path / "whole", vision=vision)
    whole = run(config, ClassificationTask)
    shutil.rmtree(trunk)
    images = shutil.copytree(sources / "world/demo/single_objects", tmp_path / "images")
    folder = gone_back(whole, tmp_path / "run")
    moved = going_on(config, folder, data={"root": str(images)})
    run(moved, ClassificationTask)
    assert_same_end(folder, whole)
    folder = gone_back(whole, tmp_path / "other")
    renamed = next(next((images / "train").iterdir()).iterdir())
    renamed.rename(renamed.with_name(f"another{renamed.suffix}"))
    before = checkpoints(folder)
    with pytest.raises(InputError, match=r"its train has other content .* --vision.weights .*/last --run.output NEW"):
        run(going_on(config, folder, data={"root": str(images)}), ClassificationTask)
    assert checkpoints(folder) == before


@pytest.mark.slow
def test_a_run_from_shards_goes_on_after_they_were_moved_but_not_from_others(sources, finished, tmp_path):
    for seed, name in enumerate(("shards", "others")):
        options = StreamOptions(data=Path(finished[0].data.root), shards=2, seed=seed)
        write_stream_shards(options, tmp_path / name, lambda items, total, description: iter(items))
    data = replace(finished[0].data, stream=str(tmp_path / "shards"))
    config = going_on(replace(finished[0], data=data), tmp_path / "whole")
    whole = run(config, VQATask)
    folder = gone_back(whole, tmp_path / "run")
    moved, others = str((tmp_path / "shards").rename(tmp_path / "moved")), str(tmp_path / "others")
    with pytest.raises(InputError, match="its stream has other content than that which checkpoint .* was trained on"):
        run(going_on(config, folder, data={"stream": others}), VQATask)
    run(going_on(config, folder, data={"stream": moved}), VQATask)
    assert_same_end(folder, whole)


def seal(checkpoint: Path) -> None:
    (checkpoint / "manifest.json").unlink()
    _seal(checkpoint)


def as_of_old(checkpoint: Path) -> None:
    """A checkpoint as an earlier version wrote it, which told no content."""
    training = json.loads((checkpoint / "training.json").read_text())
    (checkpoint / "training.json").write_text(json.dumps({k: v for k, v in training.items() if k != "content"}))
    seal(checkpoint)


def test_a_checkpoint_of_an_earlier_version_is_gone_on_from_as_far_as_its_files_tell(finished, tmp_path):
    config, whole = finished
    folder = gone_back(whole, tmp_path / "run")
    as_of_old(folder / "checkpoints/last")
    run(going_on(config, folder), VQATask)
    assert "did not tell what each split held" in (folder / "console.log").read_text()
    names = ("model.safetensors", "training_state.safetensors")
    ours, theirs = ([(each / "checkpoints/last" / name).read_bytes() for name in names] for each in (folder, whole))
    assert ours == theirs and metrics(folder) == metrics(whole)
    assert "content" in json.loads((folder / "checkpoints/last/training.json").read_text())


@pytest.mark.parametrize("old", [False, True])
def test_data_that_was_prepared_otherwise_is_refused(sources, finished, tmp_path, old):
    config, whole = finished
    folder, raw = gone_back(whole, tmp_path / "run"), sources / "world/demo/vqav2"
    if old:  # of which files the data was prepared is told
        as_of_old(folder / "checkpoints/last")
        raw = shutil.copytree(raw, tmp_path / "raw")
        path = raw / "v2_OpenEnded_mscoco_test2015_questions.json"
        path.write_text(path.read_text() + "\n")
    options = dict(root=raw, min_count=1, minival_images=1)
    prepare_vqav2(PrepareOptions(**options, seed=0 if old else 3), tmp_path / "again", 1)
    before = checkpoints(folder)
    with pytest.raises(InputError) as error:
        run(going_on(config, folder, data={"root": str(tmp_path / "again")}), VQATask)
    line = str(error.value)
    assert line.startswith(f"{tmp_path}/again: ")
    assert ("was prepared from other files" if old else "its minival has other content") in line
    assert line.endswith(
        "bring back the data as it was to go on, or start a new run from it: "
        f"--from_checkpoint {folder}/checkpoints/last --run.output NEW"
    )
    assert checkpoints(folder) == before


def test_another_tokenizer_is_refused_and_another_place_of_the_same_is_not(finished, sources, tmp_path):
    config, whole = finished
    folder = gone_back(whole, tmp_path / "run")
    tokenizer = load_tokenizer(str(sources / "roberta"))
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"text.tokenizer \(was None, now '.*/other'\)"):
        run(going_on(config, folder, text={"tokenizer": str(tmp_path / "other")}), VQATask)
    with pytest.raises(InputError, match="other: has another vocabulary than that of checkpoint .*/last"):
        run(going_on(config, folder, text={"model": str(tmp_path / "other")}), VQATask)
    run(going_on(config, folder, text={"model": str(shutil.copytree(sources / "roberta", tmp_path / "same"))}), VQATask)
    assert_same_end(folder, whole)
