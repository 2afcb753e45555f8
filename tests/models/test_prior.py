"""Sentence vectors by hand."""

import torch

from vl_absvit.models.prior import PriorProjection, end_token, first_token, masked_mean, padded_mean

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
