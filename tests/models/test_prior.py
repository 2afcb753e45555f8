"""Sentence vectors by hand, the dual encoder against a loop."""

import math

import pytest
import torch
import torch.nn.functional as F

from vl_absvit.models.prior import PriorProjection, end_token, first_token, masked_mean, padded_mean, prior_similarity

TOKENS = torch.tensor([[[1.0], [2.0], [6.0]], [[4.0], [8.0], [99.0]]])
IS_TOKEN = torch.tensor([[True, True, True], [True, True, False]])


def test_sentence_vectors_by_hand():
    assert first_token(TOKENS, IS_TOKEN).flatten().tolist() == [1.0, 4.0]
    assert masked_mean(TOKENS, IS_TOKEN).flatten().tolist() == [3.0, 6.0]
    assert end_token(TOKENS, IS_TOKEN).flatten().tolist() == [6.0, 8.0]
    assert padded_mean(TOKENS, IS_TOKEN).flatten().tolist() == [3.0, 37.0]


def test_the_prior_is_linear_in_the_sentence_vector():
    prior = PriorProjection(text_width=1, vision_width=4, sentence="cls")
    expected = TOKENS[:, 0] @ prior.project.weight.T + prior.project.bias
    torch.testing.assert_close(prior(TOKENS, IS_TOKEN), expected)


@pytest.mark.parametrize("pool", ["lse", "max", "mean", "cls"])
def test_prior_similarity_equals_a_loop(pool):
    prior, tokens = torch.randn(3, 8), torch.randn(2, 5, 8)
    for text in range(3):
        for image in range(2):
            patches = tokens[image, 1:]
            agreement = [F.cosine_similarity(prior[text], patch, dim=0).item() for patch in patches]
            if pool == "max":
                expected = torch.tensor(max(agreement))
            elif pool == "lse":
                expected = torch.tensor(0.07 * math.log(sum(math.exp(cosine / 0.07) for cosine in agreement)))
            else:
                feature = tokens[image, 0] if pool == "cls" else patches.mean(dim=0)
                expected = F.cosine_similarity(prior[text], feature, dim=0)
            torch.testing.assert_close(prior_similarity(prior, tokens, pool)[text, image], expected)
