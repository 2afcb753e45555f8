"""Karpathy's files: what is read from a record, and one clear line for whatever is wrong with one."""

import json

import pytest

from tests.prepare.raw_captions import image_record
from vl_absvit.errors import InputError
from vl_absvit.prepare.karpathy_source import CaptionedImage, Ids, read_images


def write(path, images, **head):
    path.write_text(json.dumps({"images": images} | head))
    return path


def read(path, dataset="flickr30k"):
    return list(read_images(path, dataset)[1])


@pytest.fixture
def file(tmp_path):
    return tmp_path / "dataset.json"


def fails(path, message, dataset="flickr30k"):
    with pytest.raises(InputError, match=message) as caught:
        read(path, dataset)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_flickr30k_record_has_its_imgid_and_lies_in_the_official_folder(file):
    write(file, [image_record("flickr30k", 3, "test", ["A dog.", "Another."])], dataset="flickr30k")
    assert read(file) == [CaptionedImage(3, "flickr30k-images/1003.jpg", "test", [(300, "A dog."), (301, "Another.")])]


def test_a_coco_record_has_its_cocoid_and_lies_in_its_own_folder(file):
    write(file, [image_record("coco", 3, "restval", ["A dog."])], dataset="coco")
    assert read(file, "coco") == [
        CaptionedImage(30, "val2014/COCO_val2014_000000000030.jpg", "restval", [(300, "A dog.")])
    ]


def test_white_space_around_a_caption_goes_and_that_inside_stays(file):
    write(file, [image_record("flickr30k", 0, "train", [" \tA  dog\nruns. \u2003\n"])])
    assert read(file)[0].captions == [(0, "A  dog\nruns.")]


def test_letters_of_any_script_come_through(file):
    write(file, [image_record("flickr30k", 0, "train", ["Ein Mann f\u00e4hrt. \U0001f6b2", "\u4e00\u53ea\u72d7"])])
    assert [text for _, text in read(file)[0].captions] == ["Ein Mann f\u00e4hrt. \U0001f6b2", "\u4e00\u53ea\u72d7"]


def test_the_name_of_the_data_set_may_come_first_last_or_not_at_all(file):
    record = image_record("flickr30k", 0, "train")
    for content in ({"dataset": "flickr30k", "images": [record]}, {"images": [record], "dataset": "flickr30k"},
                    {"images": [record]}):  # fmt: skip
        file.write_text(json.dumps(content))
        assert len(read(file)) == 1


@pytest.mark.parametrize("named", ["coco", "flickr8k", None, 3, ["flickr30k"], {"name": "flickr30k"}])
def test_another_data_set_is_refused(file, named):
    write(file, [image_record("flickr30k", 0, "train")], dataset=named)
    fails(file, "is about .*asked for 'flickr30k'")


def without(record, key):
    return {name: value for name, value in record.items() if name != key}


def without_ids(record):
    return without(record, "imgid") | {"sentences": [without(s, "sentid") for s in record["sentences"]]}


def test_a_file_without_ids_is_numbered_in_its_order(file):
    write(file, [without_ids(image_record("flickr30k", number, "train", ["a", "b"])) for number in (7, 5)])
    assert read_images(file, "flickr30k")[0] == Ids(of_images=False, of_captions=False)
    assert [(image.image_id, [caption_id for caption_id, _ in image.captions]) for image in read(file)] == [
        (0, [0, 1]), (1, [2, 3]),
    ]  # fmt: skip


def test_ids_in_some_records_only_are_refused(file):
    full, bare = image_record("flickr30k", 1, "train"), without_ids(image_record("flickr30k", 2, "train"))
    write(file, [full, bare])
    fails(file, "record 2 of 'images': there is no 'imgid'")
    write(file, [bare, full])
    fails(file, "record 2 of 'images': has a 'imgid', while the first one in the file has none")
    write(file, [full, bare | {"imgid": 2}])
    fails(file, r"image 2 \(1002.jpg\): there is no 'sentid'")


def test_coco_needs_its_ids(file):
    write(file, [without(image_record("coco", 1, "train"), "cocoid")])
    fails(file, "record 1 of 'images': there is no 'cocoid'", "coco")
    write(file, [without(image_record("coco", 1, "train"), "filepath")])
    fails(file, r"image 10 \(COCO_train2014_000000000010.jpg\): there is no 'filepath'", "coco")


SENTENCE = {"raw": "A dog.", "sentid": 100}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sentences": []}, r"image 1 \(1001.jpg\): has no caption"),
        ({"sentences": "A dog."}, "expected sentences to be a list, got a string"),
        ({"sentences": None}, "expected sentences to be a list, got null"),
        (
            {"sentences": [SENTENCE, "A dog."]},
            r'1001.jpg\): expected sentences of the form {"raw": "..."}, got a string',
        ),
        ({"sentences": [SENTENCE, SENTENCE | {"sentid": 101, "raw": " \n"}]}, r"\(1001.jpg\): caption 101 is empty"),
        ({"sentences": [SENTENCE | {"raw": None}]}, "caption 100: expected raw to be a string, got null"),
        ({"sentences": [SENTENCE | {"sentid": "100"}]}, r"\(1001.jpg\): expected sentid to be an integer"),
        ({"split": "restval"}, r"\(1001.jpg\): expected its split to be one of train, val, test, got 'restval'"),
        ({"split": "Train"}, "got 'Train'"),
        ({"split": 3}, "expected split to be a string, got a number"),
        ({"imgid": -1}, "record 2 of 'images': expected imgid to be an integer of at least 0, got -1"),
        ({"filename": 1001}, "record 2 of 'images': expected filename to be a string"),
    ],
)
def test_wrong_records_are_refused(file, change, message):
    write(file, [image_record("flickr30k", 0, "train"), image_record("flickr30k", 1, "train") | change])
    fails(file, message)


@pytest.mark.parametrize("images", [[], {}, {"1": {}}, None, 3])
def test_a_file_without_records_is_refused(file, images):
    write(file, images)
    fails(file, "with at least one record, found none")


def test_a_first_record_without_captions_is_refused(file):
    write(file, [image_record("flickr30k", 1, "train", [])])
    fails(file, "record 1 of 'images': has no caption")


def test_items_that_are_no_records_are_refused(file):
    write(file, [image_record("flickr30k", 1, "train"), "1002.jpg"])
    fails(file, "record 2 of 'images': expected an object, got a string")


def test_a_file_that_is_not_there_is_named(tmp_path):
    fails(tmp_path / "nowhere.json", "no such file")
