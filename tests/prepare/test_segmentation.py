"""Labels reach the tables without loss, under final class numbers; what is no label of the data set is refused."""

import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.prepare.raw_segmentation import CLASSES, write_small_segmentation
from vl_absvit.data.segmentation_labels import decode_label, standard_colours
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.repeats import equal_files
from vl_absvit.prepare.segmentation import SegmentationOptions, prepare_segmentation

VOC = "VOCdevkit/VOC2012"


def prepare(dataset: str, root: Path, output: Path, **options: bool) -> dict:
    return prepare_segmentation(SegmentationOptions(dataset=dataset, root=root, **options), output, workers=1)


def labels(output: Path, split: str) -> dict[str, np.ndarray]:
    rows = pq.read_table(output / f"{split}.parquet").to_pylist()
    return {row["name"]: decode_label(row["label"]) for row in rows}


def tiny_voc(root: Path, splits: dict[str, list[str]], aug: list[str] = ()) -> Path:
    """Pictures of 6 x 4 pixels with palette labels, in VOC's folders."""
    base = root / VOC
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    for split, names in [*splits.items(), ("aug", aug)]:
        if names:
            (base / f"ImageSets/Segmentation/{split}.txt").write_text("".join(f"{name}\n" for name in names))
    for name in {*aug, *(name for names in splits.values() for name in names)}:
        Image.new("RGB", (6, 4)).save(base / f"JPEGImages/{name}.jpg")
        label = Image.fromarray(np.array([[0, 1, 20, 255, 0, 0]] * 4, np.uint8)).convert("P")
        label.putpalette(sum(standard_colours(256), ()))
        for folder in ("SegmentationClass", *(["SegmentationClassAug"] if name in aug else [])):
            label.save(base / f"{folder}/{name}.png")
    return root


def test_a_folder_of_ones_own_becomes_tables(tmp_path):
    raw = write_small_segmentation(tmp_path / "raw", {"train": 3, "val": 2})
    manifest = prepare("folder", raw, tmp_path / "out")
    assert manifest["classes"] == list(CLASSES) and manifest["warnings"] == []
    assert (manifest["kind"], manifest["dataset"]) == ("segmentation", "folder")
    assert manifest["splits"]["train"]["void_percent"] == 6.25
    for split in ("train", "val"):
        for name, label in labels(tmp_path / "out", split).items():
            assert label.dtype == np.uint8
            np.testing.assert_array_equal(label, Image.open(raw / f"labels/{split}/{name}.png"))
    assert prepare("folder", raw, tmp_path / "out") == manifest


def test_labels_read_in_other_processes_are_those_read_in_this_one(tmp_path, monkeypatch):
    raw = write_small_segmentation(tmp_path / "raw", {"train": 5, "val": 2})
    prepare("folder", raw, tmp_path / "alone")
    monkeypatch.setattr("vl_absvit.prepare.segmentation._LABELS_AT_ONCE", 3)
    prepare_segmentation(SegmentationOptions(dataset="folder", root=raw), tmp_path / "together", workers=2)
    for split in ("train", "val"):
        alone, together = (pq.read_table(tmp_path / name / f"{split}.parquet") for name in ("alone", "together"))
        assert alone.equals(together)


def test_a_palette_is_read_by_its_numbers_and_sbd_adds_to_train_alone(tmp_path):
    raw = tiny_voc(tmp_path, {"train": ["a", "b"], "val": ["c"]}, aug=["b", "d"])
    manifest = prepare("voc_aug", raw, tmp_path / "out")
    assert {split: list(labels(tmp_path / "out", split)) for split in manifest["splits"]} == {
        "train": ["a", "b", "d"], "val": ["c"]
    }  # fmt: skip
    np.testing.assert_array_equal(labels(tmp_path / "out", "train")["d"], [[0, 1, 20, 255, 0, 0]] * 4)
    assert manifest["warnings"][0] == "train: has 3 pictures, the published split 10,582"
    assert list(prepare("voc", raw, tmp_path / "plain")["splits"]) == ["train", "val"]


