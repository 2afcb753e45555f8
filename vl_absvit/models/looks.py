"""Looking twice, the second time steered by a prior, with any trunk; and the baselines that do less.

Shi, Darrell, Wang, "Top-Down Visual Attention from Analysis by Synthesis", CVPR 2023, arXiv:2303.13043, section 2.5;
the baselines and ablations are those of section 2.6.
The second look may begin at a later block m than the first, ``looks_again_from``; m = 0 is the paper.
Shapes: I images, B texts (one prior each), N tokens, D width, L blocks. ``trunks/base.py`` says what a trunk is; in
stages after the first N and D are others.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vl_absvit.errors import ConfigError, InputError
from vl_absvit.models.attention import Projections
from vl_absvit.models.getters import Getters
from vl_absvit.models.token_norms import recomputing
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
from vl_absvit.models.trunks.base import Block, Trunk
from vl_absvit.variants import VARIANTS, TopDown

OWN = ("decoders.", "prior", "mask.", "mean_token")
"""Beginnings of the names of parameters that a trunk alone does not have."""


class Start(NamedTuple):
    """The start of the second look, through which the first look passes, too."""

    tokens: Tensor  # (B, N, D), the input of the first block that looks again; z_0 if all do
    projections: Projections  # bottom-up projections of the tokens in that block

    def map(self, change: Callable[[Tensor], Tensor]) -> "Start":
        """A copy with every tensor changed in the same way."""
        return Start(change(self.tokens), Projections(*map(change, self.projections)))


class Look(NamedTuple):
    """The result of one pass through the blocks that look again."""

    tokens: Tensor  # (B, N, D), after the final norm
    states: list[Tensor]
    """The start, then every block's output, (L - m + 1) x (B, N, D) if block m is the first one; between stages also
    the pooling's output. Empty if no block ran (PerceiverIO)."""


class FirstLook(NamedTuple):
    """The bottom-up pass. It depends on the image alone and runs once per image, whatever the texts."""

    start: Start  # of the second look
    tokens: Tensor  # (I, N, D), after the final norm
    states: list[Tensor]  # as in ``Look``, of I images, from z_0 on; empty if they were not kept
    prefix_tokens: int  # tokens among N that are not patches

    def rows(self, rows: slice) -> "FirstLook":
        """Some of the images, without states."""
        return self._replace(start=self.start.map(lambda tensor: tensor[rows]), tokens=self.tokens[rows], states=[])

    def followed_by(self, other: "FirstLook") -> "FirstLook":
        """These images and then others, without states."""
        others = iter((other.start.tokens, *other.start.projections, other.tokens))
        start = self.start.map(lambda tensor: torch.cat([tensor, next(others)]))
        return self._replace(start=start, tokens=torch.cat([self.tokens, next(others)]), states=[])


class TwoLooks(NamedTuple):
    """The result of one inference. A plain ViT has a first look only.

    PerceiverIO looks once, too. Its ``second`` holds the reweighted tokens of the first look.
    """

    first: FirstLook  # rows are the I images
    second: Look | None  # rows are the B texts; in variants without a prior mask they are the I images
    prior_mask: Tensor | None  # (B, N): how well the first look's tokens agree with the prior
    signals: list[Steered] | None = None  # L - m, the top-down inputs of the blocks that look again
    threshold: Tensor | None = None  # (1,), of a calibrated mask, with gradient

    def seen(self, image_index: Tensor | None) -> Tensor:
        """The last look's tokens for B texts, (B, N, D), given the image of each text, (B,)."""
        return self.per_text((self.second or self.first).tokens, image_index)

    def per_text(self, rows: Tensor, image_index: Tensor | None) -> Tensor:
        """Rows for the texts, given rows of the last look."""
        return per_text(rows, image_index) if self.prior_mask is None else rows

    def second_states(self, image_index: Tensor | None) -> list[Tensor]:
        """States of the second look from z_0 on; those below its first block are the first look's.

        Args:
            image_index: row of the first look for each row of the second one; None means the same order.
        """
        assert self.second is not None, "there is a second look"
        below = self.first.states[: len(self.first.states) - len(self.second.states)]
        own_rows = image_index if self.prior_mask is not None else None
        return [per_text(state, own_rows) for state in below] + self.second.states


class DecoderLosses(NamedTuple):
    """Losses that train the decoders beside the task's. None if not requested or if nothing is fed back."""

    reconstruction: Tensor | None  # ()
    transform: Tensor | None  # ()


