"""Every kind of map, from the forward pass that answers a question, judges a caption or classifies a picture.

Shapes: B questions, captions or pictures, I images, A answers or classes, N image tokens, D width, h x w patches.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from vl_absvit.data.collate import RetrievalBatch, VQABatch
from vl_absvit.errors import ConfigError
from vl_absvit.looking.maps import (
    THIRD_FROM_END,
    Heads,
    average_map,
    check_block,
    cls_map,
    cross_gradient_map,
    cross_map,
    difference_map,
    grad_cam_map,
    norm_map,
    prior_mask_map,
    rollout_map,
)
from vl_absvit.models.attention import TopDownBlock
from vl_absvit.models.heads import Classifier, MatchScores
from vl_absvit.models.looks import FirstLook, Look, TwoLooks, VisualEncoder
from vl_absvit.models.top_down import Steered, per_text
from vl_absvit.models.trunks.base import Block
from vl_absvit.models.vl_model import Pairs, VLAbSViT, VLOutput
from vl_absvit.precision import arithmetic

Part = TypeVar("Part")
_OF_LOOKS = ("prior_mask", "bottom_up", "top_down", "difference", "bottom_up_cls", "top_down_cls")
MAPS = (*_OF_LOOKS, "cross", "cross_gradient")
"""Every kind of map of a model that reads texts; ``maps.py`` defines them."""
PICTURE_MAPS = (*_OF_LOOKS, "bottom_up_average", "top_down_average", "grad_cam", "rollout")
"""Every kind of map of a classifier."""
OF_PRIOR = ("prior_mask",)
"""Maps that an encoder without prior does not have."""
OF_CLS = ("bottom_up_cls", "top_down_cls")
"""Maps that an encoder without CLS token, or without attention weights in its last block, does not have."""
OF_SECOND_LOOK = ("top_down", "top_down_cls", "top_down_average", "difference")
"""Maps that an encoder that looks once does not have."""
OF_WEIGHTS = ("rollout",)
"""Maps that an encoder does not have whose blocks mix tokens by other means than weights, or on several grids."""
OF_ONE_BLOCK = ("bottom_up", "top_down", "difference")
"""Maps that measure the tokens of a block that can be chosen."""


class MapChoice(NamedTuple):
    """A choice of maps, and of how they are made."""

    names: tuple[str, ...]  # of ``MAPS`` or ``PICTURE_MAPS``
    block: int = THIRD_FROM_END  # whose tokens the maps of ``OF_ONE_BLOCK`` measure
    heads: Heads = "mean"  # how attention heads become one in the maps of attention weights


class Explanation(NamedTuple):
    """The model's logits and maps of where it looked."""

    logits: Tensor | MatchScores  # (B, A) of answers or classes, or of B captions
    maps: dict[str, Tensor]  # name -> (B, h, w), in the order asked for


def usual_block(vision: VisualEncoder) -> int:
    """The block whose tokens maps measure unless said otherwise, counted from the end.

    It is the third from the end, or the first that looks again if there are fewer that do.
    """
    return max(THIRD_FROM_END, -len(vision.blocks_again))


def choose_maps(
    vision: VisualEncoder,
    names: Sequence[str] | None,
    block: int | None = None,
    heads: Heads = "mean",
    kinds: Sequence[str] = MAPS,
) -> MapChoice:
    """A choice that this encoder can follow.

    Args:
        names: kinds of maps; None means all that the encoder has.
        block: None means the usual one.
        kinds: all that there are: ``MAPS`` or ``PICTURE_MAPS``.

    Raises:
        ConfigError: there is no such map, or no such block to make one of.
    """
    block = usual_block(vision) if block is None else block
    lacking = {} if vision.uses_prior else dict.fromkeys(OF_PRIOR, "uses no prior")
    if not vision.has_cls:
        lacking |= dict.fromkeys(OF_CLS, "has no CLS token")
    elif not _has_weights(vision.all_blocks[-1]):
        lacking |= dict.fromkeys(OF_CLS, "has no attention weights in its last block")
    lacking |= {} if vision.looks_twice else dict.fromkeys(OF_SECOND_LOOK, "looks once")
    if not _mixes_by_weights(vision):
        lacking |= dict.fromkeys(OF_WEIGHTS, "has blocks without attention weights, or on several grids")
    if names is None:
        names = [name for name in kinds if name not in lacking]
    for name in names:
        if name not in kinds:
            raise ConfigError(f"there is no map {name!r}; there are {', '.join(kinds)}")
        if name in lacking:
            raise ConfigError(f"there is no map {name!r}: the model's encoder, {vision.variant.label}, {lacking[name]}")
    if set(names) & set(OF_ONE_BLOCK):
        check_block(block, len(vision.all_blocks))
    return MapChoice(tuple(dict.fromkeys(names)), block, heads)