def test_a_picture_in_train_and_val_is_refused(tmp_path):
    raw = tiny_voc(tmp_path, {"train": ["a"], "val": ["b", "c"]}, aug=["c", "b"])
    with pytest.raises(InputError, match="b and 1 more pictures are in both train and val"):
        prepare("voc_aug", raw, tmp_path / "out")


def test_pictures_that_are_another_one_byte_for_byte_are_counted_and_named(tmp_path):
    raw = write_small_segmentation(tmp_path / "raw", {"train": 4, "val": 2})
    for kind in ("images", "labels"):
        shutil.copy(raw / kind / "train/train_0.png", raw / kind / "train/again.png")
        for place in ("train/twice", "val/elsewhere"):
            shutil.copy(raw / kind / "train/train_3.png", raw / kind / f"{place}.png")
    (warning,) = (words for words in prepare("folder", raw, tmp_path / "out")["warnings"] if "repeat" in words)
    assert warning == (
        "3 picture(s) repeat others byte for byte, 1 of these in another split, "
        "e.g. images/train/train_3.png and images/val/elsewhere.png"
    )


def test_files_of_one_size_are_told_apart_by_their_content(tmp_path):
    for name, content in {"a": "12", "b": "21", "c": "12", "d": "1"}.items():
        (tmp_path / name).write_text(content)
    assert equal_files(tmp_path, "dcba") == [["a", "c"]]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "val.txt: expected names of pictures, one a line, got an empty list"),
        ("a\na\n", "val.txt: a stands there 2 times"),
        ("JPEGImages/a.jpg\n", "val.txt: line 1: expected the name of a picture without folder and ending"),
    ],
)
def test_a_wrong_list_is_one_line(tmp_path, content, complaint):
    raw = tiny_voc(tmp_path, {"val": ["a"]})
    (raw / VOC / "ImageSets/Segmentation/val.txt").write_text(content)
    with pytest.raises(InputError, match=re.escape(complaint)):
        prepare("voc", raw, tmp_path / "out")


def test_ade20k_is_reduced_once_and_reduced_files_are_refused(tmp_path):
    base = tmp_path / "ADEChallengeData2016"
    for folder in ("images/validation", "annotations/validation"):
        (base / folder).mkdir(parents=True)
    rows = "".join(f"{number} \t0.1\t1\t1\tthing {number}, other\n" for number in range(1, 151))
    (base / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n" + rows)
    Image.new("RGB", (3, 2)).save(base / "images/validation/x.jpg")
    label = np.array([[0, 1, 150], [2, 0, 0]], np.uint8)
    Image.fromarray(label).save(base / "annotations/validation/x.png")
    manifest = prepare("ade20k", tmp_path, tmp_path / "out")
    np.testing.assert_array_equal(labels(tmp_path / "out", "val")["x"], [[255, 0, 149], [1, 255, 255]])
    assert manifest["classes"][149] == "thing 150"
    Image.fromarray(label - 1).save(base / "annotations/validation/x.png")
    with pytest.raises(InputError, match="classes 1 to 150, got 255; .* reduced by one already"):
        prepare("ade20k", tmp_path, tmp_path / "again")


def test_a_picture_or_label_alone_and_two_of_one_name_are_refused(tmp_path):
    raw = write_small_segmentation(tmp_path / "raw", {"train": 3})
    (raw / "labels/train/train_1.png").unlink()
    with pytest.raises(InputError, match=r"images/train/train_1.png: has no label"):
        prepare("folder", raw, tmp_path / "out")
    shutil.copy(raw / "labels/train/train_0.png", raw / "labels/train/train_1.png")
    (raw / "images/train/train_2.png").unlink()
    with pytest.raises(InputError, match=r"labels/train/train_2.png: has no picture"):
        prepare("folder", raw, tmp_path / "out")
    shutil.copy(raw / "images/train/train_0.png", raw / "images/train/train_0.jpg")
    with pytest.raises(InputError, match=r"train_0.jpg and train_0.png have one name"):
        prepare("folder", raw, tmp_path / "out")


def test_a_split_without_labels_is_there_for_predictions(tmp_path):
    raw = write_small_segmentation(tmp_path / "raw", {"train": 1, "test": 1})
    shutil.rmtree(raw / "labels/test")
    manifest = prepare("folder", raw, tmp_path / "out")
    assert not manifest["splits"]["test"]["has_labels"]
    assert pq.read_table(tmp_path / "out/test.parquet").column("label").to_pylist() == [None]


def test_a_data_set_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--dataset: expected one of .*voc_aug"):
        SegmentationOptions(dataset="coco", root=tmp_path)


def copied(real_data: Path, folder: str, to: Path) -> Path:
    shutil.copytree(real_data / "segmentation" / folder, to / folder, copy_function=shutil.copyfile)
    for path in [to, *to.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return to


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("rgb", "expected class numbers of 8 bits (a palette or grey picture), got colours (mode RGB)"),
        (
            "luminance",
            "expected the classes 0 to 20 and 255 for void, got 34, 76, 220; these are shades of the palette",
        ),
        ("bilinear", "other values; values between classes come from resizing by interpolation"),
        ("other_size", "expected its picture's 500 x 319 pixels, got 250 x 160"),
    ],
)
def test_what_careless_tools_make_of_a_genuine_label_is_refused(real_data, tmp_path, wrong, complaint):
    raw = copied(real_data, "VOCdevkit", tmp_path)
    file = raw / VOC / "SegmentationClass/2008_002536.png"
    shutil.copyfile(real_data / f"segmentation/wrong_labels/2008_002536_{wrong}.png", file)
    with pytest.raises(InputError, match=re.escape(complaint)) as caught:
        prepare("voc", raw, tmp_path / "out")
    assert "2008_002536.png" in str(caught.value)


