"""The whole model as its formulas stand, with nothing shared and nothing left out: what benchmarks compare with.

Every row is a pair of its own: its text is padded to a fixed length and encoded, its image is embedded for either look,
all tokens are modulated and fed back, the top-down input goes through a whole ``qkv`` of which the value third is used,
attention is spelled out, every fusion layer keeps all tokens, and the reconstruction loss is computed in evaluation as
well. Parameters and dropout are the model's own, read in place. Shapes: P pairs, T text tokens, N image tokens,
D width, L blocks.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.roberta.modeling_roberta import RobertaLayer

from vl_absvit.config import VisionConfig
from vl_absvit.models import VLAbSViT
from vl_absvit.models.fusion import Attention, CoAttentionFusion
from vl_absvit.models.heads import PretrainingHead
from vl_absvit.models.text_encoder import TextEncoder
from vl_absvit.models.top_down import FeedbackDecoder
from vl_absvit.models.trunks.vit import AbSViT

RETRIEVAL_TOKENS, VQA_TOKENS = 40, 50
"""Fixed lengths of captions and questions."""


class NaiveOutput(NamedTuple):
    """What one pass gives."""

    logits: Any  # the head's, of P pairs: a tensor, or ``MatchScores``
    first: Tensor  # (P, N, D), tokens of the first look
    prior: Any  # a tensor (P, D); None for a plain ViT, and so is the next
    reconstruction: Any  # (), the reconstruction loss


def naive_scores(model: VLAbSViT, images: Tensor, token_ids: Tensor, is_token: Tensor) -> Tensor:
    """Ranking scores (P,) of a retrieval model in evaluation mode; arguments as ``naive_forward``."""
    return naive_forward(model, images, *pad(model, token_ids, is_token, RETRIEVAL_TOKENS)).logits.rank


def pad(model: VLAbSViT, token_ids: Tensor, is_token: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Texts (P, T) and their masks, padded to (P, length)."""
    missing = length - token_ids.shape[1]
    if missing < 0:
        raise ValueError(f"expected texts of at most {length} tokens, got {token_ids.shape[1]}")
    return F.pad(token_ids, (0, missing), value=model.text.roberta.config.pad_token_id), F.pad(is_token, (0, missing))


def naive_words(model: VLAbSViT, images: Tensor, token_ids: Tensor, is_token: Tensor) -> NaiveOutput:
    """As ``naive_forward`` of a model in pretraining; its logits are of all words at every token, (P, T, V)."""
    return naive_forward(model, images, token_ids, is_token, guess_words=True)


def naive_forward(
    model: VLAbSViT, images: Tensor, token_ids: Tensor, is_token: Tensor, guess_words: bool = False
) -> NaiveOutput:
    """Read every text about its image.

    Args:
        images: of every pair, (P, 3, height, width).
        token_ids: text ids, (P, T).
        is_token: True at real tokens, (P, T).
    """
    config = VisionConfig(**model.architecture["vision"])
    if config.top_down not in ("absvit", "none"):
        raise ValueError(f"expected an AbSViT or a plain ViT, got {config.top_down}")
    vision, text = cast(AbSViT, model.vision), roberta(model.text, token_ids, is_token)
    if config.top_down == "none":
        only = look(vision, embed(vision, images), None)
        return NaiveOutput(model.head(fuse(model.fusion, text, is_token, only.tokens)[1]), only.tokens, None, None)
    assert model.prior is not None, "AbSViT has a prior"
    prior = model.prior(text, is_token)
    first, second = look_twice(vision, images, prior, config.modulation, config.gain)
    reconstruction = reconstruction_error(vision, second.states)
    words, pooled = fuse(model.fusion, text, is_token, second.tokens)
    logits = cast(PretrainingHead, model.head).mlm(words) if guess_words else model.head(pooled)
    return NaiveOutput(logits, first.tokens, prior, reconstruction)


def attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, dropout: nn.Dropout, is_token: Tensor | None = None
) -> Tensor:
    """softmax(q k^T / sqrt(d)) v per head: (P, S, D), twice (P, C, D) -> (P, S, D), real where ``is_token`` (P, C)."""
    q, k, v = (t.reshape(*t.shape[:2], heads, -1).permute(0, 2, 1, 3) for t in (q, k, v))  # (P, H, tokens, D/H)
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if is_token is not None:
        scores = scores.masked_fill(~is_token[:, None, None, :], float("-inf"))
    return (dropout(scores.softmax(dim=-1)) @ v).transpose(1, 2).reshape(q.shape[0], q.shape[2], -1)


def roberta(text: TextEncoder, token_ids: Tensor, is_token: Tensor) -> Tensor:
    """Text tokens (P, T, text width); positions count from the padding id + 1."""
    embeddings, pad_id = text.roberta.embeddings, text.roberta.config.pad_token_id
    is_word = token_ids != pad_id
    positions = is_word.cumsum(dim=1) * is_word + pad_id
    x = embeddings.word_embeddings(token_ids) + embeddings.position_embeddings(positions)
    x = embeddings.dropout(embeddings.LayerNorm(x + embeddings.token_type_embeddings.weight[0]))
    for layer in text.roberta.encoder.layer:
        x = roberta_layer(layer, x, is_token, text.roberta.config.num_attention_heads)
    return x