class VisualEncoder(Getters, Trunk):
    """A trunk under its own parameter names, with feedback decoders if the variant feeds back.

    The class of an encoder inherits from this one first and from its trunk second. The default prior is a trainable
    query. An encoder without one, such as a vision-language model's, needs a prior per image. timm's functions for
    features give those of the last look (``getters.py``).

    Args:
        top_down: AbSViT or one of its baselines, see ``variants.py``.
        modulation: form of step (ii) in variants that use a prior, see ``top_down.py``.
        gain: strength alpha of the top-down signal (1 on ImageNet), or of the output tokens in PerceiverIO. MaskAtt
            does not use it: its signal is the prior mask itself.
        mask: form of the prior mask: the cosine (paper), or its distance above a trained threshold, see
            ``calibrated_relevance``.
        centred: priors are compared with tokens less ``mean_token``, which starts at 0.
        looks_again_from: the first block m of the second look, counted from 0. Blocks below receive no top-down signal,
            so that their states are those of the first look; there are no decoders of theirs.
        trainable_prior: keep a trainable query as the default prior (image classification).
        trunk: arguments of the trunk.
    """

    def __init__(
        self,
        *,
        top_down: TopDown = "absvit",
        modulation: Literal["reweight", "reweight_project"] = "reweight",
        gain: float = 1.0,
        mask: Literal["cosine", "calibrated"] = "cosine",
        centred: bool = False,
        looks_again_from: int = 0,
        trainable_prior: bool = True,
        **trunk: Any,
    ) -> None:
        super().__init__(top_down=top_down, **trunk)
        self.variant = VARIANTS[top_down]
        last = len(self.all_blocks) - 1 if self.looks_twice else 0
        if not 0 <= looks_again_from <= last:
            raise ConfigError(
                f"looks_again_from: expected a block of the second look, 0 to {last} in this {self.variant.label}, got "
                f"{looks_again_from}"
            )
        self.looks_again_from = looks_again_from
        self.mask = CalibratedMask() if mask == "calibrated" and self.uses_prior else None
        self.modulate: partial[Steered] = partial(keep_all, gain=gain)
        if self.uses_prior:
            self.modulate = partial(MODULATIONS[modulation], gain=gain, mask_of=self.prior_mask)
        self.mean_token: Tensor | None
        self.register_buffer("mean_token", torch.zeros(self.width) if centred and self.uses_prior else None)
        self.decoders: nn.ModuleList | None = None
        self.prior: nn.Parameter | None = None
        self._folded: list[FoldedStage] | None = None
        self.grad_checkpointing = False
        if self.feeds_back:
            self.decoders = self._make_decoders()
        if self.uses_prior and trainable_prior:
            self.prior = nn.Parameter(torch.randn(self.width) * 0.02)

    def _make_decoders(self) -> nn.ModuleList:
        """One decoder per block that looks again. The first one of a later stage leads to the stage before.

        The feedback ends at the first of these blocks. An empty module stands for every block below, so that names
        tell the block.
        """
        stages, grids = self.stages, self.grids()
        decoders = nn.ModuleList(nn.Module() for _ in range(self.looks_again_from))
        for number, stage in enumerate(stages):
            again = self.blocks_again_of(number)
            made = [FeedbackDecoder(width=stage.width) for _ in range(again.start, again.stop)]
            if made and again.start:
                made[0].cross = StageDecoder(
                    width=stage.width,
                    grid=grids[number],
                    width_before=stages[number - 1].width,
                    grid_before=grids[number - 1],
                )
            for weight in (weight for decoder in made for weight in decoder.parameters()):
                nn.init.trunc_normal_(weight, std=0.02 * (768 / stage.width) ** 0.5)
            decoders.extend(made)
        return decoders

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load as any module does. Whole weights without a prior remove the encoder's own prior."""
        if strict and self.prior is not None and "prior" not in state_dict:
            self.prior = None
        return super().load_state_dict(state_dict, strict, assign)

    def fold(self) -> None:
        """Multiply the decoders' present weights, so that the feedback takes one product per block.

        This is for evaluation: it halves the products and gives the decoders no gradient. Training undoes it
        (``train()``, or any forward pass with gradients), and so do loading and moving weights. Code that changes
        weights in another way calls this again. In training mode nothing happens. Frozen decoders are folded in
        training, too, by the first pass.
        """
        if self.feeds_back and not (self.training and self._decoders_learn):
            with torch.inference_mode(False), torch.no_grad():  # the products are usable in any mode
                self._folded = fold_stages(self.feedback_decoders)

    def train(self, mode: bool = True) -> "VisualEncoder":
        """Set the mode as any module does. Training mode undoes ``fold``."""
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
        """Set whether training recomputes the activations of blocks instead of keeping them."""
        self.grad_checkpointing = enable

    @property
    def uses_prior(self) -> bool:
        """Whether tokens count by how well they agree with a prior."""
        return self.variant.uses_prior

    @property
    def feeds_back(self) -> bool:
        """Whether there are decoders, which have losses of their own."""
        return self.variant.feeds_back

    @property
    def feedback_decoders(self) -> list[FeedbackDecoder]:
        """The decoders, one per block that looks again, first block first; none if nothing is fed back."""
        return cast("list[FeedbackDecoder]", list(self.decoders or ())[self.looks_again_from :])

    @property
    def blocks_again(self) -> list[Block]:
        """The blocks of the second look, first block first."""
        return self.all_blocks[self.looks_again_from :]

    def blocks_again_of(self, stage: int) -> slice:
        """The part of ``blocks_again``, and of ``feedback_decoders``, that belongs to a stage; it may be empty."""
        own = self.blocks_of(stage)
        return slice(max(own.start - self.looks_again_from, 0), max(own.stop - self.looks_again_from, 0))

    @property
    def _decoders_learn(self) -> bool:
        """Whether any weight of the decoders is trained."""
        return any(weight.requires_grad for decoder in self.feedback_decoders for weight in decoder.parameters())

    @property
    def label(self) -> str:
        """What it is called: by its variant, by its trunk, or both, such as ``AbSViT``, ``FAN``, ``AbSViT on FAN``."""
        if self.family == "ViT":
            return self.variant.label
        return f"{self.variant.label} on {self.family}" if self.variant != VARIANTS["none"] else self.family

    @property
    def looks_twice(self) -> bool:
        """Whether the trunk runs a second time."""
        return self.variant.looks_twice

    def look_twice(self, images: Tensor, prior: Tensor | None = None, image_index: Tensor | None = None) -> TwoLooks:
        """The four steps.

        Args:
            images: (I, 3, height, width).
            prior: prior vector xi of every text, (B, D); None takes the trainable query for every image. Variants that
                use no prior ignore it.
            image_index: row of ``images`` for each prior, (B,); None means B = I in the same order.
        """
        return self.look_again(self.look_once(images), prior, image_index)

    def look_once(self, images: Tensor) -> FirstLook:
        """Step (i), for images (I, 3, height, width); or the first look that was kept of them (``first_look_to_keep``).

        A look that was kept has no states.
        """
        if images.ndim == 2:
            return self._kept_first_look(images)
        below = self._through([self.embed_images(images)], range(self.looks_again_from))
        start = self.start(below[-1])
        tokens, states = self.look(start)  # (i) feedforward
        return FirstLook(start, tokens, below[:-1] + states, self.num_prefix_tokens)

    def first_look_to_keep(self, images: Tensor) -> Tensor:
        """What ``look_once`` takes in place of images (I, 3, height, width): a row of numbers for each.

        These are the first look's tokens and, where there is a second look, those from which it starts. In bf16 a
        number has eight significant bits; rounding changes it by at most one part in 512.

        Returns:
            (I, ``numbers_to_keep``), bf16.
        """
        first = self.look_once(images)
        kept = [first.tokens, first.start.tokens][: len(self._kept_shapes)]
        return torch.cat([tokens.flatten(1) for tokens in kept], dim=1).to(torch.bfloat16)

    @property
    def numbers_to_keep(self) -> int:
        """Numbers that ``first_look_to_keep`` has of an image."""
        return sum(map(math.prod, self._kept_shapes))

    @property
    def _kept_shapes(self) -> list[tuple[int, int]]:
        """(N, D) of the tokens after the last block and, if there is a second look, of those from which it starts."""
        ends, last = [self.blocks_of(stage).stop for stage in range(len(self.stages))], len(self.stages) - 1
        places = (last, bisect_right(ends, self.looks_again_from)) if self.looks_twice else (last,)
        grids = self.grids()
        return [(self.num_prefix_tokens + math.prod(grids[place]), self.stages[place].width) for place in places]

    def _kept_first_look(self, kept: Tensor) -> FirstLook:
        """The first look at images, given rows of ``first_look_to_keep``, (I, ``numbers_to_keep``)."""
        shapes = self._kept_shapes
        parts = kept.to(next(self.parameters()).dtype).split([math.prod(shape) for shape in shapes], dim=1)
        tokens, *start = (part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True))
        if start:
            return FirstLook(self.start(start[0]), tokens, [], self.num_prefix_tokens)
        nothing = tokens[:, :0]
        return FirstLook(Start(nothing, Projections(nothing, nothing)), tokens, [], self.num_prefix_tokens)

    def look_again(self, first: FirstLook, prior: Tensor | None = None, image_index: Tensor | None = None) -> TwoLooks:
        """Steps (ii) to (iv) after a first look, or as many as the variant has.

        The other arguments are those of ``look_twice``.
        """
        if not (self.uses_prior or self.looks_twice):
            return TwoLooks(first, None, None)
        if not self.uses_prior:
            prior, image_index = None, None  # texts change nothing: rows stay images
        elif prior is None:
            prior = self._own_prior().expand(len(first.tokens), -1)
        elif prior.shape != (expected := (len(first.tokens if image_index is None else image_index), self.width)):
            raise InputError(f"prior: expected one vector per image or text, {expected}, got {tuple(prior.shape)}")
        steered = self.modulate(first.tokens, prior, image_index=image_index)  # (ii) keep what the prior asks for
        if not self.looks_twice:
            only = Look(steered.tokens, states=[])
            return TwoLooks(first, only, steered.mask, threshold=self.threshold)  # PerceiverIO ends here
        signals = self._signals(steered)  # (iii) one signal per block
        start = first.start.map(partial(per_text, image_index=image_index))
        second = self.look(start, signals)  # (iv) feedforward again, attention steered
        return TwoLooks(first, second, steered.mask, signals, self.threshold)

    def less_mean(self, tokens: Tensor) -> Tensor:
        """Tokens of a look, (..., D), as priors are compared with them: less the mean token, if there is one."""
        return tokens if self.mean_token is None else tokens - self.mean_token

    def prior_mask(self, tokens: Tensor, prior: Tensor) -> Tensor:
        """The prior mask (B, N) of tokens (B, N, D) for priors (B, D)."""
        return (self.mask or relevance)(self.less_mean(tokens), prior)

    @property
    def threshold(self) -> Tensor | None:
        """Present threshold of the calibrated mask, (1,), with gradient; None for other masks."""
        return None if self.mask is None else self.mask.threshold.clone()

    def decoder_losses(self, states: list[Tensor], need_reconstruction: bool, need_transform: bool) -> DecoderLosses:
        """Reconstruction and transform loss, if requested.

        Args:
            states: states of the second look.
        """
        reconstruction = transform = None
        if need_reconstruction and self.feeds_back:
            reconstruction = reconstruction_loss(self.feedback_decoders, states)
        if need_transform and self.feeds_back:
            norms = [block.value_input for block in self.blocks_again]
            transform = transform_loss(self.feedback_decoders, norms, states)
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
        if torch.is_grad_enabled() and self._decoders_learn:
            self._folded = None  # the decoders may learn from this pass
        if steered.shares_direction:  # one vector costs less than a product of matrices
            return feed_back(self.feedback_decoders, steered)
        if self.training and self._folded is None and not torch.compiler.is_compiling():
            self.fold()
        if self._folded is None:
            return feed_back(self.feedback_decoders, steered)
        return feed_back_stages(self._folded, steered)

    def _masks(self, steered: Steered) -> list[Steered]:
        """The signals of MaskAtt: the prior mask for every block that looks again.

        On other grids a token takes the nearest value.
        """
        assert steered.mask is not None, "MaskAtt feeds back a prior mask"
        signals: list[Steered] = []
        grids = self.grids()
        for stage, grid in zip(self.stages, grids, strict=True):
            mask = steered.mask
            if grid != grids[-1]:
                mask = F.interpolate(mask.unflatten(1, (1, *grids[-1])), grid).flatten(1)
            signals += [steered._replace(mask=mask)] * len(stage.blocks)
        return signals[self.looks_again_from :]

    def start(self, tokens: Tensor) -> Start:
        """The start of the second look, given the input of its first block, (I, N, D)."""
        return Start(tokens, self.blocks_again[0].project(tokens))

    def look(self, start: Start, signals: list[Steered] | None = None) -> Look:
        """One pass through the blocks that look again, with one top-down signal per block if given."""
        blocks = range(self.looks_again_from, len(self.all_blocks))
        states = self._through([start.tokens], blocks, signals, start.projections)
        return Look(self.final_norm(states[-1]), states)

    def _through(
        self,
        states: list[Tensor],
        blocks: range,
        signals: list[Steered] | None = None,
        projections: Projections | None = None,
    ) -> list[Tensor]:
        """The states of a pass through some blocks, up to the input of the block after them.

        Args:
            states: the input of the first of these blocks.
            signals: one per block.
            projections: of the first block's input.
        """
        every_block, entrances, recompute = self.all_blocks, self.entrances, self.grad_checkpointing and self.training
        for number in blocks:
            block = every_block[number]
            run = partial(checkpoint, block, use_reentrant=False, context_fn=recomputing) if recompute else block
            signal = None if signals is None else signals[number - blocks.start]
            states.append(run(states[-1], signal, projections))
            projections = None  # only the first block's are known
            if number + 1 in entrances:
                states.append(entrances[number + 1](states[-1]))
        return states


class VisionModel(nn.Module):
    """A model of a task, whatever it has beside its visual encoder."""

    vision: VisualEncoder
