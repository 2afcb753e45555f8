"""AbSViT: a ViT that looks twice, the second time steered by a prior; and its baselines on the same trunk.

Shi, Darrell, Wang, "Top-Down Visual Attention from Analysis by Synthesis", CVPR 2023, arXiv:2303.13043, section 2.5;
the baselines and ablations are those of section 2.6.
Shapes: I images, B texts (one prior each), N tokens (CLS first, then patches in raster order), D width, L blocks.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from timm.models import (
    build_model_with_cfg,
    generate_default_cfgs,
    get_pretrained_cfg,
    register_model,
)
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vl_absvit.errors import InputError
from vl_absvit.models.attention import (
    Projections,
    TopDownAttention,
    TopDownBlock,
    TopDownQKVAttention,
    ValueMaskAttention,
)
from vl_absvit.models.getters import Getters
from vl_absvit.models.top_down import (
    MODULATIONS,
    CalibratedMask,
    FeedbackDecoder,
    FoldedDecoders,
    Steered,
    feed_back,
    feed_back_folded,
    keep_all,
    per_text,
    reconstruction_loss,
    relevance,
    transform_loss,
)
from vl_absvit.variants import VARIANTS, TopDown

ATTENTION = {"mask_att": ValueMaskAttention, "absvit_qkv": TopDownQKVAttention}  # all others steer the values


class Embedded(NamedTuple):
    """What both looks start from."""

    tokens: Tensor  # (B, N, D), z_0: patch embedding, CLS token and positions
    projections: Projections  # the first block's bottom-up queries, keys and values

    def per_text(self, image_index: Tensor | None) -> "Embedded":
        """Repeat the rows of I images for the B texts that are about them."""
        return Embedded(
            per_text(self.tokens, image_index), Projections(*(per_text(t, image_index) for t in self.projections))
        )


class Look(NamedTuple):
    """One pass through the trunk, or what came of it."""

    tokens: Tensor  # (B, N, D), after the final norm
    states: list[Tensor]  # (L + 1) x (B, N, D): z_0, then every block's output; empty where no block ran (PerceiverIO)


class FirstLook(NamedTuple):
    """The bottom-up pass, which knows no text: once per image, whatever is asked about it."""

    embedded: Embedded  # where the second look starts as well
    tokens: Tensor  # (I, N, D), after the final norm
    states: list[Tensor]  # (L + 1) x (I, N, D); empty where they were not kept

    def followed_by(self, other: "FirstLook") -> "FirstLook":
        """These images and then others, without states."""
        mine, others = ((each.embedded.tokens, *each.embedded.projections, each.tokens) for each in (self, other))
        z_0, *projections, tokens = (torch.cat(rows) for rows in zip(mine, others, strict=True))
        return FirstLook(Embedded(z_0, Projections(*projections)), tokens, states=[])


class TwoLooks(NamedTuple):
    """The result of one inference; a plain ViT has a first look only.

    PerceiverIO looks once, too: its ``second`` are the reweighted tokens of the first.
    """

    first: FirstLook  # rows are the I images
    second: Look | None  # rows are the B texts; without a prior mask no text has a say, and rows are the I images
    prior_mask: Tensor | None  # (B, N): how well the first look's tokens agree with the prior
    signals: list[Steered] | None = None  # L, the top-down input of every block of the second look
    threshold: Tensor | None = None  # (1,), of a calibrated mask, with gradient

    def seen(self, image_index: Tensor | None) -> Tensor:
        """The last look's tokens for B texts, (B, N, D), given the image that each is about, (B,)."""
        return self.per_text((self.second or self.first).tokens, image_index)

    def per_text(self, rows: Tensor, image_index: Tensor | None) -> Tensor:
        """One row per text of anything that has one row per row of the last look."""
        return per_text(rows, image_index) if self.prior_mask is None else rows


class DecoderLosses(NamedTuple):
    """What trains the decoders beside a task; None where it was not asked for or nothing is fed back."""

    reconstruction: Tensor | None  # ()
    transform: Tensor | None  # ()


