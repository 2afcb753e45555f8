"""``scripts/export_attention.py``: what comes out for splits and own questions, going on, and one line for faults."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.prepare.raw_vqa_hat import prepare as prepare_hat
from tests.prepare.raw_vqa_hat import write_small_hat
from tests.prepare.raw_vqav2 import image_path, write_small_vqav2
from tests.run_script import run_script
from tests.tiny_vqa import tiny_pretrain_config, tiny_retrieval_config, tiny_vision, tiny_vqa_config
from vl_absvit import cli
from vl_absvit.data.captions import CaptionDataset
from vl_absvit.data.loaders import evaluation_loader
from vl_absvit.data.records import read_annotations, read_captions, read_questions
from vl_absvit.data.rgb import open_rgb
from vl_absvit.evaluation.vqa_accuracy import vqa_scores
from vl_absvit.looking import viewer
from vl_absvit.looking.explanation import (
    MAPS,
    OF_PRIOR,
    OF_SECOND_LOOK,
    PICTURE_MAPS,
    MapChoice,
    choose_maps,
    explain,
    explain_pictures,
)
from vl_absvit.looking.export_reader import read_exported, read_index
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.classifier_checkpoint import load_classifier
from vl_absvit.tasks.retrieval import RetrievalTask, make_gallery
from vl_absvit.tasks.retrieval_scores import score_gallery
from vl_absvit.tasks.vl_checkpoint import load_parts
from vl_absvit.tasks.vqa import VQATask, load_checkpoint, make_dataset, predict_answers

SCRIPT = "scripts/export_attention.py"
GIVE = "give --data and --split, or --requests, or --image and --question, or --image and --caption, or --pictures"


@pytest.fixture(scope="module")
def saved(world, tmp_path_factory) -> Path:
    """Checkpoints of an AbSViT and of a plain ViT that answer, and of an AbSViT that matches captions."""
    folder = tmp_path_factory.mktemp("saved")
    tasks = {
        "absvit": VQATask(tiny_vqa_config(world, folder)),
        "none": VQATask(tiny_vqa_config(world, folder, vision=tiny_vision(top_down="none"))),
        "matching": RetrievalTask(tiny_retrieval_config(world, folder)),
    }
    for name, task in tasks.items():
        torch.manual_seed(0)
        for parameter in task.model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)  # every one matters, and some priors agree with some patches
        (folder / name).mkdir()
        task.save(folder / name)
    return folder


@pytest.fixture
def export(world, saved, tmp_path):
    """Run the script with some options changed; returns its exit code. ``None`` leaves an option out."""

    def run(output="out", **options) -> int:
        return run_script(SCRIPT, *words(saved, world, tmp_path / output, **options))

    return run


def words(saved, world, output, *flags, model="absvit", **options) -> list[str]:
    usual = {"data": world / "prepared", "split": "val", "block": -1, "num_workers": 0}
    if {"requests", "image"} & set(options):
        usual |= {"data": None, "split": None}
    usual |= {"checkpoint": saved / model, "output": output} | options
    made = list(flags)
    for key, value in usual.items():
        if value is True:
            made.append(f"--{key.replace('_', '-')}")
        elif value is not None:
            several = value if isinstance(value, list | tuple) else [value]
            made += [f"--{key.replace('_', '-')}", *map(str, several)]
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# What comes out.


def test_maps_in_bf16_say_so_and_are_no_part_of_an_export_in_fp32(export, tmp_path, capfd):
    assert export(precision="bf16", no_overlays=True) == 0
    assert json.loads((tmp_path / "out/export.json").read_text())["precision"] == "bf16"
    assert all(
        np.isfinite(grid).all()
        for grid in read_exported(tmp_path / "out", read_index(tmp_path / "out")[0]).maps.values()
    )
    assert export(no_overlays=True) == 1
    assert "holds another export, which differs in precision" in capfd.readouterr().err


def test_every_question_of_a_split_is_there_in_order_with_its_answer_and_its_maps(export, world, saved, tmp_path):
    assert export(batch_size=5) == 0
    records = read_questions(world / "prepared", ["val"])
    index = read_index(tmp_path / "out")
    assert [entry["question_id"] for entry in index] == records["question_id"][:]
    checkpoint = load_checkpoint(saved / "absvit")
    data = make_dataset(
        world / "prepared", ["val"], checkpoint.tokenizer, len(checkpoint.vocabulary), checkpoint.preprocessing
    )
    loader = evaluation_loader(data, batch_size=100, rank=0, world_size=1)
    predictions = list(predict_answers(checkpoint.model, loader, checkpoint.vocabulary))
    scores = vqa_scores(read_annotations(world / "prepared", ["val"]), predictions)
    (batch,) = loader
    explained = explain(checkpoint.model, batch, MapChoice(MAPS, block=-1))
    confidence = explained.logits.sigmoid().max(dim=1).values.tolist()
    for row, (entry, record) in enumerate(zip(index, records, strict=True)):
        question = read_exported(tmp_path / "out", entry)
        assert question.prediction == predictions[row]["answer"]
        assert question.confidence == pytest.approx(confidence[row], rel=1e-5)
        assert question.accuracy == scores.per_question[question.question_id]
        assert question.answers == tuple(record["answers"]) and question.answer_type == record["answer_type"]
        assert (question.question, question.image_id) == (record["question"], record["image_id"])
        assert question.image_size == (96, 96) and question.box == (0, 0, 96, 96)
        assert list(question.maps) == list(MAPS)
        for name, grid in question.maps.items():
            assert grid.dtype == np.float32
            np.testing.assert_allclose(grid, explained.maps[name][row], rtol=1e-4, atol=1e-7)
        with Image.open(tmp_path / "out" / entry["png"]) as panel:
            assert panel.width > 3 * 264 and panel.height > 3 * 264
    assert not (tmp_path / "out/index.partial").exists()


def test_batches_and_loader_processes_do_not_change_what_is_exported(export, tmp_path):
    assert export("a", batch_size=5) == 0
    assert export("b", batch_size=1, num_workers=2, no_overlays=True) == 0
    for one, other in zip(*(read_index(tmp_path / name) for name in "ab"), strict=True):
        assert one["id"] == other["id"] and one["prediction"] == other["prediction"]
        assert other["png"] is None and not (tmp_path / "b" / f"{other['id']}.png").exists()
        maps = [read_exported(tmp_path / name, entry).maps for name, entry in (("a", one), ("b", other))]
        for name in MAPS:
            np.testing.assert_allclose(maps[0][name], maps[1][name], rtol=1e-4, atol=1e-5)


def test_the_maps_asked_for_come_in_their_order_and_heads_and_block_matter(export, tmp_path):
    options = {"no_overlays": True, "split": "minival", "maps": ["cross", "bottom_up"]}
    assert export("a", **options) == 0
    assert export("b", **options, heads="max", block=0) == 0
    a, b = (read_exported(tmp_path / name, read_index(tmp_path / name)[0]).maps for name in "ab")
    assert list(a) == list(b) == ["cross", "bottom_up"]
    assert (b["cross"] > a["cross"]).all() and not np.allclose(a["bottom_up"], b["bottom_up"])


def test_a_plain_vit_has_fewer_maps(export, tmp_path, complaint, saved, world):
    assert export(model="none", split="minival") == 0
    for entry in read_index(tmp_path / "out"):
        assert set(read_exported(tmp_path / "out", entry).maps) == set(MAPS) - {*OF_PRIOR, *OF_SECOND_LOOK}
    arguments = words(saved, world, tmp_path / "other", model="none", maps=["cross", "prior_mask"])
    assert "no map 'prior_mask': the model's encoder, ViT, uses no prior" in complaint(2, SCRIPT, *arguments)
    assert not (tmp_path / "other").exists()


def test_questions_without_answers_are_exported_without_accuracy(export, tmp_path):
    assert export(split="test", no_overlays=True) == 0
    index = read_index(tmp_path / "out")
    assert index and all(entry["answers"] is entry["accuracy"] is entry["answer_type"] is None for entry in index)


def test_human_attention_data_can_be_exported_compared_and_reported(export, tmp_path):
    prepare_hat(write_small_hat(tmp_path / "raw"), tmp_path / "hat")
    assert export(data=tmp_path / "hat") == 0
    index = read_index(tmp_path / "out")
    assert [entry["question_id"] for entry in index] == [10, 11, 20, 21, 30, 31]
    assert index[0]["image_size"] == [12, 8] and index[0]["box"] == [2, 0, 10, 8]
    places = ("--maps", tmp_path / "out", "--hat", tmp_path / "hat", "--output")
    assert run_script("scripts/compare_vqa_hat.py", *places, tmp_path / "scores.json") == 0
    assert set(MAPS) <= set(json.loads((tmp_path / "scores.json").read_text())["rows"])
    assert run_script("scripts/attention_report.py", *places, tmp_path / "report.html") == 0


def test_pictures_inside_the_tables_are_kept_beside_their_maps(export, world, tmp_path):
    options = PrepareOptions(root=world / "demo/vqav2", min_count=1, minival_images=1, embed_images=True)
    prepare_vqav2(options, tmp_path / "embedded", 1)
    assert export(data=tmp_path / "embedded", split="minival") == 0
    for entry in read_index(tmp_path / "out"):
        assert entry["image"] == f"images/{entry['image_id']}.jpg"
        assert read_exported(tmp_path / "out", entry).image == tmp_path / "out" / entry["image"]


@pytest.fixture
def pictures(tmp_path):
    """A wide picture, and a tall one that lies on its side in the file."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 90, 3), dtype=np.uint8)).save(tmp_path / "wide.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(rng.integers(0, 255, (40, 90, 3), dtype=np.uint8)).save(tmp_path / "tall.jpg", exif=turned)
    return tmp_path


