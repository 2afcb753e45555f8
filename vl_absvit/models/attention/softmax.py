"""Self-attention that can carry a top-down input, and the block around it.

AbSViT steers the values: V = W_v x + b_v + (W_v td + b_v), queries and keys stay bottom-up [AbS 2.5]. The value bias
counts twice, as in the released weights. AbSViT-QKV and MaskAtt [AbS 2.6] are layers of their own with the same
parameters. Shapes: B texts, N tokens, D width, H heads.
"""

from typing import Any, NamedTuple

import torch.nn.functional as F
from timm.layers import Attention, Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from vl_absvit.models.kept_less import keeps_less, linear_and_norm, linear_of_gelu, linear_of_norm
from vl_absvit.models.top_down import Steered, per_text
from vl_absvit.precision import as_products_take


class Projections(NamedTuple):
    """Projections of an attention layer's input, before the heads are split."""

    queries_keys: Tensor  # (B, N, 2D); D where queries are the keys, 0 where there are none
    values: Tensor  # (B, N, D)


class TopDownAttention(Attention):
    """timm's attention with the same weights, plus a top-down input to the values.

    Layers that mix tokens otherwise inherit from it and override ``attend`` and ``weights``. The values are the last
    rows of ``qkv`` in all of them.
    """

    has_queries = True
    has_weights = True  # whether ``weights`` gives what mixes the values
    needs_grid = False  # whether the layer is made with ``grid``, the rows and columns of its tokens

    def project(self, x: Tensor, top_down: Steered | None = None, norm: nn.Module | None = None) -> Projections:
        """Queries, keys and values of ``x``, the values steered by ``top_down`` if given.

        V = W_v (x + td) + 2 b_v: a signal per token costs no further matrix product, one shared by all tokens up to a
        scale costs a product with a single vector.

        Args:
            norm: is applied to ``x`` before.
        """
        width = x.shape[-1]
        if top_down is None:
            return self._split(linear_of_norm(x, norm, self.qkv))
        if top_down.shares_direction:
            return self.steer(self.project(x, norm=norm), top_down)
        weight, bias = self._weight_and_bias()
        bias_qk = None if bias is None else bias[:-width]
        queries_keys, normed = linear_and_norm(x, norm, weight[:-width], bias_qk)
        values = F.linear(normed + top_down.tokens, weight[-width:], None if bias is None else 2 * bias[-width:])
        return Projections(queries_keys, values)

    def steer(self, bottom_up: Projections, top_down: Steered) -> Projections:
        """Add the top-down input W_v td + b_v to values that are already there."""
        width = bottom_up.values.shape[-1]
        weight, bias = self._weight_and_bias()
        added = linear(top_down, weight[-width:], None if bias is None else bias[-width:])
        return bottom_up._replace(values=bottom_up.values + added)

    def attend(self, projections: Projections) -> Tensor:
        """Mix the values: the layer's output, (B, N, D)."""
        q, k = self._queries_and_keys(projections)
        dropout = self.attn_drop.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, self._split_heads(projections.values), dropout_p=dropout)
        return self.merge(mixed)

    def merge(self, mixed: Tensor) -> Tensor:
        """The layer's output, (B, N, D), of the heads' (B, H, N, D/H)."""
        return self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2)))

    def weights(self, projections: Projections, queries: slice = slice(None)) -> Tensor:
        """The attention weights that ``attend`` uses, (B, H, queries, N). They depend on queries and keys only."""
        q, k = self._queries_and_keys(projections)
        return (q[:, :, queries] @ k.mT * self.scale).softmax(dim=-1)

    def mean_weights(self, projections: Projections, steps: int | None = None) -> Tensor:
        """The weight of every token's value in the mean of all tokens' outputs, before ``proj``: (1, B, N).

        It is the attention of the average token, averaged over heads. Layers that reconstruct have one per step.

        Args:
            steps: of a reconstruction; there is none here.
        """
        return self.weights(projections).mean(dim=(1, 2)).unsqueeze(0)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Bottom-up attention. The arguments are timm's; masks are not supported."""
        assert attn_mask is None and not is_causal
        return self.attend(self.project(x))

    def _weight_and_bias(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of queries, keys and values, ready to be sliced."""
        bias = self.qkv.bias
        return as_products_take(self.qkv.weight), None if bias is None else as_products_take(bias)

    def _split(self, qkv: Tensor) -> Projections:
        width = self.proj.in_features
        return Projections(*qkv.split([qkv.shape[-1] - width, width], dim=-1))

    def _queries_and_keys(self, projections: Projections) -> tuple[Tensor, Tensor]:
        q, k = (self._split_heads(t) for t in projections.queries_keys.chunk(2, dim=-1))
        return self.q_norm(q), self.k_norm(k)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, N, D/H)


class TopDownQKVAttention(TopDownAttention):
    """AbSViT-QKV [AbS 2.6]: queries and keys are steered like the values.

    Each is W x + b + (W td + b). All three biases count twice.
    """

    def project(self, x: Tensor, top_down: Steered | None = None, norm: nn.Module | None = None) -> Projections:
        if top_down is None or top_down.shares_direction:
            return super().project(x, top_down, norm)
        bias = None if self.qkv.bias is None else 2 * self.qkv.bias
        normed = x if norm is None else norm(x)
        return self._split(F.linear(normed + top_down.tokens, self.qkv.weight, bias))

    def steer(self, bottom_up: Projections, top_down: Steered) -> Projections:
        fed_back = self._split(linear(top_down, self.qkv.weight, self.qkv.bias))
        return Projections(bottom_up.queries_keys + fed_back.queries_keys, bottom_up.values + fed_back.values)


class ValueMaskAttention(TopDownAttention):
    """MaskAtt [AbS 2.6]: the prior mask m multiplies the values, V = m (W_v x + b_v), and nothing is added."""

    def project(self, x: Tensor, top_down: Steered | None = None, norm: nn.Module | None = None) -> Projections:
        bottom_up = super().project(x, norm=norm)
        return bottom_up if top_down is None else self.steer(bottom_up, top_down)

    def steer(self, bottom_up: Projections, top_down: Steered) -> Projections:
        assert top_down.mask is not None, "MaskAtt is steered by a prior mask"
        return bottom_up._replace(values=(top_down.mask.unsqueeze(-1) * bottom_up.values).to(bottom_up.values.dtype))


def linear(steered: Steered, weight: Tensor, bias: Tensor | None) -> Tensor:
    """W z + b of steered tokens z, (B, N, D).

    The product runs on the directions alone, once per image or text, because W is linear in a token's scale.
    """
    product = steered.scale * per_text(F.linear(steered.direction, weight), steered.image_index)
    return product if bias is None else product + bias


class TopDownBlock(Block):
    """timm's pre-norm block around one of the attention layers above."""

    attn: TopDownAttention

    def project(self, x: Tensor, top_down: Steered | None = None) -> Projections:
        """Queries, keys and values of the block's input."""
        return self.attn.project(x, top_down, self.norm1)

    def value_input(self, x: Tensor) -> Tensor:
        """The input of the attention's values, (B, N, D), made of the block's input."""
        return self.norm1(x)

    def forward(  # type: ignore[override]  # a top-down input in place of timm's attention mask
        self, x: Tensor, top_down: Steered | None = None, bottom_up: Projections | None = None
    ) -> Tensor:
        """Run the block.

        Args:
            x: block input, (B, N, D).
            top_down: the attention's top-down input.
            bottom_up: the bottom-up projections of ``x`` if they are known already.

        Returns:
            The block's output, (B, N, D).
        """
        if bottom_up is None:
            projections = self.project(x, top_down)
        else:
            projections = bottom_up if top_down is None else self.attn.steer(bottom_up, top_down)
        return self.finish(x, self.attn.attend(projections))

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The block's output, given its input and what the attention makes of it."""
        x = x + self.drop_path1(self.ls1(mixed))
        return x + self.drop_path2(self.ls2(self._feed_forward(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        """The MLP of the normed tokens."""
        mlp: Any = self.mlp
        if not (keeps_less() and _has_one_gelu(mlp)):
            return mlp(self.norm2(x))
        return mlp.drop2(linear_of_gelu(linear_of_norm(x, self.norm2, mlp.fc1), mlp.fc2))


def _has_one_gelu(mlp: Any) -> bool:
    """Whether an MLP has nothing but a GELU between two linear layers."""
    return (
        type(mlp) is Mlp
        and isinstance(mlp.act, nn.GELU)
        and mlp.act.approximate == "none"
        and isinstance(mlp.norm, nn.Identity)
        and not (mlp.training and mlp.drop1.p)
    )


class SingleResidualBlock(TopDownBlock):
    """A block with one sum around attention and MLP, x += MLP(LN(attn(LN(x)))), as GFNet's."""

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        return x + self.drop_path2(self.ls2(self._feed_forward(mixed)))
