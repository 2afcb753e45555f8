"""UPerNet on a ViT, in evaluation: transformers' own with timm's ViT, and ours on the same weights; and AbSViT's looks.

All give logits at the pictures' size. The naive side is ``UperNetForSemanticSegmentation`` with a module in place of
its backbone, without the auxiliary head. AbSViT's first look, second look and heads are measured apart.
Shapes: I images.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Unpack

import timm
import torch
from torch import Tensor, nn
from transformers import UperNetConfig, UperNetForSemanticSegmentation
from transformers.modeling_outputs import BackboneOutput

from benchmarks.contest import NAIVE, OURS, Case, compare_with_fp32, measure_cases
from benchmarks.contest_tables import show
from benchmarks.evaluating import evaluation_case
from benchmarks.measure import PRECISIONS, Stage, Turns
from benchmarks.session import Common, run_session
from benchmarks.synthetic import SyntheticImages
from vl_absvit.config import UPerNetConfig, VisionConfig
from vl_absvit.models.architecture import build_random_segmenter
from vl_absvit.models.pixel_scores import enlarge
from vl_absvit.models.segmenter import Segmenter

CLASSES, TWICE = 150, "absvit"


def run(*, size: Literal["tiny", "base"], images: int, resolution: int, **common: Unpack[Common]) -> None:
    """Measure, print the tables, write the JSON; the arguments are the command's options.

    Raises: as ``run_session``.
    """
    told = {"benchmark": "segmentation", "size": size, "images": images, "resolution": resolution}
    run_session(told, partial(measure, size, images, resolution), compare_with_fp32, show, **common)


@torch.no_grad()
def measure(size: Literal["tiny", "base"], images: int, resolution: int, turns: Turns) -> dict[str, Any]:
    """Everything about one precision."""
    device, dtype = turns.device, PRECISIONS[turns.precision]
    made = SyntheticImages(images, resolution)
    pixels = made.collate(made.__getitems__(range(images))).to(device, dtype)
    once, twice = (made_segmenter(size, resolution, top_down).to(device, dtype) for top_down in ("none", "absvit"))
    theirs = as_transformers(once, size, resolution).to(device, dtype)
    twice.vision.fold()
    case = evaluation_case(
        f"{images} image{'s' * (images > 1)}", 1, sides_of(theirs, once, pixels), turns.precision, told={}
    )
    return measure_cases([with_looks(case, twice, pixels)], turns)


def made_segmenter(size: str, resolution: int, top_down: Literal["none", "absvit"]) -> Segmenter:
    """A segmenter with random weights, in evaluation mode."""
    torch.manual_seed(0)
    vision = VisionConfig(
        model=f"absvit_{size}_patch16_224", image_size=resolution, top_down=top_down, gain=1.0
    )  # fmt: skip
    return build_random_segmenter(vision, CLASSES, UPerNetConfig(), has_auxiliary=False).eval()


class TimmMaps(nn.Module):
    """timm's ViT as a backbone of transformers: outputs of four blocks, the norm on the last one."""

    def __init__(self, vit: Any, blocks: list[int]) -> None:
        super().__init__()
        self.vit, self.blocks = vit, blocks

    def forward_with_filtered_kwargs(self, pixel_values: Tensor, **_: object) -> BackboneOutput:
        """Maps (I, D, h, w)."""
        final, maps = self.vit.forward_intermediates(pixel_values, indices=self.blocks)
        last = final[:, self.vit.num_prefix_tokens :].mT.unflatten(2, maps[-1].shape[-2:])
        return BackboneOutput(feature_maps=(*maps[:-1], last))


def as_transformers(model: Segmenter, size: str, resolution: int) -> nn.Module:
    """transformers' model with the weights of ours, which looks once."""
    vit = timm.create_model(f"vit_{size}_patch16_224", img_size=resolution, num_classes=0)
    vit.load_state_dict(model.vision.state_dict())
    stand_in = {"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4] * 4, "depths": [1] * 4}
    config = UperNetConfig(
        backbone_config=stand_in, num_labels=CLASSES, hidden_size=model.head.channels, use_auxiliary_head=False
    )
    whole = UperNetForSemanticSegmentation(config)
    whole.backbone = TimmMaps(vit, model.maps)
    whole.decode_head = type(model.head)(config, model.neck.widths)
    state = {name.replace("classifier.1.", "classifier."): value for name, value in model.head.state_dict().items()}
    whole.decode_head.load_state_dict(state)
    return whole.eval()


def sides_of(theirs: nn.Module, ours: Segmenter, pixels: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Both ways to logits at the pictures' size."""
    size = (pixels.shape[-2], pixels.shape[-1])
    return {
        NAIVE: lambda: theirs(pixel_values=pixels).logits,
        OURS: lambda: enlarge(ours(pixels).logits, size),
    }


def with_looks(case: Case, model: Segmenter, pixels: Tensor) -> Case:
    """The case with a side that looks twice, in parts."""
    size = (pixels.shape[-2], pixels.shape[-1])

    def look(stage: Stage) -> None:
        with stage("first look"):
            first = model.vision.look_once(pixels)
        with stage("second look"):
            looks = model.vision.look_again(first)
        with stage("heads"):
            enlarge(model.head(model.neck(model.feature_maps(looks, pixels))), size)

    return case._replace(sides={**case.sides, TWICE: look})
