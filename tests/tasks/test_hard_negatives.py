"""Hard captions and images: whom they are drawn for, how likely, and the same however a batch is divided."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.distributed_helper import run_on_ranks
from vl_absvit.data.collate import RetrievalBatch, RetrievalSample, collate_retrieval
from vl_absvit.distributed import rank
from vl_absvit.errors import ConfigError
from vl_absvit.tasks.hard_negatives import (
    Draw,
    are_said,
    choose_hard_negatives,
    draw_candidates,
    exchange_samples,
    may_describe,
)
from vl_absvit.tasks.prior_losses import Compared
from vl_absvit.tasks.retrieval_pairs import step_hard_negatives

NONE = torch.zeros(4, 4, dtype=torch.bool)


def test_candidates_are_drawn_likelier_the_more_similar_and_barred_ones_never():
    similarity = torch.tensor([[9.0, 9.0, 1.0, 0.0]] * 4)
    is_barred = torch.tensor([[True, True, False, False]] * 4)
    drawn = torch.stack([draw_candidates(similarity, is_barred, NONE, 1, 1.0, seed)[:, 0] for seed in range(3000)])
    assert (drawn >= 2).all()
    share = (drawn[:, 0] == 2).double().mean().item()  # among candidates 2 and 3 with logits 1 and 0
    assert share == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item(), abs=0.03)
    assert (draw_candidates(similarity, is_barred, NONE, 1, 0.01, 0) == 2).all()


def test_several_candidates_are_distinct_and_drawn_one_by_one():
    similarity = torch.tensor([[2.0, 1.0, 0.0, 0.0]] * 4)
    drawn = torch.stack([draw_candidates(similarity, NONE, NONE, 2, 1.0, seed)[0] for seed in range(3000)])
    assert (drawn[:, 0] != drawn[:, 1]).all()
    p = similarity[0].softmax(dim=0)
    both = p[0] * p[1] / (1 - p[0]) + p[1] * p[0] / (1 - p[1])  # the two best, in either order
    assert (drawn.sort(dim=1).values == torch.tensor([0, 1])).all(dim=1).double().mean().item() == pytest.approx(
        both.item(), abs=0.03
    )


def test_what_may_be_true_is_drawn_only_where_there_is_nothing_else():
    similarity, may_be_true = torch.tensor([[9.0, 5.0, 0.0, 0.0]] * 4), torch.tensor([[True, True, False, False]] * 4)
    is_barred = torch.tensor([[True, False, False, False], [True, False, True, True]] * 2)
    drawn = torch.stack([draw_candidates(similarity, is_barred, may_be_true, 1, 1.0, seed)[:, 0] for seed in range(50)])
    assert (drawn[:, 0] >= 2).all() and (drawn[:, 1] == 1).all()


def test_an_image_is_described_by_the_words_of_any_of_its_captions():
    wordings, image_ids = torch.tensor([1, 2, 1, 3, 2]), torch.tensor([7, 7, 8, 9, 9])
    # Images 7 and 8 share wording 1, images 7 and 9 wording 2; wording 3 is of image 9 alone.
    of_wording = {1: {7, 8}, 2: {7, 9}, 3: {9}}
    expected = [[image in of_wording[words] for image in image_ids.tolist()] for words in wordings.tolist()]
    assert may_describe(wordings, image_ids).tolist() == expected


def test_captions_of_the_same_words_have_the_same_number_in_every_batch():
    image = torch.zeros(3, 2, 2)
    batches = [
        collate_retrieval([RetrievalSample(n, n, image, [text, [5]]) for n, text in enumerate(texts)], pad_id=0)
        for texts in ([[3, 4], [4, 3], [3]], [[3, 4, 0], [3, 4]])
    ]
    first, second = (each.wordings for each in batches)
    assert len({*first, *second}) == 4 and first[0] == second[1]


class Division:
    """A batch of images 1 to 8 divided among ranks and passes: what is compared, and batches."""

    def __init__(self, images: list[list[list[int]]], wordings: dict[int, int] | None = None) -> None:
        generator = torch.Generator().manual_seed(0)
        tokens, priors = (torch.randn(9, *shape, generator=generator) for shape in ((3, 4), (4,)))
        self.passes, self.batches = [], []
        for own in images[rank()]:
            chosen = torch.tensor(own)
            distinct = torch.tensor(list(dict.fromkeys(own)))
            index = (chosen.unsqueeze(1) == distinct).int().argmax(dim=1)
            self.passes.append(Compared(priors[chosen], tokens[distinct], index, distinct, prefix_tokens=1))
            texts = F.pad(chosen.repeat_interleave(2).unsqueeze(1), (0, min(own)), value=99)  # of different lengths
            pixels = distinct.float().view(-1, 1, 1, 1)
            ids, words = np.array(own), np.array([(wordings or {}).get(image, image) for image in own])
            self.batches.append(RetrievalBatch(pixels, index, distinct, texts, texts != 99, ids, ids, words))


def drawn_of(images: list[list[list[int]]], number: int = 2) -> tuple[list, list]:
    """Captions and images that samples of several passes get on this rank, all as numbers of images."""
    division = Division(images)
    how = Draw(True, number, pool="max", temperature=0.5, seed=3)
    found = step_hard_negatives(division.passes, division.batches, how, candidates=2, pad_id=99)
    captions = [each.captions for each in found]
    assert all((c.token_ids != 99).equal(c.is_token) and (c.is_token.sum(dim=1) == 1).all() for c in captions)
    pixels = [each.images.flatten().int().view(-1, number).tolist() for each in found]
    return [each.token_ids[:, 0].tolist() for each in captions], pixels


ALL = [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_draw_does_not_depend_on_how_the_batch_is_divided():
    (captions,), (images,) = drawn_of([[ALL]])
    assert all(drawn != own for drawn, own in zip(captions, ALL, strict=True)) and len(set(captions)) > 3
    assert all(own not in drawn and len(set(drawn)) == 2 for drawn, own in zip(images, ALL, strict=True))
    assert len({image for drawn in images for image in drawn}) > 3
    parts = [[1, 2], [3, 4], [5, 6], [7, 8]]
    starts = range(0, 8, 2)
    assert drawn_of([parts]) == ([captions[s : s + 2] for s in starts], [images[s : s + 2] for s in starts])


@pytest.mark.slow
def test_the_draw_is_the_same_on_two_processes():
    (captions,), (images,) = drawn_of([[ALL]])
    first, second = run_on_ranks(drawn_of, 2, [[[1, 2], [5, 6]], [[3, 4], [7, 8]]])
    assert first == ([captions[:2], captions[4:6]], [images[:2], images[4:6]])
    assert second == ([captions[2:4], captions[6:]], [images[2:4], images[6:]])


def test_an_image_of_several_samples_is_one_image():
    images = drawn_of([[[1, 1, 1, 2, 2, 3]]], number=2)[1][0]
    assert [sorted(each) for each in images] == [[2, 3]] * 3 + [[1, 3]] * 2 + [[1, 2]]
    assert drawn_of([[[1, 1, 1], [2, 2, 3]]], number=2)[1] == [images[:3], images[3:]]


def test_an_image_with_a_caption_in_the_same_words_is_not_drawn_nor_is_the_caption():
    division = Division([[[1, 2, 3, 4]]], wordings={1: 7, 2: 7})
    known = exchange_samples(division.batches)
    for seed in range(30):
        wanted = Draw(True, 1, "max", temperature=5.0, seed=seed)
        captions, images = choose_hard_negatives(division.passes, known, wanted)
        assert captions[0, 0] > 1 and captions[0, 1] > 1 and images[0, 0] > 1 and images[0, 1] > 1


def test_what_a_batch_does_not_show_of_an_image_is_not_taken_for_false():
    said = [[12], [], [13, 99], []]  # of image 1 the words of caption 2, of image 3 its own
    expected = [[False] * 4, [True, False, False, False], [False, False, True, False], [False] * 4]
    assert are_said([11, 12, 13, 14], said).tolist() == expected
    division = Division([[[1, 2, 3, 4]]])
    known = exchange_samples(division.batches)._replace(texts=[11, 12, 13, 14], said=said)
    drawn = [choose_hard_negatives(division.passes, known, Draw(True, 1, "max", 5.0, seed)) for seed in range(40)]
    captions, images = (np.array([each[0].flatten().tolist() for each in kind]) for kind in zip(*drawn, strict=True))
    assert set(captions[:, 0]) == {2, 3} and set(images[:, 1]) == {2, 3}
    assert set(captions[:, 1]) == {0, 2, 3} and set(images[:, 0]) == {1, 2, 3}


def test_false_pairs_are_of_one_source_as_long_as_it_has_some():
    division = Division([[[1, 2, 3, 4, 5]]], wordings={4: 7, 5: 7})
    known = exchange_samples(division.batches)._replace(sources=[0, 0, 0, 1, 1])
    drawn = [choose_hard_negatives(division.passes, known, Draw(True, 1, "max", 5.0, seed)) for seed in range(60)]
    captions, images = (np.array([each[0].flatten().tolist() for each in kind]) for kind in zip(*drawn, strict=True))
    for found in (captions, images):
        assert [set(column) for column in found[:, :3].T] == [{1, 2}, {0, 2}, {0, 1}]
        assert all(set(column) == {0, 1, 2} for column in found[:, 3:].T)  # the words of its other one are the same


def test_a_batch_of_too_few_images_has_no_hard_negatives():
    with pytest.raises(ConfigError, match="captions of another image"):
        drawn_of([[[5, 5], [5, 5]]], number=0)
    with pytest.raises(ConfigError, match="negative_images 2 needs as many other images in every batch, but one has 1"):
        drawn_of([[[5, 5], [5, 6]]], number=2)
