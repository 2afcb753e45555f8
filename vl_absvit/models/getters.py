"""timm's ways to get features out of an encoder, answered by its last look.

They choose among the outputs of blocks, or where blocks lie in several stages, among those of the stages, as timm's
hierarchical models do. Shapes: I images, N tokens, D width.
"""

from collections.abc import Sequence
from typing import Any, Literal

from timm.models._features import feature_take_indices
from torch import Tensor

from vl_absvit.errors import InputError


class Getters:
    """``forward`` and what stands beside it in timm, for an encoder that looks twice.

    Mixed into a trunk with ``look_once`` and ``look_twice``. All give the last look, steered by the
    given priors or the trainable query, and the first only where that is asked for by name.
    """

    def forward_features(self, x: Tensor, prior: Tensor | None = None) -> Tensor:
        """Tokens of the last look, (I, N, D), for images (I, 3, height, width) and priors (I, D)."""
        return self.look_twice(x, prior).seen(None)

    def forward(self, x: Tensor, prior: Tensor | None = None) -> Tensor:
        """Class logits, or pooled features where ``num_classes`` is 0, of the last look."""
        return self.forward_head(self.forward_features(x, prior))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: Literal["NCHW", "NLC"] = "NCHW",
        intermediates_only: bool = False,
        output_dict: bool = False,
        attn_mask: None = None,
        is_causal: bool = False,
        *,
        prior: Tensor | None = None,
        look: Literal["last", "first"] = "last",
    ) -> Any:
        """What blocks give in one look; arguments and result are timm's, and ``prior`` and ``look``.

        PerceiverIO's trunk runs once: its blocks' outputs are of that pass, and the last tokens alone are reweighted.

        Args:
            x: images, (I, 3, height, width).
            indices: of blocks, or stages; a number n means the last n, None all.
            stop_early: has no effect, for a second look needs the whole first.
            prior: one per image, (I, D); None takes the trainable query.
            look: the last one, or the first, which needs no prior.

        Raises:
            InputError: ``look`` is neither, or the prior is of another shape.
        """
        if look not in ("last", "first"):
            raise InputError(f"look: expected 'last' or 'first', got {look!r:.60}")
        assert output_fmt in ("NCHW", "NLC") and attn_mask is None and not is_causal
        seen = self.look_once(x) if look == "first" else self.look_twice(x, prior)
        first, second = (seen, None) if look == "first" else (seen.first, seen.second)
        states = second.states if second and second.states else first.states
        levels = self._levels(states, tuple(x.shape[-2:]))
        chosen = [levels[number] for number in sorted(feature_take_indices(len(levels), indices)[0])]
        # The norm of the last width alone fits, which is every one's where there is one stage.
        outputs = [self.final_norm(one) if norm and one.shape[-1] == self.width else one for one, _ in chosen]
        prefixes = [output[:, : self.num_prefix_tokens] for output in outputs]
        outputs = [output[:, self.num_prefix_tokens :] for output in outputs]
        if output_fmt == "NCHW":
            grids = [grid for _, grid in chosen]
            outputs = [output.mT.unflatten(-1, grid).contiguous() for output, grid in zip(outputs, grids, strict=True)]
        tokens = (second or first).tokens
        if output_dict:
            content = {"image_intermediates": outputs}
            content |= {"image_intermediates_prefix": prefixes} if return_prefix_tokens else {}
            return content | ({} if intermediates_only else {"image_features": tokens})
        if return_prefix_tokens:
            outputs = list(zip(outputs, prefixes, strict=True))
        return outputs if intermediates_only else (tokens, outputs)

    def get_intermediate_layers(
        self,
        x: Tensor,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        attn_mask: None = None,
        *,
        prior: Tensor | None = None,
        look: Literal["last", "first"] = "last",
    ) -> list:
        """DINO's form of ``forward_intermediates``: the outputs of the last n blocks, or of those in ``n``."""
        return self.forward_intermediates(
            x, n, return_prefix_tokens, norm, output_fmt="NCHW" if reshape else "NLC", intermediates_only=True,
            attn_mask=attn_mask, prior=prior, look=look,
        )  # fmt: skip

    def _levels(self, states: list[Tensor], image_size: tuple[int, int]) -> list[tuple[Tensor, tuple[int, int]]]:
        """What can be chosen of the states of a look, with its rows and columns."""
        outputs, grids = self.outputs(states), self.grids(image_size)
        if len(grids) == 1:
            return [(output, grids[0]) for output in outputs]
        return [(outputs[self.blocks_of(stage).stop - 1], grid) for stage, grid in enumerate(grids)]
