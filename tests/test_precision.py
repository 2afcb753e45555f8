"""What bf16 is and is not: the forward pass's products, never what is compared."""

import pytest
import torch
import torch.nn.functional as F

from vl_absvit import precision
from vl_absvit.evaluation.chunk_store import FileChunkStore
from vl_absvit.losses import itm_loss, prior_loss, ranking_loss, vqa_loss
from vl_absvit.models.prior import prior_similarity
from vl_absvit.precision import DESCRIPTIONS, always_fp32, arithmetic

CPU = torch.device("cpu")


def test_products_of_fp32_weights_are_bf16_where_asked_for_and_nowhere_else():
    x, weight = torch.randn(2, 4), torch.randn(3, 4)
    with arithmetic("bf16", CPU):
        assert F.linear(x, weight).dtype == torch.bfloat16
        with arithmetic("fp32", CPU):
            assert F.linear(x, weight).dtype == torch.float32
        assert F.linear(x, weight).dtype == torch.bfloat16
    assert F.linear(x, weight).dtype == torch.float32 and weight.dtype == torch.float32


@pytest.mark.parametrize("is_fast", [False, True])
def test_a_cpu_on_which_bf16_is_slow_is_told_of_once(monkeypatch, caplog, is_fast):
    monkeypatch.setattr(precision, "multiplies_bf16", lambda: is_fast)
    with arithmetic("fp32", CPU), arithmetic("bf16", torch.device("meta")):
        assert caplog.messages == []
    precision._tell_of_slow_bf16.cache_clear()
    for _ in range(2):
        with arithmetic("bf16", CPU), arithmetic("fp32", CPU):
            pass
    told = "bf16 on a CPU that has no instructions for it: products take several times as long as in fp32"
    assert caplog.messages == ([] if is_fast else [told])


def test_tensors_without_content_have_no_autocast_and_need_none():
    with torch.device("meta"), arithmetic("bf16", torch.device("meta")):
        assert always_fp32(F.linear)(torch.empty(2, 4), torch.empty(3, 4)).shape == (2, 3)


def test_what_is_compared_never_sees_less_than_fp32():
    seen = always_fp32(lambda *args, **named: [*args, *named.values()])
    half, double, ids = torch.ones(1, dtype=torch.bfloat16), torch.ones(1, dtype=torch.float64), torch.ones(1).long()
    with arithmetic("bf16", CPU):
        values = seen(half, double, ids, "max", named=half)
    assert [getattr(value, "dtype", value) for value in values] == [
        torch.float32, torch.float64, torch.int64, "max", torch.float32
    ]  # fmt: skip


def test_parts_of_an_evaluation_are_told_apart_by_what_precision_meant_when_they_were_made(tmp_path):
    store = FileChunkStore(tmp_path / "scores.json")
    assert not store.start({"precision": "bf16"}), "which was that of the weights, once"
    for words in reversed(DESCRIPTIONS.values()):
        assert not store.start({"precision": words})
        assert store.start({"precision": words})


IDS = torch.arange(4)
POOLS = "lse", "max", "mean", "cls"
COMPARISONS = {
    "vqa": lambda x: vqa_loss(x, torch.full((4, 4), 0.3)),
    "ranking": ranking_loss,
    "itm": lambda x: itm_loss(x[:, :2], IDS > 1),
    "prior": lambda x: prior_loss(x, IDS, IDS, IDS, temperature=0.07),
    "similarity": lambda x: torch.stack([prior_similarity(x, torch.stack([x + 1, x * x]), pool) for pool in POOLS]),
}


@pytest.mark.parametrize("compare", COMPARISONS.values(), ids=COMPARISONS)
def test_losses_and_similarities_under_autocast_are_bit_by_bit_those_of_fp32(compare):
    x = torch.randn(4, 4, requires_grad=True)
    results, gradients = [], []
    for name in ("fp32", "bf16"):
        with arithmetic(name, CPU):
            results.append(compare(x))
        gradients.append(torch.autograd.grad(results[-1].sum(), x)[0])
    assert results[1].dtype == torch.float32
    assert torch.equal(*results) and torch.equal(*gradients)
