"""Programs that read pictures of prepared data find them wherever they were moved, and say which option tells."""

import json
import shutil
from pathlib import Path

import pytest

from tests.run_script import run_script
from tests.tiny_vqa import tiny_retrieval_config
from vl_absvit.tasks.retrieval import RetrievalTask


@pytest.fixture(scope="module")
def moved(world, tmp_path_factory) -> Path:
    """A folder with prepared ``data`` whose pictures, in ``pictures``, are where nobody would look for them."""
    folder = tmp_path_factory.mktemp("moved")
    shutil.copytree(world / "prepared", folder / "data")
    shutil.copytree(world / "demo", folder / "pictures")
    for path in (folder / "data").rglob("manifest.json"):
        manifest = json.loads(path.read_text()) | {"root": "/nowhere", "root_from_here": "nowhere"}
        path.write_text(json.dumps(manifest))
    config = tiny_retrieval_config(world, folder)
    (folder / "matching").mkdir()
    RetrievalTask(config).save(folder / "matching")
    return folder


def test_every_program_is_told_where_the_pictures_are(moved, finetuned, complaint, tmp_path):
    best, data = finetuned / "vqa/checkpoints/best", moved / "data"
    flickr = ("--data", data / "flickr30k", "--split", "test", "--look", "first", "--num-workers", 0)
    flickr += ("--checkpoint", moved / "matching")
    pictures, captioned = moved / "pictures/vqav2", moved / "pictures/flickr30k"
    val = ("--checkpoint", best, "--data", data, "--split", "val")
    maps, alone = ("--maps", "cross"), ("--num-workers", 0)
    programs = [
        (
            "scripts/evaluate_vqa.py",
            ("--checkpoint", best, "--data", data, "--split", "val", "--num-workers", 0),
            pictures,
        ),
        ("scripts/export_attention.py", (*val, *alone, *maps), pictures),
        ("scripts/decode_attention.py", (*val, "--questions", 2), pictures),
        ("data_prep/write_stream_shards.py", ("--data", data, "--shards", 2), pictures),
        ("scripts/evaluate_retrieval.py", flickr, captioned),
    ]
    for number, (program, arguments, images) in enumerate(programs):
        arguments = (*arguments, "--output", tmp_path / f"{number}.json")
        assert "--images DIR elsewhere" in complaint(1, program, *arguments), program
        shutil.rmtree(tmp_path / f"{number}.json", ignore_errors=True)
        assert run_script(program, *arguments, "--images", images) == 0, program


def test_an_export_that_was_moved_with_its_pictures_is_shown(world, finetuned, tmp_path, complaint):
    shutil.copytree(world, tmp_path / "here/world")
    export = ("--checkpoint", finetuned / "vqa/checkpoints/best", "--data", tmp_path / "here/world/prepared")
    output = ("--split", "val", "--maps", "cross", "--output", tmp_path / "here/maps", "--num-workers", 0)
    assert run_script("scripts/export_attention.py", *export, *output) == 0
    (tmp_path / "here").rename(tmp_path / "there")
    report = ("--maps", tmp_path / "there/maps", "--output", tmp_path / "report.html", "--limit", 2)
    assert run_script("scripts/attention_report.py", *report) == 0
    pictures = (tmp_path / "there/world/demo/vqav2").rename(tmp_path / "pictures")
    line = complaint(1, "scripts/attention_report.py", *report)
    assert "there is no picture" in line and line.endswith("say where with --images DIR")
    assert run_script("scripts/attention_report.py", *report, "--images", pictures) == 0