class AbSViT(Getters, VisionTransformer):
    """timm's VisionTransformer under the same parameter names, with feedback decoders where something is fed back.

    A trainable query is the default prior; an encoder without one, as a vision-language model's, has to be given one
    per image. timm's ways to get features give those of the last look (``getters.py``).

    Args:
        top_down: AbSViT or one of its baselines, see ``variants.py``.
        modulation: form of step (ii) where a prior selects, see ``top_down.py``.
        gain: strength of the top-down signal, alpha (1 on ImageNet); of the output tokens in PerceiverIO. MaskAtt,
            whose signal is the prior mask itself, does not use it.
        mask: what the prior mask is made of: the cosine (paper), or how far it is above a threshold that is trained,
            see ``calibrated_relevance``.
        trainable_prior: keep a trainable query as the prior where none is given (image classification).
        kwargs: timm's arguments of ``VisionTransformer``.
    """

    def __init__(
        self,
        *,
        top_down: TopDown = "absvit",
        modulation: Literal["reweight", "reweight_project"] = "reweight",
        gain: float = 1.0,
        mask: Literal["cosine", "calibrated"] = "cosine",
        trainable_prior: bool = True,
        **kwargs,
    ) -> None:
        attention = ATTENTION.get(top_down, TopDownAttention)
        super().__init__(block_fn=TopDownBlock, attn_layer=attention, **kwargs)
        self.variant = VARIANTS[top_down]
        self.mask = CalibratedMask() if mask == "calibrated" and self.uses_prior else None
        self.modulate = partial(keep_all, gain=gain)
        if self.uses_prior:
            self.modulate = partial(MODULATIONS[modulation], gain=gain, mask_of=self.mask or relevance)
        self.decoders, self.prior = None, None
        self._folded = FoldedDecoders()
        if self.feeds_back:
            self.decoders = nn.ModuleList(FeedbackDecoder(width=self.embed_dim) for _ in self.blocks)
            for weight in self.decoders.parameters():
                nn.init.trunc_normal_(weight, std=0.02 * (768 / self.embed_dim) ** 0.5)
        if self.uses_prior and trainable_prior:
            self.prior = nn.Parameter(torch.randn(self.embed_dim) * 0.02)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As of any module; but all the weights of an encoder without a prior of its own make one without."""
        if strict and self.prior is not None and "prior" not in state_dict:
            self.prior = None
        return super().load_state_dict(state_dict, strict, assign)

    @property
    def uses_prior(self) -> bool:
        """Whether tokens count by how well they agree with a prior."""
        return self.variant.uses_prior

    @property
    def feeds_back(self) -> bool:
        """Whether there are decoders, which losses of their own train."""
        return self.variant.feeds_back

    @property
    def looks_twice(self) -> bool:
        """Whether the trunk runs a second time."""
        return self.variant.looks_twice

    def weights_stay(self) -> AbstractContextManager[None]:
        """Inside, weights must not change; evaluations then need not look whether they did in every forward pass."""
        return self._folded.weights_stay()

    def look_twice(self, images: Tensor, prior: Tensor | None = None, image_index: Tensor | None = None) -> TwoLooks:
        """The four steps of AbSViT.

        Args:
            images: (I, 3, height, width).
            prior: prior vector xi of every text, (B, D); None takes the trainable query for every image. An encoder
                that uses no prior ignores it.
            image_index: row of ``images`` each prior is about, (B,); None means B = I in the same order.
        """
        return self.look_again(self.look_once(images), prior, image_index)

    def look_once(self, images: Tensor) -> FirstLook:
        """Step (i), for images (I, 3, height, width)."""
        embedded = self.embed(images)
        return FirstLook(embedded, *self.look(embedded))  # (i) feedforward

    def look_again(self, first: FirstLook, prior: Tensor | None = None, image_index: Tensor | None = None) -> TwoLooks:
        """Steps (ii) to (iv), or as many as the variant has, after a first look.

        The other arguments are those of ``look_twice``.
        """
        if not (self.uses_prior or self.looks_twice):
            return TwoLooks(first, None, None)
        if not self.uses_prior:
            prior, image_index = None, None  # no text has a say: rows stay images
        elif prior is None:
            prior = self._own_prior().expand(len(first.tokens), -1)
        elif prior.shape != (expected := (len(first.tokens if image_index is None else image_index), self.embed_dim)):
            raise InputError(f"prior: expected one vector per image or text, {expected}, got {tuple(prior.shape)}")
        steered = self.modulate(first.tokens, prior, image_index=image_index)  # (ii) keep what the prior asks for
        if not self.looks_twice:
            only = Look(steered.tokens, states=[])
            return TwoLooks(first, only, steered.mask, threshold=self.threshold)  # PerceiverIO ends here
        signals = self._signals(steered)  # (iii) one signal per block
        second = self.look(first.embedded.per_text(image_index), signals)  # (iv) feedforward again, attention steered
        return TwoLooks(first, second, steered.mask, signals, self.threshold)

    @property
    def threshold(self) -> Tensor | None:
        """Of the calibrated mask, (1,), as of now and with gradient; None without one."""
        return None if self.mask is None else self.mask.threshold.clone()

    def decoder_losses(self, states: list[Tensor], need_reconstruction: bool, need_transform: bool) -> DecoderLosses:
        """Reconstruction and transform loss, as asked for.

        Args:
            states: of the second look, (L + 1) x (B, N, D).
        """
        reconstruction = transform = None
        if need_reconstruction and self.feeds_back:
            reconstruction = reconstruction_loss(self.decoders, states)
        if need_transform and self.feeds_back:
            transform = transform_loss(self.decoders, [block.norm1 for block in self.blocks], states)
        return DecoderLosses(reconstruction, transform)

    def _own_prior(self) -> Tensor:
        if self.prior is None:
            raise InputError(
                f"this {self.variant.label} has no prior of its own: give one per image, (B, {self.embed_dim}), as in "
                "look_twice(images, prior), such as VLAbSViT.encode_texts makes of texts; or take look_once(images), "
                "the first look, which needs none"
            )
        return self.prior

    def _signals(self, steered: Steered) -> list[Steered]:
        """Step (iii); MaskAtt sends the same prior mask to every block."""
        if not self.feeds_back:
            return [steered] * len(self.blocks)
        if self._may_fold(steered):
            return feed_back_folded(self._folded.matrices(self.decoders), steered)
        return feed_back(self.decoders, steered)

    def _may_fold(self, steered: Steered) -> bool:
        """Folding gives the decoders no gradient, and is not worth it where all tokens share one direction."""
        return not (self.training or torch.is_grad_enabled() or steered.shares_direction)

    def embed(self, images: Tensor) -> Embedded:
        """z_0 of both looks, from images (I, 3, height, width)."""
        return self.start(self.norm_pre(self.patch_drop(self._pos_embed(self.patch_embed(images)))))

    def start(self, tokens: Tensor) -> Embedded:
        """What both looks start from, given z_0 (I, N, D)."""
        return Embedded(tokens, self.blocks[0].project(tokens))

    def look(self, embedded: Embedded, signals: list[Steered] | None = None) -> Look:
        """One pass through all blocks, with one top-down signal per block if given."""
        states = [embedded.tokens]
        for depth, block in enumerate(self.blocks):
            run = (
                partial(checkpoint, block, use_reentrant=False) if self.grad_checkpointing and self.training else block
            )
            states.append(run(states[-1], signals and signals[depth], embedded.projections if depth == 0 else None))
        return Look(self.norm(states[-1]), states)


def _keep_new_parameters(state: dict[str, Tensor], model: AbSViT) -> dict[str, Tensor]:
    """A plain ViT's weights in the shape of ``model``: positions and patches resampled, new parameters as they are."""
    own = {key: value for key, value in model.state_dict().items() if key.startswith(("decoders.", "prior", "mask."))}
    return own | checkpoint_filter_fn(state, model)


