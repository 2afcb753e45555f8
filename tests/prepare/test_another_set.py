"""A data set that is not known yet takes one source file and one line of a table: tried with two of them."""

import json

import pyarrow.parquet as pq
import pytest
from PIL import Image

from vl_absvit.data.records import read_captions
from vl_absvit.errors import InputError
from vl_absvit.prepare.caption_sets import CAPTION_SETS
from vl_absvit.prepare.caption_source import CaptionLine, CaptionSet
from vl_absvit.prepare.captions import CaptionOptions, prepare_captions
from vl_absvit.prepare.json_records import integer, read_records, string
from vl_absvit.prepare.named_images import NamedImages
from vl_absvit.prepare.vqa_sets import DATA_SETS
from vl_absvit.prepare.vqa_source import Annotation, Question, Subset, VQASet
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2

# What a source file of captions holds. Records: {"file": "1.png", "says": "A dog."}


def read_list(path):
    for location, record in read_records(path, "data", ("file", "says")):
        yield CaptionLine(location, string(record, "file", location), None, string(record, "says", location))


SAYINGS = CaptionSet({"train": 2, "val": 1}, "pictures", read_list=read_list)


# What a source file of questions holds. Records: {"id": 7, "file": "1.png", "asked": "Why?", "answer": "so"}


def read_questions(path):
    for location, record in read_records(path, "items", ("id", "file", "asked")):
        number, file = integer(record, "id", location), string(record, "file", location)
        yield Question(number, number, string(record, "asked", location), f"pictures/{file}")


def read_annotations(path):
    for location, record in read_records(path, "items", ("id", "answer")):
        number, answer = integer(record, "id", location), string(record, "answer", location)
        yield Annotation(number, number, "none", "other", answer, [answer] * 10)


RIDDLES = VQASet(
    "Riddles",
    {"train": Subset("riddles_train.json", "riddles_train.json", None, 2)},
    read_questions,
    read_annotations,
    NamedImages,
)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """Both sets, known and written."""
    monkeypatch.setitem(CAPTION_SETS, "sayings", SAYINGS)
    monkeypatch.setitem(DATA_SETS, "riddles", RIDDLES)
    (tmp_path / "raw/pictures").mkdir(parents=True)
    for number in (1, 2):
        Image.new("RGB", (12, 8)).save(tmp_path / f"raw/pictures/{number}.png")
    said = [{"file": f"{number}.png", "says": f"A dog, seen by {k}."} for number in (1, 2) for k in range(2)]
    (tmp_path / "raw/sayings_train.json").write_text(json.dumps({"data": said}))
    items = [{"id": n, "file": f"{n}.png", "asked": f"Why {n}?", "answer": "so"} for n in (1, 2)]
    (tmp_path / "raw/riddles_train.json").write_text(json.dumps({"items": items}))
    return tmp_path / "raw"


def test_captions_of_another_set_are_prepared(raw, tmp_path):
    options = CaptionOptions(dataset="sayings", root=raw, captions=[raw / "sayings_train.json"])
    manifest = prepare_captions(options, tmp_path / "out", workers=1)
    assert manifest["splits"] == {"train": {"captions": 4, "images": 2, "without_image": 0, "duplicates_removed": 0}}
    assert read_captions(tmp_path / "out", ["train"])["caption"][:2] == ["A dog, seen by 0.", "A dog, seen by 1."]
    assert manifest["warnings"] == ["val: has captions of 0 images, the official split of 1"]


def test_questions_of_another_set_are_known_by_their_file_and_prepared(raw, tmp_path):
    manifest = prepare_vqav2(PrepareOptions(root=raw, min_count=1), tmp_path / "out", workers=1)
    assert (manifest["dataset"], manifest["kind"]) == ("riddles", "vqa")
    rows = pq.read_table(tmp_path / "out/train.parquet").to_pylist()
    assert [(row["question"], row["answers"], row["labels"]) for row in rows] == [
        ("Why 1?", ["so"] * 10, [0]), ("Why 2?", ["so"] * 10, [0]),
    ]  # fmt: skip


def test_what_is_wrong_with_a_record_of_another_set_is_one_line(raw, tmp_path):
    (raw / "riddles_train.json").write_text('{"items": [{"id": 1, "file": "1.png", "answer": "so"}]}')
    with pytest.raises(InputError, match="riddles_train.json: record 1 of 'items': there is no 'asked'"):
        prepare_vqav2(PrepareOptions(root=raw, min_count=1), tmp_path / "out", workers=1)
