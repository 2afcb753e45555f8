"""The protocol of a retrieval evaluation in words, and everything that its scores depend on."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vl_absvit.data.captions import CaptionGallery
from vl_absvit.data.identity import content_of
from vl_absvit.data.records import read_manifest
from vl_absvit.data.whole_folder import fingerprint
from vl_absvit.evaluation.retrieval_metrics import ZERO_SHOT
from vl_absvit.prepare.caption_sets import CAPTION_SETS
from vl_absvit.prepare.own.names import PUBLISHED, is_published
from vl_absvit.prepare.vqa_sets import DATA_SETS
from vl_absvit.tasks.retrieval_scores import IMAGES_PER_CHUNK
from vl_absvit.tasks.vl_checkpoint import VLCheckpoint, chain_of, datasets_trained_on
from vl_absvit.variants import Variant


def images_of(dataset: str) -> str:
    """The data set whose images a data set's are, wholly or in part: a model trained on VQAv2 has seen COCO."""
    described = DATA_SETS.get(dataset) or CAPTION_SETS.get(dataset)
    return (described and described.images_of) or PUBLISHED.get(dataset) or dataset


def is_zero_shot(dataset: str, trained_on: Iterable[str]) -> bool | None:
    """Whether a model trained on these data sets has never been trained on images of ``dataset``.

    Returns:
        None where that is not known: a data set of one's own, evaluated or trained on, may hold anybody's images.
    """
    trained_on = list(trained_on)
    if images_of(dataset) in map(images_of, trained_on):
        return False
    return True if all(map(is_published, [dataset, *trained_on])) else None


def describe_protocol(
    checkpoint: VLCheckpoint,
    data: str | Path,
    split: str,
    gallery: CaptionGallery,
    look: str,
    size: int | None,
    folds: int = 1,
) -> dict[str, Any]:
    """The entries of a result file about the protocol.

    Args:
        size: candidates per query that the whole model judged; None means all pairs.
        folds: parts of consecutive images that were ranked by themselves.
    """
    dataset = read_manifest(data)["dataset"]
    trained_on = datasets_trained_on(checkpoint.training)
    images, captions = len(gallery.image_ids), len(gallery.caption_ids)
    zero_shot = is_zero_shot(dataset, trained_on)
    variant = checkpoint.model.vision.variant
    resolution = checkpoint.preprocessing.image_size
    history = f"trained on {', then '.join(_describe(link) for link in chain_of(checkpoint.training))}"
    return {
        "dataset": dataset,
        "split": split,
        "images": images,
        "captions": captions,
        "folds": folds,
        "resolution": resolution,
        "look": look,
        "shortlist": "none" if look == "first" else "all" if size is None else size,
        "zero_shot": zero_shot,
        "model": checkpoint.model.vision.label,
        "training": checkpoint.training,
        "protocol": f"{ZERO_SHOT[zero_shot]} on {dataset} {split}, "
        f"{images} images x {captions} captions{_folds(images, folds)} "
        f"at {resolution} px; {history}; {_ranking(look, size, variant)}",
    }


def request_of(checkpoint: str | Path, data: str | Path, split: str, **settings: str | int | None) -> dict[str, Any]:
    """Everything that scores depend on, by content. It is compared before an interrupted evaluation goes on."""
    return {
        "weights": fingerprint(Path(checkpoint) / "model.safetensors")["sha256"],
        "architecture": fingerprint(Path(checkpoint) / "config.json")["sha256"],
        "tokenizer": fingerprint(Path(checkpoint) / "tokenizer.json")["sha256"],
        "data": content_of(data, [split]),
        "images_per_chunk": IMAGES_PER_CHUNK,
        **settings,
    }


def _folds(images: int, folds: int) -> str:
    if folds == 1:
        return ""
    least, rest = divmod(images, folds)
    sizes = f"{least} to {least + 1}" if rest else f"{least}"
    return f", the mean over {folds} consecutive folds of {sizes} images,"


def _ranking(look: str, size: int | None, variant: Variant) -> str:
    if look == "first":
        return "ranked by the dual encoder (prior against first look)"
    last = "second look" if variant.looks_twice else "reweighted first look" if variant.uses_prior else "first look"
    whole = f"the whole model ({last} and fusion)"
    if look == "both":
        whole += " and the dual encoder, summed"
    if size is None:
        return f"every pair scored by {whole}"
    return f"the dual encoder's best {size} of every query ranked by {whole}"


def _describe(link: dict[str, Any]) -> str:
    return f"{link['dataset']} ({link['task']}, {'+'.join(link['splits'])})"
