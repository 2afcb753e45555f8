"""timm's functions for features, answered by an encoder's last look.

They choose among the outputs of blocks, or among those of stages if there are several, as timm's hierarchical models
do. Shapes: I images, N tokens, D width.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from timm.models._features import feature_take_indices
from torch import Tensor

from vl_absvit.errors import InputError
from vl_absvit.models.trunks.base import Trunk

if TYPE_CHECKING:
    from vl_absvit.models.looks import FirstLook, TwoLooks


class Getters(Trunk):
    """``forward`` and timm's functions beside it, for an encoder that looks twice.

    All give the last look, steered by the given priors or the trainable query. The first look is given only if it is
    requested by name.
    """

    def look_once(self, images: Tensor) -> "FirstLook":
        """The first look at images (I, 3, height, width)."""
        raise NotImplementedError

    def look_twice(self, images: Tensor, prior: Tensor | None = None) -> "TwoLooks":
        """Both looks at images (I, 3, height, width), the second with priors (I, D)."""
        raise NotImplementedError

    def forward_features(self, x: Tensor, prior: Tensor | None = None) -> Tensor:
        """Tokens of the last look, (I, N, D), for images (I, 3, height, width) and priors (I, D)."""
        return self.look_twice(x, prior).seen(None)

    def forward(self, x: Tensor, prior: Tensor | None = None) -> Tensor:
        """Class logits of the last look, or pooled features if ``num_classes`` is 0."""
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
        """Outputs of blocks in one look. Arguments and result are timm's; ``prior`` and ``look`` are added.

        PerceiverIO's trunk runs once. Its blocks' outputs are those of that pass; only the last tokens are reweighted.

        Args:
            x: images, (I, 3, height, width).
            indices: indices of blocks or stages; a number n means the last n, None all.
            stop_early: has no effect, because a second look needs the whole first one.
            prior: one per image, (I, D); None takes the trainable query.
            look: the last one, or the first, which needs no prior.

        Raises:
            InputError: ``look`` is neither, or the prior is of another shape.
        """
        if look not in ("last", "first"):
            raise InputError(f"look: expected 'last' or 'first', got {look!r:.60}")
        assert output_fmt in ("NCHW", "NLC") and attn_mask is None and not is_causal
        if look == "first":
            first, second = self.look_once(x), None
            states = first.states
        else:
            looks = self.look_twice(x, prior)
            first, second, *_ = looks
            states = looks.second_states(None) if second and second.states else first.states
        levels = self._levels(states, (x.shape[-2], x.shape[-1]))
        wanted = indices if indices is None or isinstance(indices, int) else list(indices)
        chosen = [levels[number] for number in sorted(feature_take_indices(len(levels), wanted)[0])]
        # The norm fits the width of the last stage only.
        outputs = [
            self.final_norm(output) if norm and output.shape[-1] == self.width else output for output, _ in chosen
        ]
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
        result = list(zip(outputs, prefixes, strict=True)) if return_prefix_tokens else outputs
        return result if intermediates_only else (tokens, result)

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
    ) -> list[Any]:
        """DINO's form of ``forward_intermediates``: the outputs of the last n blocks, or of those in ``n``."""
        return self.forward_intermediates(
            x, n, return_prefix_tokens, norm, output_fmt="NCHW" if reshape else "NLC", intermediates_only=True,
            attn_mask=attn_mask, prior=prior, look=look,
        )  # fmt: skip

    def _levels(self, states: list[Tensor], image_size: tuple[int, int]) -> list[tuple[Tensor, tuple[int, int]]]:
        """The outputs to choose from, with their rows and columns, out of the states of a look."""
        outputs, grids = self.outputs(states), self.grids(image_size)
        if len(grids) == 1:
            return [(output, grids[0]) for output in outputs]
        return [(outputs[self.blocks_of(stage).stop - 1], grid) for stage, grid in enumerate(grids)]
