"""Looking twice, the second time steered by a prior, with any trunk; and the baselines that do less.

Shi, Darrell, Wang, "Top-Down Visual Attention from Analysis by Synthesis", CVPR 2023, arXiv:2303.13043, section 2.5;
the baselines and ablations are those of section 2.6.
Shapes: I images, B texts (one prior each), N tokens, D width, L blocks. ``trunks/base.py`` says what a trunk is; in
stages after the first N and D are others.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vl_absvit.errors import InputError
from vl_absvit.models.attention import Projections
from vl_absvit.models.getters import Getters
from vl_absvit.models.top_down import (
    MODULATIONS,
    CalibratedMask,
    FeedbackDecoder,
    FoldedStage,
    StageDecoder,
    Steered,
    feed_back,
    feed_back_stages,
    fold_stages,
    keep_all,
    per_text,
    reconstruction_loss,
    relevance,
    transform_loss,
)
from vl_absvit.models.trunks.base import Trunk
from vl_absvit.variants import VARIANTS, TopDown

OWN = ("decoders.", "prior", "mask.")
"""How names of parameters begin that a trunk alone does not have."""


class Embedded(NamedTuple):
    """What both looks start from."""

    tokens: Tensor  # (B, N, D), z_0: patches, prefix tokens and positions
    projections: Projections  # what the first block makes of them bottom-up, before it mixes

    def each(self, change: Callable[[Tensor], Tensor]) -> "Embedded":
        """All tensors changed alike."""
        return Embedded(change(self.tokens), self.projections._make(map(change, self.projections)))


class Look(NamedTuple):
    """One pass through the trunk, or what came of it."""

    tokens: Tensor  # (B, N, D), after the final norm
    states: list[Tensor]
    """z_0, then every block's output, (L + 1) x (B, N, D); between stages also what the pooling makes of it. Empty
    where no block ran (PerceiverIO)."""


class FirstLook(NamedTuple):
    """The bottom-up pass, which knows no text: once per image, whatever is asked about it."""

    embedded: Embedded  # where the second look starts as well
    tokens: Tensor  # (I, N, D), after the final norm
    states: list[Tensor]  # of I images, as in ``Look``; empty where they were not kept
    prefix_tokens: int  # of N, those that are no patches

    def rows(self, rows: slice) -> "FirstLook":
        """Some of the images, without states."""
        return self._replace(
            embedded=self.embedded.each(lambda tensor: tensor[rows]), tokens=self.tokens[rows], states=[]
        )

    def followed_by(self, other: "FirstLook") -> "FirstLook":
        """These images and then others, without states."""
        others = iter((other.embedded.tokens, *other.embedded.projections, other.tokens))
        embedded = self.embedded.each(lambda tensor: torch.cat([tensor, next(others)]))
        return self._replace(embedded=embedded, tokens=torch.cat([self.tokens, next(others)]), states=[])


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


class VisualEncoder(Getters, Trunk):
    """A trunk under its own parameter names, with feedback decoders where something is fed back.

    Mixed into the class of a trunk, before it. A trainable query is the default prior; an encoder without one, as a
    vision-language model's, has to be given one per image. timm's ways to get features give those of the last look
    (``getters.py``).

    Args:
        top_down: AbSViT or one of its baselines, see ``variants.py``.
        modulation: form of step (ii) where a prior selects, see ``top_down.py``.
        gain: strength of the top-down signal, alpha (1 on ImageNet); of the output tokens in PerceiverIO. MaskAtt,
            whose signal is the prior mask itself, does not use it.
        mask: what the prior mask is made of: the cosine (paper), or how far it is above a threshold that is trained,
            see ``calibrated_relevance``.
        trainable_prior: keep a trainable query as the prior where none is given (image classification).
        trunk: arguments of the trunk.
    """

    def __init__(
        self,
        *,
        top_down: TopDown = "absvit",
        modulation: Literal["reweight", "reweight_project"] = "reweight",
        gain: float = 1.0,
        mask: Literal["cosine", "calibrated"] = "cosine",
        trainable_prior: bool = True,
        **trunk: Any,
    ) -> None:
        super().__init__(top_down=top_down, **trunk)
        self.variant = VARIANTS[top_down]
        self.mask = CalibratedMask() if mask == "calibrated" and self.uses_prior else None
        self.modulate = partial(keep_all, gain=gain)
        if self.uses_prior:
            self.modulate = partial(MODULATIONS[modulation], gain=gain, mask_of=self.mask or relevance)
        self.decoders, self.prior = None, None
        self._folded: list[FoldedStage] | None = None
        self.grad_checkpointing = False
        if self.feeds_back:
            self.decoders = self._make_decoders()
        if self.uses_prior and trainable_prior:
            self.prior = nn.Parameter(torch.randn(self.width) * 0.02)

    def _make_decoders(self) -> nn.ModuleList:
        """One per block; the first of a later stage leads to the stage before."""
        stages, grids, decoders = self.stages, self.grids(), nn.ModuleList()
        for number, stage in enumerate(stages):
            made = [FeedbackDecoder(width=stage.width) for _ in stage.blocks]
            if number:
                before = {"width_before": stages[number - 1].width, "grid_before": grids[number - 1]}
                made[0].cross = StageDecoder(width=stage.width, grid=grids[number], **before)
            for weight in (weight for decoder in made for weight in decoder.parameters()):
                nn.init.trunc_normal_(weight, std=0.02 * (768 / stage.width) ** 0.5)
            decoders.extend(made)
        return decoders

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As of any module; but all the weights of an encoder without a prior of its own make one without."""
        if strict and self.prior is not None and "prior" not in state_dict:
            self.prior = None
        return super().load_state_dict(state_dict, strict, assign)

    def fold(self) -> None:
        """Have the feedback take one product per block, with the decoders' weights as they are now.

        For evaluation: half the products, and no gradient to the decoders. Undone by training (``train()``, or any
        forward pass with gradients), by loading weights and by moving them; an encoder in training mode stays as it is.
        Whoever writes into weights otherwise folds again.
        """
        if self.feeds_back and not self.training:
            with torch.inference_mode(False), torch.no_grad():  # of use in any mode
                self._folded = fold_stages(self.decoders)

    def train(self, mode: bool = True) -> "VisualEncoder":
        """As of any module; training undoes ``fold``."""
        if mode:
            self._folded = None
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> "VisualEncoder":
        self._folded = None
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._folded = None
        super()._load_from_state_dict(*args, **kwargs)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether training recomputes what blocks compute instead of keeping it."""
        self.grad_checkpointing = enable

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

    def look_twice(self, images: Tensor, prior: Tensor | None = None, image_index: Tensor | None = None) -> TwoLooks:
        """The four steps.

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
        return FirstLook(embedded, *self.look(embedded), self.num_prefix_tokens)  # (i) feedforward

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
        elif prior.shape != (expected := (len(first.tokens if image_index is None else image_index), self.width)):
            raise InputError(f"prior: expected one vector per image or text, {expected}, got {tuple(prior.shape)}")
        steered = self.modulate(first.tokens, prior, image_index=image_index)  # (ii) keep what the prior asks for
        if not self.looks_twice:
            only = Look(steered.tokens, states=[])
            return TwoLooks(first, only, steered.mask, threshold=self.threshold)  # PerceiverIO ends here
        signals = self._signals(steered)  # (iii) one signal per block
        embedded = first.embedded.each(partial(per_text, image_index=image_index))
        second = self.look(embedded, signals)  # (iv) feedforward again, attention steered
        return TwoLooks(first, second, steered.mask, signals, self.threshold)

    @property
    def threshold(self) -> Tensor | None:
        """Of the calibrated mask, (1,), as of now and with gradient; None without one."""
        return None if self.mask is None else self.mask.threshold.clone()

    def decoder_losses(self, states: list[Tensor], need_reconstruction: bool, need_transform: bool) -> DecoderLosses:
        """Reconstruction and transform loss, as asked for.

        Args:
            states: of the second look.
        """
        reconstruction = transform = None
        if need_reconstruction and self.feeds_back:
            reconstruction = reconstruction_loss(self.decoders, states)
        if need_transform and self.feeds_back:
            transform = transform_loss(self.decoders, [block.value_input for block in self.all_blocks], states)
        return DecoderLosses(reconstruction, transform)

    def _own_prior(self) -> Tensor:
        if self.prior is None:
            raise InputError(
                f"this {self.variant.label} has no prior of its own: give one per image, (B, {self.width}), as in "
                "look_twice(images, prior), such as VLAbSViT.encode_texts makes of texts; or take look_once(images), "
                "the first look, which needs none"
            )
        return self.prior

    def _signals(self, steered: Steered) -> list[Steered]:
        """Step (iii)."""
        if not self.feeds_back:
            return self._masks(steered)
        if torch.is_grad_enabled() and self._folded is not None:
            self._folded = None  # the decoders may learn from this pass
        if self._folded is None or steered.shares_direction:  # one vector costs less than a product of matrices
            return feed_back(self.decoders, steered)
        return feed_back_stages(self._folded, steered)

    def _masks(self, steered: Steered) -> list[Steered]:
        """The signal of MaskAtt: every block gets the prior mask; on other grids every token the nearest one's."""
        signals, grids = [], self.grids()
        for stage, grid in zip(self.stages, grids, strict=True):
            mask = steered.mask
            if grid != grids[-1]:
                mask = F.interpolate(mask.unflatten(1, (1, *grids[-1])), grid).flatten(1)
            signals += [steered._replace(mask=mask)] * len(stage.blocks)
        return signals

    def embed(self, images: Tensor) -> Embedded:
        """z_0 of both looks, from images (I, 3, height, width)."""
        return self.start(self.embed_images(images))

    def start(self, tokens: Tensor) -> Embedded:
        """What both looks start from, given z_0 (I, N, D)."""
        return Embedded(tokens, self.stages[0].blocks[0].project(tokens))

    def look(self, embedded: Embedded, signals: list[Steered] | None = None) -> Look:
        """One pass through all blocks, with one top-down signal per block if given."""
        states, projections = [embedded.tokens], embedded.projections  # those of the first block
        recompute, depth = self.grad_checkpointing and self.training, 0
        for stage in self.stages:
            if stage.entrance is not None:
                states.append(stage.entrance(states[-1]))
            for block in stage.blocks:
                run = partial(checkpoint, block, use_reentrant=False) if recompute else block
                states.append(run(states[-1], signals and signals[depth], projections))
                projections, depth = None, depth + 1
        return Look(self.final_norm(states[-1]), states)