@torch.no_grad()
def explain(
    model: VLAbSViT, batch: VQABatch | RetrievalBatch, choice: MapChoice, first: FirstLook | None = None
) -> Explanation:
    """Answer a batch of questions, or judge one of captions, as in training, and make maps of where the model looked.

    Args:
        model: in evaluation mode; nothing is left in its gradients.
        batch: of retrieval, without false captions.
        choice: made by ``choose_maps``.
        first: the first look at the batch's images, where it is there already.
    """
    vision, index, need_gradient = model.vision, batch.image_index, "cross_gradient" in choice.names
    texts = model.encode_texts(batch.token_ids, batch.is_token)
    first = vision.look_once(batch.images) if first is None else first
    looks = vision.look_again(first, texts.prior, index)
    with torch.set_grad_enabled(need_gradient):
        # The graph begins at the fusion, whatever part of the model is trainable.
        texts = texts._replace(tokens=texts.tokens.detach().requires_grad_(need_gradient))
        out = model.judge(looks, Pairs(texts, index), need_weights=need_gradient or "cross" in choice.names)
    gradients = _gradients_of_predictions(out) if need_gradient else None
    grid = vision.token_grid()
    makers = _maps_of_looks(vision, looks, index, choice) | {
        "cross": lambda: cross_map(_present(out.text_to_image), batch.is_token, grid, choice.heads),
        "cross_gradient": lambda: cross_gradient_map(
            _present(out.text_to_image), _present(gradients), batch.is_token, grid, choice.heads
        ),
    }
    logits = out.logits
    if isinstance(logits, MatchScores):
        logits = MatchScores(*map(Tensor.detach, logits))
    else:
        logits = logits.detach()
    return Explanation(logits, {name: makers[name]() for name in choice.names})


@torch.no_grad()
def explain_pictures(model: Classifier, images: Tensor, choice: MapChoice, prior: Tensor | None = None) -> Explanation:
    """Classify pictures by the last look, as evaluation does, and make maps of where the model looked.

    Args:
        model: in evaluation mode; nothing is left in its gradients.
        images: (B, 3, height, width).
        choice: made by ``choose_maps`` of ``PICTURE_MAPS``.
        prior: what steers the second look at every picture, (D,); None takes the encoder's own query.
    """
    vision = model.vision
    looks = vision.look_twice(images, None if prior is None else prior.expand(len(images), -1))
    logits = model.classify(looks.seen(None))
    makers = _maps_of_looks(vision, looks, None, choice) | {
        "grad_cam": lambda: _grad_cam(model, looks, logits.argmax(dim=1), prior),
        "rollout": lambda: rollout_map(_attention_weights(vision, looks), vision.token_grid()),
    }
    return Explanation(logits, {name: makers[name]() for name in choice.names})


