"""``scripts/evaluate_vision.py``: numbers by brute force, the protocol in words, and one line for whatever is wrong."""

import json
import shutil
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import ImageNetInfo
from torchvision import transforms

from tests.run_script import run_script
from tests.tiny_released import released_classifier
from tests.tiny_vqa import tiny_pretrain_config, tiny_vision
from vl_absvit.data.corruptions import Corruption
from vl_absvit.data.transforms import image_transform
from vl_absvit.evaluation.classification_metrics import ALEXNET_ERRORS
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.classifier_checkpoint import load_classifier

SCRIPT = "scripts/evaluate_vision.py"
CLASSES = ["ant", "bee", "cat"]
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # of the untrained models


def write_noise(root: Path, names: list[str], each: int, side: int = 40) -> Path:
    """A folder of noise per class, no two images alike."""
    rng = np.random.default_rng(len(names))
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(256, size=(side, side + 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.JPEG", quality=95)
    return root


def write_corrupted(root: Path, each: int) -> Path:
    """All 75 folders, each of other noise."""
    for name in ALEXNET_ERRORS:
        for severity in range(1, 6):
            rng = np.random.default_rng([*name.encode(), severity])
            for place, of_class in enumerate(CLASSES):
                folder = root / name / str(severity) / of_class
                folder.mkdir(parents=True)
                for number in range(each):
                    pixels = rng.integers(40 * place, 256 - 60 * place, size=(32, 32, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five images of each of three classes."""
    return write_noise(tmp_path_factory.mktemp("data") / "val", CLASSES, 5)


@pytest.fixture(scope="module")
def corrupted(tmp_path_factory):
    return write_corrupted(tmp_path_factory.mktemp("corrupted") / "c", each=1)


@pytest.fixture(scope="module")
def classifiers(data, tmp_path_factory):
    """Folders of untrained models by ``vision.top_down``."""
    base = tmp_path_factory.mktemp("classifiers")
    for top_down in ("absvit", "none"):
        config = tiny_pretrain_config(base, base, vision=tiny_vision(gain=1.0, top_down=top_down))
        config = replace(
            config, data=replace(config.data, root=str(data.parent), train_splits=("val",), select_split=None)
        )
        task = ClassificationTask(config)
        torch.nn.init.normal_(task.model.vision.head.weight)  # which starts as 0
        (base / top_down).mkdir()
        task.save(base / top_down)
    return base


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A released classifier of a thousand classes, as a folder, and its model."""
    base = tmp_path_factory.mktemp("converted")
    model, state = released_classifier(num_classes=1000)
    torch.save({"model": state}, base / "released.pth")
    words = ("--checkpoint", base / "released.pth", "--num-heads", 4, "--output", base / "folder")
    assert run_script("scripts/convert_released.py", *words) == 0
    return base / "folder", model


def words_of(arguments: dict) -> list[str]:
    """Options as they stand on a command line; True is a switch, a list are several values."""
    words = []
    for name, value in arguments.items():
        values = value if isinstance(value, list) else [] if value is True else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


@pytest.fixture
def evaluate(classifiers, data, tmp_path):
    """The result of an evaluation with some options changed."""

    def run(**options) -> dict:
        usual = {"checkpoint": classifiers / "absvit", "data": data, "output": tmp_path / "o/r.json", "num_workers": 0}
        arguments = usual | options
        assert run_script(SCRIPT, *words_of(arguments)) == 0
        return json.loads(arguments["output"].read_text())

    return run


@pytest.fixture
def refuse(classifiers, data, tmp_path, complaint):
    """The complaint of an evaluation with some options changed; it writes nothing."""

    def run(code: int, **options) -> str:
        usual = {"checkpoint": classifiers / "absvit", "data": data, "output": tmp_path / "o/r.json", "num_workers": 0}
        line = complaint(code, SCRIPT, *words_of(usual | options))
        assert not (tmp_path / "o/r.json").exists()
        return line

    return run


@torch.no_grad()
def naive_ranks(model, transform, root, columns):
    """Ranks of every image's class among some columns, image by image."""
    ranks = {}
    for name, column in columns.items():
        for file in sorted((root / name).iterdir()):
            out = model(transform(Image.open(file).convert("RGB"))[None])
            logits = (
                out
                if isinstance(out, torch.Tensor)
                else (out.second_logits if out.second_logits is not None else out.first_logits)
            )
            others = [logits[0, other] for other in columns.values() if other != column]
            ranks[name, file.name] = sum(bool(other >= logits[0, column]) for other in others)
    return ranks


# Folders of images.


@pytest.mark.parametrize("top_down", ["absvit", "none"])
def test_accuracy_is_that_of_every_image_alone(evaluate, classifiers, data, top_down):
    result = evaluate(checkpoint=classifiers / top_down, batch_size=4)
    checkpoint = load_classifier(classifiers / top_down)
    columns = {name: place for place, name in enumerate(CLASSES)}
    ranks = naive_ranks(checkpoint.model, checkpoint.transform, data, columns)
    assert result["top1"] == pytest.approx(100 * sum(rank == 0 for rank in ranks.values()) / 15)
    for name in CLASSES:
        right = sum(rank == 0 for (of_class, _), rank in ranks.items() if of_class == name)
        assert result["per_class"][name] == {"images": 5, "top1": right, "top5": 5}
    assert len({counts["top1"] for counts in result["per_class"].values()}) > 1


def test_the_result_says_what_was_done_in_words(evaluate, classifiers, data, capsys):
    result = evaluate()
    folder = classifiers / "absvit"
    assert result["protocol"] == (
        f"AbSViT {folder} on {data}, 15 images of 3 classes; the shorter side resized to 32 px, the middle 32 x 32 px "
        "seen; the second look, steered by the trainable query; in fp32; ties count against the model"
    )
    assert result["notes"] == ["there are only 3 classes: top5 is top3, which is always right"]
    expected = {"resolution": 32, "crop": 1.0, "images": 15, "classes": 3, "subset": None, "top5": 100.0}
    assert {key: result[key] for key in expected} == expected
    shown = capsys.readouterr()
    assert f"{result['top1']:.2f}" in shown.out and result["protocol"] in shown.out and "top5 is top3" in shown.out
    assert "classifying: 15/15" in shown.err
    assert result["precision"] == "fp32"
    plain = evaluate(checkpoint=classifiers / "none", precision="bf16")
    assert plain["model"] == "ViT" and plain["look"] == "the first look, its only one"
    assert plain["precision"] == "bf16" and "; in bf16; " in plain["protocol"]


def test_the_checkpoints_crop_is_used_and_said(evaluate, classifiers, corrupted, tmp_path):
    folder = Path(shutil.copytree(classifiers / "absvit", tmp_path / "cropped"))
    statistics = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics | {"crop_pct": 0.8}))
    result = evaluate(checkpoint=folder)
    assert result["crop"] == 0.8 and "resized to 40 px, the middle 32 x 32 px seen;" in result["protocol"]
    result = evaluate(checkpoint=folder, data=corrupted, corruptions=True)
    assert (
        result["crop"] == 1.0
        and "the middle 32 x 32 px seen (ImageNet-C's images have been cut before)" in result["protocol"]
    )


def test_batches_do_not_matter(evaluate):
    once, singly = evaluate(batch_size=64), evaluate(batch_size=1)
    assert {**once, "seconds": 0} == {**singly, "seconds": 0}


# Converted checkpoints.


def test_a_converted_checkpoint_is_judged_on_a_subset_by_timms_index_map(evaluate, converted, tmp_path):
    folder, model = converted
    indices = [int(i) for i in (files("timm.data") / "_info/imagenet_a_indices.txt").read_text().split()]
    synsets = (files("timm.data") / "_info/imagenet_a_synsets.txt").read_text().split()
    root = write_noise(tmp_path / "imagenet-a", synsets, 1)
    result = evaluate(checkpoint=folder, data=root, subset="imagenet-a")
    checkpoint = load_classifier(folder)
    columns = dict(zip(synsets, indices, strict=True))
    ranks = naive_ranks(model, checkpoint.transform, root, columns)
    for k in (1, 5):
        assert result[f"top{k}"] == pytest.approx(100 * sum(rank < k for rank in ranks.values()) / 200)
    assert {name: counts["top5"] for name, counts in result["per_class"].items()} == {
        name: int(rank < 5) for (name, _), rank in ranks.items()
    }
    assert "(ImageNet-A; no other class of the checkpoint can be chosen)" in result["protocol"]
    assert result["notes"] == ["ImageNet-A as published has 7500 images, this has 200"]
    assert 0 < result["top5"] < 100


# Folders with other names than the checkpoint's classes.


@pytest.fixture
def mapped(tmp_path):
    """Pictures within a red line of 2 pixels, in folders of which one is in no mapping; and the mapping."""
    root = write_noise(tmp_path / "images", ["insects", "others", "pets"], 4, side=32)
    for file in root.glob("*/*.JPEG"):
        Image.new("RGB", (40, 36), "red").save(file.with_suffix(".png"))
        with Image.open(file.with_suffix(".png")) as framed, Image.open(file) as picture:
            framed.paste(picture, (2, 2))
            framed.save(file.with_suffix(".png"))
        file.unlink()
    (tmp_path / "map.json").write_text('{"insects": ["ant", "bee"], "pets": "cat"}')
    return root, tmp_path / "map.json"


def test_a_picture_is_right_where_any_class_of_its_folder_is_chosen(evaluate, classifiers, mapped):
    root, mapping = mapped
    result = evaluate(data=root, mapping=mapping, border=2)
    checkpoint, right = load_classifier(classifiers / "absvit"), {}
    for name, classes in (("insects", {0, 1}), ("pets", {2})):
        for file in sorted((root / name).iterdir()):
            picture = Image.open(file).convert("RGB").crop((2, 2, 38, 34))
            with torch.no_grad():
                logits = checkpoint.model(checkpoint.transform(picture)[None]).second_logits
            right.setdefault(name, []).append(int(logits.argmax()) in classes)
    assert {name: row["top1"] for name, row in result["per_class"].items()} == {n: sum(r) for n, r in right.items()}
    assert result["top1"] == 100 * sum(map(sum, right.values())) / 8 and 0 < result["top1"] < 100
    assert f"8 images of 2 classes ({mapping}; all 3 classes of the checkpoint can be chosen)" in result["protocol"]
    assert "2 px cut off at each side, the shorter side resized" in result["protocol"] and result["border"] == 2
    assert "1 folders are not in map.json and left out, e.g. others" in result["notes"]
    assert result["top1"] != evaluate(data=root, mapping=mapping)["top1"] or result["notes"]


def test_a_border_is_cut_off_before_everything_else(evaluate, data, tmp_path):
    framed = tmp_path / "framed"
    for file in data.glob("*/*.JPEG"):
        (framed / file.parent.name).mkdir(parents=True, exist_ok=True)
        with Image.open(file) as picture:
            whole = Image.new("RGB", (picture.width + 6, picture.height + 6), "red")
            whole.paste(picture, (3, 3))
            whole.save(framed / file.parent.name / f"{file.stem}.png")
    plain, cut = evaluate(), evaluate(data=framed, border=3)
    assert cut["per_class"] == plain["per_class"]
    assert evaluate(data=framed, border=3, corrupt="contrast", severity=3)["top1"] == plain["top1"]


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        (2, {"mapping": "m.json", "subset": "imagenet-a"}, "--mapping and --subset exclude each other"),
        (2, {"mapping": "m.json", "attack": "pgd"}, "--mapping and --attack exclude each other"),
        (2, {"border": -1}, "--border must be at least 0, got -1"),
        (2, {"border": 1, "corruptions": True}, "--border and --corruptions exclude each other"),
        (1, {"mapping": "m.json"}, "m.json: no such file"),
        (1, {"border": 20}, "is all border of 20 px"),
    ],
)
def test_mappings_and_borders_that_make_no_sense_are_one_line(refuse, code, options, message):
    assert message in refuse(code, **options)


