"""NLVR2's preparation: tables in the order of the lines, images by name and content, one line for whatever is wrong."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from tests.prepare.raw_nlvr2 import SENTENCES, image_files, line, lines_of, prepare, write_lists, write_small_nlvr2
from vl_absvit.data.identity import content_of
from vl_absvit.data.records import ImageTable, read_statements
from vl_absvit.errors import ConfigError, InputError


@pytest.fixture
def raw(tmp_path):
    return write_small_nlvr2(tmp_path / "raw")


def rows_of(output, split):
    return pq.read_table(output / f"{split}.parquet").to_pylist()


def fails(raw, tmp_path, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        prepare(raw, tmp_path / "out", **options)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_tables_hold_the_lines_in_order_with_both_images_and_the_subset(raw, tmp_path):
    manifest = prepare(raw, tmp_path / "out")
    rows = rows_of(tmp_path / "out", "dev")
    assert [row["name"] for row in rows] == [each["identifier"] for each in lines_of("dev")]
    assert [row["subset"] for row in rows] == ["balanced"] * 3 + [None] + ["unbalanced"] * 2 + [None] * 2
    assert [row["label"] for row in rows] == [1, 0, 0, 1] * 2 and rows[1]["statement"] == SENTENCES[1]
    table = ImageTable(tmp_path / "out")
    places = table.records([rows[6]["image_id"], rows[6]["second_image_id"]])
    assert [place.file for place in places] == ["dev/dev-1-1-img0.png", "dev/dev-1-1-img1.png"]
    assert all(picture.size == (12, 8) for picture in table.open([rows[6]["image_id"]]))  # a JPEG named .png
    assert manifest["splits"]["train"] == {
        "statements": 8, "images": 8, "without_image": 0, "labels": {"False": 4, "True": 4},
    }  # fmt: skip
    assert (manifest["dataset"], manifest["labels"]) == ("nlvr2", ["False", "True"])
    assert "train: has 8 statements, the official split has 86,373" in manifest["warnings"]


def test_ids_of_splits_sets_pairs_and_sentences_are_all_different(raw, tmp_path):
    prepare(raw, tmp_path / "out")
    both = read_statements(tmp_path / "out", ["train", "dev"], "nlvr2")
    assert len(set(both["statement_id"])) == 16
    assert len({*both["image_id"], *both["second_image_id"]}) == 16


def test_images_are_found_by_name_in_other_folders(raw, tmp_path):
    shutil.move(raw / "images/train/7", raw / "pictures")
    shutil.rmtree(raw / "images")
    assert prepare(raw, tmp_path / "out")["missing_images"] == 0
    (file,) = {record.file.rpartition("/")[0] for record in ImageTable(tmp_path / "out").records([0])}
    assert file == "pictures"


def test_a_statement_with_one_bad_image_is_left_out_and_counted_once(raw, tmp_path):
    for side in (0, 1):
        (raw / f"dev/dev-0-0-img{side}.png").write_bytes(b"<html>")
    (raw / "dev/dev-1-1-img1.png").write_bytes(b"<html>")
    manifest = prepare(raw, tmp_path / "out")
    assert sum(manifest["skipped_statements"]["dev"].values()) == 4 == manifest["splits"]["dev"]["statements"]
    assert {row["name"][:7] for row in rows_of(tmp_path / "out", "dev")} == {"dev-0-1", "dev-1-0"}


def test_missing_images_are_refused_or_counted_by_statement(raw, tmp_path):
    (raw / "dev/dev-1-1-img1.png").unlink()
    fails(raw, tmp_path, "1 images are missing, the first is .*dev-1-1-img1.png .*--allow-missing-images")
    manifest = prepare(raw, tmp_path / "out", allow_missing_images=True)
    assert manifest["splits"]["dev"] == {
        "statements": 8, "images": 8, "without_image": 2, "labels": {"False": 4, "True": 4},
    }  # fmt: skip


def test_splits_that_share_addresses_of_images_are_told(tmp_path):
    raw = write_small_nlvr2(tmp_path / "raw", ("dev", "test1"))
    lines = lines_of("test1")
    lines[0]["left_url"] = lines_of("dev")[0]["left_url"]
    write_lists(raw, {"test1": lines})
    manifest = prepare(raw, tmp_path / "out")
    assert manifest["shared_addresses"] == {"dev and test1": 1}


def test_named_splits_are_prepared_and_those_without_pictures_only_if_named(tmp_path):
    raw = write_small_nlvr2(tmp_path / "raw", ("dev", "test1"))
    write_lists(raw, {"test2": lines_of("test2")})  # as in the authors' repository
    assert [*prepare(raw, tmp_path / "usual")["splits"]] == ["dev", "test1"]
    assert [*prepare(raw, tmp_path / "named", splits=["dev"])["splits"]] == ["dev"]
    fails(raw, tmp_path, "none of the 8 images of test2 is there", splits=["test2"])
    fails(raw, tmp_path, "there is no train.json; looked for it in .*nlvr2/data", splits=["train", "dev"])
    with pytest.raises(ConfigError, match="expected some of train, dev, test1, test2, got val"):
        prepare(raw, tmp_path / "out", splits=["val"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "true"}, "dev.json: line 1: expected the label True or False, got 'true'"),
        ({"label": True}, "line 1: expected label to be a string, got a boolean"),
        ({"identifier": "dev-0-0"}, "line 1: expected an identifier such as dev-850-0-1, got 'dev-0-0'"),
        ({"identifier": "dev-00-0-1"}, "line 1: expected an identifier such as dev-850-0-1, got 'dev-00-0-1'"),
        ({"identifier": "test1-0-0-0"}, "line 1: expected the identifiers of dev, got test1-0-0-0"),
        ({"sentence": "  "}, "line 1: the statement is empty"),
        ({"identifier": "dev-0-0-1"}, "the statement dev-0-0-1 occurs 2 times"),
        ({"identifier": "dev-9-0-0"}, "1 statements of its subsets are not in it, e.g. dev-0-0-0"),
    ],
)
def test_what_is_wrong_with_a_line_is_one_line(raw, tmp_path, changes, message):
    first, *rest = lines_of("dev")
    write_lists(raw, {"dev": [first | changes, *rest]})
    fails(raw, tmp_path, message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "dev.json: line 1: expected an object, got a list"),
        ("{", "line 1: expected JSON"),
        ("", "expected one line of JSON for each statement, got none"),
    ],
)
def test_what_is_no_line_is_one_line(raw, tmp_path, text, message):
    (raw / "nlvr2/data/dev.json").write_text(text)
    fails(raw, tmp_path, message)


def test_train_needs_its_directories_and_subsets_come_in_pairs(raw, tmp_path):
    write_lists(raw, {"train": [line("train-0-0-0", "True")]})
    fails(raw, tmp_path, "train.json: line 1: there is no 'directory'")
    write_lists(raw, {"train": lines_of("train")})
    (raw / "nlvr2/data/balanced/balanced_dev.json").unlink()
    fails(raw, tmp_path, "balanced: expected balanced_dev.json beside the other subset")


def test_content_depends_on_labels_and_on_the_second_image(raw, tmp_path):
    prepare(raw, tmp_path / "out")
    before = content_of(tmp_path / "out", ["dev"])
    lines = lines_of("dev")
    write_lists(raw, {"dev": [lines[0] | {"label": "False"}, *lines[1:]]})
    prepare(raw, tmp_path / "other")
    assert content_of(tmp_path / "other", ["dev"]) != before
    assert content_of(tmp_path / "out", ["dev"]) == before


def test_genuine_lines_have_the_counts_that_were_published_for_them(real_data, tmp_path):
    manifest = prepare(real_data / "nlvr2", tmp_path / "out", allow_missing_images=True)
    counts = manifest["splits"]["dev"]
    assert (counts["statements"], counts["labels"]["True"]) == (271, 139)
    assert manifest["splits"]["test1"]["statements"] == 136 and manifest["skipped_images"] == []
    rows = rows_of(tmp_path / "out", "dev")
    balanced = [
        json.loads(each)["identifier"] for each in open(real_data / "nlvr2/nlvr2/data/balanced/balanced_dev.json")
    ]
    assert {row["name"] for row in rows if row["subset"] == "balanced"} == set(balanced)
    sizes = ImageTable(tmp_path / "out")
    assert len(sizes.available) == 4 and len(image_files(lines_of("dev"))) == 8
