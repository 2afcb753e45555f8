"""Files of predictions have the values that servers take: Cityscapes' ids, ADE20K's classes from 1, VOC's palette."""

import numpy as np
import pytest
from PIL import Image

from vl_absvit.data.segmentation_labels import decode_label, standard_colours
from vl_absvit.evaluation.pixel_submission import write_prediction
from vl_absvit.prepare.segmentation import SEGMENTATION_SETS

PREDICTION = np.array([[0, 1, 18], [2, 0, 5]], np.uint8)


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("cityscapes", [[7, 8, 33], [11, 7, 17]]),
        ("ade20k", [[1, 2, 19], [3, 1, 6]]),
        ("voc", [[0, 1, 18], [2, 0, 5]]),
        ("folder", [[0, 1, 18], [2, 0, 5]]),
    ],
)
def test_values_are_those_of_the_set_s_own_labels(tmp_path, dataset, expected):
    file = tmp_path / "x.png"
    write_prediction(file, PREDICTION, standard_colours(21), SEGMENTATION_SETS[dataset].submitted)
    assert decode_label(file.read_bytes()).tolist() == expected
    if dataset == "voc":
        assert Image.open(file).mode == "P"
        assert Image.open(file).convert("RGB").getpixel((1, 0)) == (128, 0, 0)