def write_requests(folder: Path, *lines: object) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_own_questions_keep_their_order_and_lie_where_their_pictures_were_cut(export, pictures, tmp_path):
    requests = write_requests(
        pictures,
        {"image": "wide.png", "question": "What is\nit? 🦊 <b>"},
        {"image": "tall.jpg", "question": "Why?", "id": "why"},
        {"image": "wide.png", "question": "Who? " * 500},
    )
    assert export(requests=requests, num_workers=1) == 0
    index = read_index(tmp_path / "out")
    assert [entry["id"] for entry in index] == ["1", "why", "3"]
    for entry, size, box in zip(index, ([90, 40], [40, 90], [90, 40]), (None, [0, 25, 40, 65], None), strict=True):
        question = read_exported(tmp_path / "out", entry)
        assert question.question_id is question.image_id is question.answers is question.accuracy is None
        assert entry["image_size"] == size and entry["box"] == (box or [pytest.approx(25), 0, pytest.approx(65), 40])
        assert Image.open(tmp_path / "out" / entry["png"]).width > 264


def test_what_else_a_line_says_is_passed_on_into_the_index(export, pictures, tmp_path):
    said = {
        "answer": "box",
        "question_id": 7,
        "answers": ["box"],
        "source": {"page": 3},
        "image_from_here": 1,
        "png": 0,
    }
    first = {"image": "wide.png", "question": "What?"}
    assert export(requests=write_requests(pictures, first | said), maps=["prior_mask"], num_workers=1) == 0
    (entry,) = read_index(tmp_path / "out")
    assert entry["answer"] == "box" and entry["source"] == {"page": 3}
    assert entry["given_question_id"] == 7 and entry["given_answers"] == ["box"]
    assert entry["question_id"] is entry["answers"] is None and entry["png"] == "1.png"
    assert read_exported(tmp_path / "out", entry).image == pictures / "wide.png"