def test_a_mapping_of_no_folder_of_the_data_is_one_line(refuse, tmp_path):
    (tmp_path / "map.json").write_text('{"pets": "cat"}')
    line = refuse(1, mapping=tmp_path / "map.json")
    assert "expected a folder for each of 1 classes: 1 are missing, e.g. pets" in line


# Corruptions.


def test_errors_of_all_corruptions_give_the_mce(evaluate, classifiers, corrupted, capsys):
    result = evaluate(data=corrupted, corruptions=True)
    checkpoint = load_classifier(classifiers / "absvit")
    pixels = transforms.Compose(checkpoint.transform.steps.transforms[-2:])  # without resizing and cropping
    columns, relative = {name: place for place, name in enumerate(CLASSES)}, []
    for name, baseline in ALEXNET_ERRORS.items():
        errors = []
        for severity in range(1, 6):
            ranks = naive_ranks(checkpoint.model, pixels, corrupted / name / str(severity), columns)
            errors.append(100 * sum(rank > 0 for rank in ranks.values()) / 3)
            assert result["corruptions"][name]["error"][str(severity)] == pytest.approx(errors[-1])
        relative.append(100 * sum(errors) / 5 / baseline)
        assert result["corruptions"][name]["ce"] == pytest.approx(relative[-1])
    assert result["mce"] == pytest.approx(sum(relative) / 15)
    assert result["mean_error"] == pytest.approx(100 - result["top1"])
    assert (result["missing"], result["ignored"], result["images"], result["crop"]) == ([], [], 225, 1.0)
    assert "225 images of 3 classes in 75 of ImageNet-C's 75 folders" in result["protocol"]
    assert any("no CE compares" in note for note in result["notes"])
    assert f"{result['mce']:.1f}" in capsys.readouterr().out
    assert len(set(relative)) > 5


