"""The prior loss over the batches of all ranks and forward passes.

Shapes: B texts and I distinct images on this rank, N tokens, D vision width.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vl_absvit.config import PriorConfig
from vl_absvit.distributed import gather_objects, gather_with_grad, rank
from vl_absvit.losses import calibration_loss, prior_loss
from vl_absvit.models.looks import TwoLooks, VisualEncoder
from vl_absvit.models.prior import PATCH_POOLS, prior_similarity
from vl_absvit.models.top_down import MASK_TEMPERATURE
from vl_absvit.precision import always_fp32, arithmetic, at_least_fp32


def looks_up_to(
    look: Literal["first", "second"], vision: VisualEncoder, images: Tensor, prior: Tensor, image_index: Tensor
) -> TwoLooks:
    """The looks up to the one that is compared; arguments as ``VisualEncoder.look_twice``."""
    first = vision.look_once(images)
    if look == "first":
        return TwoLooks(first, None, None, threshold=vision.threshold)
    return vision.look_again(first, prior, image_index)


class Wordings(NamedTuple):
    """Which of B texts say the same, and which of them are true of their images."""

    numbers: Tensor  # (B,) equal for equal texts, of which one is true of whatever another one is about
    are_true: Tensor  # (B,) bool; the others are no positives


class Compared(NamedTuple):
    """The inputs of the prior loss: the priors of B texts and the tokens of I images."""

    prior: Tensor  # (B, D)
    tokens: Tensor  # (I, N, D)
    own_row: Tensor  # (B,) row of ``tokens`` each text is about
    image_ids: Tensor  # (I,)
    prefix_tokens: int  # of N, those that are no patches
    threshold: Tensor | None = None  # (1,), of a calibrated mask
    wordings: Wordings | None = None  # None where all texts are true, and equal ones are about the same image


def compared(
    vision: VisualEncoder,
    prior: Tensor,
    looks: TwoLooks,
    image_index: Tensor,
    image_ids: Tensor,
    look: Literal["first", "second"],
) -> Compared:
    """The inputs of the prior loss in one forward pass.

    Args:
        vision: the encoder that looked.
        prior: of texts that are about images of the pass, (B, D).
        looks: at these images; the second look is needed, one row per text, where it is compared.
        image_index: row of ``image_ids`` each text is about, (B,).
        image_ids: ids of the images, (I,).
        look: which of the looks.
    """
    prefix_tokens, threshold = looks.first.prefix_tokens, looks.threshold
    if look == "first":
        tokens = vision.less_mean(looks.first.tokens)
        return Compared(prior, tokens, image_index, image_ids, prefix_tokens, threshold)
    assert looks.second is not None, "the second look is compared"
    # Every text has an image of its own, looked at through that text.
    own = torch.arange(len(prior), device=prior.device)
    tokens = vision.less_mean(looks.second.tokens)
    return Compared(prior, tokens, own, image_ids[image_index], prefix_tokens, threshold)


def global_prior_loss(own: Compared, config: PriorConfig) -> Tensor:
    """The prior loss of the global batch, the same on every rank; with the calibration of a mask that has a threshold.

    A mask is of patches, so that what calibrates it is their smooth maximum where ``config.pool`` does not tell one
    patch from another.

    Args:
        own: what is compared on this rank.
        config: which look and pooling, and the temperature.
    """
    pools = [config.pool]
    if own.threshold is not None and config.pool not in PATCH_POOLS:
        pools.append("lse")
    scores = global_similarity(*own[:5], pools, own.wordings)
    is_repeat, own_column = torch.zeros_like(scores.column_ids, dtype=torch.bool), scores.own_column
    if config.look == "first":
        # An image that is there several times is one image: its first column stands for it.
        first_column = (scores.column_ids.unsqueeze(1) == scores.column_ids).int().argmax(dim=1)
        is_repeat = first_column != torch.arange(len(first_column), device=first_column.device)
        own_column = first_column[own_column]
    text_ids = scores.column_ids[scores.own_column]
    pairs = text_ids, scores.column_ids, own_column
    true: dict[str, Tensor] = {}
    if scores.wordings is not None:
        also_true = images_of_equal_texts(scores.wordings, text_ids, scores.column_ids)
        true = {"also_true": also_true, "is_counted": scores.wordings.are_true}
    similarity = scores.similarity.masked_fill(is_repeat, -torch.inf)
    loss = prior_loss(similarity[0], *pairs, config.temperature, config.blank_negatives, **true)
    if own.threshold is None:
        return loss
    return loss + calibration_loss(similarity[-1], *pairs, own.threshold, MASK_TEMPERATURE, **true)


def images_of_equal_texts(wordings: Wordings, text_image_ids: Tensor, image_ids: Tensor) -> Tensor:
    """Whether a text of the same words is true of an image, (A, C) bool.

    Args:
        text_image_ids: image of each text, (A,).
        image_ids: of each column, (C,).
    """
    alike = wordings.numbers.unsqueeze(1) == wordings.numbers  # (A, A)
    about = (text_image_ids.unsqueeze(1) == image_ids) & wordings.are_true.unsqueeze(1)  # (A, C)
    return alike.float() @ about.float() > 0


def joined(passes: Sequence[Compared]) -> Compared:
    """The inputs of several forward passes, one below the other."""
    rows = [len(one.tokens) for one in passes]
    own_row = torch.cat([one.own_row + sum(rows[:number]) for number, one in enumerate(passes)])
    prior, tokens, image_ids = (
        torch.cat([getattr(one, name) for one in passes]) for name in ("prior", "tokens", "image_ids")
    )
    wordings = [one.wordings for one in passes if one.wordings is not None]
    return passes[0]._replace(
        prior=prior, tokens=tokens, own_row=own_row, image_ids=image_ids,
        wordings=Wordings(*map(torch.cat, zip(*wordings, strict=True))) if wordings else None,
    )  # fmt: skip


class StepPriorLoss(NamedTuple):
    """The prior loss of a whole optimizer step as one of its forward passes sees it."""

    value: Tensor
    of_prior: Tensor  # (B, D), its gradient with respect to the pass's priors
    of_tokens: Tensor  # (I, N, D), and tokens
    of_threshold: Tensor | None  # (1,), and the mask's threshold, which all passes share

    def at(self, own: Compared) -> Tensor:
        """The loss; its gradient is the whole step's, of which the mean over passes is taken."""
        tangent = (own.prior * self.of_prior).sum() + (own.tokens * self.of_tokens).sum()
        if self.of_threshold is not None:
            assert own.threshold is not None, "all passes share the mask"
            tangent = tangent + (own.threshold * self.of_threshold).sum()
        return self.value + tangent - tangent.detach()