def test_a_single_question_is_an_export_of_one(export, pictures, tmp_path):
    assert export(image=pictures / "wide.png", question="What is it?", maps=["prior_mask"]) == 0
    (entry,) = read_index(tmp_path / "out")
    assert entry["question"] == "What is it?" and list(read_exported(tmp_path / "out", entry).maps) == ["prior_mask"]


# Captions.


def test_captions_have_the_scores_that_retrieval_ranks_by_and_their_maps(export, world, saved, tmp_path):
    data, options = world / "prepared/coco", {"model": "matching", "batch_size": 5}
    assert export(data=data, **options) == 0
    checkpoint, records = load_parts(saved / "matching", "matching"), read_captions(data, ["val"])
    gallery = make_gallery(data, "val", checkpoint.tokenizer, checkpoint.preprocessing)
    with cli.progress() as bar:
        pairs = score_gallery(checkpoint.model, gallery, look="second", size=None, bar=bar).pairs
    index = read_index(tmp_path / "out", "caption")
    assert [entry["caption_id"] for entry in index] == gallery.caption_ids.tolist() == records["caption_id"][:]
    samples = CaptionDataset(
        data,
        ["val"],
        checkpoint.tokenizer,
        checkpoint.preprocessing.max_tokens,
        checkpoint.preprocessing.transform(),
        0,
    )
    rows = range(4)
    explained = explain(checkpoint.model, samples.collate(samples.__getitems__(rows)), MapChoice(MAPS, block=-1))
    for row, (entry, record) in enumerate(zip(index, records, strict=True)):
        caption = read_exported(tmp_path / "out", entry)
        assert (caption.caption, caption.image_id) == (record["caption"], record["image_id"])
        assert caption.score == pytest.approx(pairs[gallery.image_of_caption[row], row], abs=1e-4)
        assert list(caption.maps) == list(MAPS) and caption.image_size == (96, 96)
        if row in rows:
            assert caption.match == pytest.approx(explained.logits.itm[row].softmax(dim=0)[1].item(), abs=1e-5)
            for name, grid in caption.maps.items():
                np.testing.assert_allclose(grid, explained.maps[name][row], rtol=1e-4, atol=1e-6)
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / index[1]["npz"]).unlink()
    assert export(data=data, **options) == 0 and contents(tmp_path / "out") == whole