def _create(variant: str, pretrained: bool, **kwargs) -> AbSViT:
    getters = {"out_indices": kwargs.pop("out_indices", 3), "feature_cls": "getter"}
    return build_model_with_cfg(
        AbSViT, variant, pretrained, pretrained_filter_fn=_keep_new_parameters, feature_cfg=getters, **kwargs
    )


# Pixel statistics, and where ``pretrained=True`` finds the trunk: ImageNet weights of the plain twin.
# Tiny, patch 8 has none.
default_cfgs = generate_default_cfgs(
    {
        f"absvit_{name}": get_pretrained_cfg(f"vit_{name}.{tag}").to_dict()
        for name, tag in {
            "tiny_patch16_224": "augreg_in21k_ft_in1k",
            "small_patch16_224": "augreg_in1k",
            "small_patch8_224": "dino",
            "base_patch16_224": "augreg_in1k",
            "base_patch8_224": "augreg_in21k_ft_in1k",
        }.items()
    }
    | {"absvit_tiny_patch8_224": {}, "vit_tiny_patch8_224": {}}
)
TINY, SMALL, BASE = ({"embed_dim": 64 * heads, "depth": 12, "num_heads": heads} for heads in (3, 6, 12))


@register_model
def absvit_tiny_patch16_224(pretrained: bool = False, **kwargs) -> AbSViT:
    """AbSViT-Ti/16 [AbS Table 2]."""
    return _create("absvit_tiny_patch16_224", pretrained, **(dict(patch_size=16, **TINY) | kwargs))


@register_model
def absvit_tiny_patch8_224(pretrained: bool = False, **kwargs) -> AbSViT:
    """AbSViT-Ti/8."""
    return _create("absvit_tiny_patch8_224", pretrained, **(dict(patch_size=8, **TINY) | kwargs))


@register_model
def absvit_small_patch16_224(pretrained: bool = False, **kwargs) -> AbSViT:
    """AbSViT-S/16 [AbS Table 2]."""
    return _create("absvit_small_patch16_224", pretrained, **(dict(patch_size=16, **SMALL) | kwargs))


@register_model
def absvit_small_patch8_224(pretrained: bool = False, **kwargs) -> AbSViT:
    """AbSViT-S/8."""
    return _create("absvit_small_patch8_224", pretrained, **(dict(patch_size=8, **SMALL) | kwargs))


@register_model
def absvit_base_patch16_224(pretrained: bool = False, **kwargs) -> AbSViT:
    """AbSViT-B/16 [AbS Table 2]."""
    return _create("absvit_base_patch16_224", pretrained, **(dict(patch_size=16, **BASE) | kwargs))


@register_model
def absvit_base_patch8_224(pretrained: bool = False, **kwargs) -> AbSViT:
    """AbSViT-B/8."""
    return _create("absvit_base_patch8_224", pretrained, **(dict(patch_size=8, **BASE) | kwargs))


@register_model
def vit_tiny_patch8_224(pretrained: bool = False, **kwargs) -> VisionTransformer:
    """ViT-Ti/8, the one bottom-up twin that timm does not register itself."""
    kwargs = dict(patch_size=8, **TINY) | kwargs
    getters = {"out_indices": kwargs.pop("out_indices", 3), "feature_cls": "getter"}
    return build_model_with_cfg(VisionTransformer, "vit_tiny_patch8_224", pretrained, feature_cfg=getters, **kwargs)
