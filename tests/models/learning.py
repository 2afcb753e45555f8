"""Which parameters of an encoder learn from one step of everything that it can be trained by."""

import torch

from vl_absvit.models.looks import VisualEncoder


def what_stays_still(model: VisualEncoder, images: torch.Tensor) -> set[str]:
    """Names of the parameters without gradient, of a loss on the last look's logits and the reconstruction loss."""
    looks = model.look_twice(images)
    loss = model.forward_head((looks.second or looks.first).tokens).square().sum()
    if model.feeds_back:
        loss = loss + model.decoder_losses(looks.second.states, True, False).reconstruction
    loss.backward()
    return {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()}
