"""ImageNet's augmentation: repeatable picture by picture and batch by batch; targets say what is in the pixels."""

from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import AutoAugment, RandAugment
from torchvision.transforms import ColorJitter

from vl_absvit.config import AugmentationConfig
from vl_absvit.data.augmentation import MixedDataset, imagenet_transform
from vl_absvit.data.class_folders import ImageFolderDataset
from vl_absvit.data.loaders import training_loader
from vl_absvit.data.transforms import image_transform, seeded

SIZE = 16
POLICIES = get_args(get_type_hints(AugmentationConfig)["auto_augment"])
FULL = {"auto_augment": "rand-m9-mstd0.5-inc1", "color_jitter": 0.4, "random_erasing": 0.5}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four classes of three noisy pictures each."""
    folder, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name in "abcd":
        (folder / "train" / name).mkdir(parents=True)
        for number in range(3):
            pixels = draw.integers(0, 256, (24, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "train" / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """As many classes as pictures, picture k of the one grey value 20 k."""
    folder = tmp_path_factory.mktemp("flat")
    for k in range(6):
        (folder / "train" / str(k)).mkdir(parents=True)
        Image.new("RGB", (SIZE, SIZE), (20 * k,) * 3).save(folder / "train" / str(k) / "0.png")
    return folder


def augmented(root, seed=0, repeats=1, **strengths):
    transform = imagenet_transform(SIZE, (0.5,) * 3, (0.5,) * 3, **strengths)
    return ImageFolderDataset(root, ["train"], transform, seed=seed, repeats=repeats)


def mixed(root, mixup=0.0, cutmix=0.0, seed=0, epoch=0):
    plain = image_transform(SIZE, (0.0,) * 3, (1.0,) * 3)
    made = MixedDataset(ImageFolderDataset(root, ["train"], plain), mixup=mixup, cutmix=cutmix, seed=seed)
    made.set_epoch(epoch)
    return made


def batch_of(dataset, indices):
    return dataset.collate(dataset.__getitems__(indices))


def kinds(**strengths):
    return [type(step) for step in imagenet_transform(SIZE, (0.5,) * 3, (0.5,) * 3, **strengths).steps.transforms]


# One picture.


def test_an_augmented_picture_depends_on_seed_epoch_and_index_alone(root):
    one, other = augmented(root, **FULL), augmented(root, **FULL)
    for epoch in range(2):
        one.set_epoch(epoch), other.set_epoch(epoch)
        forwards = [one[index].image for index in range(12)]
        backwards = [other[index].image for index in reversed(range(12))]
        assert all(torch.equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))
    one.set_epoch(0)
    assert not torch.equal(one[0].image, forwards[0])
    assert not torch.equal(one[0].image, augmented(root, seed=1, **FULL)[0].image)


def test_copies_of_a_picture_are_augmented_otherwise_each(root):
    dataset = augmented(root, repeats=3, **FULL)
    first, second, third = dataset.__getitems__([5, 17, 29])
    assert first.labels == second.labels == third.labels == [1]
    assert torch.equal(first.image, augmented(root, **FULL)[5].image)
    assert not any(torch.equal(a.image, b.image) for a, b in ((first, second), (first, third), (second, third)))
    assert torch.equal(dataset[17].image, second.image)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_of_the_config_is_one_of_timms_and_has_its_effect(root, policy):
    operations = {RandAugment, AutoAugment} & set(kinds(auto_augment=policy))
    assert operations == {"none": set(), "original": {AutoAugment}}.get(policy, {RandAugment})
    assert augmented(root, auto_augment=policy)[0].image.shape == (3, SIZE, SIZE)


@pytest.mark.parametrize("policy", POLICIES)
def test_colours_are_jittered_beside_every_policy_and_only_where_asked_for(policy):
    assert ColorJitter in kinds(auto_augment=policy, color_jitter=0.4)
    assert ColorJitter not in kinds(auto_augment=policy)


def test_erasing_makes_noise_of_a_rectangle():
    transform = imagenet_transform(32, (0.5,) * 3, (0.5,) * 3, random_erasing=1.0)
    with seeded(0):
        changed = (transform(Image.new("RGB", (40, 40), (255,) * 3)) != 1).any(dim=0)  # white is 1 after normalisation
    rows, columns = changed.any(dim=1), changed.any(dim=0)
    assert 0 < changed.sum() == rows.sum() * columns.sum() < 32 * 32


def test_without_strengths_a_part_is_cut_out_and_perhaps_mirrored():
    pixels = torch.arange(64).repeat(64, 1).to(torch.uint8)  # brightness grows to the right
    picture, transform = Image.fromarray(pixels.numpy()).convert("RGB"), imagenet_transform(8, (0,) * 3, (1,) * 3)
    directions = set()
    for index in range(12):
        with seeded(index):
            image = transform(picture)
        assert torch.equal(image[0], image[1]) and image.max() <= 63 / 255 + 1e-6
        directions.add(bool(image[0, 0, -1] > image[0, 0, 0]))
    assert directions == {True, False}


# A batch.


def test_mixup_by_hand(flat, monkeypatch):
    monkeypatch.setattr(np.random, "beta", lambda a, b: 0.25)
    batch = batch_of(mixed(flat, mixup=0.8), [0, 1, 2, 3])
    greys = torch.tensor([0.25 * 0 + 0.75 * 60, 0.25 * 20 + 0.75 * 40, 0.25 * 40 + 0.75 * 20, 0.25 * 60]) / 255
    torch.testing.assert_close(batch.images, greys[:, None, None, None].expand(4, 3, SIZE, SIZE))
    expected = torch.tensor([
        [0.25, 0, 0, 0.75, 0, 0], [0, 0.25, 0.75, 0, 0, 0], [0, 0.75, 0.25, 0, 0, 0], [0.75, 0, 0, 0.25, 0, 0],
    ])  # fmt: skip
    torch.testing.assert_close(batch.targets, expected)
    assert batch.labels.tolist() == [[0], [1], [2], [3]] and batch.indices.tolist() == [0, 1, 2, 3]


def test_cutmix_by_hand(flat, monkeypatch):
    monkeypatch.setattr(np.random, "beta", lambda a, b: 0.75)  # a square of half the side
    monkeypatch.setattr(np.random, "randint", lambda low, high, size=None: 2)  # its centre, near the corner: 6 of 8 fit
    batch = batch_of(mixed(flat, cutmix=1.0), [1, 4])
    expected = torch.full((2, SIZE, SIZE), 20.0)
    expected[1] = 80
    expected[0, :6, :6], expected[1, :6, :6] = 80, 20
    torch.testing.assert_close(batch.images[:, 0], expected / 255)
    share = 36 / SIZE**2
    torch.testing.assert_close(
        batch.targets, torch.tensor([[0, 1 - share, 0, 0, share, 0], [0, share, 0, 0, 1 - share, 0]])
    )


@pytest.mark.parametrize("mixup, cutmix", [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_targets_sum_to_one_and_say_what_is_in_the_pixels(flat, mixup, cutmix):
    shares = set()
    for epoch in range(12):
        batch = batch_of(mixed(flat, mixup, cutmix, epoch=epoch), range(6))
        torch.testing.assert_close(batch.targets.sum(dim=1), torch.ones(6))
        torch.testing.assert_close(batch.images.mean(dim=(1, 2, 3)), batch.targets @ torch.arange(6.0) * 20 / 255)
        shares.add(batch.targets[0, 0].item())
    assert len(shares) > 6


def test_a_batch_gets_mixup_or_cutmix(flat):
    def is_cut(epoch):
        images = batch_of(mixed(flat, 0.8, 1.0, epoch=epoch), range(6)).images
        return any(len(image.unique()) > 1 for image in images)

    cut = [is_cut(epoch) for epoch in range(24)]
    assert 4 < sum(cut) < 20


def test_mixing_depends_on_seed_epoch_and_images_alone(root):
    def targets(seed=0, epoch=0, indices=(0, 4, 8, 11)):
        return batch_of(mixed(root, mixup=0.8, seed=seed, epoch=epoch), indices).targets

    assert torch.equal(targets(), targets())
    for other in (targets(seed=1), targets(epoch=1), targets(indices=(0, 4, 7, 11))):
        assert targets()[0, 0] != other[0, 0]


def test_loader_processes_and_a_later_start_change_nothing(root):
    def batches(num_workers, start_step=0):
        dataset = MixedDataset(augmented(root, **FULL), mixup=0.8, cutmix=1.0, seed=0)
        loader = training_loader(
            dataset, batch_size=4, micro_batch_size=2, rank=0, world_size=1, seed=0, epoch=1, start_step=start_step,
            num_workers=num_workers,
        )  # fmt: skip
        return list(loader)

    alone = batches(0)
    assert len(alone) == 6
    for others, expected in ((batches(2), alone), (batches(0, start_step=1), alone[2:])):
        for ours, theirs in zip(others, expected, strict=True):
            assert torch.equal(ours.images, theirs.images) and torch.equal(ours.targets, theirs.targets)


def test_copies_go_to_different_passes_or_processes_which_mix_them_otherwise(root):
    def batches(world_size, rank=0):
        dataset = MixedDataset(augmented(root, repeats=3, **FULL), mixup=0.8, cutmix=1.0, seed=0)
        return list(
            training_loader(
                dataset, batch_size=6, micro_batch_size=2, rank=rank, world_size=world_size, seed=0, epoch=1
            )
        )

    passes, of_ranks = batches(1), [batches(3, rank) for rank in range(3)]
    assert len(passes) == 6
    for number, alone in enumerate(passes):
        among_three = of_ranks[number % 3][number // 3]
        assert torch.equal(alone.images, among_three.images) and torch.equal(alone.targets, among_three.targets)
    for step in (passes[:3], passes[3:]):
        assert len({tuple((batch.indices % 12).tolist()) for batch in step}) == 1
        assert len({batch.targets.sum(dim=0).numpy().tobytes() for batch in step}) == 1
        assert len({batch.targets.numpy().tobytes() for batch in step}) == 3
