"""Evaluation of a classifier: which classes are judged, on which folders, by which look, each image exactly once."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import ImageNetInfo
from torch import nn

from tests.tiny_vqa import tiny_pretrain_config, tiny_vision
from vl_absvit.data.transforms import image_transform
from vl_absvit.errors import InputError
from vl_absvit.evaluation.classification_metrics import ALEXNET_ERRORS
from vl_absvit.models.heads import ClassifierOutput
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.classifier_checkpoint import load_classifier
from vl_absvit.tasks.vision_evaluation import (
    SUBSETS,
    JudgedClasses,
    count_images,
    find_corruptions,
    imagenet_synsets,
    judge_folder,
    judged_classes,
    look_in_words,
    preparation,
    subset_synsets,
)
from vl_absvit.variants import VARIANTS

GREYS = image_transform(8, (0.0,) * 3, (1.0,) * 3)


def write_images(root: Path, greys: dict[str, list[int]]) -> Path:
    """A folder of grey images per class."""
    for name, values in greys.items():
        (root / name).mkdir(parents=True)
        for number, grey in enumerate(values):
            Image.new("RGB", (12, 8), (grey,) * 3).save(root / name / f"{number}.png")
    return root


class GreyReader(nn.Module):
    """Its last look prefers the class whose grey is nearest to the image's; its first look the one farthest."""

    def __init__(self, greys: list[int], looks_twice: bool = True) -> None:
        super().__init__()
        self.greys = nn.Parameter(torch.tensor(greys) / 255)
        self.looks_twice = looks_twice
        self.seen: list[int] = []

    def forward(self, images):
        self.seen.append(len(images))
        nearness = -(images.mean(dim=(1, 2, 3))[:, None] - self.greys).abs()
        if self.looks_twice:
            return ClassifierOutput(-nearness, nearness, reconstruction=None)
        return ClassifierOutput(nearness, None, reconstruction=None)


def judge(model, folder, classes, batch_size=2):
    done = []
    outcome = judge_folder(model, folder, GREYS, classes, batch_size=batch_size, num_workers=0, advance=done.append)
    assert sum(done) == len(outcome.labels)
    return outcome.labels.tolist(), outcome.ranks.tolist()


# Classes.


@pytest.mark.parametrize("subset, file", [("imagenet-a", "imagenet_a"), ("imagenet-r", "imagenet_r")])
def test_a_subsets_classes_are_those_of_timms_index_map(subset, file):
    indices, synsets = (files("timm.data") / f"_info/{file}_indices.txt").read_text().split(), imagenet_synsets()
    assert subset_synsets(subset) == [synsets[int(index)] for index in indices]
    assert len(subset_synsets(subset)) == 200


def test_a_thousand_numbers_are_imagenets_classes_in_their_order():
    classes = judged_classes([str(number) for number in range(1000)], None, "DIR")
    assert classes.names == ImageNetInfo().label_names() and classes.columns.tolist() == list(range(1000))
    assert classes.names[0] == "n01440764" and classes.are_imagenets
    few = judged_classes(["0", "1", "2"], None, "DIR")
    assert few.names == ["0", "1", "2"] and not few.are_imagenets


def test_a_subset_names_the_model_s_columns():
    numbered = judged_classes([str(number) for number in range(1000)], "imagenet-a", "DIR")
    assert numbered.columns[:5].tolist() == [6, 11, 13, 15, 17] and numbered.names[0] == "n01498041"
    backwards = judged_classes(imagenet_synsets()[::-1], "imagenet-a", "DIR")
    assert backwards.columns[:2].tolist() == [993, 988] and backwards.names == numbered.names


def test_a_checkpoint_that_lacks_a_subsets_classes_is_one_line():
    with pytest.raises(
        InputError, match="DIR: expected a classifier that knows the 200 classes of ImageNet-R.* 200 of"
    ):
        judged_classes(["ant", "bee"], "imagenet-r", "DIR")
    with pytest.raises(InputError, match=r"1 of them are not among its 999, e.g. n01443537"):
        judged_classes([name for name in imagenet_synsets() if name != "n01443537"], "imagenet-r", "DIR")
    with pytest.raises(InputError, match="DIR: 1 of its 3 classes are named twice"):
        judged_classes(["ant", "bee", "ant"], None, "DIR")


def test_class_folders_are_exactly_the_judged_classes(tmp_path):
    folder = write_images(tmp_path / "data", {"ant": [1, 2], "bee": [3]})
    assert count_images(folder, judged_classes(["bee", "ant"], None, "DIR")) == {"ant": 2, "bee": 1}
    with pytest.raises(InputError, match="data: expected a folder for each of 1 classes: 1 are no class .* e.g. bee$"):
        count_images(folder, judged_classes(["ant"], None, "DIR"))
    with pytest.raises(InputError, match="of 3 classes: 1 are missing, e.g. cat$"):
        count_images(folder, judged_classes(["ant", "bee", "cat"], None, "DIR"))
    with pytest.raises(InputError, match="1 are no class of the checkpoint, e.g. ant; 1 are missing, e.g. cat$"):
        count_images(folder, judged_classes(["bee", "cat"], None, "DIR"))
    (folder / "bee/0.png").unlink()
    with pytest.raises(InputError, match="data/bee: there is no image of this class"):
        count_images(folder, judged_classes(["ant", "bee"], None, "DIR"))


# Images.


