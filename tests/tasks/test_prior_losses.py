"""What a calibrated mask is calibrated by where an image's tokens are pooled before they are compared."""

import pytest
import torch
import torch.nn.functional as F

from vl_absvit.config import PriorConfig
from vl_absvit.losses import POSITIVE_WEIGHT
from vl_absvit.models.prior import POOL_TEMPERATURE
from vl_absvit.models.top_down import MASK_TEMPERATURE
from vl_absvit.tasks.prior_losses import Compared, global_prior_loss


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_images_compete_by_their_pooled_token_and_the_mask_is_calibrated_by_patches(pool):
    torch.manual_seed(0)
    prior, tokens, threshold = torch.randn(3, 8).double(), torch.randn(3, 5, 8).double(), torch.tensor([0.2]).double()
    rows = torch.arange(3)
    config = PriorConfig(pool=pool, temperature=0.5)
    loss = global_prior_loss(Compared(prior, tokens, rows, rows, 1, threshold), config)

    pooled, patched = torch.zeros(3, 3).double(), torch.zeros(3, 3).double()
    for text in range(3):
        for image in range(3):
            patches = tokens[image, 1:]
            of_image = tokens[image, 0] if pool == "cls" else patches.sum(0)
            pooled[text, image] = F.cosine_similarity(prior[text], of_image, dim=0)
            each = torch.stack([F.cosine_similarity(prior[text], patch, dim=0) for patch in patches])
            patched[text, image] = POOL_TEMPERATURE * (each / POOL_TEMPERATURE).exp().sum().log()
    competing = F.cross_entropy(pooled / 0.5, rows)
    asked_for = ((patched - threshold) / MASK_TEMPERATURE).sigmoid()
    others = asked_for[~torch.eye(3, dtype=torch.bool)]
    calibration = POSITIVE_WEIGHT * -asked_for.diagonal().log().mean() - (1 - others).log().mean()
    torch.testing.assert_close(loss, competing + calibration, rtol=1e-6, atol=1e-6)  # cosines are fp32's
