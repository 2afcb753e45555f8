"""A model whose weights lose their order, part by part from the output down.

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018: a map that stays the same with random weights shows
edges of the picture, not reasons of the model. Here the numbers of each tensor are shuffled in place of being drawn
anew. So every trunk is randomised alike, and tokens keep their scale.
"""

from collections.abc import Iterator

import torch
from torch import nn

from vl_absvit.models.heads import Classifier
from vl_absvit.models.looks import VisionModel
from vl_absvit.models.vl_model import VLAbSViT


def parts_of(model: VisionModel) -> dict[str, list[nn.Parameter]]:
    """All parameters of a model in parts, the one nearest to the output first; each is in one part.

    They are the head (with the fusion, if there is one), every block with its feedback decoder, and the rest.
    """
    vision = model.vision
    head: list[nn.Module] = []
    if isinstance(model, VLAbSViT):
        head = [model.head, model.fusion]
    elif isinstance(model, Classifier):
        assert isinstance(vision.head, nn.Module), "a classifier has a head"
        head = [vision.head]
    parts: dict[str, list[nn.Module]] = {"head": head}
    for number in reversed(range(len(vision.all_blocks))):
        block = vision.all_blocks[number]
        assert isinstance(block, nn.Module), "a block is a module"
        parts[f"block {number}"] = [block, *([] if vision.decoders is None else [vision.decoders[number]])]
    parts["rest"] = [model]
    taken: set[int] = set()
    found: dict[str, list[nn.Parameter]] = {}
    for name, modules in parts.items():
        own = {id(weight): weight for module in modules for weight in module.parameters()}
        found[name] = [weight for key, weight in own.items() if key not in taken]
        taken |= set(own)
    return found


@torch.no_grad()
def randomise(model: VisionModel, seed: int = 0) -> Iterator[str]:
    """Shuffle the numbers of every weight, in place, part by part; yields a part's name when it is done.

    Args:
        model: in evaluation mode; what it was is lost.
    """
    draw = torch.Generator().manual_seed(seed)
    for name, weights in parts_of(model).items():
        for weight in weights:
            order = torch.randperm(weight.numel(), generator=draw).to(weight.device)
            weight.copy_(weight.flatten()[order].view_as(weight))
        model.vision.fold()
        yield name