def test_a_split_without_usable_pictures_or_without_labels_is_told(tmp_path):
    raw = write_small_segmentation(tmp_path / "raw", {"train": 2, "val": 2, "more": 1})
    for file in (raw / "images/train").iterdir():
        file.write_bytes(b"no picture")
    shutil.rmtree(raw / "labels/val")
    manifest = prepare("folder", raw, tmp_path / "out")
    assert list(manifest["splits"]) == ["more", "val"] and not (tmp_path / "out/train.parquet").exists()
    assert "train: no picture is left, none can be used" in manifest["warnings"]
    assert "val: has no labels: it can be predicted, neither trained nor judged on" in manifest["warnings"]


def test_labels_that_a_published_set_has_may_not_be_missing(real_data, tmp_path):
    raw = copied(real_data, "ADEChallengeData2016", tmp_path)
    shutil.rmtree(raw / "ADEChallengeData2016/annotations")
    with pytest.raises(InputError, match="annotations/validation: no such folder; expected the labels of images/vali"):
        prepare("ade20k", raw, tmp_path / "out")


def test_what_an_archive_of_a_mac_adds_is_no_picture(tmp_path):
    for folder, kind in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
        (tmp_path / f"raw/{folder}/train/ulm").mkdir(parents=True)
        Image.fromarray(np.full((4, 6), 7, np.uint8)).save(tmp_path / f"raw/{folder}/train/ulm/ulm_0_0_{kind}.png")
        (tmp_path / f"raw/{folder}/train/ulm/._ulm_0_0_{kind}.png").write_bytes(b"of a file manager")
    prepare("cityscapes", tmp_path / "raw", tmp_path / "out")
    assert list(labels(tmp_path / "out", "train")) == ["ulm_0_0"]


def test_genuine_cityscapes_ids_become_what_the_official_script_makes_of_them(real_data, tmp_path):
    raw = real_data / "segmentation/cityscapes"
    prepare("cityscapes", raw, tmp_path / "out")
    found = labels(tmp_path / "out", "train")
    assert list(found) == ["aachen_000000_000019", "aachen_000001_000019"]
    for name, label in found.items():
        official = Image.open(raw / f"gtFine/train/aachen/{name}_gtFine_labelTrainIds.png")
        np.testing.assert_array_equal(label, official)
