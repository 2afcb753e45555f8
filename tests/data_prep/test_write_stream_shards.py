"""``data_prep/write_stream_shards.py``: every question to train on once, beside its image, in shards of equal parts."""

import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.prepare.raw_vqav2 import (
    annotation,
    annotations_file,
    image_path,
    question,
    questions_file,
    write_small_vqav2,
)
from tests.run_script import run_script
from vl_absvit.data.records import read_questions
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare import stream_shards
from vl_absvit.prepare.stream_shards import StreamOptions, deal, write_stream_shards
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2


@pytest.fixture
def prepared(tmp_path):
    """Training questions on 12 images; one image has no file, one question no answer in the vocabulary."""
    raw = write_small_vqav2(tmp_path / "raw", images=12)
    asked = json.loads(questions_file(raw, "train").read_text())
    annotated = json.loads(annotations_file(raw, "train").read_text())
    asked["questions"].append(question(5999, 5, "What is it?"))
    annotated["annotations"].append(annotation(5999, 5, [f"thing {n}" for n in range(10)]))
    questions_file(raw, "train").write_text(json.dumps(asked))
    annotations_file(raw, "train").write_text(json.dumps(annotated))
    image_path(raw, "train", 7).unlink()
    prepare_vqav2(PrepareOptions(root=raw, min_count=2, allow_missing_images=True), tmp_path / "out", 1)
    return tmp_path / "out"


def write(*arguments):
    return run_script("data_prep/write_stream_shards.py", *arguments)


def silently(items, total, description):
    return iter(items)


def rows(folder):
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_every_question_to_train_on_is_in_one_shard_beside_its_image(prepared, tmp_path):
    write_stream_shards(StreamOptions(data=prepared, shards=3), tmp_path / "stream", silently)
    table = {row["question_id"]: row for row in read_questions(prepared, ["train"])}
    written = rows(tmp_path / "stream")
    assert sorted(row["image_id"] for row in written) == [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12]
    seen = []
    for row in written:
        assert row["bytes"] == image_path(tmp_path / "raw", "train", row["image_id"]).read_bytes()
        for question_id, *rest in zip(row["question_ids"], row["questions"], row["labels"], row["scores"], strict=True):
            seen.append(question_id)
            expected = table[question_id]
            assert rest == [expected["question"], expected["labels"], expected["scores"]]
            assert expected["image_id"] == row["image_id"]
    expected = {q for q, row in table.items() if row["labels"] and row["image_id"] != 7}
    assert len(seen) == len(expected) == 33 and set(seen) == expected


def test_the_manifest_lists_what_is_there(prepared, tmp_path):
    manifest = write_stream_shards(StreamOptions(data=prepared, shards=3), tmp_path / "stream", silently).manifest
    assert manifest == json.loads((tmp_path / "stream/manifest.json").read_text())
    assert [shard["file"] for shard in manifest["shards"]] == [f"train-{n:05d}-of-00003.parquet" for n in range(3)]
    assert (manifest["images"], manifest["questions"]) == (11, 33)
    assert sum(sum(shard["questions"]) for shard in manifest["shards"]) == 33
    assert sum(shard["images"] for shard in manifest["shards"]) == 11
    assert manifest["left_out"] == {"dropped": 1, "without_image": 3}
    assert {file.name for file in (tmp_path / "stream").iterdir()} == {
        "manifest.json",
        *(shard["file"] for shard in manifest["shards"]),
    }


def test_embedded_images_make_the_same_shards(tmp_path):
    raw = write_small_vqav2(tmp_path / "raw", images=6)
    for embed in (False, True):
        prepare_vqav2(PrepareOptions(root=raw, min_count=1, embed_images=embed), tmp_path / f"out{embed}", 1)
        write_stream_shards(StreamOptions(data=tmp_path / f"out{embed}", shards=2), tmp_path / f"s{embed}", silently)
    assert rows(tmp_path / "sTrue") == rows(tmp_path / "sFalse")


