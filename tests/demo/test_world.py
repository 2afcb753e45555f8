"""The demo world on disk: reproducible, reused, never overwriting, and in the official layouts."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vl_absvit.demo.human_attention import human_map
from vl_absvit.demo.language import KINDS
from vl_absvit.demo.scene import COLOURS, generator
from vl_absvit.demo.world import CLASSES, VQA_SPLITS, make_demo_world
from vl_absvit.errors import InputError

SCENES = 8


def track(items, total, description):
    return items


def load(path):
    return json.loads(Path(path).read_text())


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "world"
    assert make_demo_world(folder, seed=3, scenes=SCENES, workers=1, track=track)
    return folder


def fingerprint(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_number_of_processes_changes_nothing(world, tmp_path):
    make_demo_world(tmp_path / "again", seed=3, scenes=SCENES, workers=2, track=track)
    assert fingerprint(tmp_path / "again") == fingerprint(world)
    assert not (tmp_path / "again.partial").exists()


def test_the_world_is_what_it_has_always_been(world):
    """Pixels and records, as they were before a second world was drawn from the same objects."""
    digest = hashlib.sha256()
    for path in sorted(world.rglob("*")):
        name = str(path.relative_to(world)).encode()
        if path.suffix == ".png":
            with Image.open(path) as picture:
                digest.update(name + np.asarray(picture).tobytes())
        elif path.suffix == ".json" and path.parent.name != "tokenizer":
            digest.update(name + path.read_bytes())
    assert digest.hexdigest() == "d54fd5e67ac81f059dc62e245a0a10bc669b6dc310205428d1ec1237e17eb703"


def test_a_second_run_reuses_and_other_arguments_are_refused(world):
    before = fingerprint(world)
    assert make_demo_world(world, seed=3, scenes=SCENES, workers=1, track=track) is False
    with pytest.raises(InputError, match="'seed': 3.*asked for .*'seed': 4.*choose another"):
        make_demo_world(world, seed=4, scenes=SCENES, workers=1, track=track)
    assert fingerprint(world) == before


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and holds no demo world"):
        make_demo_world(tmp_path, seed=0, scenes=SCENES, workers=1, track=track)
    with pytest.raises(InputError, match="got a file"):
        make_demo_world(tmp_path / "thesis.txt", seed=0, scenes=SCENES, workers=1, track=track)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_vqa_files_fit_together(world):
    raw, image_ids = world / "vqav2", []
    for subset in VQA_SPLITS:
        questions = load(raw / f"v2_OpenEnded_mscoco_{subset}_questions.json")["questions"]
        ids = {question["image_id"] for question in questions}
        image_ids += ids
        assert {path.name for path in (raw / subset).iterdir()} == {f"COCO_{subset}_{i:012d}.jpg" for i in ids}
        assert all(question["question_id"] // 1000 == question["image_id"] for question in questions)
        if subset == "test2015":
            assert not (raw / f"v2_mscoco_{subset}_annotations.json").exists()
            few = load(raw / "v2_OpenEnded_mscoco_test-dev2015_questions.json")["questions"]
            assert few and all(question in questions for question in few) and len(few) < len(questions)
            continue
        annotations = load(raw / f"v2_mscoco_{subset}_annotations.json")["annotations"]
        assert [a["question_id"] for a in annotations] == [q["question_id"] for q in questions]
        for annotation in annotations:
            given = [answer["answer"] for answer in annotation["answers"]]
            assert annotation["multiple_choice_answer"] == Counter(given).most_common(1)[0][0]
            assert [answer["answer_id"] for answer in annotation["answers"]] == list(range(1, 11))
    assert len(set(image_ids)) == len(image_ids)
    boxes = load(raw / "demo_objects.json")
    assert all(int(key) // 1000 in image_ids for key in boxes)
    kinds = load(raw / "demo_kinds.json")
    assert kinds.keys() == boxes.keys() and set(kinds.values()) <= KINDS.keys()
    with Image.open(next((raw / "train2014").iterdir())) as image:
        assert image.format == "JPEG" and image.size == (96, 96) and image.mode == "RGB"


def test_json_keys_are_those_of_the_official_files(world, real_data):
    real = real_data / "vqav2-mini-with-images"
    for name, records in (("v2_OpenEnded_mscoco_val2014_questions.json", "questions"),
                          ("v2_mscoco_val2014_annotations.json", "annotations")):  # fmt: skip
        ours, theirs = load(world / "vqav2" / name), load(real / name)
        assert set(ours) == set(theirs) and set(ours["info"]) == set(theirs["info"])
        assert {k: type(v) for k, v in ours[records][0].items()} == {k: type(v) for k, v in theirs[records][0].items()}
        if records == "annotations":
            assert set(ours[records][0]["answers"][0]) == set(theirs[records][0]["answers"][0])


@pytest.mark.parametrize("dataset,extra", [("coco", {"filepath", "cocoid"}), ("flickr30k", set())])
def test_caption_worlds_have_karpathys_layout(world, dataset, extra):
    content = load(world / dataset / f"dataset_{dataset}.json")
    assert content["dataset"] == dataset
    sentids = []
    for number, image in enumerate(content["images"]):
        assert set(image) == {"sentids", "imgid", "sentences", "split", "filename"} | extra
        assert image["imgid"] == number and len({s["raw"] for s in image["sentences"]}) == 5
        assert all(set(s) == {"tokens", "raw", "imgid", "sentid"} and s["imgid"] == number for s in image["sentences"])
        assert [s["sentid"] for s in image["sentences"]] == image["sentids"]
        sentids += image["sentids"]
        assert (world / dataset / image.get("filepath", "flickr30k-images") / image["filename"]).is_file()
    assert sentids == list(range(len(sentids)))
    splits = {image["split"] for image in content["images"]}
    assert splits == ({"train", "restval", "val", "test"} if extra else {"train", "val", "test"})


def test_hat_maps_have_v1_ids_and_image_size_and_constant_ones_are_counted(world):
    counts = load(world / "demo.json")["counts"]
    for subset, name, numbers in (("train2014", "vqahat_train", {1}), ("val2014", "vqahat_val", {1, 2, 3})):
        content = load(world / "vqa_hat" / f"OpenEnded_mscoco_{subset}_questions.json")
        known = {question["question_id"]: question["image_id"] for question in content["questions"]}
        assert all(question_id // 10 == image_id for question_id, image_id in known.items())
        files, constant = list((world / "vqa_hat" / name).iterdir()), 0
        for path in files:
            question_id, n = (int(part) for part in path.stem.split("_"))
            assert question_id in known and n in numbers
            with Image.open(path) as image:
                assert image.mode == "L" and image.size == (96, 96)
                constant += len(image.getcolors()) == 1
        assert counts[f"vqa_hat/{subset}/maps"] == len(files) > 0
        assert counts[f"vqa_hat/{subset}/constant_maps"] == constant


def test_human_maps_peak_on_the_asked_object_and_differ_between_annotators():
    box = [10, 50, 40, 80]
    maps = [human_map([box], generator(0, "hat", n)) for n in range(100)]
    varying = [grey for grey in maps if grey.min() != grey.max()]
    assert 90 <= len(varying) < 100
    peaks = [np.unravel_index(grey.argmax(), grey.shape) for grey in varying]
    on_object = [box[0] <= x < box[2] and box[1] <= y < box[3] for y, x in peaks]
    assert np.mean(on_object) > 0.9
    assert len(set(peaks)) > 20


def test_single_objects_are_an_image_folder(world):
    for split in ("train", "val"):
        assert {path.name for path in (world / "single_objects" / split).iterdir()} == set(CLASSES)
        assert all(any(path.iterdir()) for path in (world / "single_objects" / split).iterdir())


def test_a_pair_is_a_square_picture_with_one_object_in_each_half(world):
    pairs = load(world / "pairs/pairs.json")
    assert {pair["file"] for pair in pairs} == {path.name for path in (world / "pairs").glob("*.png")}
    for pair in pairs:
        with Image.open(world / "pairs" / pair["file"]) as image:
            assert image.size == (96, 96) and image.mode == "RGB"
            pixels = np.asarray(image, dtype=float)
        for name, (x0, y0, x1, y1), (start, end) in zip(
            (pair["left"], pair["right"]), pair["boxes"], ((0, 48), (48, 96)), strict=True
        ):
            assert start <= x0 < x1 <= end and 0 <= y0 < y1 <= 96
            colour, texture, _ = name.split("_")
            assert name in CLASSES
            # Most of a box is covered by its object; dark stripes or dots leave the hue as it is.
            nearest = np.abs(pixels[y0:y1, x0:x1] - COLOURS[colour]).max(axis=-1)
            assert (nearest < 40).mean() > (0.3 if texture == "solid" else 0.15), (pair["file"], name)
        (colour, _, shape), (other_colour, _, other_shape) = pair["left"].split("_"), pair["right"].split("_")
        assert colour != other_colour and shape != other_shape


def test_the_tokenizer_is_robertas_and_loses_nothing(world):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(world / "tokenizer")
    text = "What color is the striped star? Étoile!"
    ids = tokenizer(text)["input_ids"]
    assert (ids[0], ids[-1], tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id) == (0, 2, 1, 3, 4)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len(tokenizer("What color is the star?")["input_ids"]) < 15
