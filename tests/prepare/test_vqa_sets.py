"""VQA v1, OK-VQA, VQA-CP and VizWiz are prepared under their own names; which one it is, the files say."""

import json

import pyarrow.parquet as pq
import pytest

from tests.prepare.raw_vqa_relatives import picture, write, write_okvqa, write_vizwiz, write_vqa_v1, write_vqacp
from tests.prepare.raw_vqav2 import questions_file, write_small_vqav2
from vl_absvit.config import DataConfig, RunConfig
from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.data.records import read_annotations, read_vocabulary
from vl_absvit.errors import InputError
from vl_absvit.prepare.vqa_sets import DATA_SETS, find_files
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2
from vl_absvit.tasks.retrieval_protocol import images_of
from vl_absvit.tasks.vl_checkpoint import describe_data
from vl_absvit.tasks.vqa import VQAConfig

WRITERS = {"vqa_v1": write_vqa_v1, "okvqa": write_okvqa, "vqacp_v2": write_vqacp, "vizwiz": write_vizwiz}


def prepare(raw, output, **options):
    return prepare_vqav2(PrepareOptions(root=raw, **{"min_count": 1, **options}), output, workers=1)


def rows_of(output, split):
    return {row["question_id"]: row for row in pq.read_table(output / f"{split}.parquet").to_pylist()}


def answers_of(output):
    return AnswerVocabulary.load(output / "answers.json").answers


@pytest.mark.parametrize("dataset", WRITERS)
def test_each_is_known_by_its_files_and_keeps_its_name(tmp_path, dataset):
    raw = WRITERS[dataset](tmp_path / "raw")
    manifest = prepare(raw, tmp_path / "out")
    assert manifest["dataset"] == dataset and manifest["kind"] == "vqa" and manifest["missing_images"] == 0
    assert prepare(raw, tmp_path / "named", dataset=dataset)["splits"] == manifest["splits"]
    assert read_vocabulary(tmp_path / "out").sha256 == manifest["vocabulary"]["sha256"]
    assert read_annotations(tmp_path / "out", ["train"])
    data = DataConfig(root=str(tmp_path / "out"), select_split=None)
    config = VQAConfig(data=data, run=RunConfig(output=str(tmp_path / "run")))
    assert describe_data(config)["dataset"] == dataset
    assert images_of(dataset) == ("vizwiz" if dataset == "vizwiz" else "coco")


def test_vqa_v1_has_its_own_ids_and_counts_and_leaves_multiple_choice_alone(tmp_path):
    manifest = prepare(write_vqa_v1(tmp_path / "raw"), tmp_path / "out")
    assert list(rows_of(tmp_path / "out", "train")) == [10, 11, 12, 20, 21, 22]
    warnings = " | ".join(manifest["warnings"])
    assert "train: 6 questions are usable, the official split has 248,349" in warnings
    assert "MultipleChoice_mscoco_train2014_questions.json" in warnings and "left alone" in warnings


def test_the_most_frequent_answer_stands_for_the_choice_that_okvqa_lacks(tmp_path):
    manifest = prepare(write_okvqa(tmp_path / "raw"), tmp_path / "out", minival_images=0)
    rows = {**rows_of(tmp_path / "out", "train"), **rows_of(tmp_path / "out", "val")}
    # 5 x "red", then 5 x "a cat": of several as frequent, the first.
    assert [rows[q]["multiple_choice_answer"] for q in (12, 10, 11)] == ["yes", "no", "red"]
    assert rows[11]["answers"] == ["red"] * 5 + ["a cat"] * 5
    assert answers_of(tmp_path / "out") == ("no", "red", "yes")
    assert "the official split has 9,009" in " ".join(manifest["warnings"])