def step_prior_losses(passes: Sequence[Compared], config: PriorConfig) -> list[StepPriorLoss]:
    """The prior loss over all forward passes of an optimizer step, on all ranks, for each pass of this rank.

    So that negatives do not depend on how a batch is divided, the loss is taken of what all passes compare, and its
    gradient there handed back to each (Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited
    Setup", RepL4NLP 2021, section 3.2).

    Args:
        passes: what each forward pass compares, without gradient.
    """
    # A backward pass under autocast would take the products of an fp32 forward pass in bf16.
    with torch.enable_grad(), arithmetic("fp32", passes[0].prior.device):
        all_passes = joined(passes)
        learned = [
            at_least_fp32(tensor).detach().requires_grad_()
            for tensor in (all_passes.prior, all_passes.tokens, all_passes.threshold)
            if tensor is not None
        ]
        prior, tokens, *threshold = learned
        loss = global_prior_loss(
            all_passes._replace(prior=prior, tokens=tokens, threshold=threshold[0] if threshold else None), config
        )
        of_prior, of_tokens, *of_threshold = torch.autograd.grad(loss, learned)
        of_prior, of_tokens = len(passes) * of_prior, len(passes) * of_tokens
    texts, images = [len(one.prior) for one in passes], [len(one.tokens) for one in passes]
    parts = zip(of_prior.split(texts), of_tokens.split(images), strict=True)
    return [StepPriorLoss(loss.detach(), *part, of_threshold[0] if of_threshold else None) for part in parts]


class GlobalSimilarity(NamedTuple):
    """The dual encoder's scores over all ranks, with gradient; A texts and C image columns in all."""

    similarity: Tensor  # (P, A, C), by each of P poolings
    column_ids: Tensor  # (C,) image id of every column
    own_column: Tensor  # (A,) the column each text is about
    wordings: Wordings | None  # of A texts


@always_fp32
def global_similarity(
    prior: Tensor,
    tokens: Tensor,
    own_column: Tensor,
    column_ids: Tensor,
    prefix_tokens: int,
    pools: Sequence[Literal["lse", "max", "mean", "cls"]],
    wordings: Wordings | None = None,
) -> GlobalSimilarity:
    """Similarity of every rank's priors to every rank's images.

    Priors travel, tokens stay: every rank compares all priors with its own images, and the small score columns are
    gathered.

    Args:
        prior: of this rank's texts, (B, D).
        tokens: of this rank's images, (I, N, D).
        own_column: row of ``tokens`` each text is about, (B,).
        column_ids: image ids of the rows of ``tokens``, (I,).
        prefix_tokens: how many of the tokens are no patches.
        pools: what stands for an image, each in turn.
        wordings: of this rank's texts, if they are needed.
    """
    ranks = gather_objects([(len(prior), len(tokens))])
    texts, images = [own for own, _ in ranks], [own for _, own in ranks]
    priors = gather_with_grad(prior, texts)
    similarity = torch.stack(
        [prior_similarity(priors, tokens, pool, prefix_tokens).T for pool in pools], dim=1
    )  # (I, P, A)
    return GlobalSimilarity(
        gather_with_grad(similarity, images).permute(1, 2, 0),
        gather_with_grad(column_ids, images),
        gather_with_grad(own_column + sum(images[: rank()]), texts),
        None if wordings is None else Wordings(*(gather_with_grad(each, texts) for each in wordings)),
    )
