"""The top-down half of AbSViT: what the prior selects, and how it travels back to every block.

Shi, Darrell, Wang, "Top-Down Visual Attention from Analysis by Synthesis", CVPR 2023, arXiv:2303.13043, section 2.5.
Shapes: I images, B texts (one prior each; several texts may share an image), N tokens, D width, L blocks; a stage of
blocks has a width and a number of tokens of its own.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vl_absvit.precision import always_fp32, without_autocast

MASK_TEMPERATURE = 0.07
"""Divides how far a cosine is from the threshold, in a calibrated mask and in the loss that calibrates it."""


def per_text(rows: Tensor, image_index: Tensor | None) -> Tensor:
    """Repeat the rows of I images for the B texts about them. Without an index, rows are texts already."""
    if image_index is None:
        return rows
    if len(rows) == 1:  # all texts are about one image, as in the evaluation of retrieval: a view is enough
        return rows.expand(len(image_index), *rows.shape[1:])
    return rows[image_index]


class Steered(NamedTuple):
    """Tokens kept as a product, ``scale_i * direction_i``. The feedback is linear in ``direction``.

    The direction is one set per image, whatever the text (``reweight``), or one vector per text
    (``reweight_project``). The feedback runs on it alone, instead of on all tokens of all texts.
    """

    mask: Tensor | None  # (B, N), the prior mask in [0, 1], at least fp32; None in variants without a prior
    scale: Tensor  # (B, N, 1), or (1, 1, 1) for all
    direction: Tensor  # (I, N, D) per image and token, or (B, 1, D) shared by all tokens
    image_index: Tensor | None = None  # (B,), row of ``direction`` for each text; None if rows are texts already

    @property
    def tokens(self) -> Tensor:
        """The product, (B, N, D)."""
        return self.scale * per_text(self.direction, self.image_index)

    @property
    def shares_direction(self) -> bool:
        """Whether all tokens of a text share one direction (rank one)."""
        return self.direction.shape[1] == 1


@always_fp32
def relevance(tokens: Tensor, prior: Tensor) -> Tensor:
    """The prior mask clamp(cos(xi, z_i), 0, 1) [AbS 2.5].

    Args:
        tokens: output tokens z of the first look, (B, N, D).
        prior: prior vector xi of every text, (B, D).

    Returns:
        How well each token agrees with the prior, (B, N), in [0, 1].
    """
    return F.cosine_similarity(tokens, prior.unsqueeze(1), dim=-1).clamp(0, 1)


@always_fp32
def calibrated_relevance(tokens: Tensor, prior: Tensor, threshold: Tensor) -> Tensor:
    """The prior mask clamp(2 p_i - 1, 0, 1), p_i = sigmoid((cos(xi, z_i) - beta) / 0.07) that token i is asked for.

    A contrastive loss orders cosines but does not say below which one a token is not meant. Here that is the threshold
    beta, which ``losses.calibration_loss`` trains. A token gets 0 if p_i is one half or less, and 1 if p_i is 1.

    Args:
        tokens, prior: as ``relevance``.
        threshold: beta, (1,).

    Returns:
        (B, N), in [0, 1].
    """
    cosine = F.cosine_similarity(tokens, prior.unsqueeze(1), dim=-1)
    return torch.tanh((cosine - threshold) / (2 * MASK_TEMPERATURE)).clamp(min=0)  # 2 sigmoid(x) - 1 = tanh(x / 2)


class CalibratedMask(nn.Module):
    """``calibrated_relevance`` with its threshold, which starts where the paper's mask ends."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(1))

    def forward(self, tokens: Tensor, prior: Tensor) -> Tensor:
        """The mask (B, N) of tokens (B, N, D) for priors (B, D)."""
        return calibrated_relevance(tokens, prior, self.threshold)


Relevance = Callable[[Tensor, Tensor], Tensor]
"""From tokens (B, N, D) and priors (B, D) to a prior mask (B, N)."""


