"""ImageNet's augmentation, by timm: of single pictures, and among the images of a batch."""

from collections.abc import Iterator, Sequence

from timm.data import Mixup
from timm.data.transforms_factory import transforms_imagenet_train
from torch import Tensor
from torch.utils.data import Dataset

from vl_absvit.data.class_folders import ImageBatch, ImageFolderDataset, ImageSample
from vl_absvit.data.transforms import ImageTransform, seeded


def imagenet_transform(
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    auto_augment: str = "none",
    color_jitter: float = 0.0,
    random_erasing: float = 0.0,
) -> ImageTransform:
    """A random part of a picture as a square tensor of side ``image_size``, randomly mirrored and changed.

    Args:
        mean: mean of each channel, in [0, 1].
        std: standard deviation of each channel.
        auto_augment: timm's name of a policy, or ``none``.
        color_jitter: largest relative change of brightness, contrast and saturation.
        random_erasing: probability that a rectangle becomes noise.
    """
    steps = transforms_imagenet_train(
        image_size,
        interpolation="bicubic",
        auto_augment=None if auto_augment == "none" else auto_augment,
        color_jitter=color_jitter or None,  # type: ignore[arg-type]  # timm takes None and does not say so
        force_color_jitter=True,  # with a policy, timm would leave it out silently
        mean=tuple(mean),
        std=tuple(std),
        re_prob=random_erasing,
        re_mode="pixel",
    )
    return ImageTransform(steps, is_random=True, resized_to=None)


class MixedDataset(Dataset):
    """Another data set's images, mixed in pairs within each batch by Mixup or CutMix.

    The first image of a batch is mixed with the last, the second with the last but one, and so on. A batch is that of
    one process and one forward pass. Its random numbers depend only on seed, epoch and its images.

    Args:
        mixup: Mixup's alpha, 0 for none.
        cutmix: CutMix' alpha, 0 for none; with both, each batch gets one of them with equal chance.
    """

    def __init__(self, images: ImageFolderDataset, *, mixup: float, cutmix: float, seed: int) -> None:
        self.images, self.classes, self.repeats = images, images.classes, images.repeats
        self._seed, self._epoch = seed, 0
        self._mix = Mixup(mixup, cutmix, label_smoothing=0.0, num_classes=len(images.classes))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> ImageSample:
        return self.images[index]

    def __getitems__(self, indices: Sequence[int]) -> list[ImageSample]:
        """Several samples at once, for a loader."""
        return self.images.__getitems__(indices)

    def collate(self, samples: Sequence[ImageSample]) -> ImageBatch:
        """A batch of an even number of samples, mixed."""
        batch = self.images.collate(samples)
        with seeded(self._seed, self._epoch, *batch.indices.tolist()):
            images, targets = self._mix(batch.images, batch.labels[:, 0])
        return batch._replace(images=images, targets=targets)

    def sample_images(self, number: int, seed: int, transform: ImageTransform) -> Iterator[Tensor]:
        """Unmixed images of the other data set, see there."""
        return self.images.sample_images(number, seed, transform)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that draws and augmentation depend on."""
        self._epoch = epoch
        self.images.set_epoch(epoch)
