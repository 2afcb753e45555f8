"""timm's ways to get features out of an encoder, answered by its last look.

Shapes: I images, N tokens (CLS first, then patches in raster order), D width.
"""

from collections.abc import Sequence
from typing import Any, Literal

from timm.models._features import feature_take_indices
from torch import Tensor, nn

from vl_absvit.errors import InputError


class Getters:
    """``forward`` and what stands beside it in timm, for an encoder that looks twice.

    Mixed into a ``VisionTransformer`` with ``look_once`` and ``look_twice``. All give the last look, steered by the
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
            indices: of blocks; a number n means the last n, None all.
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
        taken, _ = feature_take_indices(len(self.blocks), indices)
        outputs = [self.norm(state) if norm else state for block, state in enumerate(states[1:]) if block in taken]
        prefixes = [output[:, : self.num_prefix_tokens] for output in outputs]
        outputs = [output[:, self.num_prefix_tokens :] for output in outputs]
        if output_fmt == "NCHW":
            grid = self.patch_embed.dynamic_feat_size(x.shape[-2:])
            outputs = [output.mT.unflatten(-1, grid).contiguous() for output in outputs]
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

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what blocks ``indices`` do not need; a second look needs the whole first, norm included."""
        if not self.looks_twice:
            return super().prune_intermediate_layers(indices, prune_norm, prune_head)
        taken, _ = feature_take_indices(len(self.blocks), indices)
        if prune_head:
            self.fc_norm = nn.Identity()
            self.reset_classifier(0, "")
        return taken
