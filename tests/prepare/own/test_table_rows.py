"""Tables in any form give the same rows; a bad line is refused with its number, a bad file stops the run."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from vl_absvit.errors import InputError
from vl_absvit.prepare.own.refusals import Fault
from vl_absvit.prepare.own.table_rows import files_of, read_table

ROWS = [{"image": "a.jpg", "answer": "red"}, {"image": "b.jpg", "answer": "2"}]


def write(folder, name):
    path = folder / name
    if name == "saved":
        Dataset.from_list(ROWS).save_to_disk(path)
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif name.endswith(".json"):
        path.write_text(json.dumps(ROWS))
    elif name.endswith("jsonl"):
        path.write_text("\n".join(map(json.dumps, ROWS)))
    else:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(ROWS[0]), delimiter="\t" if name.endswith("tsv") else ",")
            writer.writeheader(), writer.writerows(ROWS)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.jsonl", "t.json", "t.parquet", "saved"])
def test_every_form_gives_the_same_rows(tmp_path, name):
    path = write(tmp_path, name)
    found = list(read_table(path))
    assert [row.cells for row in found] == ROWS
    first = {"json": "record 1", "jsonl": "line 1", "parquet": "row 1", "saved": "row 1"}.get(
        name.split(".")[-1], "line 2"
    )
    assert str(found[0].place) == f"{name}: {first}"
    assert all(file.is_file() and key.startswith(name) for key, file in files_of(path).items())


def test_a_saved_dict_says_splits_names_labels_and_leaves_pictures_alone(tmp_path):
    features = Features({"image": Image(), "label": ClassLabel(names=["no", "yes"]), "n": Value("int64")})
    (tmp_path / "broken.jpg").write_bytes(b"decoding fails")
    rows = Dataset.from_dict(
        {"image": [str(tmp_path / "broken.jpg")] * 2, "label": [1, -1], "n": [1, 2]}, features=features
    )
    DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(tmp_path / "saved")
    found = list(read_table(tmp_path / "saved"))
    assert [(str(row.place), row.split, row.cells["label"]) for row in found] == [
        ("saved/train: row 1", "train", "yes"),
        ("saved/train: row 2", "train", None),
        ("saved/test: row 1", "test", "yes"),
    ]


def test_a_bad_line_of_json_is_refused_alone(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n\n{"a": 1, "a": 2}\n[1]\n{"a": NaN}\n{"a": 2}')
    found = {row.place.number: row.cells for row in read_table(tmp_path / "t.jsonl")}
    assert {number: each.reason for number, each in found.items() if isinstance(each, Fault)} == {
        3: "not JSON", 4: "no JSON object", 5: "not JSON",
    }  # fmt: skip
    assert found[1] == {"a": 1} and found[6] == {"a": 2}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.csv", "absent.csv: no such file"),
        ("t.xlsx", r"t.xlsx: expected a table \*.csv, .* or a folder that datasets' save_to_disk wrote"),
        ("t.parquet", "t.parquet: cannot be read as Parquet, after row 0"),
        ("t.json", "t.json: expected an object .* or a list"),
        ("folder", "folder: expected a folder that datasets' save_to_disk wrote"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    if name.startswith("t."):
        (tmp_path / name).write_text("1")
    with pytest.raises(InputError, match=message):
        list(read_table(tmp_path / name))


def test_only_lines_can_be_without_a_header(tmp_path):
    with pytest.raises(InputError, match="only .csv, .tsv, .txt can be without a header"):
        read_table(write(tmp_path, "t.jsonl"), has_header=False)