def test_a_caption_of_ones_own_may_be_called_a_question(export, pictures, tmp_path):
    options = {"model": "matching", "image": pictures / "wide.png"}
    assert export("a", caption="a red ring", **options) == 0
    assert export("b", question="a red ring", **options) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    lines = [
        {"image": "wide.png", "caption": "a red ring"},
        {"image": "wide.png", "question": "a blue star", "id": "b"},
    ]
    assert export("c", model="matching", requests=write_requests(pictures, *lines)) == 0
    one, other = (read_exported(tmp_path / "c", entry) for entry in read_index(tmp_path / "c"))
    (alone,) = (read_exported(tmp_path / "a", entry) for entry in read_index(tmp_path / "a"))
    assert one.caption_id is one.image_id is None and (one.caption, other.caption) == ("a red ring", "a blue star")
    assert one.match == pytest.approx(alone.match, abs=1e-5) and one.score != other.score
    assert run_script("scripts/attention_report.py", "--maps", tmp_path / "c", "--output", tmp_path / "c.html") == 0


def test_questions_and_captions_are_not_taken_for_each_other(export, saved, world, pictures, tmp_path, complaint):
    for code, options, message in [
        (2, {"image": pictures / "wide.png", "caption": "A"}, "absvit is a VQA model's, which answers a --question"),
        (1, {"data": world / "prepared/coco"}, "expected prepared data of the kind vqav2 or vqa_hat, got 'captions'"),
        (1, {"model": "matching"}, "expected prepared data of the kind captions, got 'vqav2'"),
    ]:
        assert message in complaint(code, SCRIPT, *words(saved, world, tmp_path / "out", **options))
        assert not (tmp_path / "out").exists()
    prepare_hat(write_small_hat(tmp_path / "raw"), tmp_path / "hat")
    assert export(model="matching", image=pictures / "wide.png", caption="A", no_overlays=True) == 0
    for script in ("compare_vqa_hat", "attention_report"):
        places = ("--maps", tmp_path / "out", "--hat", tmp_path / "hat", "--output", tmp_path / "scores")
        line = complaint(1, f"scripts/{script}.py", *places)
        assert line.endswith("index.jsonl: expected an export of questions, got one of captions")


