"""What frozen encoders make of a training set, kept on disk: ``data.keep_frozen``.

A frozen trunk makes the same first look at an image in every epoch, and a frozen text encoder the same vectors of a
text. Both are made once, without dropout, rounded to bf16, and read in place of pictures and token ids. A step on what
was kept is a step whose first look and text vectors are computed in evaluation mode and rounded likewise.
"""

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor

from vl_absvit.cli import progress
from vl_absvit.config import VisionLanguageConfig
from vl_absvit.data.captions import GalleryImages
from vl_absvit.data.collate import pad_texts, wording
from vl_absvit.data.image_loader import ImageLoader
from vl_absvit.data.kept_rows import KeptRows
from vl_absvit.data.loaders import batch_loader
from vl_absvit.distributed import gather_objects, rank, world_size
from vl_absvit.errors import InputError
from vl_absvit.main_process import in_main_process
from vl_absvit.models.looks import OWN
from vl_absvit.models.vl_model import VLAbSViT
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.vl_checkpoint import Preprocessing

log = logging.getLogger(__name__)

AT_ONCE = 32
"""Images or texts of a forward pass."""
_BESIDE_WEIGHTS = ("model_type", "num_attention_heads", "hidden_act", "layer_norm_eps")
"""Of a text encoder, what changes its vectors and is no weight."""


@runtime_checkable
class Keeping(Protocol):
    """A training set whose images and texts can be replaced by what is kept of them."""

    image_ids: np.ndarray  # of each sample
    images: ImageLoader

    def token_ids(self) -> list[list[int]]: ...
    def take_text_states(self, kept: KeptRows) -> None: ...


def keep_frozen(
    config: VisionLanguageConfig, model: VLAbSViT, train_set: Keeping, preprocessing: Preprocessing
) -> None:
    """Make what is missing in ``data.keep_frozen``, and have the training set read it. All processes call this.

    Each image and each text is encoded by one of them.

    Args:
        model: on its device.

    Raises:
        InputError: the folder holds what other weights, images or texts made; or there is no room.
    """
    assert config.data.keep_frozen is not None, "there is a folder"
    folder, mode = Path(config.data.keep_frozen), model.training
    model.eval()
    train_set.images.take_first_looks(_first_looks(folder / "first_looks", config, model, train_set, preprocessing))
    if config.optim.rates.text == 0:
        train_set.take_text_states(_text_states(folder / "texts", config, model, train_set))
    else:
        log.info("data.keep_frozen: vectors of texts are not kept, for the text encoder is trained")
    model.train(mode)


def _first_looks(
    folder: Path, config: VisionLanguageConfig, model: VLAbSViT, train_set: Keeping, preprocessing: Preprocessing
) -> KeptRows:
    """The first look at every image, by its id."""
    vision, image_ids = model.vision, np.unique(train_set.image_ids)
    kept = KeptRows(folder, image_ids, np.full(len(image_ids), vision.numbers_to_keep))
    pictures = GalleryImages(train_set.images, image_ids)

    def request() -> dict[str, Any]:
        trunk = {name: weight for name, weight in vision.state_dict().items() if not name.startswith(OWN)}
        return {
            # Weights do not tell into how many heads they divide.
            "first looks by": f"{model.architecture['vision']['model']}, {vision.describe()}",
            "trunk": sha256_of(trunk),
            "second look from block": vision.looks_again_from if vision.looks_twice else None,
            "image size": preprocessing.image_size,
            "image statistics": [*preprocessing.image_mean, *preprocessing.image_std],
            "precision": config.run.precision,
            "images": train_set.images.content(image_ids),
        }

    def encode(parts: list[np.ndarray]) -> Iterator[list[Tensor]]:
        batches = [np.searchsorted(image_ids, part).tolist() for part in parts]
        for images in batch_loader(pictures, batches, config.data.num_workers):
            yield list(vision.first_look_to_keep(send_to_device(images, _device(model), non_blocking=True)))

    _make_missing(kept, request, encode, model, config, "the first look at {:,} images")
    return kept


