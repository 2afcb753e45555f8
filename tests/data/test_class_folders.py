"""Image folders: classes in order, the same pictures in every process, bad files named."""

import logging
import os

import pytest
import torch
from PIL import Image

from vl_absvit.data import class_folders, kept
from vl_absvit.data.class_folders import ImageFolderDataset, MosaicDataset
from vl_absvit.data.image_loader import choose
from vl_absvit.data.transforms import image_transform
from vl_absvit.errors import InputError


@pytest.fixture
def root(tmp_path):
    for split in ("train", "val"):
        for place, name in enumerate(["zebra", "ant", "cat"]):
            (tmp_path / split / name).mkdir(parents=True)
            for number in (2, 10, 1):
                Image.new("RGB", (20, 16), (80 * place, 20 * number, 0)).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def dataset(root, splits=("train",), augmentation="none"):
    transform = image_transform(8, (0.5,) * 3, (0.5,) * 3, augmentation)
    return ImageFolderDataset(root, splits, transform)


def test_classes_and_files_are_in_order_of_their_names(root):
    made = dataset(root, ("train", "val"))
    assert made.classes == ["ant", "cat", "zebra"] and len(made) == 18
    assert [(file.parent.name, file.name, label) for file, label in made.files][:4] == [
        ("ant", "1.png", 0),
        ("ant", "10.png", 0),
        ("ant", "2.png", 0),
        ("cat", "1.png", 1),
    ]


def test_a_class_may_be_called_as_a_split_is(root):
    for split in ("train", "val"):
        (root / split / "ant").rename(root / split / "train")
    for split in ("train", "val"):
        made = dataset(root, (split,))
        assert made.classes == ["cat", "train", "zebra"] and len(made) == 9
        assert {file.relative_to(root).parts[0] for file, _ in made.files} == {split}


def test_a_file_and_its_label_are_found_by_their_place_from_either_end(root):
    os.rename(root / "train/ant/10.png", os.fsencode(root / "train/ant") + b"/\xff \xc3.PNG")  # no UTF-8
    Image.new("RGB", (4, 4)).save(root / "val/zebra/a long name of \u4e00 picture.jpeg")
    files = dataset(root, ("train", "val")).files
    listed = [
        (split / name, label)
        for split in (root / "train", root / "val")
        for label, folder in enumerate(("ant", "cat", "zebra"))
        for name in sorted(f"{folder}/{name}" for name in os.listdir(split / folder))
    ]
    assert list(files) == listed and [files[place - len(listed)] for place in range(len(listed))] == listed
    assert all(file.is_file() for file, _ in files) and len(files) == 19
    with pytest.raises(IndexError):
        files[19]


def test_what_is_no_image_by_its_name_is_left_out_and_said(root, caplog):
    for name in ("train/ant/notes.txt", "train/cat/1.gif", "train/cat/.hidden", "train/ant/._1.png"):
        (root / name).write_text("")
    with caplog.at_level(logging.WARNING):
        assert len(dataset(root)) == 9
    assert [record.getMessage() for record in caplog.records] == [
        f"2 files are no images by their names and left out, e.g. {root}/train/ant/notes.txt"
    ]


def test_a_batch_holds_images_labels_and_places(root):
    made = dataset(root)
    batch = made.collate(made.__getitems__([3, 0]))
    assert batch.images.shape == (2, 3, 8, 8)
    assert (batch.labels.tolist(), batch.indices.tolist()) == ([[1], [0]], [3, 0])


def test_augmentation_depends_on_epoch_and_image_alone(root):
    Image.effect_noise((20, 16), 90).convert("RGB").save(root / "train/ant/1.png")
    one, other = dataset(root, augmentation="randaugment"), dataset(root, augmentation="randaugment")
    one[1], torch.rand(3)
    epochs = []
    for epoch in range(4):
        one.set_epoch(epoch)
        other.set_epoch(epoch)
        assert torch.equal(one[0].image, other[0].image)
        epochs.append(one[0].image)
    assert any(not torch.equal(epochs[0], later) for later in epochs[1:])


def test_a_bad_image_is_named(root):
    (root / "train/cat/2.png").write_bytes(b"no image")
    made = dataset(root)
    with pytest.raises(InputError, match="train/cat/2.png: not an image"):
        [made[index] for index in range(len(made))]


@pytest.mark.parametrize(
    "damage, message", [("split", "no such folder"), ("class", "no image of this class"), ("other", "other classes")]
)
def test_folders_of_another_form_are_one_line(root, damage, message):
    if damage == "class":
        for file in (root / "val/ant").iterdir():
            file.unlink()
    if damage == "other":
        (root / "val/ant").rename(root / "val/bee")
    with pytest.raises(InputError, match=message):
        dataset(root, ("train", "test") if damage == "split" else ("train", "val"))


def cells_of(image, side):
    """The cells of a mosaic in raster order."""
    rows = image.chunk(side, dim=1)
    return [cell for row in rows for cell in row.chunk(side, dim=2)]


