"""JSON that lies, breaks off or never ends costs one line of every program that reads it, within bounds."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from tests.exported import add_question
from tests.hostile.bounded import MEMORY, complaint_of, run_bounded
from tests.hostile.corpus import MEBIBYTE, gzip_bomb, hostile_json, mebibytes
from tests.prepare.raw_captions import image_record, write_karpathy
from tests.prepare.raw_vqa_hat import questions_file as hat_questions_file
from tests.prepare.raw_vqa_hat import write_small_hat
from tests.prepare.raw_vqav2 import annotation, annotations_file, question, questions_file, write_split
from tests.run_script import run_script
from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.data.bounded import MAX_BYTES
from vl_absvit.data.json_files import read_json
from vl_absvit.errors import InputError
from vl_absvit.looking.export_reader import read_index
from vl_absvit.looking.own_texts import read_requests
from vl_absvit.prepare.json_records import read_records
from vl_absvit.prepare.sets.coco import read_questions

RECORDS = json.dumps({"info": {}, "questions": [question(7000, 7), question(7001, 7)]})
NAMES = list(hostile_json(RECORDS))


class Reading(NamedTuple):
    """A program about to read a JSON file."""

    file: Path
    script: str
    arguments: tuple


def one_vqav2_question(folder: Path) -> tuple:
    write_split(folder / "raw", "train", [question(7000, 7)], [annotation(7000, 7)])
    return ("--root", folder / "raw", "--output", folder / "out", "--min-count", 1, "--workers", 1)


def preparing_questions(folder: Path) -> Reading:
    options = one_vqav2_question(folder)
    return Reading(questions_file(folder / "raw", "train"), "data_prep/prepare_vqav2.py", options)


def preparing_annotations(folder: Path) -> Reading:
    options = one_vqav2_question(folder)
    return Reading(annotations_file(folder / "raw", "train"), "data_prep/prepare_vqav2.py", options)


def preparing_with_a_vocabulary(folder: Path) -> Reading:
    file = folder / "answers.json"
    AnswerVocabulary(("yes", "no"), 9, "vqa-official-1").save(file)
    return Reading(file, "data_prep/prepare_vqav2.py", (*one_vqav2_question(folder), "--vocabulary", file))


def preparing_captions(folder: Path) -> Reading:
    file = write_karpathy(folder / "raw", "flickr30k", [image_record("flickr30k", 1, "train")])
    options = ("--dataset", "flickr30k", "--root", folder / "raw", "--karpathy", file, "--output", folder / "out")
    return Reading(file, "data_prep/prepare_captions.py", options)


def preparing_human_attention(folder: Path) -> Reading:
    raw = write_small_hat(folder / "raw", images=(1,))
    file = hat_questions_file(raw)
    options = ("--maps", raw / "maps", "--questions", file, "--images", raw, "--output", folder / "out")
    return Reading(file, "data_prep/prepare_vqa_hat.py", options)


def scoring(damaged: str) -> Callable[[Path], Reading]:
    def write(folder: Path) -> Reading:
        files = {
            "annotations": {"annotations": [annotation(7000, 7)]},
            "questions": {"questions": [question(7000, 7)]},
            "results": [{"question_id": 7000, "answer": "yes"}],
        }
        options = ["--output", folder / "scores.json"]
        for name, content in files.items():
            (folder / f"{name}.json").write_text(json.dumps(content))
            options += [f"--{name}", folder / f"{name}.json"]
        return Reading(folder / f"{damaged}.json", "scripts/score_vqa.py", tuple(options))

    return write


def validating(folder: Path) -> Reading:
    file = folder / "questions.json"
    file.write_text(json.dumps({"questions": [question(7000, 7)]}))
    options = ("--validate", "test", "--questions", file, "--results", folder / "results.json")
    return Reading(file, "scripts/score_vqa.py", options)


def reporting(folder: Path) -> Reading:
    (folder / "maps").mkdir()
    add_question(folder / "maps", "1")
    options = ("--maps", folder / "maps", "--output", folder / "report.html")
    return Reading(folder / "maps/index.jsonl", "scripts/attention_report.py", options)


READINGS = {
    "questions": preparing_questions,
    "annotations": preparing_annotations,
    "vocabulary": preparing_with_a_vocabulary,
    "captions": preparing_captions,
    "human attention": preparing_human_attention,
    "scored annotations": scoring("annotations"),
    "scored questions": scoring("questions"),
    "scored results": scoring("results"),
    "questions to validate by": validating,
    "report": reporting,
}


def refused(reading: Reading, content: bytes, **bounds: int) -> str:
    """The program's complaint about a file with this content, which it names; nothing is written."""
    reading.file.write_bytes(content)
    there = set(reading.file.parent.parent.rglob("*"))
    line = complaint_of(1, reading.script, *reading.arguments, **bounds)
    assert reading.file.name in line
    made = {path.name for path in set(reading.file.parent.parent.rglob("*")) - there}
    assert not made - {"out.partial", "request.json", "checked.jsonl"}, made
    return line


