"""SNLI-VE's preparation, of both releases and of e-SNLI-VE: the hypothesis alone, labels as they stand, no other's."""

import csv

import pyarrow.parquet as pq
import pytest

from tests.prepare.raw_snli_ve import (
    LABELS,
    pair,
    pairs_of,
    prepare,
    write_images,
    write_lines,
    write_small_snli_ve,
    write_table,
)
from vl_absvit.errors import ConfigError, InputError


@pytest.fixture
def raw(tmp_path):
    return write_small_snli_ve(tmp_path / "raw")


def rows_of(output, split):
    return pq.read_table(output / f"{split}.parquet").to_pylist()


def fails(raw, tmp_path, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        prepare(raw, tmp_path / "out", **options)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_tables_hold_hypotheses_in_file_order_with_their_gold_labels(raw, tmp_path):
    manifest = prepare(raw, tmp_path / "out")
    rows = rows_of(tmp_path / "out", "dev")
    assert [(row["name"], row["image_id"], row["statement"], LABELS[row["label"]]) for row in rows] == [
        (each["pairID"], int(each["Flickr30K_ID"]), each["sentence2"], each["gold_label"]) for each in pairs_of("dev")
    ]
    assert manifest["dataset"] == "snli_ve" and manifest["labels"] == list(LABELS)
    assert manifest["splits"]["dev"] == {
        "statements": 6, "images": 2, "without_image": 0, "labels": dict.fromkeys(LABELS, 2),
    }  # fmt: skip
    assert "dev: has 6 statements, the official split has 17,858" in manifest["warnings"]
    train = rows_of(tmp_path / "out", "train")
    assert len({row["statement_id"] for row in [*rows, *train]}) == 12


@pytest.mark.parametrize("image", [2000, "2000", "2000.jpg", " 2000.JPG"])
@pytest.mark.parametrize("key", ["Flickr30K_ID", "Flikr30kID"])
def test_images_are_named_as_numbers_or_files_under_either_key(raw, tmp_path, image, key):
    record = pair(2000, 0, "neutral")
    del record["Flickr30K_ID"]
    write_lines(raw / "snli_ve_dev.jsonl", [record | {key: image}])
    prepare(raw, tmp_path / "out")
    assert [row["image_id"] for row in rows_of(tmp_path / "out", "dev")] == [2000]


def test_e_snli_ve_is_another_data_set(tmp_path):
    (tmp_path / "raw").mkdir()
    records = [*pairs_of("dev"), pair(2000, 7, "neutral", " A man,\nwho waits. ")]
    write_table(tmp_path / "raw/esnlive_dev.csv", records)
    write_images(tmp_path / "raw", records)
    manifest = prepare(tmp_path / "raw", tmp_path / "out")
    assert (manifest["dataset"], manifest["kind"]) == ("e_snli_ve", "snli_ve")
    rows = rows_of(tmp_path / "out", "dev")
    assert len(rows) == 7 and rows[6]["statement"] == "A man,\nwho waits." and rows[6]["label"] == 1


def test_both_data_sets_together_are_refused(raw, tmp_path):
    write_table(raw / "esnlive_dev.csv", pairs_of("dev"))
    fails(raw, tmp_path, "has files of SNLI-VE and of e-SNLI-VE; name those of one of them by --lists")
    lists = [f"train={raw / 'snli_ve_train.jsonl'}", f"dev={raw / 'esnlive_dev.csv'}"]
    fails(raw, tmp_path, "is of SNLI-VE and .*esnlive_dev.csv of e-SNLI-VE, whose labels differ", lists=lists)
    assert prepare(raw, tmp_path / "out", lists=[f"dev={raw / 'esnlive_dev.csv'}"])["dataset"] == "e_snli_ve"


def test_snli_itself_is_told_from_snli_ve_with_counts(raw, tmp_path):
    records = [*pairs_of("dev"), pair(2000, 8, "-"), pair(2000, 9, "-")]
    write_lines(raw / "snli_ve_dev.jsonl", records)
    fails(raw, tmp_path, "dev.jsonl: 2 of 8 records have the gold_label '-': this is SNLI, not SNLI-VE")
    for record in records[-2:]:
        del record["Flickr30K_ID"]
    write_lines(raw / "snli_ve_dev.jsonl", records)
    fails(raw, tmp_path, "2 of 8 records have the gold_label '-' and 2 of 8 records have no Flickr30K_ID: this is SNLI")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gold_label": "Neutral"}, "dev.jsonl: line 1: expected gold_label to be one of contradiction, neutral, ent"),
        ({"Flickr30K_ID": "vg_12"}, "line 1: expected Flickr30K_ID to be a number such as 2248275918.jpg, got 'vg_12'"),
        ({"Flickr30K_ID": None}, "expected Flickr30K_ID to be a number"),
        ({"Flickr30K_ID": True}, "expected Flickr30K_ID to be a number"),
        ({"sentence2": ""}, "line 1: the statement is empty"),
        ({"sentence2": 3}, "line 1: expected sentence2 to be a string, got a number"),
        ({"pairID": "2000.jpg#1r1n"}, "the statement 2000.jpg#1r1n occurs 2 times"),
    ],
)
def test_what_is_wrong_with_a_record_is_one_line(raw, tmp_path, changes, message):
    first, *rest = pairs_of("dev")
    write_lines(raw / "snli_ve_dev.jsonl", [first | changes, *rest])
    fails(raw, tmp_path, message)