def test_a_partial_set_is_refused_unless_asked_for_and_has_no_mce(evaluate, refuse, corrupted, tmp_path, capfd):
    root = Path(shutil.copytree(corrupted, tmp_path / "part"))
    shutil.rmtree(root / "frost/3")
    (root / "saturate").mkdir()
    line = refuse(1, data=root, corruptions=True)
    assert "1 of 75 are missing: frost 3; found instead: saturate; --allow-missing does without them" in line
    result = evaluate(data=root, corruptions=True, allow_missing=True)
    assert result["mce"] is None and result["corruptions"]["frost"]["ce"] is None
    assert (result["missing"], result["ignored"]) == (["frost/3"], ["saturate"])
    assert list(result["corruptions"]["frost"]["error"]) == ["1", "2", "4", "5"]
    assert result["corruptions"]["fog"]["ce"] is not None
    assert "no mCE, since these are missing: frost/3" in result["notes"]
    assert "no mCE, since these are missing: frost/3" in capfd.readouterr().out


def test_a_folder_with_fewer_images_than_others_is_one_line(refuse, corrupted, tmp_path):
    root = Path(shutil.copytree(corrupted, tmp_path / "short"))
    shutil.copy(root / "fog/1/bee/0.png", root / "fog/1/bee/1.png")
    line = refuse(1, data=root, corruptions=True)
    assert line.startswith(f"{root}: expected the same 4 images in every folder, but 74 of 75 have fewer, e.g. ")


