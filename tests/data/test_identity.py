"""Data sets are told apart by their content: not by paths, files, chunks or forms of numbers."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.caption_folder import write_captions
from tests.prepare.raw_vqav2 import write_small_vqav2
from vl_absvit.data.identity import content_of
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2
from vl_absvit.tasks.retrieval_protocol import request_of

SPLITS = ("train", "minival", "val", "test")


def prepare(raw, output, **options):
    prepare_vqav2(PrepareOptions(**({"root": raw, "min_count": 1, "minival_images": 1} | options)), output, 1)
    return output


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_small_vqav2(tmp_path_factory.mktemp("identity") / "raw")


@pytest.fixture(scope="module")
def prepared(raw):
    return prepare(raw, raw.parent / "out")


def test_the_same_data_is_the_same_wherever_it_lies_and_with_pictures_embedded_or_not(raw, prepared, tmp_path):
    moved = shutil.copytree(raw, tmp_path / "elsewhere/raw")
    again = prepare(moved, tmp_path / "elsewhere/a/b/out")
    embedded = prepare(moved, tmp_path / "embedded", embed_images=True)
    content = content_of(prepared, SPLITS)
    assert content == content_of(again, SPLITS) == content_of(embedded, SPLITS)
    assert len(set(content.values())) == len(SPLITS)


def test_other_splits_answers_or_pictures_are_told(raw, prepared, tmp_path):
    content = content_of(prepared, SPLITS)
    for seed in range(1, 9):
        other = content_of(prepare(raw, tmp_path / str(seed), seed=seed), SPLITS)
        assert (other["train"], other["test"]) == (content["train"], content["test"])
        assert (other["val"] == content["val"]) == (other["minival"] == content["minival"])
        if other["minival"] != content["minival"]:
            break
    else:
        pytest.fail("every seed drew the same image")
    missing = shutil.copytree(raw, tmp_path / "raw")
    next((missing / "train2014").iterdir()).unlink()
    other = content_of(prepare(missing, tmp_path / "missing", allow_missing_images=True), SPLITS)
    assert [split for split in SPLITS if other[split] != content[split]] == ["train"]


@pytest.mark.parametrize("column", ["question_id", "image_id", "question", "answers", "labels", "scores"])
def test_every_column_counts_and_how_it_is_stored_does_not(prepared, tmp_path, column):
    copy = shutil.copytree(prepared, tmp_path / "copy")
    table = pq.read_table(copy / "train.parquet")
    pq.write_table(table, copy / "train.parquet", row_group_size=2, compression="gzip")
    assert content_of(copy, ["train"]) == content_of(prepared, ["train"])
    values = table.column(column).to_pylist()
    values[-1], values[0] = values[0], values[-1]
    changed = pa.array(values, table.schema.field(column).type)
    assert changed.to_pylist() != table.column(column).to_pylist()
    pq.write_table(table.set_column(table.column_names.index(column), column, changed), copy / "train.parquet")
    assert content_of(copy, ["train"]) != content_of(prepared, ["train"])


def test_captions_are_told_apart(tmp_path):
    rows = [(1, 10, "a dog"), (2, 10, "a cat"), (3, 11, "")]
    others = [[(1, 10, "a dog"), (2, 10, "a cat"), (4, 11, "")], [(1, 10, "a doga"), (2, 10, " cat"), (3, 11, "")]]
    made = [write_captions(tmp_path / str(n), {"val": each}) for n, each in enumerate([rows, *others, rows])]
    made.append(write_captions(tmp_path / "missing", {"val": rows}, missing=[11]))
    first, second, third, fourth, fifth = (content_of(each, ["val"])["val"] for each in made)
    assert len({first, second, third, fifth}) == 4 and fourth == first


def test_where_a_list_ends_counts(prepared, tmp_path):
    copies = []
    for number, lists in enumerate(([[0], [1, 2]], [[0, 1], [2]], [[0, 1, 2], []])):
        copy = shutil.copytree(prepared, tmp_path / str(number))
        table = pq.read_table(copy / "train.parquet").slice(0, 2)
        place = table.column_names.index("labels")
        labels = pa.array(lists, table.schema.field("labels").type)
        pq.write_table(table.set_column(place, "labels", labels), copy / "train.parquet")
        copies.append(content_of(copy, ["train"])["train"])
    assert len(set(copies)) == 3


def test_a_request_of_an_evaluation_says_nothing_of_places(prepared, tmp_path):
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (tmp_path / "here").mkdir(exist_ok=True)
        (tmp_path / "here" / name).write_text(name)
    here = request_of(tmp_path / "here", prepared, "val", look="first")
    there = shutil.copytree(tmp_path / "here", tmp_path / "there"), shutil.copytree(prepared, tmp_path / "data")
    manifest = json.loads((tmp_path / "data/manifest.json").read_text())
    (tmp_path / "data/manifest.json").write_text(json.dumps(manifest | {"root": "/mnt/raw"}))
    assert request_of(*there, "val", look="first") == here and "/" not in json.dumps(here)
