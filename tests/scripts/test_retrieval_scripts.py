"""Retrieval from the command line: train, evaluate, tell the protocol, and one clear line for what does not fit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.run_script import run_script
from tests.tiny_vqa import tiny_retrieval_config, write_config
from vl_absvit.evaluation.retrieval_metrics import mean_measures, measures_of_folds, retrieval_ranks

RECALLS = [f"{direction}_r{k}" for direction in ("ir", "tr") for k in (1, 5, 10)]


@pytest.fixture(scope="session")
def retrieval(world, finetuned, tmp_path_factory) -> Path:  # noqa: F811
    """The best checkpoint of a tiny retrieval run that starts from a tiny VQA run."""
    folder = tmp_path_factory.mktemp("retrieval")
    config = tiny_retrieval_config(world, folder / "run", from_checkpoint=str(finetuned / "vqa/checkpoints/best"))
    path = write_config(config, folder / "retrieval.yaml")
    assert run_script("scripts/finetune_retrieval.py", "--config", path) == 0
    return folder / "run/checkpoints/best"


@pytest.fixture
def rank(world, retrieval, tmp_path):  # noqa: F811
    """The result of an evaluation on the tiny world, with some options changed."""

    def run(**options: object) -> dict:
        output = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        arguments = dict(checkpoint=retrieval, data=world / "prepared/flickr30k", split="test", output=output)
        arguments |= {"num_workers": 0} | options
        words = [word for key, value in arguments.items() for word in (f"--{key.replace('_', '-')}", value)]
        assert run_script("scripts/evaluate_retrieval.py", *words) == 0
        assert not Path(f"{output}.partial").exists()
        return json.loads(output.read_text())

    return run


def test_the_result_says_what_was_done_in_words(rank, world):
    result = rank(look="second", shortlist=1)
    assert all(0 <= result[name] <= 100 for name in RECALLS)
    expected = {"images": 2, "captions": 10, "look": "second", "shortlist": 1, "zero_shot": True, "resolution": 32}
    assert {name: result[name] for name in expected} == expected
    assert result["protocol"] == (
        "zero-shot on flickr30k test, 2 images x 10 captions at 32 px; trained on vqav2 (vqa, train), then coco "
        "(retrieval, train+restval); the dual encoder's best 1 of every query ranked by the whole model "
        "(second look and fusion)"
    )
    at_home = rank(data=world / "prepared/coco")
    assert not at_home["zero_shot"] and at_home["protocol"].startswith("finetuned on coco test")


def test_a_shortlist_beyond_the_gallery_is_the_gallery_and_equals_all(rank):
    every, beyond = rank(shortlist="all"), rank(shortlist=10_000)
    assert beyond["shortlist"] == 10 and every["shortlist"] == "all"
    assert [beyond[name] for name in RECALLS] == [every[name] for name in RECALLS]
    assert beyond["pairs"] == every["pairs"] == 20


def test_the_dual_encoder_judges_no_pairs(rank):
    result = rank(look="first")
    assert result["pairs"] == 0 and result["shortlist"] == "none" and "dual encoder" in result["protocol"]


def test_both_looks_rank_by_their_sum(rank, tmp_path):
    kept_in = tmp_path / "kept" / "scores.npz"
    result, second = rank(look="both", shortlist=3, keep_scores=kept_in), rank(look="second", shortlist=3)
    assert result["protocol"] == second["protocol"].removesuffix(")") + ") and the dual encoder, summed"
    assert result["pairs"] == second["pairs"]
    with np.load(kept_in, allow_pickle=False) as kept:
        scores = kept["pairs"] + kept["similarity"] / 0.07
        ranks = retrieval_ranks(scores, kept["image_of_caption"], kept["similarity"], 3)
        assert np.array_equal(ranks.ir + 1, kept["ir_rank"]) and np.array_equal(ranks.tr + 1, kept["tr_rank"])
        alone = retrieval_ranks(kept["pairs"], kept["image_of_caption"], kept["similarity"], 3)
    assert not np.array_equal(alone.ir, ranks.ir) or not np.array_equal(alone.tr, ranks.tr)


def test_several_looks_share_the_pairs_and_equal_those_asked_for_one_by_one(
    rank,
    world,
    retrieval,
    tmp_path,
    monkeypatch,  # noqa: F811
):
    alone = {look: rank(look=look, shortlist=3) for look in ("first", "second", "both")}
    from vl_absvit.models.vl_model import VLAbSViT

    read, judged = VLAbSViT.read, []

    def counted(self, first, pairs, *arguments):
        judged.append(len(pairs.image_index))
        return read(self, first, pairs, *arguments)

    monkeypatch.setattr(VLAbSViT, "read", counted)
    words = ["--checkpoint", retrieval, "--data", world / "prepared/flickr30k", "--split", "test", "--num-workers", 0]
    words += ["--shortlist", 3, "--look", "both", "first", "second", "--output", tmp_path / "all.json"]
    assert run_script("scripts/evaluate_retrieval.py", *words) == 0
    assert sum(judged) == alone["second"]["pairs"] > alone["first"]["pairs"] == 0
    for look, expected in alone.items():
        result = json.loads((tmp_path / f"all_{look}.json").read_text())
        assert result | {"seconds": 0} == expected | {"seconds": 0}
    assert sorted(path.name for path in tmp_path.glob("all*")) == ["all_both.json", "all_first.json", "all_second.json"]


def test_folds_rank_their_own_and_all_can_be_computed_again_from_what_is_kept(rank, tmp_path):
    kept_in = tmp_path / "kept" / "scores.npz"
    result = rank(folds=2, shortlist=3, keep_scores=kept_in)
    assert (
        result["folds"] == 2
        and "2 images x 10 captions, the mean over 2 consecutive folds of 1 images" in (result["protocol"])
    )
    # A fold of one image with five captions: whatever is asked for comes first.
    assert result["rsum"] == 600 and result["ir_median_rank"] == result["tr_mean_rank"] == 1
    assert [fold["rsum"] for fold in result["per_fold"]] == [600, 600]
    assert (result["shortlist"], result["pairs"]) == (3, 10)
    with np.load(kept_in, allow_pickle=False) as file:
        kept = dict(file)
    assert kept["pairs"].shape == kept["similarity"].shape == (2, 10)
    fold_of_pair = kept["fold_of_image"][:, None] == kept["fold_of_image"][kept["image_of_caption"]]
    assert np.array_equal(np.isfinite(kept["pairs"]), fold_of_pair)
    about = (kept["image_of_caption"], kept["similarity"], result["shortlist"], kept["fold_of_image"])
    ranks = retrieval_ranks(kept["pairs"], *about)
    assert np.array_equal(ranks.ir + 1, kept["ir_rank"]) and np.array_equal(ranks.tr + 1, kept["tr_rank"])
    assert mean_measures(measures_of_folds(ranks, about[0], about[3]))["rsum"] == result["rsum"]


def test_kept_ranks_are_those_of_the_whole_gallery_without_folds(rank, tmp_path):
    result = rank(look="first", keep_scores=tmp_path / "scores.npz")
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as kept:
        assert "pairs" not in kept and kept["caption_ids"].shape == (10,) and kept["image_ids"].shape == (2,)
        assert result["ir_mean_rank"] == pytest.approx(kept["ir_rank"].mean(), abs=1e-4)


def test_corrupted_images_are_ranked_otherwise_and_the_protocol_says_so(rank):
    pytest.importorskip("imagecorruptions", exc_type=ImportError)
    clean, corrupted = rank(look="first"), rank(look="first", corrupt="gaussian_noise", severity=5)
    assert clean["corruption"] is None and corrupted["corruption"] == "gaussian_noise of severity 5"
    assert corrupted["protocol"] == f"{clean['protocol']}; images corrupted, gaussian_noise of severity 5"


@pytest.mark.slow
def test_two_processes_rank_corrupted_images_as_one_does(rank, world, retrieval, tmp_path, fork_server):  # noqa: F811
    """A corruption is drawn by image, so that nothing depends on who encodes it."""
    pytest.importorskip("imagecorruptions", exc_type=ImportError)
    options = {"corrupt": "gaussian_noise", "severity": 5, "shortlist": "all", "batch_size": 1}
    one = rank(**options, keep_scores=tmp_path / "one.npz")
    usual = {"checkpoint": retrieval, "data": world / "prepared/flickr30k", "split": "test", "num_workers": 0}
    usual |= options | {"output": tmp_path / "two.json", "keep_scores": tmp_path / "two.npz"}
    words = [word for key, value in usual.items() for word in (f"--{key.replace('_', '-')}", value)]
    outcome = fork_server.run("scripts/evaluate_retrieval.py", *words, processes=2)
    assert outcome.codes == [0, 0], outcome.output
    two = json.loads((tmp_path / "two.json").read_text())
    assert two | {"seconds": 0} == one | {"seconds": 0}
    with np.load(tmp_path / "one.npz") as ours, np.load(tmp_path / "two.npz") as theirs:
        for name in ("pairs", "similarity"):
            np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-5, atol=1e-6)
    rank(look="first", keep_scores=tmp_path / "clean.npz")
    with np.load(tmp_path / "clean.npz") as clean, np.load(tmp_path / "one.npz") as ours:
        assert np.abs(clean["similarity"] - ours["similarity"]).max() > 1e-3


def test_bf16_gives_nearly_the_same(rank):
    exact, rough = rank(shortlist="all"), rank(shortlist="all", precision="bf16")
    assert rough["precision"] == "bf16"
    assert rough["ir_r10"] == exact["ir_r10"] == 100


def test_an_interrupted_evaluation_goes_on(rank, world, retrieval, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vl_absvit.tasks.retrieval_scores.IMAGES_PER_CHUNK", 1)
    monkeypatch.setattr("vl_absvit.tasks.retrieval_protocol.IMAGES_PER_CHUNK", 1)
    from vl_absvit.models.vl_model import VLAbSViT

    output, calls, read = tmp_path / "out.json", [], VLAbSViT.read

    def interrupt_the_second(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return read(self, *arguments)

    monkeypatch.setattr(VLAbSViT, "read", interrupt_the_second)
    words = ["--checkpoint", retrieval, "--data", world / "prepared/flickr30k", "--split", "test"]
    words += ["--shortlist", "all", "--num-workers", 0, "--output", output]
    assert run_script("scripts/evaluate_retrieval.py", *words) == 130
    kept = sorted(path.name for path in Path(f"{output}.partial").iterdir())
    assert kept == ["pairs-000000.npy", "request.json", "similarity-000000.npy", "similarity-000001.npy"]
    capsys.readouterr()
    assert run_script("scripts/evaluate_retrieval.py", *words) == 0
    assert "going on with the interrupted evaluation" in capsys.readouterr().out
    assert len(calls) == 3
    result = json.loads(output.read_text())
    monkeypatch.setattr(VLAbSViT, "read", read)
    assert [result[name] for name in RECALLS] == [rank(shortlist="all")[name] for name in RECALLS]


@pytest.fixture
def refuse(world, retrieval, tmp_path, complaint):  # noqa: F811
    """The complaint of an evaluation with some options changed; it writes no scores."""

    def run(code: int, **options: object) -> str:
        usual = dict(
            checkpoint=retrieval, data=world / "prepared/flickr30k", split="test", output=tmp_path / "o/s.json"
        )
        arguments = usual | {"num_workers": 0} | options
        words = [word for key, value in arguments.items() for word in (f"--{key.replace('_', '-')}", value)]
        line = complaint(code, "scripts/evaluate_retrieval.py", *words)
        assert not (tmp_path / "o/s.json").exists()
        return line

    return run


@pytest.mark.parametrize("shortlist", [0, -1, "some", "1.5", "²"])
def test_a_shortlist_that_is_no_number_of_candidates_is_a_usage_error(refuse, shortlist):
    assert f"--shortlist must be {'at least 1' if shortlist == 0 else 'a positive number or all'}" in refuse(
        2, shortlist=shortlist
    )


def test_folds_that_cannot_be_are_refused(refuse, tmp_path):
    assert "test has 2 images, got 3 folds" in refuse(1, folds=3)
    assert "--folds must be at least 1" in refuse(2, folds=0)
    assert "name the same file" in refuse(2, keep_scores=tmp_path / "o/s.json")


def test_looks_that_cannot_be_asked_for_together_are_refused(world, retrieval, tmp_path, complaint):  # noqa: F811
    words = ["--checkpoint", retrieval, "--data", world / "prepared/flickr30k", "--output", tmp_path / "s.json"]
    words += ["--split", "test", "--look", "first", "second"]
    script = "scripts/evaluate_retrieval.py"
    assert "--look names a look twice: first second first" in complaint(2, script, *words, "first")
    assert "keeps the ranks of one look" in complaint(2, script, *words, "--keep-scores", tmp_path / "k.npz")


def test_another_split_checkpoint_or_kind_of_data_is_one_line(refuse, finetuned, world):
    assert "there is no split 'tset'; it has train, val, test" in refuse(1, split="tset")
    assert "expected a retrieval model, got a VQA model" in refuse(1, checkpoint=finetuned / "vqa/checkpoints/best")
    assert "expected prepared data of the kind captions, got 'vqav2'" in refuse(1, data=world / "prepared")


def test_captions_without_their_image_are_not_left_out_unsaid(refuse, world, tmp_path):
    data = Path(shutil.copytree(world / "prepared/flickr30k", tmp_path / "data"))
    table = pq.read_table(data / "images.parquet")
    gone = pq.read_table(data / "test.parquet").column("image_id")[0].as_py()
    files = [None if i.as_py() == gone else f.as_py() for i, f in zip(table["image_id"], table["file"], strict=True)]
    pq.write_table(table.set_column(1, "file", [files]), data / "images.parquet")
    complaint = refuse(1, data=data)
    assert "5 of 10 captions of test have no image" in complaint and "prepare again, into another folder" in complaint


def test_something_else_beside_the_output_is_left_alone(refuse, tmp_path):
    (tmp_path / "o/s.json.partial").mkdir(parents=True)
    (tmp_path / "o/s.json.partial/thesis.txt").write_text("mine")
    assert "is not an interrupted evaluation" in refuse(1)
    assert (tmp_path / "o/s.json.partial/thesis.txt").exists()


def test_too_few_captions_to_rank_against_are_refused(world, tmp_path, complaint):  # noqa: F811
    config = write_config(tiny_retrieval_config(world, tmp_path / "run"), tmp_path / "c.yaml")
    line = complaint(1, "scripts/finetune_retrieval.py", "--config", config, "--negatives", 1000)
    assert "expected 1000 false captions per sample" in line


def test_a_plain_vit_needs_a_prior_loss_to_be_compared(world, tmp_path, complaint):  # noqa: F811
    config = write_config(tiny_retrieval_config(world, tmp_path / "run"), tmp_path / "c.yaml")
    line = complaint(
        2, "scripts/finetune_retrieval.py", "--config", config, "--vision.top_down", "none", "--loss.prior", 0
    )
    assert "nothing else trains the prior where vision.top_down is none" in line