def roberta_layer(layer: RobertaLayer, x: Tensor, is_token: Tensor, heads: int) -> Tensor:
    """Self-attention and feed-forward, each with residual and post-norm."""
    project, after, last = layer.attention.self, layer.attention.output, layer.output
    mixed = attention(project.query(x), project.key(x), project.value(x), heads, project.dropout, is_token)
    x = after.LayerNorm(x + after.dropout(after.dense(mixed)))
    return last.LayerNorm(x + last.dropout(last.dense(F.gelu(layer.intermediate.dense(x)))))


class Look(NamedTuple):
    """One pass through the trunk."""

    tokens: Tensor  # (P, N, D), after the final norm
    states: list[Tensor]  # (L + 1) x (P, N, D)


class TwoLooks(NamedTuple):
    """Both passes."""

    first: Look
    second: Look


def look_twice(vision: AbSViT, images: Tensor, prior: Tensor, modulation: str, gain: float) -> TwoLooks:
    """Two whole passes over images (P, 3, height, width), given xi of each, (P, D)."""
    first = look(vision, embed(vision, images), None)
    signals = feed_back(vision.feedback_decoders, modulate(first.tokens, prior, modulation, gain))
    below = [None] * vision.looks_again_from
    return TwoLooks(first, look(vision, embed(vision, images), [*below, *signals]))


def embed(vision: AbSViT, images: Tensor) -> Tensor:
    """Patches, CLS token and positions: (P, N, D)."""
    assert vision.cls_token is not None and vision.pos_embed is not None, "the paper's ViTs have both"
    patches = vision.patch_embed.proj(images).flatten(2).transpose(1, 2)
    return torch.cat([vision.cls_token.expand(len(images), -1, -1), patches], dim=1) + vision.pos_embed


def look(vision: AbSViT, tokens: Tensor, signals: Sequence[Tensor | None] | None) -> Look:
    """All blocks, each with its top-down input (P, N, D) if given."""
    states = [tokens]
    for depth, block in enumerate(vision.blocks):
        states.append(run_block(block, states[-1], None if signals is None else signals[depth]))
    return Look(vision.norm(states[-1]), states)


def run_block(block: Any, x: Tensor, top_down: Tensor | None) -> Tensor:
    """A block of timm: attention with V = W_v x + b_v + (W_v td + b_v), then the MLP."""
    qkv = block.attn.qkv
    q, k, v = qkv(block.norm1(x)).chunk(3, dim=-1)
    if top_down is not None:
        v = v + qkv(top_down).chunk(3, dim=-1)[2]
    x = x + block.attn.proj(attention(q, k, v, block.attn.num_heads, block.attn.attn_drop))
    return x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))


def modulate(tokens: Tensor, prior: Tensor, modulation: str, gain: float) -> Tensor:
    """alpha clamp(cos(xi, z)) z, and with ``reweight_project`` xi xi^T times it: (P, N, D), given xi (P, D)."""
    cosine = (F.normalize(tokens, dim=-1) @ F.normalize(prior, dim=-1).unsqueeze(-1)).clamp(0, 1)  # (P, N, 1)
    kept = cosine * tokens
    if modulation == "reweight_project":
        kept = kept @ (prior.unsqueeze(2) * prior.unsqueeze(1))  # xi xi^T, (P, D, D)
    return gain * kept


def feed_back(decoders: Sequence[FeedbackDecoder], tokens: Tensor) -> list[Tensor]:
    """Top-down inputs of the blocks that have decoders, the first of them first: (P, N, D) each."""
    signals: list[Tensor] = []
    for decoder in reversed(decoders):
        tokens = decoder.reconstruct(tokens)
        signals.insert(0, decoder.transform(tokens))
    return signals


def reconstruction_error(vision: AbSViT, states: list[Tensor]) -> Tensor:
    """Every block's input from its output, the mean squared error summed over blocks that have decoders."""
    errors = [
        ((decoder.reconstruct(states[depth + 1].detach()) - states[depth].detach()) ** 2).mean()
        for depth, decoder in enumerate(vision.feedback_decoders, start=vision.looks_again_from)
    ]
    return torch.stack(errors).sum()


def fuse(fusion: CoAttentionFusion, text: Tensor, is_token: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Both streams through all layers: the text tokens, and the pooled first tokens, (P, 2 x fusion width)."""
    text = fusion.text_transform(text) + fusion.token_types.weight[0]
    image = fusion.image_transform(image) + fusion.token_types.weight[1]
    for text_layer, image_layer in zip(fusion.text_layers, fusion.image_layers, strict=True):
        text, image = (
            stream_layer(text_layer, text, image, is_token, None),
            stream_layer(image_layer, image, text, None, is_token),
        )
    poolers = ((fusion.text_pooler, text), (fusion.image_pooler, image))
    return text, torch.cat([torch.tanh(pooler.linear(tokens[:, 0])) for pooler, tokens in poolers], dim=-1)


def stream_layer(
    layer: Any, x: Tensor, other: Tensor, is_token: Tensor | None, other_is_token: Tensor | None
) -> Tensor:
    """A ``StreamLayer``: self-attention, cross-attention, feed-forward, each with residual and post-norm."""
    x = attended(layer.self_attention, x, x, is_token)
    x = attended(layer.cross_attention, x, other, other_is_token)
    forward = layer.feed_forward
    return forward.norm(x + forward.dropout(forward.contract(F.gelu(forward.expand(x)))))


def attended(part: Attention, x: Tensor, context: Tensor, is_token: Tensor | None) -> Tensor:
    """Attention from ``x`` to ``context``."""
    mixed = attention(part.query(x), part.key(context), part.value(context), part.num_heads, part.dropout, is_token)
    return part.norm(x + part.dropout(part.out(mixed)))