def _maps_of_looks(
    vision: VisualEncoder, looks: TwoLooks, index: Tensor | None, choice: MapChoice
) -> dict[str, Callable[[], Tensor]]:
    """Makers of the maps that need nothing but both looks, by name; the maps have a row for every text.

    Args:
        index: row of the first look for each text, (B,); None means the same order.
    """
    first, grid = looks.first, vision.token_grid()

    def norms(states: list[Tensor]) -> Tensor:
        return norm_map(vision.outputs(states), vision.token_grid(choice.block), choice.block)

    def cls_attention(look: FirstLook | Look, signals: list[Steered] | None) -> Tensor:
        return cls_map(vision.cls_attention(look.states, signals), grid, choice.heads)

    def bottom_up() -> Tensor:
        return per_text(norms(first.states), index)

    def top_down() -> Tensor:
        return looks.per_text(norms(looks.second_states(index)), index)

    return {
        "prior_mask": lambda: prior_mask_map(_present(looks.prior_mask), grid),
        "bottom_up": bottom_up,
        "top_down": top_down,
        "difference": lambda: difference_map(top_down(), bottom_up()),
        "bottom_up_cls": lambda: per_text(cls_attention(first, None), index),
        "top_down_cls": lambda: looks.per_text(cls_attention(_present(looks.second), looks.signals), index),
        "bottom_up_average": lambda: per_text(average_map(first.tokens, grid), index),
        "top_down_average": lambda: looks.per_text(average_map(_present(looks.second).tokens, grid), index),
    }


def _grad_cam(model: Classifier, looks: TwoLooks, classes: Tensor, prior: Tensor | None) -> Tensor:
    """``grad_cam_map`` of the classes, (B,), for the tokens that enter the last block of the last look."""
    vision, again = model.vision, model.vision.looks_twice
    entering = (_present(looks.second) if again else looks.first).states[-2].detach()
    signal = _present(looks.signals)[-1] if again else None
    with torch.enable_grad(), arithmetic("fp32", entering.device):
        entering.requires_grad_()
        tokens = vision.final_norm(vision.all_blocks[-1](entering, signal))
        if not again and vision.uses_prior:  # PerceiverIO classifies tokens that the prior has reweighted
            own = None if prior is None else prior.expand(len(tokens), -1)
            tokens = vision.look_again(looks.first._replace(tokens=tokens), own).seen(None)
        chosen = model.classify(tokens).gather(1, classes[:, None])
        (gradients,) = torch.autograd.grad(chosen.sum(), entering)
    return grad_cam_map(entering.detach(), gradients, vision.token_grid())


def _mixes_by_weights(vision: VisualEncoder) -> bool:
    """Whether all blocks are on one grid and have attention weights."""
    return len(vision.stages) == 1 and all(map(_has_weights, vision.all_blocks))


def _has_weights(block: Block) -> bool:
    return isinstance(block, TopDownBlock) and block.attn.has_weights


def _attention_weights(vision: VisualEncoder, looks: TwoLooks) -> Iterator[Tensor]:
    """Attention of every block in the last look, first block first, (B, H, N, N) each."""
    again = vision.looks_twice
    states = looks.second_states(None) if again else looks.first.states
    signals: list[Steered | None] = [None] * len(vision.all_blocks)
    if again:
        signals[vision.looks_again_from :] = _present(looks.signals)
    for block, state, signal in zip(vision.all_blocks, states[:-1], signals, strict=True):
        assert isinstance(block, TopDownBlock), "only an encoder with attention weights has this map"
        yield block.attn.weights(block.project(state, signal))


def _gradients_of_predictions(out: VLOutput) -> tuple[Tensor, ...]:
    """Gradient with respect to the fusion's text-to-image attention, per layer, of the prediction for each text.

    That is a question's highest logit, or the logit of a caption's "matches", as in Li et al., "Align before Fuse",
    NeurIPS 2021. Texts do not see each other, so that the gradient of the sum is each one's own.
    """
    attention = _present(out.text_to_image)
    with torch.enable_grad(), arithmetic("fp32", attention[0].device):
        chosen = out.logits.itm[:, 1] if isinstance(out.logits, MatchScores) else out.logits.max(dim=1).values
        return torch.autograd.grad(chosen.sum(), attention)


def _present(part: Part | None) -> Part:
    """A part of the result that the chosen maps need, which ``choose_maps`` has made sure of."""
    assert part is not None, "only maps that the encoder has are chosen"
    return part