def test_files_that_are_neither_are_refused(raw, tmp_path):
    (raw / "snli_ve_dev.jsonl").write_text("image,caption\n")
    fails(raw, tmp_path, "expected lines of JSON as SNLI-VE has them, or e-SNLI-VE's table .*got 'image,caption'")
    (raw / "snli_ve_dev.jsonl").write_text("pairID,hypothesis,gold_label\n1,A dog.,neutral\n")
    fails(raw, tmp_path, "table with the columns pairID, Flickr30kID, hypothesis, gold_label, got 'pairID,hyp")
    fails(raw, tmp_path, "none.jsonl: no such file", lists=[f"dev={raw / 'none.jsonl'}"])
    fails(tmp_path, tmp_path, "there is no snli_ve_dev.jsonl or esnlive_dev.csv; --lists dev=FILE takes files of other")


@pytest.mark.parametrize("lists", [["val=a"], ["dev"], ["dev=a", "dev=b"], ["dev=x/a", "test=y/a"]])
def test_wrong_lists_are_one_line(lists):
    with pytest.raises(ConfigError, match="--lists: expected"):
        prepare("raw", "out", lists=lists)


def test_another_split_of_the_same_file_is_another_request(raw, tmp_path):
    file = raw / "snli_ve_dev.jsonl"
    prepare(raw, tmp_path / "out", lists=[f"dev={file}"])
    with pytest.raises(InputError, match="was prepared from other options"):
        prepare(raw, tmp_path / "out", lists=[f"test={file}"])


def test_images_that_train_and_dev_share_are_told(raw, tmp_path):
    write_lines(raw / "snli_ve_dev.jsonl", [pair(1000, 5, "neutral")])
    assert "1 images of dev are images of train, too" in prepare(raw, tmp_path / "out")["warnings"]


@pytest.mark.parametrize(
    ("file", "dataset", "number"),
    [
        ("snli_ve_excerpt.jsonl", "snli_ve", 10),
        ("snli_ve_first_release.jsonl", "snli_ve", 4),
        ("esnlive_dev.excerpt.csv", "e_snli_ve", 316),
    ],
)
def test_genuine_records_are_read_as_they_stand(real_data, tmp_path, file, dataset, number):
    path = real_data / "snli-ve" / file
    pictures = real_data / "flickr30k-karpathy/images"
    if dataset == "e_snli_ve" or "first" in file:  # whose photographs are not here
        with path.open(newline="") as stream:
            rows = [] if "first" in file else list(csv.DictReader(stream))
        ids = {row["Flickr30kID"][:-4] for row in rows} | {"555378351", "3253523210"}
        write_images(tmp_path, [{"Flickr30K_ID": each} for each in ids], folder="pictures")
        pictures = tmp_path / "pictures"
    options = {"images": pictures, "lists": [f"dev={path}"], "allow_missing_images": True}
    manifest = prepare(real_data / "snli-ve", tmp_path / "out", **options)
    counts = manifest["splits"]["dev"]
    assert (manifest["dataset"], counts["statements"]) == (dataset, number)
    if file == "snli_ve_excerpt.jsonl":
        (odd,) = [row for row in rows_of(tmp_path / "out", "dev") if row["name"] == "2248275918.jpg#3r1c"]
        assert LABELS[odd["label"]] == "neutral" and counts["without_image"] == 0
