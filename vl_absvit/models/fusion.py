"""The multimodal fusion encoder: two streams that attend to each other.

Dou et al., "An Empirical Study of Training End-to-End Vision-and-Language Transformers" (METER), CVPR 2022,
arXiv:2111.02387, section 3.1 (co-attention). Shapes: B texts, T text tokens, N image tokens, D fusion width, H heads.
"""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vl_absvit.models.kept_less import linear_of_gelu
from vl_absvit.models.short_attention import attend_from_few, attend_to_few, is_short

TEXT, IMAGE = 0, 1  # token types


class Attended(NamedTuple):
    """The result of attention."""

    tokens: Tensor  # (B, S, D)
    weights: Tensor | None  # (B, H, S, C) from the S queries to the C tokens of the context, if requested


class Attention(nn.Module):
    """Multi-head attention from ``x`` to ``context``, with residual and post-norm."""

    def __init__(self, *, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(
        self, x: Tensor, context: Tensor, is_token: Tensor | None = None, need_weights: bool = False
    ) -> Attended:
        """Queries ``x`` (B, S, D), keys and values ``context`` (B, C, D), real where ``is_token`` (B, C).

        With ``need_weights`` the softmax is computed explicitly, and its weights are returned.
        """
        if not need_weights and self._may_fold(x):
            mask = None if is_token is None else is_token[:, None, None, :]
            for fold, tokens in ((attend_from_few, x), (attend_to_few, context)):
                if is_short(tokens.shape[1], self.num_heads, x.shape[-1]):
                    return Attended(self.norm(x + fold(self, x, context, mask)), None)
        q, k, v = (self._split_heads(t) for t in (self.query(x), self.key(context), self.value(context)))
        mask = None if is_token is None else is_token[:, None, None, :]  # (B, 1, 1, C)
        if need_weights:
            scores = q @ k.mT * q.shape[-1] ** -0.5
            weights = (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(dim=-1)
            mixed = self.dropout(weights) @ v
        else:
            dropout = self.dropout.p if self.training else 0.0
            weights, mixed = None, F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout)
        return Attended(self.norm(x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))), weights)

    def _may_fold(self, x: Tensor) -> bool:
        """Whether folding is possible, without dropout and gradients, and faster: matrix products limit only CPUs."""
        return x.device.type == "cpu" and not self.training and not torch.is_grad_enabled()

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, tokens, D/H)


