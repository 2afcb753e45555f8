"""Captions of one's own: every form gives the same tables, under the own name; rows that cannot be used are counted."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.prepare.own.own_shop import write_lines, write_pictures
from vl_absvit.data.records import read_captions
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.own.captions import OwnCaptionOptions, prepare_own_captions

CAPTIONS = [
    ("0.jpg", "two dogs, one ball"),
    ("0.jpg", "a ball"),
    ("1.jpg", 'a sign says "stop"; [red]'),
    ("2.jpg", "[a] cat"),
]


@pytest.fixture
def prepare(tmp_path):
    """Prepare pictures and tables; the manifest."""
    write_pictures(tmp_path, 4)

    def run(*table, output="out", **options):
        options = {"name": "shop", "images": tmp_path / "pictures", "table": list(map(str, table)), **options}
        return prepare_own_captions(OwnCaptionOptions(**options), tmp_path / output, workers=1)

    return run


def lines(mark, header=None):
    rows = ([header] if header else []) + [(file, f'"{text.replace(chr(34), chr(34) * 2)}"') for file, text in CAPTIONS]
    return "".join(f"{mark.join(row)}\n" for row in rows)


def write(path, form):
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist([{"filepath": file, "title": text} for file, text in CAPTIONS]), path)
    elif form == "jsonl":
        texts = {file: [text for other, text in CAPTIONS if other == file] for file, _ in CAPTIONS}
        write_lines(
            path, [{"image": file, "captions": each if len(each) > 1 else each[0]} for file, each in texts.items()]
        )
    else:
        path.write_text(lines(*form))
    return path


FORMS = {
    "a.csv": (",", ("image", "caption")),
    "b.csv": ("\t", ("filepath", "title")),  # as open_clip reads it
    "c.csv": (";", ("Filename", "Text")),
    "d.txt": ("|", ("img", "sentence")),
    "e.tsv": ("\t", ("image", "caption")),
    "f.jsonl": "jsonl",
    "g.parquet": "parquet",
    "h.csv": (",",),
    "i.tsv": ("\t",),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_captions(prepare, tmp_path, name):
    table = write(tmp_path / name, FORMS[name])
    manifest = prepare(table, val_share=0.0, no_header=len(FORMS[name]) == 1)
    assert (manifest["dataset"], manifest["kind"], manifest["own"]) == ("shop", "captions", True)
    found = read_captions(tmp_path / "out", ["train"])
    assert list(zip(found["image_id"], found["caption"], strict=True)) == [
        (int(file[0]) + 1, caption) for file, caption in CAPTIONS
    ]
    assert manifest["splits"]["train"] == {"captions": 4, "images": 3, "without_image": 0, "duplicates_removed": 0}


def test_repeats_are_counted_and_refused_rows_are_listed(prepare, tmp_path):
    rows = [
        {"image": f"{n}.jpg", "caption": "a ball", "split": split} for n, split in enumerate(["train", "dev", "test"])
    ]
    rows += [
        rows[0],
        rows[0] | {"split": "val"},
        rows[0] | {"caption": ""},
        rows[1] | {"image": "/etc/passwd"},
        rows[2] | {"caption": {}},
    ]
    manifest = prepare(write_lines(tmp_path / "t.jsonl", rows))
    assert {split: (each["captions"], each["duplicates_removed"]) for split, each in manifest["splits"].items()} == {
        "train": (1, 1), "test": (1, 0), "val": (1, 0),
    }  # fmt: skip
    refused = [json.loads(line) for line in (tmp_path / "out/refused.jsonl").read_text().splitlines()]
    assert {each["line"]: each["reason"] for each in refused} == {
        5: "a picture that is in another split, too",
        6: "no caption",
        7: "a picture outside the folder of pictures",
        8: "a cell that is neither text nor a number",
    }
    assert manifest["rows"] == 8 and "4 of 8 rows are refused" in manifest["warnings"][0]
    assert "captions that repeat another one of the same image are left out: 1 of train" in manifest["warnings"]


def test_splits_come_from_files_or_a_draw(prepare, tmp_path):
    tables = [write_lines(tmp_path / f"{n}.jsonl", [{"image": f"{n}.jpg", "caption": f"thing {n}"}]) for n in range(4)]
    given = prepare(*(f"{split}={path}" for split, path in zip(("train", "val", "test"), tables, strict=False)))
    assert {split: each["images"] for split, each in given["splits"].items()} == {"train": 1, "val": 1, "test": 1}
    drawn = prepare(*tables, output="drawn", val_share=0.25, test_share=0.25)
    assert {split: each["images"] for split, each in drawn["splits"].items()} == {"train": 2, "val": 1, "test": 1}


def test_what_cannot_be_used_is_one_line(prepare, tmp_path):
    table = write_lines(tmp_path / "t.jsonl", [{"image": "0.jpg", "words": "a ball"}])
    with pytest.raises(InputError, match="t.jsonl: has no column for the caption, captions or .*; it has image, words"):
        prepare(table)
    with pytest.raises(InputError, match="1 images are missing"):
        prepare(
            write_lines(tmp_path / "t.jsonl", [{"image": "9.jpg", "caption": "a"}, {"image": "0.jpg", "caption": "a"}]),
            val_share=0.0,
        )
    with pytest.raises(ConfigError, match="--dataset Flickr30K: is a published data set"):
        prepare(table, name="Flickr30K")


def test_pictures_of_test_sets_are_left_out_of_training_and_counted(prepare, tmp_path):
    rows = [{"image": f"{n}.jpg", "caption": f"thing {n}", "split": "test" if n == 3 else "train"} for n in range(4)]
    table = write_lines(tmp_path / "t.jsonl", rows)
    (tmp_path / "seen").mkdir()
    for number in (1, 3):
        shutil.copy(tmp_path / f"pictures/{number}.jpg", tmp_path / f"seen/1000{number}.jpg")
    manifest = prepare(table, exclude=[str(tmp_path / "seen")])
    assert manifest["skipped_captions"] == {"train": {"excluded by sha256": 1}}
    assert read_captions(tmp_path / "out", ["train"])["caption"] == ["thing 0", "thing 2"]
    assert read_captions(tmp_path / "out", ["test"])["caption"] == ["thing 3"]
    with pytest.raises(InputError, match="was prepared from other options"):
        prepare(table)
