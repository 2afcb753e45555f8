"""The line that retrieval by trained priors is held against: ridge regression from image features to sentence vectors.

Both encoders are frozen. Shapes: I images, C captions, D width.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from benchmarks.real.pictures import photograph
from benchmarks.real.steering import all_tokens, to_inputs
from vl_absvit.data.json_files import read_json
from vl_absvit.errors import InputError
from vl_absvit.evaluation.retrieval_metrics import measures, retrieval_ranks
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.prior import masked_mean
from vl_absvit.models.text_encoder import TextEncoder

RIDGES = (0.1, 1.0, 10.0)
TEXTS_AT_ONCE = 64


class Captioned(NamedTuple):
    """Pictures with captions."""

    files: list[Path]
    captions: list[str]
    image_of_caption: np.ndarray  # (C,)
    is_test: np.ndarray  # (I,)


def read_captioned(folder: Path) -> Captioned:
    """The pictures of ``coco-captions/``; raises ``InputError`` where none is for training or none for testing."""
    images = read_json(folder / "dataset_coco.json", dict)["images"]
    captions = [(place, each["raw"]) for place, image in enumerate(images) for each in image["sentences"]]
    is_test = np.array([image["split"] == "test" for image in images])
    if is_test.all() or not is_test.any():
        raise InputError(f"{folder}: expected pictures for training and for testing")
    files = [folder / image["filepath"] / image["filename"] for image in images]
    return Captioned(files, [text for _, text in captions], np.array([place for place, _ in captions]), is_test)


def image_features(vision: VisualEncoder, files: list[Path]) -> Tensor:
    """CLS and the mean patch of every picture, (I, 2 D)."""
    tokens = all_tokens(vision, to_inputs(map(photograph, files)))
    return torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1)


@torch.no_grad()
def sentence_vectors(text: TextEncoder, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Tensor:
    """The mean over a text's real tokens, (C, D)."""
    found = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        batch = tokenizer(texts[start : start + TEXTS_AT_ONCE], padding=True, return_tensors="pt")
        is_token = batch["attention_mask"].bool()
        found.append(masked_mean(text(batch["input_ids"], is_token), is_token))
    return torch.cat(found)


def ridge_similarity(images: Tensor, captions: Tensor, image_of_caption: np.ndarray, is_test: np.ndarray,
                     ridge: float) -> Tensor:  # fmt: skip
    """Cosines of the test pictures' captions with what is predicted for each of these pictures, (I, C).

    A picture's target is the mean of its captions' vectors. lambda is ``ridge`` times the mean squared length of the
    training pictures' features.

    Args:
        images: (I, features).
        captions: (C, D).
    """
    train, test = torch.from_numpy(~is_test), torch.from_numpy(is_test)
    of_image = torch.from_numpy(image_of_caption)
    targets = torch.stack([captions[of_image == image].mean(dim=0) for image in range(len(images))])
    features = (images - images[train].mean(dim=0)).double()
    mean_target = targets[train].mean(dim=0)
    gram = features[train] @ features[train].T
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weights = torch.linalg.solve(gram, (targets[train] - mean_target).double())
    predicted = features[test] @ features[train].T @ weights
    own = captions[test[of_image]] - mean_target
    return F.normalize(predicted, dim=-1).float() @ F.normalize(own, dim=-1).T


def ridge_line(images: Tensor, captions: Tensor, captioned: Captioned) -> dict[str, dict[str, float]]:
    """Recalls in percent on the test pictures, by the strength of the ridge."""
    image_of_caption, is_test = captioned.image_of_caption, captioned.is_test
    place = np.cumsum(is_test) - 1
    asked = place[image_of_caption[is_test[image_of_caption]]]
    lines = {}
    for ridge in RIDGES:
        scores = ridge_similarity(images, captions, image_of_caption, is_test, ridge).numpy()
        lines[f"{ridge:g}"] = measures(retrieval_ranks(scores, asked))
    return lines