def test_shards_get_random_images_and_nearly_as_many_questions_each():
    counts = np.random.default_rng(0).integers(1, 10, 500)
    dealt = deal(counts, 8, seed=1)
    assert sorted(np.concatenate(dealt)) == list(range(500))
    totals = [counts[images].sum() for images in dealt]
    assert max(totals) - min(totals) <= 9
    assert all(abs(np.mean(images) - 250) < 60 for images in dealt)
    again, other = deal(counts, 8, seed=1), deal(counts, 8, seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(dealt, again, strict=True))
    assert not np.array_equal(dealt[0], other[0])


def test_more_shards_than_images_are_refused():
    assert [list(images) for images in deal(np.array([5]), 1, seed=0)] == [[0]]
    with pytest.raises(ConfigError, match="--shards 4 is more than the 3 images with questions"):
        deal(np.array([1, 1, 1]), 4, seed=0)


def test_an_interrupted_run_goes_on_after_its_last_whole_shard(prepared, tmp_path, monkeypatch):
    options = StreamOptions(data=prepared, shards=3)
    write_stream_shards(options, tmp_path / "whole", silently)
    batch_of, calls = stream_shards.batch_of, Counter()

    def failing(schema, group):
        calls["groups"] += 1
        if calls["groups"] == 2:
            raise KeyboardInterrupt
        return batch_of(schema, group)

    monkeypatch.setattr(stream_shards, "batch_of", failing)
    with pytest.raises(KeyboardInterrupt):
        write_stream_shards(options, tmp_path / "stream", silently)
    assert not (tmp_path / "stream").exists()
    (first,) = (tmp_path / "stream.partial").glob("*.parquet")
    was = first.stat().st_ino
    written = write_stream_shards(options, tmp_path / "stream", silently)
    assert (tmp_path / "stream" / first.name).stat().st_ino == was
    assert (written.images, written.questions) == (11 - pq.read_metadata(tmp_path / "stream" / first.name).num_rows, 21)
    for file in sorted((tmp_path / "whole").iterdir()):
        assert (tmp_path / "stream" / file.name).read_bytes() == file.read_bytes()
    assert len(list((tmp_path / "stream").iterdir())) == 4


def test_it_says_what_was_written_and_how_fast_and_the_second_time_that_nothing_was_to_do(prepared, tmp_path, capsys):
    options = ("--data", prepared, "--output", tmp_path / "stream", "--shards", 3)
    assert write(*options) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("took ") and " 11 images (" in out[0] and "/s) with 33 questions (" in out[0]
    assert out[1].startswith("3 shards: 33 questions on 11 images, ") and out[1].endswith(
        "left out: 1 questions without an answer in the vocabulary, 3 without their image"
    )
    assert write(*options) == 0
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path / 'stream'} is finished already; nothing to do", out[1]]


def test_other_options_need_another_folder(prepared, tmp_path):
    write_stream_shards(StreamOptions(data=prepared, shards=3), tmp_path / "stream", silently)
    with pytest.raises(InputError, match="other options: shards was 3, now it is 2; choose another --output"):
        write_stream_shards(StreamOptions(data=prepared, shards=2), tmp_path / "stream", silently)
    with pytest.raises(InputError, match="holds prepared data of the kind 'vqav2', not 'vqa_stream'"):
        write_stream_shards(StreamOptions(data=prepared, shards=2), prepared, silently)


def test_an_image_that_is_gone_is_named(prepared, tmp_path, capsys):
    image_path(tmp_path / "raw", "train", 3).unlink()
    assert write("--data", prepared, "--output", tmp_path / "stream", "--shards", 3) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("COCO_train2014_000000000003.jpg (image 3): No such file or directory")
    assert not (tmp_path / "stream").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--shards", "0"], 2, "expected --shards >= 1 and --seed >= 0, got 0 and 0"),
        (["--shards", "50"], 2, "--shards 50 is more than the 11 images with questions"),
        (["--split", "train", "train"], 2, "--split names a split more than once: train train"),
        (["--split", "test"], 1, "test has no answers to train on"),
        (["--split", "trian"], 1, "there is no split 'trian'"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(prepared, tmp_path, capsys, arguments, code, message):
    assert write("--data", prepared, "--output", tmp_path / "stream", *arguments) == code
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "stream").exists()