def test_vqacp_finds_each_image_by_its_coco_split_and_counts_answers_of_train_alone(tmp_path):
    raw = write_vqacp(tmp_path / "raw")
    content = json.loads((raw / "vqacp_v2_test_annotations.json").read_text())
    content[0]["multiple_choice_answer"] = "only in test"
    write(raw, "vqacp_v2_test_annotations.json", content)
    manifest = prepare(raw, tmp_path / "out")
    assert {split: counts["annotated"] for split, counts in manifest["splits"].items()} == {"train": True, "test": True}
    files = {row["image_id"]: row["file"] for row in pq.read_table(tmp_path / "out" / "images.parquet").to_pylist()}
    assert files == {
        1: "train2014/COCO_train2014_000000000001.jpg",
        2: "val2014/COCO_val2014_000000000002.jpg",
        3: "val2014/COCO_val2014_000000000003.jpg",
    }
    assert "only in test" not in answers_of(tmp_path / "out")
    assert "minival is empty" in " ".join(manifest["warnings"])


def test_a_test_split_alone_needs_a_vocabulary(tmp_path):
    raw = write_vqacp(tmp_path / "raw")
    for path in raw.glob("vqacp_v2_train_*.json"):
        path.unlink()
    with pytest.raises(InputError, match="answers are counted in train and val, and neither is there: give --vocabul"):
        prepare(raw, tmp_path / "out")
    write(tmp_path, "answers.json", ["yes", "red"])
    assert prepare(raw, tmp_path / "out", vocabulary=tmp_path / "answers.json")["splits"]["test"]["questions"] == 2


def test_vqacp_v1_is_known_by_its_name_and_its_size_is_not_judged(tmp_path):
    manifest = prepare(write_vqacp(tmp_path / "raw", "v1"), tmp_path / "out")
    assert manifest["dataset"] == "vqacp_v1" and not any("official split" in words for words in manifest["warnings"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coco_split": "test2015"}, "expected coco_split to be one of train2014, val2014, got 'test2015'"),
        ({"coco_split": "val2014"}, "image 1 is train2014/COCO_train2014_000000000001.jpg, and elsewhere val2014/"),
    ],
)
def test_a_wrong_coco_split_is_refused(tmp_path, change, message):
    raw = write_vqacp(tmp_path / "raw")
    content = json.loads((raw / "vqacp_v2_train_questions.json").read_text())
    write(raw, "vqacp_v2_train_questions.json", [content[0] | change, content[1]])
    with pytest.raises(InputError, match=message):
        prepare(raw, tmp_path / "out")


def test_vizwiz_ids_are_made_from_the_names_of_pictures(tmp_path):
    manifest = prepare(write_vizwiz(tmp_path / "raw"), tmp_path / "out", minival_images=1)
    assert list(rows_of(tmp_path / "out", "train")) == [10**12, 10**12 + 1, 10**12 + 2]
    first = rows_of(tmp_path / "out", "train")[10**12 + 2]
    assert first["question_type"] == "unanswerable" and first["multiple_choice_answer"] == "red"
    assert first["image_id"] == first["question_id"]
    assert manifest["splits"]["test"] == {
        "questions": 3, "without_image": 0, "with_target": 0, "kept_for_training": 0, "images": 3, "annotated": False,
    }  # fmt: skip


def test_a_vizwiz_record_needs_no_more_than_picture_question_and_answers(tmp_path):
    answers = [{"answer": "box"}] * 10
    write(tmp_path, "train.json", [{"image": "VizWiz_train_00000000.jpg", "question": "What?", "answers": answers}])
    picture(tmp_path, "images/train/VizWiz_train_00000000.jpg")
    prepare(tmp_path, tmp_path / "out")
    (row,) = rows_of(tmp_path / "out", "train").values()
    assert row["answers"] == ["box"] * 10 and row["answer_type"] == row["question_type"] == "not said"


@pytest.mark.parametrize("folder", ["v2_{}_Train_mscoco", "{}", "VQAv2/{}/train", "vqa", "mscoco/{}_trainval"])
def test_files_lie_where_they_were_unpacked(tmp_path, folder):
    raw = write_small_vqav2(tmp_path)
    expected = find_files(raw).splits
    for path in list(raw.glob("*.json")):
        place = raw / folder.format("Questions" if "questions" in path.name else "Annotations")
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / path.name)
    found = find_files(raw).splits
    assert [files.split for files in found] == [files.split for files in expected]
    assert [files.annotations is None for files in found] == [files.annotations is None for files in expected]