def test_a_class_that_is_missing_or_empty_in_one_folder_is_named(refuse, corrupted, tmp_path):
    root = Path(shutil.copytree(corrupted, tmp_path / "damaged"))
    (root / "fog/2/bee/0.png").unlink()
    assert f"{root}/fog/2/bee: there is no image of this class" == refuse(1, data=root, corruptions=True)
    (root / "fog/2/bee").rename(root / "fog/2/wasp")
    line = refuse(1, data=root, corruptions=True)
    assert line.startswith(f"{root}/fog/2: ") and "e.g. wasp; 1 are missing, e.g. bee" in line


# Several processes.


def judged_by_two(fork_server, classifiers, data, output, options):
    """The result of an evaluation that two processes share."""
    usual = {"checkpoint": classifiers / "absvit", "data": data, "num_workers": 0, "output": output}
    outcome = fork_server.run(SCRIPT, *words_of(usual | options), processes=2)
    assert outcome.codes == [0, 0], outcome.output
    return json.loads(output.read_text()) | {"seconds": 0}


@pytest.mark.slow
def test_two_processes_find_what_one_does(fork_server, evaluate, classifiers, data, corrupted, tmp_path):
    for options in ({"data": data, "batch_size": 2}, {"data": corrupted, "corruptions": True}):
        two = judged_by_two(fork_server, classifiers, data, tmp_path / "two.json", options)
        assert two == {**evaluate(**options), "seconds": 0}