def test_a_mosaic_shows_each_cells_image_and_its_label(root):
    for number, file in enumerate(sorted(root.glob("train/*/*.png"))):
        Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(file)
    images = dataset(root)
    mosaic = MosaicDataset(images, 3, seed=0)
    for index in range(len(mosaic)):
        sample = mosaic[index]
        assert sample.image.shape == (3, 24, 24)
        shown = [
            next(k for k in range(len(images)) if torch.equal(images[k].image, cell))
            for cell in cells_of(sample.image, 3)
        ]
        assert [images[k].labels[0] for k in shown] == sample.labels
        assert index in shown


def test_mosaics_depend_on_seed_epoch_and_index_alone(root):
    def labels(seed, epoch):
        mosaic = MosaicDataset(dataset(root), 3, seed=seed)
        mosaic.set_epoch(epoch)
        return mosaic.collate(mosaic.__getitems__(range(len(mosaic)))).labels

    assert torch.equal(labels(0, 1), labels(0, 1))
    assert not torch.equal(labels(0, 1), labels(0, 2)) and not torch.equal(labels(0, 1), labels(1, 1))


def test_sampled_images_and_mosaics_are_plain_and_chosen_by_the_seed(root):
    plain, augmented = dataset(root), dataset(root, augmentation="randaugment")
    shown = [sample.image for sample in plain]
    for seed in (0, 1):
        places = choose(len(plain), 2, seed)
        sampled = list(augmented.sample_images(2, seed, plain._transform))
        assert all(torch.equal(each, shown[place]) for each, place in zip(sampled, places, strict=True))
        sampled = list(MosaicDataset(augmented, 2, seed=5).sample_images(2, seed, plain._transform))
        mosaics = MosaicDataset(plain, 2, seed=5)
        assert all(torch.equal(each, mosaics[place].image) for each, place in zip(sampled, places, strict=True))
    assert len(list(plain.sample_images(100, 0, plain._transform))) == len(plain)


def test_an_evaluation_mosaic_repeats_one_image(root):
    mosaic = MosaicDataset(dataset(root), 2, seed=None)
    sample = mosaic[4]
    assert len(set(sample.labels)) == 1
    assert all(torch.equal(cell, dataset(root)[4].image) for cell in cells_of(sample.image, 2))


def test_mosaics_are_the_same_whoever_makes_their_images_and_when(root, monkeypatch):
    for number, file in enumerate(sorted(root.glob("train/*/*.png"))):
        Image.effect_noise((20, 16), 10 * number + 10).convert("RGB").save(file)
    asked = []

    def with_another_process(number, make):
        asked.append(number)
        other = dataset(root, augmentation="randaugment")
        other.set_epoch(images._epoch)
        return torch.cat([make(range(4)), torch.stack([other[place].image for place in range(4, number)])])

    alone = MosaicDataset(dataset(root, augmentation="randaugment"), 3, seed=0)
    for limit, times in ((kept.KEPT_BYTES, 2), (0, 0)):
        monkeypatch.setattr(kept, "KEPT_BYTES", limit)
        images = dataset(root, augmentation="randaugment")
        together = MosaicDataset(images, 3, 0, with_another_process)
        for epoch in (0, 1):
            for mosaic in (alone, together):
                mosaic.set_epoch(epoch)
            for indices in ([3, 0], [8, 1]):
                for ours, theirs in zip(together.__getitems__(indices), alone.__getitems__(indices), strict=True):
                    assert torch.equal(ours.image, theirs.image) and ours[1:] == theirs[1:]
        assert asked == [9] * times  # once an epoch, and never where memory does not keep them
        asked.clear()


def test_small_images_are_kept_by_the_one_rule_of_all_data_sets_and_augmented_ones_for_an_epoch(root, monkeypatch):
    opened, open_picture = [], class_folders.open_picture
    monkeypatch.setattr(
        class_folders, "open_picture", lambda file, decode: opened.append(file) or open_picture(file, decode)
    )
    for augmentation, limit, times in (
        ("none", 9 * 3 * 8 * 8 * 4, 1),
        ("none", 9 * 3 * 8 * 8 * 4 - 1, 3),
        ("randaugment", 9 * 3 * 8 * 8 * 4, 2),
        ("randaugment", 9 * 3 * 8 * 8 * 4 - 1, 3),
    ):
        monkeypatch.setattr(kept, "KEPT_BYTES", limit)
        opened.clear()
        made = dataset(root, augmentation=augmentation)
        first, again = made[0].image, made[0].image
        made.set_epoch(1)
        later = made[0].image
        assert len(opened) == times and torch.equal(first, again)
        assert torch.equal(first, later) == (augmentation == "none")


def test_loader_processes_keep_no_images(root, monkeypatch):
    made = dataset(root)
    monkeypatch.setattr(kept, "get_worker_info", lambda: object())
    first, second = made[0], made[0]
    assert first.image is not second.image and torch.equal(first.image, second.image)
    monkeypatch.undo()
    assert made[0].image is made[0].image