def test_vizwiz_pictures_are_found_by_name_in_any_folder(tmp_path):
    raw = write_vizwiz(tmp_path / "raw")
    expected = prepare(raw, tmp_path / "out")["splits"]
    (raw / "pictures").mkdir()
    for path in list(raw.glob("t*/*.jpg")) + list(raw.glob("val/*.jpg")):
        path.rename(raw / "pictures" / path.name)
    assert prepare(raw, tmp_path / "flat")["splits"] == expected


def test_images_may_lie_in_a_folder_of_their_own(tmp_path):
    raw = write_vqa_v1(tmp_path / "raw")
    for folder in ("train2014", "val2014"):
        (tmp_path / "pictures" / folder).parent.mkdir(exist_ok=True)
        (raw / folder).rename(tmp_path / "pictures" / folder)
    with pytest.raises(
        InputError, match=f"none of the 2 images of train is there: .* {tmp_path / 'pictures'} would fit"
    ):
        prepare(raw, tmp_path / "out")
    manifest = prepare(raw, tmp_path / "out", images=tmp_path / "pictures")
    assert manifest["missing_images"] == 0


def test_vqav2_comes_first_and_others_beside_it_are_named(tmp_path):
    raw = write_vqa_v1(write_small_vqav2(tmp_path / "raw"))
    manifest = prepare(raw, tmp_path / "out")
    assert manifest["dataset"] == manifest["kind"] == "vqav2"
    assert "files named as those of VQA v1 and OK-VQA are there, too; see --dataset" in manifest["warnings"]
    assert prepare(raw, tmp_path / "v1", dataset="vqa_v1")["dataset"] == "vqa_v1"


def test_what_is_wrong_with_others_does_not_keep_vqav2_from_being_prepared(tmp_path):
    raw = write_small_vqav2(tmp_path)
    for folder in ("okvqa", "vqa_v1"):
        write(raw, f"{folder}/mscoco_train2014_annotations.json", [])
        write(raw, f"{folder}/OpenEnded_mscoco_train2014_questions.json", {})
    assert find_files(raw).dataset == "vqav2"


def test_files_of_one_name_in_two_folders_are_not_chosen_by_luck(tmp_path):
    write_okvqa(tmp_path / "okvqa")
    write_vqa_v1(tmp_path / "vqa")
    for dataset in (None, "vqa_v1", "okvqa"):
        with pytest.raises(InputError, match="okvqa/OpenEnded_mscoco_train2014_questions.json: is there a second time"):
            find_files(tmp_path, dataset)
    assert find_files(tmp_path / "vqa").dataset == "vqa_v1"
    for path in (tmp_path / "vqa").glob("*.json"):
        path.rename(tmp_path / path.name)
    assert find_files(tmp_path).dataset == "vqa_v1"


def test_a_vizwiz_train_split_without_answers_is_refused(tmp_path):
    write(tmp_path, "train.json", [{"image": "VizWiz_train_00000000.jpg", "question": "What?"}])
    with pytest.raises(InputError, match="train.json: its questions have no answers"):
        find_files(tmp_path)


def test_several_data_sets_none_of_which_is_vqav2_are_asked_about(tmp_path):
    raw = write_vqacp(write_vqa_v1(tmp_path))
    with pytest.raises(InputError, match="files of VQA v1 and of VQA-CP v2; say by --dataset vqa_v1 or vqacp_v2"):
        find_files(raw)


@pytest.mark.parametrize(
    ("writer", "dataset", "message"),
    [
        (write_okvqa, "vqa_v1", "VQA v1, .* with a multiple_choice_answer in each annotation.*found none$"),
        (write_vqa_v1, "okvqa", "OK-VQA, .* without multiple_choice_answer in the annotations.*found none$"),
        (write_vqa_v1, "vqacp_v2", "VQA-CP v2, vqacp_v2_train_questions.json, .*found none$"),
        (write_vqa_v1, "vizwiz", "VizWiz, train.json, .*found none$"),
    ],
)
def test_another_data_set_than_asked_for_is_refused(tmp_path, writer, dataset, message):
    with pytest.raises(InputError, match=message):
        find_files(writer(tmp_path), dataset)