def _text_states(folder: Path, config: VisionLanguageConfig, model: VLAbSViT, train_set: Keeping) -> KeptRows:
    """The vectors of every text, by its ``wording``."""
    texts = {wording(token_ids): token_ids for token_ids in train_set.token_ids()}
    keys = np.array(sorted(texts))
    kept = KeptRows(folder, keys, np.array([len(texts[key]) for key in keys.tolist()]) * model.text.width)
    pad_id = model.text.roberta.config.pad_token_id

    def request() -> dict[str, Any]:
        return {
            "text encoder": sha256_of(model.text.state_dict()),
            "computed by": {name: getattr(model.text.roberta.config, name) for name in _BESIDE_WEIGHTS},
            "precision": config.run.precision,
            "texts": hashlib.sha256(keys.astype("<i8").tobytes()).hexdigest(),
        }

    def encode(parts: list[np.ndarray]) -> Iterator[list[Tensor]]:
        for part in parts:
            of_part = [texts[key] for key in part.tolist()]
            token_ids, is_token = (tensor.to(_device(model)) for tensor in pad_texts(of_part, pad_id))
            vectors = model.text(token_ids, is_token)
            yield [row[: len(text)] for row, text in zip(vectors, of_part, strict=True)]

    _make_missing(kept, request, encode, model, config, "the vectors of {:,} texts")
    return kept


def _make_missing(
    kept: KeptRows,
    request: Callable[[], dict[str, Any]],
    encode: Callable[[list[np.ndarray]], Iterable[list[Tensor]]],
    model: VLAbSViT,
    config: VisionLanguageConfig,
    what: str,
) -> None:
    """Write the files that are missing, each in one process.

    Args:
        request: everything that the rows depend on.
        encode: makes the rows of some parts, each with the keys of a forward pass.
        what: the rows in words, with a place for their number.
    """
    missing = in_main_process(lambda: _begin(kept, request(), what.format(len(kept))))
    own = missing[rank() :: world_size()]
    parts = {file: np.split(keys, range(AT_ONCE, len(keys), AT_ONCE)) for file in own for keys in [kept.keys_of(file)]}
    with torch.no_grad(), arithmetic(config.run.precision, _device(model)), progress() as bar:
        made = iter(encode([part for of_file in parts.values() for part in of_file]))
        for file, of_file in bar.track(parts.items(), description="keeping"):
            rows = [row for encoded in islice(made, len(of_file)) for row in encoded]
            kept.write(file, rows)
    gather_objects(own)  # all have written
    if missing:
        in_main_process(lambda: _check_whole(kept))


def _begin(kept: KeptRows, request: dict[str, Any], what: str) -> list[int]:
    """The files to make. What they will take of the disk is logged before."""
    kept.start(request)
    missing = kept.missing()
    needed, total = kept.bytes_of(missing), kept.bytes_of(range(kept.files))
    free = shutil.disk_usage(kept.folder).free
    if not missing:
        log.info("data.keep_frozen: %s are in %s (%.2f GB)", what, kept.folder, total / 1e9)
        return missing
    log.info(
        "data.keep_frozen: %s in %s, %.2f GB of the disk, %.2f GB of which are there already",
        what, kept.folder, total / 1e9, (total - needed) / 1e9,
    )  # fmt: skip
    if free < needed:
        raise InputError(
            f"{kept.folder}: there is no room for {what}: {needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB free"
        )
    return missing


def _check_whole(kept: KeptRows) -> None:
    if missing := kept.missing():
        raise InputError(
            f"{kept.folder}: {len(missing)} files of other processes are not there; expected a folder that all see"
        )


def sha256_of(weights: dict[str, Tensor]) -> str:
    """SHA-256 of tensors with their names and shapes."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        weight = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {weight.dtype} {list(weight.shape)} ".encode())
        digest.update(weight.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _device(model: VLAbSViT) -> torch.device:
    return next(model.parameters()).device