@pytest.mark.slow
def test_two_processes_attack_and_corrupt_as_one_does(fork_server, evaluate, classifiers, data, tmp_path):
    """Starts and corruptions are drawn by picture, so that nothing depends on who has it, and in which batch."""
    pytest.importorskip("imagecorruptions", exc_type=ImportError)
    options = {"attack": "pgd", "eps": [2, 8], "steps": 3, "restarts": 2, "transfer_from": classifiers / "none"}
    options |= {"corrupt": ["gaussian_noise", "glass_blur", "snow"], "severity": 5}
    one = evaluate(**options) | {"seconds": 0}
    assert judged_by_two(fork_server, classifiers, data, tmp_path / "two.json", options | {"batch_size": 3}) == one
    assert len({row["top1"] for row in one["attacks"]}) > 1 and one["top1"] not in {
        row["top1"] for row in one["attacks"]
    }


# bf16.


def test_in_bf16_gradients_are_fp32s_and_what_they_made_is_judged_in_bf16(evaluate, classifiers, data):
    """By hand: the attack in fp32, then products in bf16 over fp32 weights, which is what autocast computes."""
    checkpoint, right = load_classifier(classifiers / "absvit"), {"bf16": [], "clean": []}
    for place, file in enumerate(sorted(data.glob("*/*.JPEG"))):
        label = CLASSES.index(file.parent.name)
        image = checkpoint.transform(Image.open(file).convert("RGB"))[None]
        start = 4 / 255 * np.random.default_rng((0, place, 0)).uniform(-1, 1, tuple(image.shape[1:]))
        attacked = naive_attack(checkpoint.model, image, label, torch.from_numpy(start[None]).float(), 4 / 255, 3)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            logits, clean = (checkpoint.model(pictures).second_logits for pictures in (attacked, image))
        assert not logits.equal(checkpoint.model(attacked).second_logits), "bf16 rounds"
        others = [logits[0, other] for other in range(3) if other != label]
        right["bf16"].append(all(logits[0, label] > other for other in others))
        right["clean"].append(all(clean[0, label] > clean[0, other] for other in range(3) if other != label))
    result = evaluate(attack="pgd", eps=4, steps=3, precision="bf16")
    assert result["attacks"][0]["top1"] == pytest.approx(100 * np.mean(right["bf16"]))
    assert result["top1"] == pytest.approx(100 * np.mean(right["clean"])) and result["precision"] == "bf16"
    assert result["attacks"][0]["top1"] < result["top1"]


def test_corrupted_pictures_are_judged_in_bf16_too(evaluate, classifiers, data):
    pytest.importorskip("imagecorruptions", exc_type=ImportError)
    crop_pct = json.loads((classifiers / "absvit/preprocessor_config.json").read_text())["crop_pct"]
    transform = image_transform(32, MEAN, STD, crop_pct=crop_pct, corrupt=Corruption("contrast", 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        checkpoint = load_classifier(classifiers / "absvit")
        ranks = naive_ranks(checkpoint.model, transform, data, {name: i for i, name in enumerate(CLASSES)})
    result = evaluate(corrupt="contrast", severity=2, precision="bf16")
    assert result["corruptions"]["contrast"]["error"]["2"] == 100 * sum(rank > 0 for rank in ranks.values()) / len(
        ranks
    )


# Bad input.


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"subset": "imagenet-b"}, "argument --subset: invalid choice: 'imagenet-b'"),
        ({"subset": "imagenet-a", "corruptions": True}, "--corruptions and --subset exclude each other"),
        ({"allow_missing": True}, "--allow-missing is about --corruptions, which is not given"),
    ],
)
def test_a_command_that_cannot_be_meant_is_exit_code_2(refuse, options, message):
    assert message in refuse(2, **options)


def test_what_is_no_classifier_or_knows_other_classes_is_one_line(refuse, classifiers, data, tmp_path):
    assert "nowhere/config.json: no such file" in refuse(1, checkpoint="nowhere")
    (tmp_path / "config.json").write_text('{"format": 2, "text": {}}')
    assert "config.json: expected a pretrained classifier" in refuse(1, checkpoint=tmp_path)
    line = refuse(1, subset="imagenet-r")
    assert line.startswith(f"{classifiers}/absvit: expected a classifier that knows the 200 classes of ImageNet-R")
    assert "nowhere: no such folder; expected one folder per class" in refuse(1, data="nowhere")
    assert "nowhere: no such folder; expected one folder per corruption" in refuse(1, data="nowhere", corruptions=True)
    line = refuse(1, data=data.parent)
    assert line.startswith(f"{data.parent}: expected a folder for each of 3 classes: 1 are no class of the checkpoint")