# Going on.


def test_an_interrupted_export_goes_on_and_ends_like_an_uninterrupted_one(export, tmp_path, monkeypatch, capsys):
    assert export("whole", batch_size=4) == 0
    calls = []

    def explain_twice(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return explain(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(viewer, "explain", explain_twice)
        assert export("parts", batch_size=4) == 130
    assert not (tmp_path / "parts/index.jsonl").exists()
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "parts").glob("*.npz")}
    assert 0 < len(before) < 18
    monkeypatch.setattr(viewer, "explain", lambda *arguments: calls.append(arguments) or explain(*arguments))
    capsys.readouterr()
    assert export("parts", batch_size=4) == 0
    assert f"going on: {len(before)} of 18 questions are in" in capsys.readouterr().out
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "parts").glob("*.npz")}
    assert all(after[name] == time for name, time in before.items())
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    calls.clear()
    assert export("parts", batch_size=4) == 0 and not calls
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_an_output_that_holds_something_else_is_left_alone(export, saved, world, tmp_path, complaint):
    assert export(split="minival", no_overlays=True) == 0
    before = contents(tmp_path / "out")
    for options, named in [
        ({"no_overlays": True}, "questions"),
        ({"split": "minival"}, "colormap"),
        ({"split": "minival", "no_overlays": True, "heads": "max"}, "heads"),
        ({"split": "minival", "no_overlays": True, "model": "none"}, "checkpoint, maps"),
    ]:
        line = complaint(1, SCRIPT, *words(saved, world, tmp_path / "out", **options))
        assert line.startswith(f"{tmp_path / 'out'}: holds another export, which differs in {named}")
    assert contents(tmp_path / "out") == before
    line = complaint(1, SCRIPT, *words(saved, world, saved))
    assert "is not an attention export; choose another --output" in line


@pytest.mark.slow
def test_two_processes_export_what_one_does_also_where_one_left_off(fork_server, saved, world, tmp_path):
    def export(output: str, processes: int) -> None:
        options = words(saved, world, tmp_path / output, batch_size=4)
        outcome = fork_server.run(SCRIPT, *options, processes=processes)
        assert outcome.codes == [0] * processes, outcome.output

    export("one", 1)
    whole = contents(tmp_path / "one")
    export("two", 2)
    assert contents(tmp_path / "two") == whole
    shutil.copytree(tmp_path / "one", tmp_path / "half")
    for entry in read_index(tmp_path / "half")[3::2]:
        (tmp_path / "half" / entry["npz"]).unlink()
    export("half", 2)
    assert contents(tmp_path / "half") == whole


# Pictures without texts.


@pytest.fixture(scope="module")
def classifier(world, tmp_path_factory) -> Path:
    """A classifier that sees the middle of a picture."""
    folder = tmp_path_factory.mktemp("classifier")
    vision = tiny_vision(gain=1.0, mask="cosine")
    task = ClassificationTask(tiny_pretrain_config(world, folder, vision=vision, crop_pct=0.8))
    torch.manual_seed(0)
    for parameter in task.model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    task.save(folder)
    return folder