def reweight(
    tokens: Tensor, prior: Tensor, gain: float, image_index: Tensor | None = None, mask_of: Relevance = relevance
) -> Steered:
    """Keep what the prior asks for: z_i -> alpha * m_i * z_i, the mask m_i = clamp(cos(xi, z_i), 0, 1) in [AbS 2.5].

    Args:
        tokens: output tokens z of the first look, (I, N, D).
        prior: prior vector xi, (B, D).
        gain: strength alpha of the top-down signal; at 0 every block receives a zero signal.
        image_index: row of ``tokens`` each prior is about, (B,); None means B = I in the same order.
        mask_of: the mask m of tokens and priors.
    """
    mask = mask_of(per_text(tokens, image_index), prior)
    return Steered(mask, (gain * mask.unsqueeze(-1)).to(tokens.dtype), tokens, image_index)


def reweight_project(
    tokens: Tensor, prior: Tensor, gain: float, image_index: Tensor | None = None, mask_of: Relevance = relevance
) -> Steered:
    """The released vision-language form: reweighted tokens, projected on the prior.

    Token i becomes gain * xi (xi . m_i z_i).

    Args: as ``reweight``; the released gain is 5. The result has rank one, a scalar per token times the prior.
    """
    tokens = per_text(tokens, image_index)
    mask = mask_of(tokens, prior)
    along_prior = tokens @ prior.unsqueeze(-1)  # (B, N, 1)
    return Steered(mask, (gain * mask.unsqueeze(-1) * along_prior).to(tokens.dtype), prior.unsqueeze(1))


def keep_all(tokens: Tensor, prior: Tensor | None, gain: float, image_index: Tensor | None = None) -> Steered:
    """The Feedback baseline [AbS 2.6]: z_i -> alpha * z_i for all tokens. Rows stay images.

    Args: as ``reweight``. Prior and image index are not used.
    """
    return Steered(None, tokens.new_full((1, 1, 1), gain), tokens)


MODULATIONS = {"reweight": reweight, "reweight_project": reweight_project}


class StageDecoder(nn.ConvTranspose2d):
    """Leads from the start of a stage of blocks back to the end of the stage before it.

    It is a transposed convolution without bias and inverts the shapes of a pooling with kernel 3, stride 2 and
    padding 1. All tokens of a trunk with several stages are patches.

    Args:
        width: width of the stage's tokens.
        grid: rows and columns of the stage's tokens.
        width_before: width of the tokens of the stage before.
        grid_before: rows and columns of the tokens of the stage before.
    """

    def __init__(self, *, width: int, grid: tuple[int, int], width_before: int, grid_before: tuple[int, int]) -> None:
        super().__init__(width, width_before, kernel_size=3, stride=2, padding=1, bias=False)
        self.grid, self.grid_before = grid, grid_before

    def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]  # tokens in place of maps and their size
        """Tokens (B, N, D) -> tokens of the stage before, (B, N', D')."""
        return super().forward(tokens.mT.unflatten(-1, self.grid), output_size=list(self.grid_before)).flatten(2).mT

    def receptive_fields(self, tokens: Tensor) -> Tensor:
        """The inputs of each token of the stage before, (B, N', 9 D), out of tokens (B, N, D)."""
        (rows, columns), maps = self.grid_before, tokens.mT.unflatten(-1, self.grid)
        dilated = maps.new_zeros(*maps.shape[:2], rows + 2, columns + 2)
        dilated[:, :, 1 : 2 * self.grid[0] : 2, 1 : 2 * self.grid[1] : 2] = maps
        return F.unfold(dilated, kernel_size=3).mT

    def as_kernel(self, matrix: Tensor) -> Tensor:
        """A linear map of ``receptive_fields``, (9 D, D'), as the convolution's weight, (D, D', 3, 3)."""
        return matrix.unflatten(0, (-1, 3, 3)).flip(1, 2).permute(0, 3, 1, 2)


