"""``prepare_captions``: tables, counts, wrong input, bad images, interruption; METER's output as reference."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.prepare.raw_captions import image_path, image_record, write_karpathy, write_small_captions
from vl_absvit.data.records import ImageTable, read_annotations, read_captions, read_questions, read_vocabulary
from vl_absvit.errors import InputError
from vl_absvit.prepare import check_images as image_checks
from vl_absvit.prepare.captions import CaptionOptions, prepare_captions
from vl_absvit.prepare.exclusions import ids_of_file
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2


def prepare(karpathy, output, dataset="flickr30k", root=None, workers=1, **options):
    options = CaptionOptions(dataset=dataset, root=root or karpathy.parent, karpathy=karpathy, **options)
    return prepare_captions(options, output, workers)


def rows_of(output, split):
    return pq.read_table(output / f"{split}.parquet").to_pylist()


def records_of(karpathy):
    return json.loads(karpathy.read_text())["images"]


@pytest.fixture(params=["flickr30k", "coco"])
def dataset(request):
    return request.param


@pytest.fixture
def flickr(tmp_path):
    """The caption file of two images per split: train 6, val 5, test 4, train 3, val 2, test 1."""
    return write_small_captions(tmp_path / "raw", "flickr30k")


def fails(karpathy, tmp_path, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        prepare(karpathy, tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_tables_hold_the_captions_in_file_order(dataset, tmp_path):
    karpathy = write_small_captions(tmp_path / "raw", dataset)
    manifest = prepare(karpathy, tmp_path / "out", dataset)
    key = "cocoid" if dataset == "coco" else "imgid"
    for split, counts in manifest["splits"].items():
        assert rows_of(tmp_path / "out", split) == [
            {"caption_id": sentence["sentid"], "image_id": record[key], "caption": sentence["raw"]}
            for record in records_of(karpathy)
            if record["split"] == split
            for sentence in record["sentences"]
        ]
        assert counts == {"captions": 10, "images": 2, "without_image": 0, "duplicates_removed": 0}
    images = pq.read_table(tmp_path / "out" / "images.parquet").to_pylist()
    assert {row["image_id"]: row["file"] for row in images} == {
        record[key]: f"{record.get('filepath', 'flickr30k-images')}/{record['filename']}"
        for record in records_of(karpathy)
    }
    assert all((row["width"], row["height"], row["bytes"]) == (12, 8, None) for row in images)


def test_the_manifest_says_what_was_made_of_what(flickr, tmp_path):
    manifest = prepare(flickr, tmp_path / "out")
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["format"], manifest["kind"], manifest["dataset"]) == (1, "captions", "flickr30k")
    assert manifest["root"] == str((tmp_path / "raw").resolve())
    assert manifest["options"] == {"embed_images": False, "allow_missing_images": False}
    (source,) = manifest["sources"].items()
    assert source[0] == "dataset_flickr30k.json" and source[1]["bytes"] == flickr.stat().st_size
    assert list(manifest["splits"]) == ["train", "val", "test"]
    assert manifest["skipped_images"] == [] and manifest["skipped_captions"] == {} and not manifest["missing_images"]


def test_captions_that_repeat_themselves_are_removed_in_order_and_counted(tmp_path):
    texts = ["A dog.", "A cat.", "A dog. ", "a dog.", "A dog."]
    records = [image_record("flickr30k", k, "train", texts) for k in (1, 2)]
    manifest = prepare(write_karpathy(tmp_path / "raw", "flickr30k", records), tmp_path / "out")
    kept = [(row["caption_id"], row["caption"]) for row in rows_of(tmp_path / "out", "train")]
    assert kept == [
        (first + k, text) for first in (100, 200) for k, text in ((0, "A dog."), (1, "A cat."), (3, "a dog."))
    ]
    assert manifest["splits"]["train"] == {
        "captions": 6, "images": 2, "without_image": 0, "duplicates_removed": 4,
    }  # fmt: skip
    assert "captions that repeat another one of the same image are left out: 4 of train" in manifest["warnings"]


def test_deviations_from_the_official_counts_are_warned_about(flickr, tmp_path):
    warnings = prepare(flickr, tmp_path / "out")["warnings"]
    assert "train: has captions of 2 images, the official split of 29,000" in warnings
    assert "val: has captions of 2 images, the official split of 1,014; some papers use 1,000" in warnings
    coco = write_karpathy(tmp_path / "coco", "coco", [image_record("coco", 1, "val")])
    warnings = prepare(coco, tmp_path / "coco_out", "coco")["warnings"]
    assert warnings == [
        "train: has captions of 0 images, the official split of 82,783",
        "restval: has captions of 0 images, the official split of 30,504",
        "val: has captions of 1 images, the official split of 5,000",
        "test: has captions of 0 images, the official split of 5,000",
    ]


# Real data, and METER's own writer.


def test_captions_and_splits_are_those_that_meter_writes(golden, tmp_path):
    root = golden / "data_prep" / "root"
    manifest = prepare(root / "karpathy" / "dataset_flickr30k.json", tmp_path / "out", root=root)
    assert "there are no ids of images and captions; they are numbered in file order" in manifest["warnings"]
    file_of = {row["image_id"]: row["file"] for row in pq.read_table(tmp_path / "out" / "images.parquet").to_pylist()}
    written = json.loads((golden / "data_prep" / "arrow_content.json").read_text())
    for split in ("train", "val", "test"):
        ours: dict[str, list[str]] = {}
        for row in rows_of(tmp_path / "out", split):
            ours.setdefault(file_of[row["image_id"]].split("/")[-1], []).append(row["caption"])
        theirs = written[f"f30k_caption_karpathy_{split}.arrow"]["content"]
        assert all(len(set(captions)) == len(captions) for captions in ours.values())
        assert {name: set(captions) for name, captions in ours.items()} == {
            image["image_id"]: set(image["caption"]) for image in theirs
        }
    assert manifest["splits"]["test"]["duplicates_removed"] == 1  # METER removes it when it reads


@pytest.mark.slow
def test_the_real_captions_of_flickr30k_have_the_official_counts(real_data, tmp_path):
    raw = real_data / "flickr30k-karpathy"
    shutil.copytree(raw / "images", tmp_path / "raw" / "flickr30k-images")
    karpathy = raw / "dataset_flickr30k.rebuilt.json.gz"
    manifest = prepare(karpathy, tmp_path / "out", root=tmp_path / "raw", allow_missing_images=True)
    splits = manifest["splits"]
    assert {split: counts["images"] for split, counts in splits.items()} == {
        "train": 29_000,
        "val": 1_014,
        "test": 1_000,
    }
    assert sum(counts["captions"] + counts["duplicates_removed"] for counts in splits.values()) == 155_070
    assert manifest["missing_images"] == 31_000 and not manifest["skipped_images"]
    assert len(ImageTable(tmp_path / "out").available) == 14
    assert not any("official split" in warning for warning in manifest["warnings"])


# Wrong input that no record shows by itself.


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (image_record("flickr30k", 1, "train"), r"image 1 \(flickr30k-images/1001.jpg\) occurs twice"),
        (image_record("flickr30k", 1, "test"), "image 1 .* is both in train and in test"),
        (image_record("flickr30k", 2, "train") | {"filename": "1001.jpg"}, "the images 1 and 2 are the same file"),
        (image_record("flickr30k", 2, "train") | {"filename": "./1001.jpg"}, "the images 1 and 2 are the same file"),
        (
            image_record("flickr30k", 2, "val") | {"sentences": image_record("flickr30k", 1, "train")["sentences"]},
            "dataset_flickr30k.json: image 2: the caption id 100 occurs twice",
        ),
    ],
)
def test_records_that_do_not_fit_together_are_refused(tmp_path, second, message):
    karpathy = write_karpathy(tmp_path / "raw", "flickr30k", [image_record("flickr30k", 1, "train"), second])
    fails(karpathy, tmp_path, message)


def test_a_repeated_caption_still_needs_an_id_of_its_own(tmp_path):
    record = image_record("flickr30k", 1, "train", ["A dog.", "A dog."])
    record["sentences"][1]["sentid"] = 100
    fails(write_karpathy(tmp_path / "raw", "flickr30k", [record]), tmp_path, "the caption id 100 occurs twice")


def test_folders_and_files_that_are_not_there_are_refused(flickr, tmp_path):
    fails(flickr, tmp_path, "nowhere: no such folder", root=tmp_path / "nowhere")
    fails(tmp_path / "nowhere.json", tmp_path, "nowhere.json: no such file")
    fails(flickr, tmp_path, "is about 'flickr30k', asked for 'coco'", dataset="coco")


def test_broken_files_leave_nothing_taken_in_half(flickr, tmp_path):
    whole = flickr.read_bytes()
    flickr.write_bytes(whole[: len(whole) // 2])
    fails(flickr, tmp_path, "expected JSON in UTF-8")
    flickr.write_bytes(whole)
    assert prepare(flickr, tmp_path / "out")["splits"]["test"]["captions"] == 10


# Images.


def test_bad_images_are_left_out_with_their_captions_and_a_reason(flickr, tmp_path):
    image_path(tmp_path / "raw", image_record("flickr30k", 3, "train")).write_bytes(b"GIF, or so it says")
    for number in (4, 1):
        image_path(tmp_path / "raw", image_record("flickr30k", number, "test")).write_bytes(b"")
    manifest = prepare(flickr, tmp_path / "out")
    assert {row["image_id"] for row in rows_of(tmp_path / "out", "train")} == {6}
    reason = manifest["skipped_images"][1]["reason"]
    assert reason.startswith("not an image") and manifest["skipped_images"] == [
        {"image_id": 1, "file": "flickr30k-images/1001.jpg", "reason": "empty file"},
        {"image_id": 3, "file": "flickr30k-images/1003.jpg", "reason": reason},
        {"image_id": 4, "file": "flickr30k-images/1004.jpg", "reason": "empty file"},
    ]
    assert manifest["skipped_captions"] == {"test": {"empty file": 10}, "train": {reason: 5}}
    assert "test" not in manifest["splits"] and not (tmp_path / "out" / "test.parquet").exists()
    assert "test: has captions of 0 images, the official split of 1,000" in manifest["warnings"]
    warning = next(warning for warning in manifest["warnings"] if "cannot be used" in warning)
    assert warning.startswith("3 images") and "left out with their captions: 10 of test, 5 of train" in warning


# Again, and after an interruption.


def test_two_preparations_do_not_write_into_one_folder(flickr, tmp_path, monkeypatch):
    def prepare_again(raw, image):
        with pytest.raises(InputError, match="locked; is another preparation at work here?"):
            prepare(flickr, tmp_path / "out")
        raise KeyboardInterrupt

    monkeypatch.setattr(image_checks, "check_image", prepare_again)
    with pytest.raises(KeyboardInterrupt):
        prepare(flickr, tmp_path / "out")


# Reading it back.


def test_captions_are_read_in_the_order_of_the_splits_named(dataset, tmp_path):
    karpathy = write_small_captions(tmp_path / "raw", dataset)
    prepare(karpathy, tmp_path / "out", dataset)
    captions = read_captions(tmp_path / "out", ["val", "train"])
    assert captions.column_names == ["caption_id", "image_id", "caption"]
    assert captions.to_list() == rows_of(tmp_path / "out", "val") + rows_of(tmp_path / "out", "train")
    with pytest.raises(InputError, match="there is no split 'minival'; it has train, "):
        read_captions(tmp_path / "out", ["minival"])


def test_readers_refuse_the_other_kind_of_data(flickr, golden, tmp_path):
    prepare(flickr, tmp_path / "captions")
    for read in (read_questions, read_annotations, lambda root, splits: read_vocabulary(root)):
        with pytest.raises(InputError, match="captions: expected prepared data of the kind vqav2.*, got 'captions'"):
            read(tmp_path / "captions", ["train"])
    prepare_vqav2(PrepareOptions(root=golden / "data_prep" / "root", min_count=1), tmp_path / "vqa", 1)
    with pytest.raises(InputError, match="of the kind 'captions', not 'vqav2'; choose another --output"):
        prepare_vqav2(PrepareOptions(root=golden / "data_prep" / "root"), tmp_path / "captions", 1)
    with pytest.raises(InputError, match="vqa: expected prepared data of the kind captions, got 'vqav2'"):
        read_captions(tmp_path / "vqa", ["train"])


def test_pictures_of_test_sets_are_left_out_of_training_alone_and_counted(tmp_path):
    karpathy = write_small_captions(tmp_path / "raw", "coco")  # train 80 and 40, restval 70 and 30, test 50 and 10
    (tmp_path / "ids.txt").write_text("coco 80\ncoco 50\n")
    (tmp_path / "seen").mkdir()
    for number, split in ((3, "restval"), (1, "test")):
        picture = image_path(tmp_path / "raw", image_record("coco", number, split))
        Image.new("RGB", (20 + number, 20)).save(picture)  # others have the same bytes as JPEG
        shutil.copy(picture, tmp_path / f"seen/{number}.jpg")
    excluded = [str(tmp_path / "ids.txt"), str(tmp_path / "seen")]
    manifest = prepare(karpathy, tmp_path / "out", "coco", exclude=excluded)
    assert manifest["skipped_captions"] == {"train": {"excluded by coco": 5}, "restval": {"excluded by sha256": 5}}
    assert [each["image_id"] for each in manifest["skipped_images"]] == [30, 80]
    assert {split: counts["images"] for split, counts in manifest["splits"].items()} == {
        "train": 1, "restval": 1, "val": 2, "test": 2,
    }  # fmt: skip
    assert set(ImageTable(tmp_path / "out").available.tolist()) == {10, 20, 40, 50, 60, 70}
    said = "2 images cannot or must not be used, see skipped_images in manifest.json; left out with their captions: "
    assert f"{said}5 of restval, 5 of train" in manifest["warnings"] and manifest["excluded_for"] == excluded
    (tmp_path / "ids.txt").write_text("coco 80\n")
    with pytest.raises(InputError, match="was prepared from other options: excluded was"):
        prepare(karpathy, tmp_path / "out", "coco", exclude=excluded)


@pytest.mark.parametrize(
    ("file", "of_published", "of_own"),
    [
        ("flickr30k-images/36979.jpg", {"flickr": "36979"}, {}),
        ("1000268201_693b08cb0e.jpg", {"flickr": "1000268201"}, {"flickr": "1000268201"}),
        ("val2014/COCO_val2014_000000391895.jpg", {"coco": "391895"}, {"coco": "391895"}),
        ("12.jpg", {}, {}),
    ],
)
def test_a_number_is_an_id_of_flickr_where_names_are_flickrs(file, of_published, of_own):
    assert ids_of_file(file, is_published=True) == of_published and ids_of_file(file) == of_own
