"""The benchmark of loading: pictures like real ones, rates by hand, and a loader that gives every image."""

import json

import numpy as np
import pytest
import torch

from benchmarks import data
from benchmarks.data import compare_reduced, compare_texts, decode_reduced, faster, per_core, workers_needed
from benchmarks.measure import Spread
from benchmarks.pictures import jpeg, make_picture, write_pictures
from benchmarks.texts import AHEAD, ON_THE_FLY
from vl_absvit.data.records import ImageTable
from vl_absvit.data.rgb import decode_rgb
from vl_absvit.data.transforms import image_transform

HALF = (0.5,) * 3


@pytest.fixture
def pictures(tmp_path) -> dict:
    return write_pictures(tmp_path, [(64, 48), (50, 40)], number=3)


def test_pictures_are_files_of_a_prepared_folder(pictures, tmp_path):
    table = ImageTable(tmp_path)
    assert table.available.tolist() == list(range(6)) and table.sizes([0, 5]).tolist() == [[64, 48], [50, 40]]
    for image, content in zip(table.open(range(6)), [*pictures[64, 48], *pictures[50, 40]], strict=True):
        assert np.array_equal(image, decode_rgb(content))
    assert len({content for files in pictures.values() for content in files}) == 6


def test_files_hold_as_many_bits_per_pixel_as_cocos():
    content = jpeg(make_picture((640, 480), np.random.default_rng(0)))
    assert 4 < 8 * len(content) / (640 * 480) < 5


def test_reduced_decoding_halves_where_enough_pixels_are_left_and_changes_what_the_model_sees(pictures):
    transform = image_transform(24, HALF, HALF)
    halved, whole = (compare_reduced(pictures[size], transform, 24, HALF) for size in ((64, 48), (50, 40)))
    assert halved["size"] == [32, 24] and halved["largest_difference"] > 1
    assert 0 < halved["mean_difference"] < halved["largest_difference"] <= 255
    assert whole == {"size": [50, 40], "largest_difference": 0, "mean_difference": 0}
    content = pictures[50, 40][0]
    assert np.array_equal(decode_reduced(content, 24), decode_rgb(content))


def test_a_core_takes_one_image_after_the_other(monkeypatch):
    monkeypatch.setattr(data, "SIZES", ((2, 2), (1, 1)))
    seconds = {((2, 2), "evaluation"): [3.0, 1.5], ((1, 1), "evaluation"): [1.0, 0.5]}
    assert per_core(seconds, 10, "evaluation") == Spread(7.5, 5.0, 10.0)  # 2 x 10 images in 4 s and in 2


def test_times_as_fast_are_those_of_rounds():
    assert faster([1.0, 2.0, 4.0], [2.0, 8.0, 4.0]) == Spread(2.0, 1.0, 4.0)


def test_a_gpu_needs_as_many_processes_as_keep_up_with_it():
    assert [workers_needed(rate, 100.0) for rate in (1, 100, 101, 1000)] == [1, 1, 2, 10]


def test_tokenising_ahead_saves_a_share_of_an_image_and_its_question(monkeypatch):
    monkeypatch.setattr(data, "TEXTS", 100)
    told = compare_texts({ON_THE_FLY: [1.0, 2.0, 3.0], AHEAD: [1.0, 1.0, 1.0]}, images_per_second=10.0)
    assert told["per_second"][ON_THE_FLY] == {"median": 50.0, "low": pytest.approx(100 / 3), "high": 100.0}
    assert told["saved_share"] == pytest.approx((0.02 - 0.01) / (0.1 + 0.02))


def test_everything_is_written_and_threads_are_as_before(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(data, "SIZES", ((64, 48), (50, 40)))
    monkeypatch.setattr(data, "TEXTS", 100)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        data.run(images=2, image_size=16, workers=[0], gpu_rate=[10, 10**9], repeats=1, output=tmp_path / "t.json")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    table = json.loads((tmp_path / "t.json").read_text())
    results = table["results"]
    assert table["images"] == 2 and list(results["sizes"]) == ["64 x 48", "50 x 40"]
    assert list(results["loaders"]["randaugment"]) == ["0"]
    steps = ["decoding", "decoding at reduced scale", "evaluation", "randaugment", "randaugment_fast", *data.OTHERS]
    assert list(results["sizes"]["64 x 48"]["images_per_second"]) == steps
    assert list(results["sizes"]["64 x 48"]["times_as_fast"]["randaugment"]) == list(data.OTHERS)
    assert list(results["texts"]["per_second"]) == [ON_THE_FLY, AHEAD]
    few, many = results["workers_needed"].values()
    assert set(few.values()) == {1} and min(many.values()) > 1
    told = " ".join(capsys.readouterr().out.split())
    assert "for a GPU that trains on 10 images/s: 1 with randaugment, 1 with randaugment_fast, 1 with METER" in told