class FeedForward(nn.Module):
    """Two linear layers with residual and post-norm."""

    def __init__(self, *, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        return self.norm(x + self.dropout(linear_of_gelu(self.expand(x), self.contract)))


class StreamLayer(nn.Module):
    """One layer of one stream: self-attention, cross-attention to the other stream, feed-forward."""

    def __init__(self, *, width: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(width=width, num_heads=num_heads, dropout=dropout)
        self.cross_attention = Attention(width=width, num_heads=num_heads, dropout=dropout)
        self.feed_forward = FeedForward(width=width, hidden=hidden, dropout=dropout)

    def forward(
        self,
        x: Tensor,
        other: Tensor,
        is_token: Tensor | None,
        other_is_token: Tensor | None,
        first_only: bool = False,
        need_weights: bool = False,
    ) -> Attended:
        """Own state (B, S, D) and the other stream's (B, C, D), with masks of real tokens -> (B, S, D).

        With ``first_only`` only the first token is computed, (B, 1, D). With ``need_weights`` the result has the
        weights of the attention to the other stream.
        """
        x = self.self_attention(x[:, :1] if first_only else x, x, is_token).tokens
        x, weights = self.cross_attention(x, other, other_is_token, need_weights)
        return Attended(self.feed_forward(x), weights)


class Pooler(nn.Module):
    """tanh of a linear map of the first token."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, S, D) -> (B, D)."""
        return torch.tanh(self.linear(tokens[:, 0]))


class FusionOutput(NamedTuple):
    """Both streams after the last layer."""

    text: Tensor  # (B, T, D), or (B, 1, D) if only the pooled tokens were requested
    image: Tensor  # (B, N, D), or (B, 1, D)
    pooled: Tensor  # (B, 2D), the two pooled first tokens, text first
    text_to_image: list[Tensor] | None  # per layer (B, H, T, N), attention of text to image tokens, if requested


class CoAttentionFusion(nn.Module):
    """METER's co-attention encoder, initialized from scratch.

    Args:
        text_width: width of the incoming text tokens.
        vision_width: width of the incoming image tokens.
        image_has_cls: whether the first image token is a CLS token, which is pooled; otherwise the mean of all is.
        width: width D of both streams.
        num_layers: layers per stream.
        num_heads: attention heads H per layer.
        mlp_ratio: hidden width of the feed-forward part over ``width``.
        dropout: dropout of hidden states and attention weights.
    """

    def __init__(
        self,
        *,
        text_width: int,
        vision_width: int,
        image_has_cls: bool = True,
        width: int,
        num_layers: int,
        num_heads: int,
        mlp_ratio: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.width, self.image_has_cls = width, image_has_cls
        layer = partial(StreamLayer, width=width, num_heads=num_heads, hidden=int(width * mlp_ratio), dropout=dropout)
        self.text_transform = nn.Linear(text_width, width)
        self.image_transform = nn.Linear(vision_width, width)
        self.token_types = nn.Embedding(2, width)
        self.text_layers = nn.ModuleList(layer() for _ in range(num_layers))
        self.image_layers = nn.ModuleList(layer() for _ in range(num_layers))
        self.text_pooler = Pooler(width=width)
        self.image_pooler = Pooler(width=width)
        self.apply(partial(init_weights, width=width))

    @property
    def image_type(self) -> Tensor:
        """The token type of images, (D,)."""
        return self.token_types.weight[IMAGE]

    def forward(
        self,
        text: Tensor,
        is_token: Tensor,
        image: Tensor,
        pooled_only: bool = False,
        need_weights: bool = False,
        image_types: Tensor | None = None,
    ) -> FusionOutput:
        """Fuse text tokens (B, T, text width), real where ``is_token`` (B, T), and image tokens (B, N, vision width).

        Pooling reads the first token of each stream, or all image tokens. With ``pooled_only`` the last layer computes
        only these, and with ``need_weights`` also the other text tokens. ``image_types`` (B, D) are token types of the
        images where these are not all ``image_type``.
        """
        text, image = self._typed(text, image, image_types)
        weights = []
        for depth, (text_layer, image_layer) in enumerate(zip(self.text_layers, self.image_layers, strict=True), 1):
            first_only = pooled_only and depth == len(self.text_layers)
            # Both streams read the other's state from before the layer.
            read = text_layer(text, image, is_token, None, first_only and not need_weights, need_weights)
            text, image = (
                read.tokens,
                image_layer(image, text, None, is_token, first_only and self.image_has_cls).tokens,
            )
            weights.append(read.weights)
        whole_image = image if self.image_has_cls else image.mean(dim=1, keepdim=True)
        pooled = torch.cat([self.text_pooler(text), self.image_pooler(whole_image)], dim=-1)
        return FusionOutput(text, image, pooled, weights if need_weights else None)

    def text_tokens(self, text: Tensor, is_token: Tensor, image: Tensor) -> Tensor:
        """The text tokens of ``forward`` alone, (B, T, D): the images' last layer, which no text reads, is left out."""
        text, image = self._typed(text, image, None)
        *below, (last, _) = zip(self.text_layers, self.image_layers, strict=True)
        for text_layer, image_layer in below:
            text, image = (
                text_layer(text, image, is_token, None).tokens,
                image_layer(image, text, None, is_token).tokens,
            )
        return last(text, image, is_token, None).tokens

    def _typed(self, text: Tensor, image: Tensor, image_types: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both streams in the fusion's width, with their token types."""
        types = self.image_type if image_types is None else image_types.unsqueeze(1)  # (D,) or (B, 1, D)
        return self.text_transform(text) + self.token_types.weight[TEXT], self.image_transform(image) + types


def init_weights(module: nn.Module, width: int) -> None:
    """BERT's initialization, normal with standard deviation 0.02 at width 768, and zero biases.

    The deviation is proportional to 1 / sqrt(width), so that narrow models start with the base model's signal strength.
    """
    std = 0.02 * (768 / width) ** 0.5
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
