"""The count of operations: what one gets by hand, both sides on the same outputs, and the bound on AbSViT-B."""

import io

import pytest
from rich.console import Console

from benchmarks import model as benchmark
from benchmarks.model import CAPTION, MODELS, PAPER, Cost, measure, show

PATCHES, TOKENS, BLOCKS, CLASSES = 196, 197, 12, 1000
WIDTH = {"tiny": 192, "small": 384, "base": 768}


def embedding(width: int) -> int:
    return PATCHES * 3 * 16 * 16 * width


def product(width: int) -> int:
    """A D x D matrix on all tokens."""
    return TOKENS * width**2


def attention(width: int) -> int:
    """Queries on keys, weights on values."""
    return 2 * TOKENS**2 * width


def blocks(width: int) -> int:
    """qkv, attention, projection, MLP: 3 + 1 + 8 products of D x D."""
    return BLOCKS * (12 * product(width) + attention(width))


def naive_absvit(width: int) -> int:
    """Two passes; R, T and a whole qkv of the top-down input per block; the cosine."""
    passes = 2 * (embedding(width) + blocks(width))
    return passes + BLOCKS * 5 * product(width) + TOKENS * width + CLASSES * width


def all_tokens(width: int) -> int:
    """One embedding and one qkv of the first block for both passes; a matrix per block, W_v on the first's signal."""
    passes = embedding(width) + 2 * blocks(width) - 3 * product(width)
    return passes + (BLOCKS + 1) * product(width) + CLASSES * width


@pytest.fixture(scope="module")
def tiny() -> dict[str, Cost]:
    return {top_down: measure("tiny", top_down) for top_down in ("none", "absvit")}


def test_a_vit_counts_one_pass_on_either_side(tiny):
    cost = tiny["none"]
    assert cost.naive == cost.evaluation == cost.all_tokens == embedding(192) + blocks(192) + CLASSES * 192
    assert cost.folding == cost.with_signal == 0


def test_an_absvit_counts_what_its_formulas_count_by_hand(tiny):
    cost = tiny["absvit"]
    without_signal = round((1 - cost.with_signal) * TOKENS)
    assert 0 < without_signal < TOKENS
    assert cost.naive == naive_absvit(192)
    assert cost.all_tokens == all_tokens(192)
    assert cost.evaluation == cost.all_tokens - BLOCKS * without_signal * 192**2
    assert cost.folding == 2 * BLOCKS * 192**3


def test_decoders_and_query_are_all_that_absvit_adds(tiny):
    assert tiny["none"].parameters == 5_717_416  # as timm's ViT-Ti/16 of 1,000 classes
    assert tiny["absvit"].parameters - tiny["none"].parameters == 2 * BLOCKS * 192**2 + 192


@pytest.mark.slow
def test_absvit_base_needs_at_most_36_g_where_the_naive_way_needs_42():
    cost = measure("base", "absvit")
    assert cost.evaluation <= 36e9 < cost.all_tokens == all_tokens(768) < 36.2e9
    assert cost.naive == naive_absvit(768) == 42_098_759_424  # 8 % above the paper's 38.9 G
    assert cost.parameters == 86_567_656 + 24 * 768**2 + 768  # ViT-B/16, the decoders, the query
    assert cost.difference < benchmark.LARGEST_DIFFERENCE


def test_the_caption_reckons_right():
    passes = {size: embedding(width) + blocks(width) for size, width in WIDTH.items()}
    alone = [f"{(passes[size] - BLOCKS * attention(width)) / 1e9:.2f}" for size, width in WIDTH.items()]
    assert "ViT-Ti is {}, ViT-S {} and ViT-B {}:".format(*alone) in " ".join(CAPTION.split())
    decoded = {size: 2 * passes[size] + 24 * product(width) for size, width in WIDTH.items()}
    assert f"decoders, {24 * product(192) / 1e9:.2f}." in CAPTION
    assert (
        f"decoders, {decoded['small'] / 1e9:.2f};" in CAPTION and f"more, {decoded['base'] / 1e9:.2f}, and" in CAPTION
    )
    assert decoded["small"] > 9.8e9 and decoded["base"] < 38.9e9 < naive_absvit(768)


def test_a_side_that_differs_stops_the_benchmark_before_anything_is_shown(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark, "MODELS", [("tiny", "none")])
    monkeypatch.setattr(benchmark, "naive_tokens", lambda model, images: model.forward_features(images) + 1e-3)
    with pytest.raises(RuntimeError, match="ViT tiny"):
        benchmark.run(output=tmp_path / "table.json")
    assert not (tmp_path / "table.json").exists() and "tiny" not in capsys.readouterr().out


def test_the_table_shows_every_model_beside_the_papers_figures(tiny):
    text = io.StringIO()
    show(Console(file=text, width=200), dict.fromkeys(MODELS, tiny["absvit"]))
    rows = [line.replace("│", " ").split() for line in text.getvalue().splitlines() if line.startswith("│")]
    assert [(row[0], row[1]) for row in rows] == [(kind, size) for size in WIDTH for kind in ("ViT", "AbSViT")]
    assert [(float(row[3]), float(row[5])) for row in rows] == list(PAPER.values())
    assert {row[4] for row in rows} == {"2.94"} and {row[2] for row in rows} == {"6.6"}