@pytest.fixture
def gallery(tmp_path) -> Path:
    """Pictures whose names are hard to keep apart."""
    rng = np.random.default_rng(0)
    for name in ("a/x.png", "a-x.jpg", "A-X.bmp", "ü 1.png", ".hidden.png"):
        (tmp_path / "gallery" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(256, size=(60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "gallery" / name)
    (tmp_path / "gallery/notes.txt").write_text("no picture")
    return tmp_path / "gallery"


def look_at(classifier, gallery, output, *more) -> int:
    words = ["--checkpoint", classifier, "--pictures", gallery, "--output", output, "--num-workers", 0, *more]
    return run_script(SCRIPT, *map(str, words))


def test_a_classifier_looks_at_every_picture_of_a_folder(classifier, gallery, tmp_path):
    assert look_at(classifier, gallery, tmp_path / "out", "--batch-size", 3) == 0
    index = read_index(tmp_path / "out", "picture")
    assert [(entry["picture"], entry["id"]) for entry in index] == [
        ("A-X.bmp", "A-X"), ("a-x.jpg", "a-x.2"), ("a/x.png", "a-x.3"), ("ü 1.png", "__1"),
    ]  # fmt: skip
    checkpoint = load_classifier(classifier)
    choice = choose_maps(checkpoint.model.vision, None, kinds=PICTURE_MAPS)
    for entry in index:
        picture = read_exported(tmp_path / "out", entry)
        assert picture.image == (gallery / entry["picture"]).resolve() and picture.image_size == (80, 60)
        assert picture.box == pytest.approx((16, 6, 64, 54), abs=1)  # four fifths of 60, a square in the middle
        inputs = checkpoint.transform(open_rgb(picture.image))[None]
        probabilities = checkpoint.model(inputs).last_logits.softmax(dim=1)[0]
        assert picture.prediction == checkpoint.classes[probabilities.argmax()]
        assert picture.confidence == pytest.approx(float(probabilities.max().detach()), rel=1e-5)
        explained = explain_pictures(checkpoint.model, inputs, choice)
        assert list(picture.maps) == list(PICTURE_MAPS)
        for name, grid in picture.maps.items():
            np.testing.assert_allclose(grid, explained.maps[name][0], rtol=1e-4, atol=1e-5)
        with Image.open(tmp_path / "out" / entry["png"]) as panel:
            assert panel.width > 3 * 264
    assert run_script("scripts/attention_report.py", "--maps", tmp_path / "out", "--output", tmp_path / "r.html") == 0


def test_a_class_steers_the_look_at_one_picture_and_makes_another_export(classifier, gallery, tmp_path, complaint):
    options = ["--no-overlays", "--maps", "prior_mask", "bottom_up"]
    assert look_at(classifier, gallery / "a-x.jpg", tmp_path / "own", *options) == 0
    checkpoint = load_classifier(classifier)
    first = checkpoint.model.vision.look_once(checkpoint.transform(open_rgb(gallery / "a-x.jpg"))[None])
    agreement = (first.tokens[0, 1:].detach() @ checkpoint.model.vision.head.weight.detach().T).max(dim=0).values
    name = checkpoint.classes[agreement.argmax()]
    assert look_at(classifier, gallery / "a-x.jpg", tmp_path / "steered", *options, "--prior", name) == 0
    own, steered = (read_exported(tmp_path / name, read_index(tmp_path / name)[0]).maps for name in ("own", "steered"))
    assert np.array_equal(own["bottom_up"], steered["bottom_up"])
    assert not np.allclose(own["prior_mask"], steered["prior_mask"])
    assert json.loads((tmp_path / "steered/export.json").read_text())["prior"] == name
    words = ["--checkpoint", classifier, "--pictures", gallery / "a-x.jpg", "--output", tmp_path / "own", *options]
    assert "holds another export, which differs in prior" in complaint(1, SCRIPT, *words, "--prior", name)


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        (2, {"question": "What?", "image": "a.png"}, "is a classifier, which looks at --pictures"),
        (2, {"pictures": "gallery", "split": "val"}, GIVE),
        (2, {"split": "val", "data": "a", "prior": "x"}, "--prior goes with --pictures"),
        (2, {"pictures": "gallery", "maps": "cross"}, "there is no map 'cross'; there are prior_mask, bottom_up, "),
        (1, {"pictures": "gallery", "prior": "dog"}, "prior 'dog': expected one of the checkpoint's 127 classes"),
        (1, {"pictures": "nowhere"}, "nowhere: expected a folder of pictures"),
        (1, {"pictures": "empty"}, "empty: expected pictures, found none, but 1 other files"),
        (1, {"pictures": "broken"}, "bad.png: not an image of a known format"),
    ],
)
def test_pictures_that_are_not_there_are_one_line(classifier, gallery, tmp_path, complaint, code, options, message):
    for name in ("empty/notes.txt", "broken/bad.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("no picture")
    words = ["--checkpoint", classifier, "--output", tmp_path / "out"]
    for option, value in options.items():
        words += [f"--{option}", tmp_path / value if option == "pictures" else value]
    assert message in complaint(code, SCRIPT, *words)
    assert not (tmp_path / "out/index.jsonl").exists()


def test_a_model_that_reads_texts_asks_for_one(saved, gallery, tmp_path, complaint):
    words = ["--checkpoint", saved / "absvit", "--pictures", gallery, "--output", tmp_path / "out"]
    assert "is no classifier: it looks at a picture for a text, see --requests" in complaint(2, SCRIPT, *words)


# Bad input.


def test_the_help_names_every_map_and_which_a_plain_vit_has(capsys):
    assert run_script(SCRIPT, "--help") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("prior_mask, "))
    names = line.split(", ")
    assert set(names) == set(MAPS) and set(names[:4]) == {*OF_PRIOR, *OF_SECOND_LOOK} & set(MAPS)


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        (2, {"maps": ["prior_mask", "gradcam"]}, "there is no map 'gradcam'; there are prior_mask, bottom_up, "),
        (2, {"block": -3}, "there is no block -3: the vision encoder has 2, from -2 to 1"),
        (2, {"colormap": "jett"}, "matplotlib has no colormap 'jett'"),
        (2, {"batch_size": 0}, "--batch-size must be at least 1"),
        (2, {"image": "a.png"}, GIVE),
        (2, {"requests": "a", "split": "val"}, GIVE),
        (2, {"image": "a.png", "question": "  "}, "--question is empty"),
        (2, {"image": "a.png", "caption": "A", "question": "A"}, GIVE),
        (1, {"image": "absent.png", "question": "What?"}, "there is no picture absent.png"),
        (1, {"image": __file__, "question": "What?"}, "test_export_attention.py: not an image"),
        (1, {"requests": "absent.jsonl"}, "absent.jsonl: no such file"),
        (1, {"split": "vall"}, "there is no split 'vall'; it has train, minival, val, test, test-dev"),
        (1, {"data": "nowhere"}, "nowhere: no prepared data here"),
        (1, {"checkpoint": "nowhere"}, "checkpoint nowhere: there is no config.json"),
        (1, {"output": __file__}, "test_export_attention.py: is a file, expected a folder"),
        (1, {"output": f"{__file__}/out"}, "export.json: cannot be written: Not a directory"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_no_index(saved, world, tmp_path, complaint, code, options, message):
    arguments = words(saved, world, **({"output": tmp_path / "out"} | options))
    assert message in complaint(code, SCRIPT, *arguments)
    assert not (tmp_path / "out/index.jsonl").exists()


def test_a_picture_that_cannot_be_read_is_named_before_anything_is_written(saved, world, pictures, tmp_path, complaint):
    (pictures / "bad.jpg").write_bytes((pictures / "tall.jpg").read_bytes()[:200])
    requests = write_requests(pictures, *({"image": name, "question": "Why?"} for name in ("wide.png", "bad.jpg")))
    line = complaint(1, SCRIPT, *words(saved, world, tmp_path / "out", requests=requests))
    assert line.startswith(f"{requests}:2: {pictures / 'bad.jpg'}: cannot be decoded")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_picture_that_is_gone_stops_the_export_which_goes_on_once_it_is_back(
    export, saved, world, tmp_path, complaint, num_workers
):
    raw = write_small_vqav2(tmp_path / "raw")
    prepare_vqav2(PrepareOptions(root=raw, min_count=1, minival_images=1), tmp_path / "data", 1)
    options = {"data": tmp_path / "data", "split": "train", "batch_size": 3, "num_workers": num_workers}
    file = image_path(raw, "train", 3)
    content = file.read_bytes()
    file.unlink()
    line = complaint(1, SCRIPT, *words(saved, world, tmp_path / "out", **options))
    assert line.startswith(f"{file} (image 3): No such file")
    assert not (tmp_path / "out/index.jsonl").exists()
    file.write_bytes(content)
    assert export(**options) == 0
    assert len(read_index(tmp_path / "out")) == 12
