"""Task heads. Shapes: B texts, D fusion width, A answers, I images."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vl_absvit.errors import InputError
from vl_absvit.models.fusion import init_weights
from vl_absvit.models.looks import VisionModel, VisualEncoder
from vl_absvit.precision import always_fp32


def score(features: Tensor, layer: nn.Linear) -> Tensor:
    """A head's last layer, in fp32: its outputs are compared."""
    return _linear(features, layer.weight, layer.bias)


_linear = always_fp32(F.linear)


def _as_linear(layer: object) -> nn.Linear:
    assert isinstance(layer, nn.Linear), f"a head ends in a linear layer, got {type(layer).__name__}"
    return layer


class LabelHead(nn.Sequential):
    """Logits over labels, with one hidden layer, as METER's.

    Args:
        inputs: width of the features.
        hidden: width of the hidden layer.
        labels: A.
        width: D, on which the initialisation depends.
    """

    def __init__(self, *, inputs: int, hidden: int, labels: int, width: int) -> None:
        super().__init__(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, labels))
        self.apply(partial(init_weights, width=width))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, inputs) -> (B, A), in fp32."""
        *hidden, last = self
        for layer in hidden:
            features = layer(features)
        return score(features, _as_linear(last))


class VQAHead(LabelHead):
    """Logits over the answer vocabulary, (B, 2D) -> (B, A)."""

    def __init__(self, *, width: int, num_answers: int) -> None:
        super().__init__(inputs=2 * width, hidden=2 * width, labels=num_answers, width=width)


class MatchScores(NamedTuple):
    """How well each text and image belong together."""

    rank: Tensor  # (B,), comparable between texts and images
    itm: Tensor  # (B, 2) logits of "does not match" and "matches"


class MatchingHead(nn.Module):
    """Ranking score and image-text matching logits, (B, 2D) -> (B,) and (B, 2), as METER's.

    The ranking score starts as the logit of "matches".

    Args:
        width: D.
        ranks_by: its own score, or the difference of the matching logits, "matches" minus "does not match", for
            weights in which no ranking score was trained.
    """

    def __init__(self, *, width: int, ranks_by: Literal["rank", "itm"] = "rank") -> None:
        super().__init__()
        if ranks_by not in ("rank", "itm"):
            raise InputError(f"expected a head that ranks by rank or itm, got {ranks_by!r:.60}")
        self.ranks_by = ranks_by
        self.itm = nn.Linear(2 * width, 2)
        self.rank = nn.Linear(2 * width, 1)
        self.apply(partial(init_weights, width=width))
        with torch.no_grad():
            self.rank.weight.copy_(self.itm.weight[1:])
            self.rank.bias.copy_(self.itm.bias[1:])

    def forward(self, pooled: Tensor) -> MatchScores:
        """Pooled fusion features (B, 2D) to both."""
        itm = score(pooled, self.itm)
        rank = score(pooled, self.rank).squeeze(-1) if self.ranks_by == "rank" else itm[:, 1] - itm[:, 0]
        return MatchScores(rank, itm)


class ClassifierOutput(NamedTuple):
    """Class logits of both looks, (I, classes), or of every cell of a mosaic, (I, cells, classes)."""

    first_logits: Tensor
    second_logits: Tensor | None  # None for a plain ViT
    reconstruction: Tensor | None  # (), the reconstruction loss if requested
    transform: Tensor | None = None  # (), the transform loss if requested

    @property
    def last_logits(self) -> Tensor:
        """Of the last look, by which a classifier answers."""
        return self.first_logits if self.second_logits is None else self.second_logits


class Classifier(VisionModel):
    """A visual encoder with its own head, steered by its trainable query.

    Args:
        vision: the encoder, with ``num_classes`` above 0.
    """

    def __init__(self, vision: VisualEncoder) -> None:
        super().__init__()
        self.vision = vision

    def forward(
        self,
        images: Tensor,
        mosaic: int = 1,
        need_reconstruction: bool = False,
        need_transform: bool = False,
    ) -> ClassifierOutput:
        """Images (I, 3, height, width) -> logits of both looks.

        Args:
            mosaic: cells per side; above 1, every cell is classified by its own patches.
        """
        looks = self.vision.look_twice(images)
        first = self.classify(looks.first.tokens, mosaic)
        if looks.second is None:
            return ClassifierOutput(first, None, None)
        losses = self.vision.decoder_losses(looks.second.states, need_reconstruction, need_transform)
        return ClassifierOutput(first, self.classify(looks.second.tokens, mosaic), **losses._asdict())

    def classify(self, tokens: Tensor, mosaic: int = 1) -> Tensor:
        """Class logits of a look's tokens, (I, N, D) -> (I, classes), or (I, cells, classes) of a mosaic's cells."""
        head = _as_linear(self.vision.head)
        if mosaic == 1:
            return score(self.vision.forward_head(tokens, pre_logits=True), head)
        patches = self.vision.token_grid().on_grid(tokens)  # (I, rows, columns, D)
        pooled = F.adaptive_avg_pool2d(patches.permute(0, 3, 1, 2), mosaic)  # (I, D, mosaic, mosaic)
        return score(pooled.flatten(2).transpose(1, 2), head)


class MLMHead(nn.Module):
    """Logits over the text vocabulary of every text token, (B, T, D) -> (B, T, V), as METER's.

    The decoder shares no weights with the word embeddings, whose width is the text encoder's.
    """

    def __init__(self, *, width: int, vocab_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.decoder = nn.Linear(width, vocab_size)
        self.apply(partial(init_weights, width=width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Text tokens of the fusion (..., D) -> (..., V), in fp32."""
        return score(self.norm(F.gelu(self.dense(tokens))), self.decoder)


