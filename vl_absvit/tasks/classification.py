"""Image classification with a trainable query as prior: pretraining of the visual encoder [AbS 2.5]."""

from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from torch import Tensor, nn

from vl_absvit.config import PretrainConfig
from vl_absvit.data.image_folder import ImageBatch, ImageFolderDataset, MosaicDataset
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.data.loaders import evaluation_loader, samples_per_pass
from vl_absvit.data.transforms import image_transform
from vl_absvit.distributed import gather_objects, rank, world_size
from vl_absvit.errors import InputError
from vl_absvit.models.build import build_classifier, image_statistics
from vl_absvit.models.heads import ClassifierOutput


class ClassificationTask:
    """Pretraining on an image folder; see ``tasks.base.Task`` for what each method owes the loop."""

    select_metric = "top1"

    def __init__(self, config: PretrainConfig) -> None:
        self.config = config
        data, size = config.data, config.vision.image_size // config.mosaic
        self.mean, self.std = image_statistics(config.vision)
        self.train_set = ImageFolderDataset(
            data.root,
            data.train_splits,
            image_transform(size, self.mean, self.std, data.augmentation),
            augmented=data.augmentation != "none",
            seed=config.run.seed,
        )
        if config.mosaic > 1:
            self.train_set = MosaicDataset(self.train_set, config.mosaic, config.run.seed)
        self.select_set = None
        if data.select_split is not None:
            plain = image_transform(size, self.mean, self.std)
            self.select_set = ImageFolderDataset(data.root, [data.select_split], plain)
            if self.select_set.classes != self.train_set.classes:
                raise InputError(f"{data.root}: {data.select_split} has other classes than {data.train_splits[0]}")
            if config.mosaic > 1:
                self.select_set = MosaicDataset(self.select_set, config.mosaic, seed=None)
        torch.manual_seed(config.run.seed)
        self.model = build_classifier(config, len(self.train_set.classes))

    def losses(self, model: nn.Module, batch: ImageBatch) -> dict[str, Tensor]:
        weight = self.config.loss.reconstruction
        out = model(batch.images, need_reconstruction=weight > 0)
        targets = F.one_hot(batch.labels, len(self.train_set.classes)).float().mean(dim=1)  # (I, classes)
        terms = {"classification": classification_loss(out, targets)}
        if out.reconstruction is not None:
            terms["reconstruction"] = weight * out.reconstruction
        return terms

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float] | None:
        """Share of images of the selection split whose class has the highest logit in the last look, in percent.

        Where training images are mosaics, an image is shown in all cells of one.
        """
        if self.select_set is None:
            return None
        optim = self.config.optim
        loader = evaluation_loader(
            self.select_set,
            batch_size=samples_per_pass(optim.batch_size, optim.micro_batch_size, world_size()),
            rank=rank(),
            world_size=world_size(),
            num_workers=self.config.data.num_workers,
        )
        records: list[tuple[int, bool]] = []
        device = next(model.parameters()).device
        for batch in loader:
            batch = send_to_device(batch, device)
            out = model(batch.images)
            logits = out.first_logits if out.second_logits is None else out.second_logits
            records += zip(batch.indices.tolist(), (logits.argmax(dim=1) == batch.labels[:, 0]).tolist(), strict=True)
        records = gather_objects(records)
        assert sorted(index for index, _ in records) == list(range(len(self.select_set))), "each image exactly once"
        return {"top1": 100 * sum(correct for _, correct in records) / len(records)}

    def lr_of(self) -> dict[str, float]:
        rates = self.config.optim.learning_rates
        lr_of = {"vision": rates.vision, "vision.head": rates.head}
        if self.model.vision.decoders is not None:
            lr_of |= {"vision.decoders": rates.feedback, "vision.prior": rates.prior}
        return lr_of

    def save(self, folder: Path) -> None:
        """The encoder's weights, ready for ``vision.weights``, with its configuration, classes and pixel statistics."""
        safetensors.torch.save_model(self.model, str(folder / "model.safetensors"))
        vision = asdict(self.config.vision)
        content = {"format": 1, "vision": vision, "pooling": self.config.pooling, "classes": self.train_set.classes}
        write_json(folder / "config.json", content, indent=1)
        statistics = {"image_size": self.config.vision.image_size, "image_mean": self.mean, "image_std": self.std}
        write_json(folder / "preprocessor_config.json", statistics, indent=1)

    def check_saved(self, folder: Path) -> None:
        saved = read_json(folder / "config.json", dict).get("classes")
        if saved != self.train_set.classes:
            raise InputError(f"{self.config.data.root} has other classes than checkpoint {folder}")


def classification_loss(out: ClassifierOutput, targets: Tensor) -> Tensor:
    """Mean of both looks' cross-entropies, as released; a plain ViT has one look.

    Args:
        targets: probability of every class, (I, classes).
    """
    looks = [logits for logits in (out.first_logits, out.second_logits) if logits is not None]
    return torch.stack([F.cross_entropy(logits.float(), targets) for logits in looks]).mean()
