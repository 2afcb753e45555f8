"""A file of the scores behind an evaluation of retrieval, from which its metrics can be computed again."""

from pathlib import Path

import numpy as np

from vl_absvit.data.captions import CaptionGallery
from vl_absvit.data.files import write_whole
from vl_absvit.evaluation.retrieval_metrics import Ranks
from vl_absvit.tasks.retrieval_scores import GalleryScores


def keep_scores(
    path: Path, gallery: CaptionGallery, scores: GalleryScores, ranks: Ranks, fold_of_image: np.ndarray
) -> None:
    """Write an ``.npz`` file of plain arrays, of I images and C captions in the order of the split's table.

    ``image_ids`` (I,), ``caption_ids`` (C,), ``image_of_caption`` (C,), ``fold_of_image`` (I,); ``similarity`` (I, C)
    of the dual encoder; ``pairs`` (I, C) of the whole model if it judged any, NaN elsewhere; ``ir_rank`` (C,) and
    ``tr_rank`` (I,) among the candidates of the fold, 1 the best.

    Raises:
        InputError: the file cannot be written.
    """
    kept = {
        "image_ids": gallery.image_ids,
        "caption_ids": gallery.caption_ids,
        "image_of_caption": gallery.image_of_caption,
        "fold_of_image": fold_of_image,
        "similarity": scores.similarity,
        "ir_rank": ranks.ir + 1,
        "tr_rank": ranks.tr + 1,
    }
    if scores.pairs is not None:
        kept["pairs"] = scores.pairs
    write_whole(path, lambda stream: np.savez_compressed(stream, **kept))