class FeedbackDecoder(nn.Module):
    """The feedback decoder of one block: R_l reconstructs the block's input, T_l makes the top-down input of it.

    Args:
        width: D.
        cross: takes the reconstruction to the end of the stage before; only the first block of a later stage has it.
    """

    def __init__(self, *, width: int, cross: StageDecoder | None = None) -> None:
        super().__init__()
        self.reconstruct = nn.Linear(width, width, bias=False)  # R_l
        self.transform = nn.Linear(width, width, bias=False)  # T_l
        self.cross = cross

    def cross_over(self, reconstruction: Steered) -> Steered:
        """The tokens for the end of the stage before. The convolution mixes them, so the product is multiplied out."""
        assert self.cross is not None, "only the first block of a later stage leads to another stage"
        tokens = self.cross(reconstruction.tokens)
        return Steered(reconstruction.mask, tokens.new_ones(1, 1, 1), tokens)


def feed_back(decoders: Sequence[FeedbackDecoder], steered: Steered) -> list[Steered]:
    """Top-down inputs td_l = T_l r_l with r_l = R_l r_{l+1} [AbS 2.5].

    The deepest block comes first and starts from the modulated tokens.

    Args:
        decoders: one per block, first block first.
        steered: the modulated tokens.

    Returns:
        One signal per block, first block first.
    """
    pairs = zip(reversed(decoders), reconstructions(decoders, steered), strict=True)
    return [found._replace(direction=decoder.transform(found.direction)) for decoder, found in pairs][::-1]


def reconstructions(decoders: Sequence[FeedbackDecoder], steered: Steered) -> Iterator[Steered]:
    """r_l = R_l r_{l+1} of every block, last block first. Arguments are those of ``feed_back``."""
    above: FeedbackDecoder | None = None
    for decoder in reversed(decoders):
        if above is not None and above.cross is not None:
            steered = above.cross_over(steered)
        steered = steered._replace(direction=decoder.reconstruct(steered.direction))
        yield steered
        above = decoder


class FoldedStage(NamedTuple):
    """The decoders of a stage of blocks, as products."""

    matrices: Tensor  # see ``fold``
    first: FeedbackDecoder  # the decoder of the stage's first block, which may lead to another stage


def fold_stages(decoders: Sequence[FeedbackDecoder]) -> list[FoldedStage]:
    """All decoders, folded stage by stage, first stage first."""
    starts = [0, *(number for number, decoder in enumerate(decoders) if decoder.cross is not None)]
    ends = [*starts[1:], len(decoders)]
    return [FoldedStage(fold(decoders[start:end]), decoders[start]) for start, end in zip(starts, ends, strict=True)]


def feed_back_stages(stages: Sequence[FoldedStage], steered: Steered) -> list[Steered]:
    """The signals of ``feed_back``, through folded decoders."""
    signals: list[Steered] = []
    for stage in reversed(stages):
        found = feed_back_folded(stage.matrices, steered)
        if stage.first.cross is not None:
            steered = stage.first.cross_over(found.pop(0))
        signals = found + signals
    return signals


def feed_back_folded(matrices: Tensor, steered: Steered) -> list[Steered]:
    """The signals of ``feed_back`` with one product per block. Tokens without a signal are left out on a CPU.

    Args:
        matrices: matrices of the blocks of a stage, first block first, (L, D, D), as ``fold`` gives them.
        steered: the tokens after the stage, with a direction per image and token.

    Returns:
        One signal per matrix, in their order. The direction of a token is 0 if all texts give it the scale 0.
    """
    directions = steered.direction.flatten(0, 1)  # (I * N, D)
    # On a GPU, the host would wait longer for the list of tokens with a signal than the products of the others take.
    kept = have_signal(steered).flatten().nonzero().squeeze(-1) if directions.is_cpu else slice(None)
    rows, signals = directions[kept], []
    for matrix in matrices:
        product = rows @ matrix
        fed_back = product.new_zeros(directions.shape)
        fed_back[kept] = product
        signals.append(steered._replace(direction=fed_back.view_as(steered.direction)))
    return signals