@pytest.mark.parametrize("looks_twice", [True, False])
def test_every_image_is_judged_once_by_the_last_look(tmp_path, looks_twice):
    folder = write_images(tmp_path, {"ant": [0, 40, 90], "bee": [100], "cat": [200, 210, 10]})
    model = GreyReader([200, 0, 100], looks_twice)  # the model's order is cat, ant, bee
    classes = judged_classes(["cat", "ant", "bee"], None, "DIR")
    # 90 is nearer to bee (100) than to ant (0); 10 is nearest to ant, then bee, then cat.
    assert judge(model, folder, classes) == ([1, 1, 1, 2, 0, 0, 0], [0, 0, 1, 0, 0, 0, 2])
    assert model.seen == [2, 2, 2, 1]


def test_classes_outside_the_judged_ones_cannot_be_chosen(tmp_path):
    folder = write_images(tmp_path, {"ant": [90], "cat": [110]})
    model = GreyReader([0, 100, 200])  # ant, bee, cat: without bee both are right
    assert judge(model, folder, JudgedClasses(["cat", "ant"], np.array([2, 0]))) == ([1, 0], [0, 0])


def test_logits_that_are_not_finite_are_one_line(tmp_path):
    folder = write_images(tmp_path / "data", {"ant": [90]})
    model = GreyReader([0])
    torch.nn.init.constant_(model.greys, torch.nan)
    with pytest.raises(InputError, match="data: the checkpoint gives logits that are not finite"):
        judge(model, folder, judged_classes(["ant"], None, "DIR"))


def test_pictures_that_are_cut_already_lose_nothing_more(tmp_path):
    root = write_images(tmp_path / "root/train", {"ant": [1], "bee": [2]}).parent
    config = tiny_pretrain_config(tmp_path, tmp_path / "run", vision=tiny_vision(image_statistics="clip"))
    config = replace(config, data=replace(config.data, root=str(root), select_split=None), crop_pct=0.5)
    ClassificationTask(config).save(tmp_path)
    checkpoint = load_classifier(tmp_path)
    prepared = preparation(tmp_path, checkpoint, already_cut=True)
    assert (prepared.transform.resized_to, prepared.image_size) == (32, 32)
    picture = Image.effect_noise((32, 32), 90).convert("RGB")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.48145466, 0.4578275, 0.40821073),
                                                                  (0.26862954, 0.26130258, 0.27577711)))  # fmt: skip
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    torch.testing.assert_close(prepared.transform(picture), (pixels - mean) / std)
    others = preparation(tmp_path, checkpoint, already_cut=False)
    assert others.transform is checkpoint.transform and others.transform.resized_to == 64


def test_only_models_with_a_second_look_classify_by_it():
    words = {name: look_in_words(variant) for name, variant in VARIANTS.items()}
    assert words["absvit"] == "the second look, steered by the trainable query"
    assert words["none"] == "the first look, its only one"
    assert words["perceiver_io"] == "the first look, reweighted by the trainable query"
    assert words["feedback"] == "the second look, to which all tokens are fed back"


# Corruptions.


def corrupted(root: Path, without=()) -> Path:
    for name in ALEXNET_ERRORS:
        for severity in "12345":
            if f"{name}/{severity}" not in without:
                (root / name / severity).mkdir(parents=True)
    return root


def test_the_75_folders_are_found_in_the_papers_order(tmp_path):
    found = find_corruptions(corrupted(tmp_path), allow_missing=False)
    assert list(found.present) == list(ALEXNET_ERRORS) and (found.missing, found.ignored) == ([], [])
    assert found.present["fog"] == {severity: tmp_path / f"fog/{severity}" for severity in (1, 2, 3, 4, 5)}


def test_what_is_missing_is_listed_and_only_allowed_when_asked(tmp_path):
    root = corrupted(tmp_path, ["fog/2", "fog/5", *(f"snow/{severity}" for severity in range(1, 6))])
    (root / "fog/5").write_text("no folder")
    for other in ("saturate/1", "fog/6", ".cache"):
        (root / other).mkdir(parents=True)
    with pytest.raises(InputError) as refused:
        find_corruptions(root, allow_missing=False)
    assert str(refused.value) == (
        f"{root}: expected CORRUPTION/SEVERITY/CLASS/IMAGE of 15 corruptions in severities 1 to 5; "
        "7 of 75 are missing: snow 1 2 3 4 5, fog 2 5; found instead: fog/6, saturate; "
        "--allow-missing does without them, and without an mCE"
    )
    found = find_corruptions(root, allow_missing=True)
    assert "snow" not in found.present and list(found.present["fog"]) == [1, 3, 4]
    assert found.missing == [*(f"snow/{severity}" for severity in range(1, 6)), "fog/2", "fog/5"]
    assert found.ignored == ["fog/6", "saturate"]


@pytest.mark.parametrize("allow_missing", [True, False])
def test_another_layout_is_refused_with_what_is_there(tmp_path, allow_missing):
    (tmp_path / "blur/defocus_blur/1").mkdir(parents=True)
    with pytest.raises(InputError, match="75 of 75 are missing: gaussian_noise 1 2 3 4 5, .*; found instead: blur$"):
        find_corruptions(tmp_path, allow_missing)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        find_corruptions(tmp_path / "nowhere", allow_missing)


def test_the_published_sizes_of_the_subsets():
    assert {name: subset.images for name, subset in SUBSETS.items()} == {
        "imagenet-a": 7500,
        "imagenet-r": 30000,
        "imagenet-sketch": 50889,
    }