def test_a_train_json_of_somebody_else_is_not_vizwiz(tmp_path):
    write(tmp_path, "train.json", [{"image": "a.jpg", "question": "What?", "answer": "box"}])
    with pytest.raises(InputError, match="expected at least one v2_OpenEnded_mscoco_<subset>_questions.json"):
        find_files(tmp_path)


def test_the_folder_below_that_has_the_files_is_named(tmp_path):
    raw = write_small_vqav2(tmp_path / "downloads" / "raw")
    with pytest.raises(InputError, match=f"found none; .*; {raw} has some: give it as --root"):
        find_files(tmp_path)


def test_a_list_of_official_records_is_read_as_the_object_around_it_is(tmp_path):
    raw = write_small_vqav2(tmp_path / "raw")
    expected = prepare(raw, tmp_path / "out")["splits"]
    path = questions_file(raw, "train")
    path.write_text(json.dumps(json.loads(path.read_text())["questions"]))
    assert prepare(raw, tmp_path / "list")["splits"] == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "or a list, with at least one record, found none"),
        ("[1]", "questions.json: expected a list of objects, got a number"),
        ('[{"question_id": 1}]', "questions.json: record 1: there is no 'image_id'"),
        ("[{}] 2", "expected JSON in UTF-8: Extra data"),
    ],
)
def test_a_list_of_something_else_is_refused_for_what_it_is(tmp_path, content, message):
    raw = write_small_vqav2(tmp_path / "raw")
    questions_file(raw, "train").write_text(content)
    with pytest.raises(InputError, match=message):
        prepare(raw, tmp_path / "out")


def test_known_sizes_by_hand():
    sizes = {name: {split: part.official for split, part in each.subsets.items()} for name, each in DATA_SETS.items()}
    # VQA-CP v2 divides the questions of VQAv2's train and val anew.
    assert sum(sizes["vqacp_v2"].values()) == sizes["vqav2"]["train"] + sizes["vqav2"]["val"]
    assert sizes["vqa_v1"] == {"train": 248_349, "val": 121_512, "test": 244_302, "test-dev": 60_864}


# COCO in the layouts that people have.


def as_2017(raw, target):
    """The JSON files in their usual folders, and the pictures under the names of 2017, all in train2017."""
    for path in raw.glob("*.json"):
        folder = target / ("questions" if "questions" in path.name else "annotations")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).symlink_to(path)
    (target / "train2017").mkdir()
    for path in raw.glob("*2014/*.jpg"):
        (target / "train2017" / path.name.split("_")[-1]).symlink_to(path)
    return target


def as_lavis(raw, target):
    """Everything below ``coco``: ``annotations`` and ``images/train2014``."""
    (target / "coco" / "annotations").mkdir(parents=True)
    (target / "coco" / "images").mkdir()
    for path in raw.iterdir():
        place = "images" if path.is_dir() else "annotations"
        (target / "coco" / place / path.name).symlink_to(path)
    return target


@pytest.mark.parametrize("layout", [as_2017, as_lavis])
def test_the_mini_set_is_the_same_from_any_layout(real_data, tmp_path, layout):
    raw = real_data / "vqav2-mini-with-images"
    manifest = prepare(raw, tmp_path / "expected")
    assert prepare(layout(raw, tmp_path / "raw"), tmp_path / "out")["splits"] == manifest["splits"]
    assert manifest["splits"]["train"]["questions"] == 66 and manifest["splits"]["train"]["images"] == 43
    for table in ("train", "val"):
        assert rows_of(tmp_path / "out", table) == rows_of(tmp_path / "expected", table)
    images = [pq.read_table(tmp_path / folder / "images.parquet") for folder in ("expected", "out")]
    columns = ["image_id", "width", "height"]
    assert images[0].select(columns) == images[1].select(columns) and images[1]["file"].null_count == 0