def have_signal(steered: Steered) -> Tensor:
    """Whether any text gives a token of an image a scale other than exactly 0, (I, N).

    The clamp of the prior mask gives many tokens the scale 0. Their direction does not matter.

    Args:
        steered: tokens with a direction per image and token.
    """
    images, tokens, _ = steered.direction.shape
    has_scale = (steered.scale != 0).squeeze(-1)  # (B, N), or (1, 1) for all
    if steered.image_index is not None:
        texts = torch.zeros(images, tokens, device=has_scale.device)
        has_scale = texts.index_add_(0, steered.image_index, has_scale.to(texts.dtype)) > 0
    return has_scale.expand(images, tokens)


def fold(decoders: Sequence[FeedbackDecoder]) -> Tensor:
    """(T_l R_l ... R_L)^T of the blocks of one stage, first block first, (L, D, D).

    In a later stage (R_1 ... R_L)^T comes before them, (L + 1, D, D). The decoders are linear, so their outputs for the
    unit vectors are the rows of the matrix.
    """
    weight, found = decoders[0].transform.weight, []
    rows = torch.eye(decoders[0].transform.out_features, dtype=weight.dtype, device=weight.device)
    with without_autocast(weight.device):
        for decoder in reversed(decoders):
            rows = decoder.reconstruct(rows)
            found.append(decoder.transform(rows))
    if decoders[0].cross is not None:
        found.append(rows)
    return torch.stack(found[::-1])


class Level(NamedTuple):
    """One block, and the states of a look around it."""

    decoder: FeedbackDecoder
    input: Tensor  # (B, N, D)
    output: Tensor  # (B, N, D)
    before: Tensor | None  # (B, N', D'), the end of the stage before; only for the first block of a later stage


def levels(decoders: Sequence[FeedbackDecoder], states: Sequence[Tensor]) -> Iterator[Level]:
    """The blocks of a look, first block first, without gradient to its states.

    The decoders learn to reconstruct, but must not reshape the features they reconstruct from.

    Args:
        decoders: one per block.
        states: states of the look: z_0, then the outputs of all blocks and of the poolings between stages, in order.
    """
    rest = iter([state.detach() for state in states])
    state = next(rest)
    for decoder in decoders:
        before, below = (None, state) if decoder.cross is None else (state, next(rest))
        state = next(rest)
        yield Level(decoder, below, state, before)


def reconstruction_loss(decoders: Sequence[FeedbackDecoder], states: Sequence[Tensor]) -> Tensor:
    """L_rec = sum over blocks of MSE(R_l sg(z_{l+1}), sg(z_l)) [AbS Eq. 2.14]; the mean is over elements.

    Poolings between stages count like blocks. Arguments are those of ``levels``.
    """
    errors = []
    for decoder, below, above, before in levels(decoders, states):
        errors.append(_squared_error(decoder.reconstruct(above), below))
        if before is not None and decoder.cross is not None:
            errors.append(_squared_error(decoder.cross(below), before))
    return reduce(torch.add, errors)


def transform_loss(
    decoders: Sequence[FeedbackDecoder], norms: Iterable[Callable[[Tensor], Tensor]], states: Sequence[Tensor]
) -> Tensor:
    """L_T = sum over blocks of MSE(T_l sg(R_l sg(z_{l+1})), sg(norm1_l(z_l))); the mean is over elements.

    T_l learns the input of the block's values, as R_l learns the block's input in L_rec.

    Args:
        norms: the norm before the values of each block, first block first.

    The other arguments are those of ``reconstruction_loss``.
    """
    # Only T_l learns. torch.no_grad would be wrong: weights that autocast casts inside lose their gradient outside.
    return reduce(
        torch.add,
        (
            _squared_error(decoder.transform(decoder.reconstruct(above).detach()), norm(below).detach())
            for (decoder, below, above, _), norm in zip(levels(decoders, states), norms, strict=True)
        ),
    )


_squared_error = always_fp32(F.mse_loss)
