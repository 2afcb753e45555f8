"""The retrieval benchmark: synthetic galleries, sides that compute what evaluation computes, and its arithmetic."""

from contextlib import nullcontext

import numpy as np
import torch
from rich.progress import Progress

from benchmarks.measure import Measurements
from benchmarks.retrieval import Contest
from benchmarks.retrieval_summary import Counts, compare_with_fp32, summarise
from benchmarks.synthetic import SyntheticGallery, caption_lengths
from tests.benchmarks.test_naive import VARIANTS, make_model
from vl_absvit.tasks.retrieval_scores import score_gallery


def no_stage(name: str) -> nullcontext:
    return nullcontext()


@torch.no_grad()
def test_all_sides_compute_what_evaluation_computes():
    model, gallery = make_model(*VARIANTS[0]), SyntheticGallery(images=3, captions=7, resolution=32, vocabulary=100)
    contest = Contest(model, gallery, size=2, batch=3)
    similarity, pairs = score_gallery(model, gallery, look="second", size=None, bar=Progress(disable=True))
    assert np.ptp(pairs) > 0.3
    image, caption = contest.rows
    assert len(image) == 8 and set(image) == {0, 1, 2} and {0, 6} <= set(caption)
    np.testing.assert_allclose(contest.naive_sample(), pairs[contest.rows], atol=1e-5)
    np.testing.assert_allclose(contest.own_sample(), pairs[contest.rows], atol=1e-5)
    exact, best = contest.exact(no_stage), contest.best(no_stage)
    np.testing.assert_allclose(exact[0], pairs[0], atol=1e-5)
    assert np.isnan(exact[1:]).all()
    for row in range(3):
        listed = np.argsort(-similarity[row])[:2]
        assert set(np.flatnonzero(~np.isnan(best[row]))) == set(listed)
        np.testing.assert_allclose(best[row, listed], pairs[row, listed], atol=1e-5)


def test_captions_are_as_long_as_flickrs():
    lengths = caption_lengths(5000, np.random.default_rng(0))
    assert lengths.min() >= 8 and lengths.max() <= 40 and abs(lengths.mean() - 16) < 0.3
    token_ids, is_token = SyntheticGallery(2, 9, 32).texts([4, 0])
    assert (token_ids[~is_token] == 1).all() and (token_ids[:, 0] == 0).all()
    assert [row[mask][-1] for row, mask in zip(token_ids, is_token, strict=True)] == [2, 2]
    assert is_token.sum(dim=1).tolist() == SyntheticGallery(2, 9, 32).lengths[[4, 0]].tolist()


def test_galleries_are_extrapolated_from_their_parts():
    counts = Counts(images=2, captions=10, shortlist=3, naive_pairs=4, exact_pairs=10)  # 20 pairs
    seconds = {
        "matmul": [0.5, 0.5],
        "naive": [8.0, 12.0, 4.0, 6.0],  # 40, 60, 20, 30 for the gallery
        "texts": [1.0, 1.0],
        "images": [1.0, 2.0],
        "pairs": [4.0, 1.0],  # 10 and 5 with texts and images
        "shortlist": [2.0, 3.0],
    }
    flops = {"matmul": 100, "naive": 400, "texts": 10, "images": 20, "pairs": 100, "shortlist": 60}
    result = summarise(counts, Measurements(seconds, flops, {"texts": 5, "pairs": 7}))
    naive, exact, shortlist = (result["sides"][name] for name in ("naive", "exact", "shortlist"))
    assert naive["seconds_per_gallery"] == {"median": 35, "low": 20, "high": 60}
    assert exact["seconds_per_gallery"] == {"median": 7.5, "low": 5, "high": 10}
    assert exact["ratio"] == {"median": 4, "low": 4, "high": 4}  # 40 / 10 and 20 / 5
    assert shortlist["ratio"] == {"median": 20, "low": 10, "high": 30}  # 60 / 2 and 30 / 3
    assert exact["seconds_per_pair"]["median"] == 7.5 / 20
    assert (naive["flop_per_gallery"], exact["flop_per_gallery"]) == (2000, 230)
    assert exact["flop_per_second"] == 230 / 7.5 and result["matmul_flop_per_second"]["median"] == 200
    assert (naive["peak_bytes"], exact["peak_bytes"]) == (None, 7)
    assert (naive["floor"], exact["floor"]) == (1, 2000 / 230)
    assert result["parts"]["pairs"]["share_of_matmul_rate"] == 100 / 2.5 / 200
    flickr30k = result["flickr30k"]
    assert flickr30k["naive_seconds"] == 5_000_000 * 7 / 4
    assert flickr30k["shortlist_pairs"] == 3 * 6000
    assert flickr30k["shortlist_seconds"] == 5000 * 0.1 + 1000 * 0.75 + 18_000 * 0.25
    compare_with_fp32({"fp32": result})
    assert exact["ratio_to_fp32_naive"] == 35 / 7.5 and exact["floor_to_fp32_naive"] == 2000 / 230