def test_an_image_that_cannot_be_read_is_named(refuse, data, tmp_path):
    root = Path(shutil.copytree(data, tmp_path / "val"))
    (root / "bee/3.JPEG").write_bytes(b"no image")
    assert refuse(1, data=root).startswith(f"{root}/bee/3.JPEG: not an image")


def test_an_output_that_cannot_be_written_is_found_out_first(refuse, tmp_path):
    assert "it is a folder" in refuse(1, output=tmp_path)


def test_sketches_are_of_all_classes_and_those_without_images_are_named(evaluate, converted, tmp_path):
    folder, model = converted
    synsets = ImageNetInfo("imagenet-1k").label_names()
    root = write_noise(tmp_path / "sketch", synsets[2:40:4], 2)
    result = evaluate(checkpoint=folder, data=root, subset="imagenet-sketch")
    checkpoint = load_classifier(folder)
    columns = {name: place for place, name in enumerate(synsets)}
    right = 0
    for file in sorted(root.glob("*/*.JPEG")):
        with torch.no_grad():
            logits = model(checkpoint.transform(Image.open(file).convert("RGB"))[None])[0]
        right += int(logits.argmax()) == columns[file.parent.name]
    assert result["top1"] == 100 * right / 20 and result["classes"] == 1000 and result["images"] == 20
    assert "20 images of 1000 classes (ImageNet-Sketch);" in result["protocol"]
    assert result["notes"] == [
        "ImageNet-Sketch as published has 50889 images, this has 20",
        f"10 classes have fewer images than the 50 of each that were announced, {synsets[2]} the fewest, 2",
        f"990 classes have no images: {', '.join([*synsets[:2], *synsets[3:6]])}",
    ]
    assert result["per_class"][synsets[2]]["images"] == 2 and result["per_class"][synsets[0]]["images"] == 0


# Attacks.


