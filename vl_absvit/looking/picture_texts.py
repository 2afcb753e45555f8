"""The texts of an export: questions or captions of a prepared split; ``own_samples.py`` has the user's own.

Each class gives samples for a ``DataLoader`` and further facts about each text. Shapes: Q questions or captions.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from vl_absvit.data.captions import CaptionDataset
from vl_absvit.data.identity import content_of
from vl_absvit.data.loaders import BatchedDataset
from vl_absvit.data.records import ImageTable, read_manifest, read_questions, split_names
from vl_absvit.data.vqa import VQADataset
from vl_absvit.errors import InputError
from vl_absvit.evaluation.accuracy_rules import OFFICIAL, AccuracyRule, accuracy_rule
from vl_absvit.looking.own_texts import TextKind


class PictureText(NamedTuple):
    """A text about a picture, and the facts that are known without the model."""

    id: str  # names its files
    text_id: int | None  # of the question or caption in the prepared tables
    image_id: int | None
    image: Path  # the picture's file; it exists only if ``content`` is None
    content: bytes | None  # the file's bytes, if the prepared tables hold them
    text: str  # the question or caption, or the name of a picture that is shown without one
    answers: list[str] | None = None  # of people
    answer_type: str | None = None
    truth: str | None = None  # the answer that most people gave
    more: Mapping[str, Any] = MappingProxyType({})  # further keys of the user's request
    rule: AccuracyRule = OFFICIAL  # scores predictions against ``answers``


class PictureTexts(Protocol):
    """The questions, captions or pictures of an export. ``row`` counts them from 0."""

    kind: TextKind
    samples: BatchedDataset
    ids: list[str]  # Q, in the index's order
    image_ids: np.ndarray  # (Q,), equal for texts about one image

    def describe(self) -> dict[str, Any]: ...
    def text_at(self, row: int) -> PictureText: ...
    def image_size(self, row: int) -> tuple[int, int]: ...
    def open(self, row: int) -> Image.Image: ...


class _SplitTexts:
    """The questions or captions of a prepared split that have an image."""

    def __init__(
        self,
        root: str | Path,
        split: str,
        samples: VQADataset | CaptionDataset,
        text_ids: np.ndarray,
        images: str | Path | None,
    ) -> None:
        """
        Args:
            split: its name, or several with commas between them.
            samples: the same split as a data set.
            text_ids: of its samples, (Q,).
            images: folder of the raw images; None uses the places that the manifest names.
        """
        self.samples: BatchedDataset = samples
        self.image_ids = samples.image_ids
        self.ids = [str(text_id) for text_id in text_ids.tolist()]
        self._root, self._split = Path(root), split
        self._images = ImageTable(root, images)

    def describe(self) -> dict[str, Any]:
        """Facts that identify these texts, independent of their place, as JSON."""
        splits = split_names(self._split)
        return {"content": content_of(self._root, splits), "split": ",".join(splits)}

    def _file(self, row: int) -> tuple[Path, bytes | None]:
        """The picture's file, and its bytes if the tables hold them."""
        (file,) = self._images.records([self.image_ids[row]])
        return self._images.raw_root.resolve() / file.file, file.content

    def image_size(self, row: int) -> tuple[int, int]:
        """Width and height of the upright picture, as prepared."""
        width, height = self._images.sizes([self.image_ids[row]])[0].tolist()
        return width, height

    def open(self, row: int) -> Image.Image:
        """The picture.

        Raises:
            InputError: it cannot be opened, or its size is not that of the preparation.
        """
        image_id, expected = self.image_ids[row], self.image_size(row)
        (picture,) = self._images.open([image_id])
        if picture.size != expected:
            sizes = [f"{width} x {height}" for width, height in (expected, picture.size)]
            raise InputError(f"image {image_id} had {sizes[0]} pixels when it was prepared and now has {sizes[1]}")
        return picture


class SplitQuestions(_SplitTexts):
    """The questions of a prepared split that have an image."""

    kind: TextKind = "question"

    def __init__(self, root: str | Path, split: str, samples: VQADataset, images: str | Path | None = None) -> None:
        super().__init__(root, split, samples, samples.question_ids, images)
        self._table = read_questions(root, split_names(split))
        self._rows = np.flatnonzero(np.isin(self._table.data.column("question_id").to_numpy(), samples.question_ids))
        self._rule = accuracy_rule(read_manifest(root))

    def describe(self) -> dict[str, Any]:
        """Facts that identify these questions, and what their accuracy is if it is not the official one."""
        return super().describe() | ({} if self._rule is OFFICIAL else {"accuracy": self._rule.words})

    def text_at(self, row: int) -> PictureText:
        """The facts about a question."""
        record = self._table[int(self._rows[row])]
        return PictureText(
            self.ids[row], record["question_id"], record["image_id"], *self._file(row), record["question"],
            record.get("answers"), record.get("answer_type"), record.get("multiple_choice_answer"), rule=self._rule,
        )  # fmt: skip


class SplitCaptions(_SplitTexts):
    """The captions of a prepared split that have an image. Each is about its own image."""

    kind: TextKind = "caption"

    def __init__(self, root: str | Path, split: str, samples: CaptionDataset, images: str | Path | None = None) -> None:
        """
        Args:
            samples: the same split as a data set, without false captions.
        """
        super().__init__(root, split, samples, samples.caption_ids, images)
        self._captions = samples

    def text_at(self, row: int) -> PictureText:
        """The facts about a caption."""
        caption_id, image_id = int(self._captions.caption_ids[row]), int(self.image_ids[row])
        return PictureText(self.ids[row], caption_id, image_id, *self._file(row), self._captions.caption(row))


def batches_by_image(image_ids: np.ndarray, batch_size: int) -> list[list[int]]:
    """All rows in batches. Rows of one image stay together, so that its questions share one first look.

    Images keep the order of their first rows. Only an image with more questions than a batch holds is divided.

    Args:
        image_ids: of every row, (Q,).
    """
    rows_of: dict[int, list[int]] = {}
    for row, image_id in enumerate(image_ids.tolist()):
        rows_of.setdefault(image_id, []).append(row)
    batches: list[list[int]] = []
    for rows in rows_of.values():
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            if batches and len(batches[-1]) + len(part) <= batch_size:
                batches[-1] += part
            else:
                batches.append(part)
    return batches