class PretrainingHead(nn.Module):
    """Both heads of METER's pretraining: image-text matching on the pooled features, ``mlm`` on the text tokens."""

    def __init__(self, *, width: int, vocab_size: int) -> None:
        super().__init__()
        self.itm = nn.Linear(2 * width, 2)
        self.mlm = MLMHead(width=width, vocab_size=vocab_size)
        self.itm.apply(partial(init_weights, width=width))

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits of "does not match" and "matches", (B, 2D) -> (B, 2), in fp32."""
        return score(pooled, self.itm)


def _check_labels(found: Sequence[str], known: Sequence[str]) -> None:
    if list(found) != list(known):
        raise InputError(f"expected a head for the labels {', '.join(known)}, in this order, got {found!r:.80}")


class SNLIHead(LabelHead):
    """Logits of the three ways a text can relate to an image (SNLI-VE), (B, 2D) -> (B, 3).

    Args:
        width: D.
        labels: their words in the order of the logits, which other programs number otherwise; METER's order alone.
    """

    LABELS = ("contradiction", "neutral", "entailment")

    def __init__(self, *, width: int, labels: Sequence[str] = LABELS) -> None:
        _check_labels(labels, self.LABELS)
        super().__init__(inputs=2 * width, hidden=2 * width, labels=len(labels), width=width)


class NLVR2Head(nn.Module):
    """Whether a sentence is true of two images, as METER's.

    Each image is fused with the sentence on its own; the second one carries ``second_image_type`` in place of the
    fusion's token type of images, of which it starts as a copy.

    Args:
        width: D.
        labels: their words in the order of the logits.
    """

    LABELS = ("False", "True")

    def __init__(self, *, width: int, labels: Sequence[str] = LABELS) -> None:
        _check_labels(labels, self.LABELS)
        super().__init__()
        self.second_image_type = nn.Parameter(torch.zeros(width))
        self.classifier = LabelHead(inputs=4 * width, hidden=2 * width, labels=2, width=width)

    def image_types(self, usual: Tensor, pairs: int) -> Tensor:
        """Token types of the images of B pairs, which are the first images and then the second ones, (B, D).

        Args:
            usual: the fusion's token type of images, (D,).
        """
        return torch.stack([usual, self.second_image_type]).repeat_interleave(pairs // 2, dim=0)

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled features of sentences with their first images and then with their second ones, (2B, 2D) -> (B, 2)."""
        return self.classifier(torch.cat(pooled.chunk(2), dim=-1))


class HeadKind(NamedTuple):
    """What ``config.json`` calls a head's kind."""

    title: str  # of a model that has such a head, in words
    build: Callable[..., nn.Module]
    """Takes the fusion's ``width`` and whatever ``config.json`` says of the head beside its kind."""


HEADS: dict[str, HeadKind] = {
    "vqa": HeadKind("a VQA model", VQAHead),
    "matching": HeadKind("a retrieval model", MatchingHead),
    "nlvr2": HeadKind("an NLVR2 model", NLVR2Head),
    "snli": HeadKind("an SNLI-VE model", SNLIHead),
    "pretraining": HeadKind("a pretrained model with heads for masked words and matching", PretrainingHead),
}
"""By kind: a new head stands above, and here."""
