"""The pictures of a folder as a data set that is read in batches."""

import hashlib
from collections.abc import Sequence, Set
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vl_absvit.data.bounded import read_picture
from vl_absvit.data.picture_folder import PictureFile, picture_at
from vl_absvit.data.rgb import decode_rgb
from vl_absvit.data.transforms import ImageTransform
from vl_absvit.errors import InputError


class ReadPicture(NamedTuple):
    """A picture that was read."""

    picture: PictureFile  # as it was just before
    sha256: str  # "" if it could not be read
    reason: str | None  # why it cannot be used


class ReadBatch(NamedTuple):
    """Some pictures, and those of them that the model is to look at."""

    read: list[ReadPicture]
    rows: list[int]  # of ``read``
    images: Tensor | None  # (rows, 3, H, W); None for no rows


class PictureReader:
    """Pictures as a data set that is loaded in batches."""

    def __init__(self, folder: Path, files: Sequence[str], known: Set[str], transform: ImageTransform) -> None:
        """
        Args:
            files: relative to ``folder``.
            known: digests of contents that need not be decoded.
        """
        self._folder, self._files, self._known, self._transform = folder, files, known, transform

    def __len__(self) -> int:
        return len(self._files)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[ReadPicture, Tensor | None]]:
        return [self._read(self._files[index]) for index in indices]

    def _read(self, file: str) -> tuple[ReadPicture, Tensor | None]:
        picture, sha256 = PictureFile(file, 0, 0), ""
        try:
            picture = picture_at(self._folder, file)
            content = read_picture(self._folder / file)
            sha256 = hashlib.sha256(content).hexdigest()
            image = None if sha256 in self._known else self._transform(decode_rgb(content))
            return ReadPicture(picture, sha256, None), image
        except OSError as error:
            return ReadPicture(picture, "", error.strerror or str(error)), None
        except InputError as error:
            return ReadPicture(picture, sha256, str(error)), None

    def collate(self, samples: Sequence[tuple[ReadPicture, Tensor | None]]) -> ReadBatch:
        rows = [row for row, (_, image) in enumerate(samples) if image is not None]
        images = [image for _, image in samples if image is not None]
        return ReadBatch([read for read, _ in samples], rows, torch.stack(images) if images else None)