def naive_attack(model, images, label, start, eps, steps):
    """PGD in pixel values, as a textbook has it: half a radius a step."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    clean = images * std + mean
    pixels = (clean + start).clamp(0, 1)
    for _ in range(steps):
        pixels.requires_grad_()
        out = model((pixels - mean) / std)
        loss = torch.nn.functional.cross_entropy(out.second_logits, torch.tensor([label]))
        (gradient,) = torch.autograd.grad(loss, pixels)
        pixels = (pixels.detach() + eps / 2 * gradient.sign()).clamp(clean - eps, clean + eps).clamp(0, 1)
    return (pixels - mean) / std


@pytest.mark.parametrize("batch_size", [2, 64])
def test_accuracy_under_pgd_is_that_of_a_naive_attack(evaluate, classifiers, data, batch_size):
    checkpoint = load_classifier(classifiers / "absvit")
    eps, steps, right = 4 / 255, 3, 0
    files = sorted(data.glob("*/*.JPEG"))
    for place, file in enumerate(files):
        label = CLASSES.index(file.parent.name)
        image = checkpoint.transform(Image.open(file).convert("RGB"))[None]
        start = eps * np.random.default_rng((0, place, 0)).uniform(-1, 1, tuple(image.shape[1:]))
        attacked = naive_attack(checkpoint.model, image, label, torch.from_numpy(start[None]).float(), eps, steps)
        right += int(checkpoint.model(attacked).second_logits.argmax()) == label
    result = evaluate(attack="pgd", eps=4, steps=steps, batch_size=batch_size)
    (row,) = result["attacks"]
    assert row["top1"] == 100 * right / len(files)
    assert row["attack"] == {
        "norm": "linf", "eps": 4 / 255, "step": 2 / 255, "steps": 3, "random_start": True, "targeted": False,
        "restarts": 1, "seed": 0,
    }  # fmt: skip
    assert row["words"] == "PGD, 3 steps of 2/255 in the linf ball of 4/255, a random start"


def test_accuracy_falls_to_nothing_as_the_radius_grows(evaluate):
    result = evaluate(attack="pgd", eps=[0.001, 255], steps=[1, 10])
    weakest, _, _, strongest = (row["top1"] for row in result["attacks"])
    assert weakest == result["top1"] > 0 and strongest == 0
    assert not any("masked" in note for note in result["notes"])


@pytest.mark.parametrize(
    "options", [{"norm": "l2", "eps": 5.0}, {"targeted": True, "eps": 16}, {"restarts": 3, "eps": 4}]
)
def test_other_attacks_mislead_too(evaluate, options):
    result = evaluate(attack="pgd", **options)
    (row,) = result["attacks"]
    assert row["top1"] < result["top1"]


def test_a_plain_vit_is_attacked_through_its_one_look(evaluate, classifiers):
    result = evaluate(checkpoint=classifiers / "none", attack="fgsm", eps=16)
    assert result["attacks"][0]["top1"] < result["top1"]


def test_another_checkpoint_attacks_less_well(evaluate, classifiers):
    result = evaluate(attack="pgd", eps=8, transfer_from=classifiers / "none")
    own, transferred = result["attacks"]
    assert own["source"] is None and transferred["source"] == str(classifiers / "none")
    assert own["top1"] < transferred["top1"]


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        (2, {"eps": 2}, "--eps is about --attack, which is not given"),
        (2, {"attack": "fgsm", "steps": 3}, "--steps is about --attack pgd"),
        (2, {"attack": "pgd", "eps": 0}, "--eps must be above 0, got 0.0"),
        (2, {"attack": "pgd", "steps": 0}, "--steps must be at least 1, got 0"),
        (2, {"attack": "pgd", "corruptions": True}, "--corruptions and --attack exclude each other"),
        (2, {"transfer_from": "x"}, "--transfer-from is about --attack, which is not given"),
        (1, {"attack": "pgd", "transfer_from": "x"}, "x/config.json: no such file"),
    ],
)
def test_attacks_that_make_no_sense_are_one_line(refuse, code, options, message):
    assert message in refuse(code, **options)


def test_a_source_with_other_classes_is_refused(refuse, converted):
    folder, _ = converted
    assert "expected the 3 classes of the judged checkpoint" in refuse(1, attack="pgd", transfer_from=folder)


# Corruptions made as pictures are read.


def test_errors_under_corruption_are_those_of_the_corrupted_pictures(evaluate, classifiers, data, tmp_path):
    pytest.importorskip("imagecorruptions", exc_type=ImportError)
    checkpoint = load_classifier(classifiers / "absvit")
    crop_pct = json.loads((classifiers / "absvit/preprocessor_config.json").read_text())["crop_pct"]
    result = evaluate(corrupt=["contrast", "brightness"], severity=[2, 5])
    assert list(result["corruptions"]) == ["brightness", "contrast"]
    for name, scores in result["corruptions"].items():
        for severity, error in scores["error"].items():
            made = Corruption(name, int(severity))
            transform = image_transform(32, MEAN, STD, crop_pct=crop_pct, corrupt=made)
            ranks = naive_ranks(checkpoint.model, transform, data, {name: i for i, name in enumerate(CLASSES)})
            assert error == 100 * sum(rank > 0 for rank in ranks.values()) / len(ranks)
    assert result["top1"] == evaluate()["top1"]
    assert "as they are and in 4 corruptions made of them" in result["protocol"] and result["mce"] is None
    with Image.open(tmp_path / "o/r.png") as curves:
        assert curves.width > 500


def test_all_corruptions_give_mce_and_relative_mce(evaluate):
    pytest.importorskip("imagecorruptions", exc_type=ImportError)
    result = evaluate(corrupt="all")
    clean = 100 - result["top1"]
    means = {name: np.mean(list(scores["error"].values())) for name, scores in result["corruptions"].items()}
    assert result["mce"] == pytest.approx(np.mean([100 * means[name] / ALEXNET_ERRORS[name] for name in means]))
    added = [100 * (means[name] - clean) / (ALEXNET_ERRORS[name] - 43.478) for name in means]
    assert result["relative_mce"] == pytest.approx(np.mean(added))
    assert len(means) == 15 and all(len(scores["error"]) == 5 for scores in result["corruptions"].values())


def test_corruptions_without_their_package_are_one_line(refuse, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    assert "pip install 'vl_absvit[imagecorruptions]'" in refuse(2, corrupt="fog")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"severity": 3}, "--severity is about --corrupt, which is not given"),
        ({"corrupt": "mist"}, "invalid choice: 'mist'"),
        ({"corrupt": "fog", "corruptions": True}, "--corruptions and --corrupt exclude each other"),
        ({"corruptions": True, "output": Path("r.png")}, "--output r.png: the curves are written there"),
    ],
)
def test_corruptions_that_make_no_sense_are_one_line(refuse, options, message):
    assert message in refuse(2, **options)
