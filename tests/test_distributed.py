"""Two ranks equal one: gathering with gradient and the prior loss of the global batch."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from tests.distributed_helper import run_on_ranks
from vl_absvit.config import PriorConfig
from vl_absvit.distributed import (
    gather_objects,
    gather_with_grad,
    is_true_anywhere,
    make_together,
    rank,
    world_size,
)
from vl_absvit.models.looks import FirstLook, Look, TwoLooks
from vl_absvit.tasks.prior_losses import compared, global_prior_loss

TEXTS, IMAGES, TOKENS, WIDTH = 5, 4, 3, 8
IMAGE_OF_TEXT = torch.tensor([0, 1, 0, 2, 3])
# Rank 0 has three texts about images 0 and 1; rank 1 two texts about images 2 and 3, or, shared, one about image 0
# again.
TEXTS_OF_RANK = [[0, 1, 2], [3, 4]]
MEAN_TOKEN = 0.5
IMAGE_IDS = torch.tensor([70, 71, 72, 73])


def prior_loss_and_gradients(look: str, pool: str, shared: bool) -> list[torch.Tensor]:
    """Loss, and gradients as DDP leaves them, of this rank's part of a fixed batch.

    Without a process group it is all of the batch.
    """
    torch.manual_seed(0)
    prior = torch.randn(TEXTS, WIDTH, requires_grad=True)
    tokens = torch.randn(IMAGES if look == "first" else TEXTS, TOKENS, WIDTH, requires_grad=True)
    image_of_text = IMAGE_OF_TEXT.clone()
    if shared:
        image_of_text[4] = 0
    texts = TEXTS_OF_RANK[rank()] if world_size() > 1 else list(range(TEXTS))
    images, image_index = image_of_text[texts].unique(return_inverse=True)
    first = tokens[images] if look == "first" else torch.zeros(len(images), TOKENS, WIDTH)
    second = Look(tokens[texts], []) if look == "second" else None
    threshold = torch.full((1,), 0.1, requires_grad=True)
    looks = TwoLooks(
        FirstLook(None, first, [], prefix_tokens=1), second, None, threshold=threshold if look == "first" else None
    )
    vision = SimpleNamespace(less_mean=lambda tokens: tokens - MEAN_TOKEN)
    mine = compared(vision, prior[texts], looks, image_index, IMAGE_IDS[images], look)
    loss = global_prior_loss(mine, PriorConfig(look=look, pool=pool))
    loss.backward()
    gradients = [prior.grad, tokens.grad] + ([threshold.grad] if look == "first" else [])
    if world_size() > 1:
        for gradient in gradients:
            dist.all_reduce(gradient)
            gradient /= world_size()
    return [loss.detach(), *gradients]


CASES = [("first", "max", False), ("first", "mean", True), ("second", "cls", True)]


def all_cases() -> list[list[torch.Tensor]]:
    """Every case, gradients of rows that each rank weighs differently, the order of objects, what is true anywhere."""
    results = [prior_loss_and_gradients(*case) for case in CASES]
    rows = torch.full((rank() + 1, 2), float(rank()), requires_grad=True)
    gathered = gather_with_grad(rows)
    (gathered * (rank() + 1)).sum().backward()
    order = torch.tensor(gather_objects([rank()] * (rank() + 1)))
    heard = torch.tensor([is_true_anywhere(rank() == 1), is_true_anywhere(False), is_true_anywhere(True)])
    return [*results, [gathered.detach(), rows.grad, order, heard]]


@pytest.mark.slow
def test_the_prior_loss_on_two_ranks_equals_one():
    one, (first, second) = all_cases(), run_on_ranks(all_cases, 2)
    for number, case in enumerate(CASES):
        for ours, theirs, expected in zip(first[number], second[number], one[number], strict=True):
            torch.testing.assert_close(ours, expected, msg=str(case))
            torch.testing.assert_close(theirs, expected, msg=str(case))
    for results in (first, second):
        gathered, gradient, order, heard = results[-1]
        assert gathered.tolist() == [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]  # rank order, unequal numbers of rows
        assert (gradient == 3.0).all()  # 1 from rank 0 and 2 from rank 1
        assert order.tolist() == [0, 1, 1]
        assert heard.tolist() == [True, False, True]


def squares_made_together(number: int) -> list[torch.Tensor]:
    """Squares of the first numbers, and those of which this process made them."""
    made: list[int] = []

    def make(part: range) -> torch.Tensor:
        made.extend(part)
        return torch.tensor([[each, each**2] for each in part])

    return [make_together(number, make), torch.tensor(made)]


@pytest.mark.slow
def test_each_process_makes_a_part_of_the_rows_and_has_all():
    everything = [[each, each**2] for each in range(5)]
    (first, by_first), (second, by_second) = run_on_ranks(squares_made_together, 2, 5)
    assert first.tolist() == second.tolist() == everything
    assert (by_first.tolist(), by_second.tolist()) == ([0, 1], [2, 3, 4])
    alone, by_one = squares_made_together(5)
    assert alone.tolist() == everything and by_one.tolist() == list(range(5))


def test_one_process_gathers_what_it_has():
    rows = torch.ones(2, 3)
    assert gather_with_grad(rows) is rows and gather_objects([1, 2]) == [1, 2]
    assert is_true_anywhere(True) and not is_true_anywhere(False)