@pytest.mark.slow
@pytest.mark.parametrize("program", READINGS)
def test_hostile_json_stops_every_program_that_reads_json(tmp_path, program):
    share = list(READINGS).index(program)  # the reader itself meets all of them below
    for number, name in enumerate(NAMES[share :: len(READINGS)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        reading = READINGS[program](folder)
        content, words = hostile_json(reading.file.read_text())[name]
        line = refused(reading, content)
        is_line_less = program == "report" and name in ("empty", "blank")
        assert "expected a line" in line if is_line_less else words in line


@pytest.mark.parametrize("name", NAMES)
def test_every_reader_of_json_says_the_same_of_it(tmp_path, name):
    content, words = hostile_json(RECORDS)[name]
    (tmp_path / "a.json").write_bytes(content)
    (tmp_path / "index.jsonl").write_bytes(content)
    readers = [
        lambda: read_json(tmp_path / "a.json"),
        lambda: list(read_records(tmp_path / "a.json", "questions", ["question"])),
    ]
    if name not in ("empty", "blank"):  # which lines of JSON may be
        readers += [lambda: read_index(tmp_path), lambda: read_requests(tmp_path / "index.jsonl")]
    for read in readers:
        with pytest.raises(InputError) as caught:
            read()
        assert words in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("depth", [100, 400, 700, 850, 900, 950, 990])
def test_a_value_nested_as_deeply_as_python_allows_can_be_complained_about(tmp_path, depth):
    deep = "[" * depth + "]" * depth
    (tmp_path / "a.json").write_text(RECORDS.replace("7000", deep))
    with pytest.raises(InputError, match="nested too deeply|expected question_id to be an integer"):
        list(read_questions(tmp_path / "a.json"))


def test_marks_of_direction_and_nul_in_a_question_come_through_as_they_are(tmp_path):
    options = one_vqav2_question(tmp_path)
    text = "\u202eis\u200f it\u0000 \U0001f600 \u05d0?"
    questions_file(tmp_path / "raw", "train").write_text(json.dumps({"questions": [question(7000, 7, text)]}))
    assert run_bounded(lambda: run_script("data_prep/prepare_vqav2.py", *options)).code == 0
    assert pq.read_table(tmp_path / "out/train.parquet").column("question").to_pylist() == [text]


def test_a_byte_order_mark_is_no_content_of_a_stream_either(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + RECORDS.encode())
    assert [record["question_id"] for _, record in read_records(tmp_path / "a.json", "questions", ["question_id"])] == [
        7000,
        7001,
    ]


def test_what_a_terminal_would_obey_is_written_as_an_escape(tmp_path):
    record = image_record("flickr30k", 1, "train")
    write_karpathy(tmp_path / "raw", "flickr30k", [record])
    file = tmp_path / "raw/dataset_flickr30k.json"
    file.write_text(json.dumps({"images": [record | {"filename": "a\x1b[2J\u202e.jpg", "split": "none"}]}))
    options = ("--dataset", "flickr30k", "--root", tmp_path / "raw", "--karpathy", file, "--output", tmp_path / "out")
    line = complaint_of(1, "data_prep/prepare_captions.py", *options)
    assert "a\\x1b[2J\\u202e.jpg" in line


# What never ends.


@pytest.mark.parametrize(
    ("start", "fill"), [(b'{"questions": [{"question": "', b"a"), (b'{"questions": [', b" "), (b'{"info": [', b"1, ")]
)
def test_a_gzip_bomb_stops_a_preparation_before_it_fills_the_memory(tmp_path, start, fill):
    reading = preparing_questions(tmp_path)
    reading.file.unlink()
    bomb = gzip_bomb(reading.file.with_name(f"{reading.file.name}.gz"), start, fill, mebibytes=4096)
    assert bomb.stat().st_size < 32 * MEBIBYTE
    line = complaint_of(1, reading.script, *reading.arguments, memory=MEMORY // 4)
    assert "unpacks to more than 200 times its size" in line and bomb.name in line


def test_a_gzip_bomb_stops_other_readers_too(tmp_path):
    bomb = gzip_bomb(tmp_path / "bomb.json.gz", b'{"a": "', b"a", mebibytes=4096)

    def read() -> None:
        with pytest.raises(InputError, match="unpacks to more than 200 times its size"):
            read_json(bomb)

    outcome = run_bounded(read, memory=MEMORY // 2)
    assert outcome.code == 0, outcome.err


def test_json_that_packs_well_is_no_bomb(tmp_path):
    records = json.dumps({"questions": [question(n, n // 4, "Is it red?") for n in range(20_000)]})
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(records.encode()))
    assert sum(1 for _ in read_records(tmp_path / "a.json.gz", "questions", ["question_id"])) == 20_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "fill", "words"),
    [
        (b'{"questions": [{"question": "', b"a", "Unterminated string"),
        (b'{"questions": [{"question_id": ', b"9", "4300 digits"),
        (b'{"questions": [', b" ", "Expecting value"),
        (b"", b"[", "nested too deeply"),
        (b"", b"\n", "Expecting value"),
    ],
)
def test_a_hundred_megabytes_on_one_line_are_refused_in_seconds(tmp_path, start, fill, words):
    content = start + mebibytes(fill, 100)
    assert words in refused(preparing_questions(tmp_path), content, memory=MEMORY // 2)


@pytest.mark.slow
@pytest.mark.parametrize("program", ["scored results", "report"])
def test_a_hundred_megabytes_on_one_line_are_refused_where_files_are_read_whole(tmp_path, program):
    content = b'[{"question_id": "' + mebibytes(b"9", 100) + b'"}]'
    assert "expected a" in refused(READINGS[program](tmp_path), content, memory=2 * MEMORY)


def test_a_file_larger_than_any_of_a_data_set_is_not_read(tmp_path):
    with (tmp_path / "vast.json").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)  # takes no room on the disk
    with pytest.raises(InputError, match="vast.json: has more than 2,147,483,648 bytes, the limit of a file that is"):
        read_json(tmp_path / "vast.json")


def test_a_question_longer_than_any_is_refused(tmp_path):
    reading = preparing_questions(tmp_path)
    content = json.dumps({"questions": [question(7000, 7, "why " * 250_001)]}).encode()
    assert "question has 1,000,004 characters, the limit is 1,000,000" in refused(reading, content)
    (tmp_path / "own.jsonl").write_text(json.dumps({"image": "a.png", "question": "why " * 250_001}))
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="own.jsonl:1: the question has 1,000,004 characters"):
        read_requests(tmp_path / "own.jsonl")
