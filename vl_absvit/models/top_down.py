"""The top-down half of AbSViT: what the prior selects, and how it travels back to every block.

Shi, Darrell, Wang, "Top-Down Visual Attention from Analysis by Synthesis", CVPR 2023, arXiv:2303.13043, section 2.5.
Shapes: I images, B texts (one prior each; several texts may share an image), N tokens (CLS first, then patches in
raster order), D width, L blocks.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vl_absvit.precision import always_fp32

MASK_TEMPERATURE = 0.07
"""Divides how far a cosine is from the threshold, in a calibrated mask and in the loss that calibrates it."""


def per_text(rows: Tensor, image_index: Tensor | None) -> Tensor:
    """Repeat the rows of I images for the B texts about them; None means that rows are texts already."""
    if image_index is None:
        return rows
    if len(rows) == 1:  # all texts are about one image, as in the evaluation of retrieval: nothing need be copied
        return rows.expand(len(image_index), *rows.shape[1:])
    return rows[image_index]


class Steered(NamedTuple):
    """Tokens kept as a product, ``scale_i * direction_i``: all that follows the modulation is linear in ``direction``.

    The direction does not depend on the text (``reweight``: one set per image) or is one vector per text
    (``reweight_project``), so that the feedback runs on it instead of on all tokens of all texts.
    """

    mask: Tensor | None  # (B, N), the prior mask: how well each token agrees with the prior, in [0, 1], at least fp32
    scale: Tensor  # (B, N, 1), or (1, 1, 1) for all
    direction: Tensor  # (I, N, D) per image and token, or (B, 1, D) shared by all tokens
    image_index: Tensor | None = None  # (B,) row of ``direction`` each text is about; None where rows are texts already

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

    A contrastive loss orders cosines and leaves open where "not this" begins. Here that is the threshold beta, which
    ``losses.calibration_loss`` trains: a token that is as likely asked for as not gets 0, a sure one 1.

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


def keep_all(tokens: Tensor, prior: None, gain: float, image_index: None = None) -> Steered:
    """The Feedback baseline [AbS 2.6]: all tokens as they are, z_i -> alpha * z_i, whatever a text asks for.

    Args: as ``reweight``, without a prior; rows stay images.
    """
    return Steered(None, tokens.new_full((1, 1, 1), gain), tokens)


MODULATIONS = {"reweight": reweight, "reweight_project": reweight_project}


class FeedbackDecoder(nn.Module):
    """One block's way back.

    R_l reconstructs the block's input, T_l turns the reconstruction into the attention's top-down input.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.reconstruct = nn.Linear(width, width, bias=False)  # R_l
        self.transform = nn.Linear(width, width, bias=False)  # T_l


def feed_back(decoders: nn.ModuleList, steered: Steered) -> list[Steered]:
    """Top-down inputs td_l = T_l r_l with r_l = R_l r_{l+1} [AbS 2.5].

    The deepest block comes first and starts from the modulated tokens.

    Args:
        decoders: one ``FeedbackDecoder`` per block, first block first.
        steered: the modulated tokens.

    Returns:
        One signal per block, first block first.
    """
    reconstruction, signals = steered.direction, []
    for decoder in reversed(decoders):
        reconstruction = decoder.reconstruct(reconstruction)
        signals.append(steered._replace(direction=decoder.transform(reconstruction)))
    return signals[::-1]


def feed_back_folded(matrices: Tensor, steered: Steered) -> list[Steered]:
    """The signals of ``feed_back`` with one product per block, on the tokens alone that have a signal.

    Args:
        matrices: of all blocks, first block first, (L, D, D), as ``fold`` gives them.
        steered: the modulated tokens, with a direction per image and token.

    Returns:
        One signal per block, first block first. Where no text gives a token any scale, its direction is 0.
    """
    directions = steered.direction.flatten(0, 1)  # (I * N, D)
    # To tell which tokens have a signal, a host would have to wait for its GPU longer than the others' product takes.
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

    The clamp of the prior mask makes many that are; their direction does not matter.

    Args:
        steered: with a direction per image and token.
    """
    images, tokens, _ = steered.direction.shape
    has_scale = (steered.scale != 0).squeeze(-1)  # (B, N), or (1, 1) for all
    if steered.image_index is not None:
        texts = torch.zeros(images, tokens, device=has_scale.device)
        has_scale = texts.index_add_(0, steered.image_index, has_scale.to(texts.dtype)) > 0
    return has_scale.expand(images, tokens)


def fold(decoders: nn.ModuleList) -> Tensor:
    """(T_l R_l ... R_L)^T of every block, first block first, (L, D, D).

    The decoders are linear: what they make of the unit vectors are the rows of the matrix.
    """
    weight = decoders[0].transform.weight
    has_autocast = torch.amp.is_autocast_available(weight.device.type)  # meta tensors have none
    with torch.autocast(weight.device.type, enabled=False) if has_autocast else nullcontext():
        unit_vectors = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
        signals = feed_back(decoders, Steered(None, None, unit_vectors))
    return torch.stack([signal.direction for signal in signals])


class FoldedDecoders:
    """Keeps the folded decoders for as long as their weights stay as they are.

    The weights are compared with copies of those that were folded: version counters miss what fused optimizers write
    and what is written through ``.data``, and inference tensors have none. A host waits for its GPU to compare.
    """

    def __init__(self) -> None:
        self._weights: list[Tensor] = []  # copies of what was folded
        self._matrices: Tensor | None = None
        self._stay, self._compared = False, False

    @contextmanager
    def weights_stay(self) -> Iterator[None]:
        """Inside, weights stay as they are, as the caller says, and are compared no more than once."""
        outside = self._stay, self._compared
        self._stay, self._compared = True, self._stay and self._compared
        try:
            yield
        finally:
            self._stay, self._compared = outside

    def matrices(self, decoders: nn.ModuleList) -> Tensor:
        """``fold(decoders)``, (L, D, D), without gradient."""
        if self._stay and self._compared:
            return self._matrices
        self._compared = True
        with torch.inference_mode(False), torch.no_grad():  # what is kept must be of use in any mode
            weights = list(decoders.parameters())
            if self._matrices is None or not _are_equal(weights, self._weights):
                self._matrices = fold(decoders)
                self._weights = [weight.detach().clone() for weight in weights]
        return self._matrices


def _are_equal(some: list[Tensor], others: list[Tensor]) -> bool:
    if [(a.device, a.dtype, a.shape) for a in some] != [(b.device, b.dtype, b.shape) for b in others]:
        return False
    if some[0].is_cpu:
        return all(map(torch.equal, some, others))
    equal = [(a == b).all() for a, b in zip(some, others, strict=True)]
    return some[0].is_meta or bool(torch.stack(equal).all())  # waits for a GPU once


def reconstruction_loss(decoders: nn.ModuleList, states: list[Tensor]) -> Tensor:
    """L_rec = sum over blocks of MSE(R_l sg(z_{l+1}), sg(z_l)) [AbS Eq. 2.14]; the mean is over elements.

    Args:
        decoders: one ``FeedbackDecoder`` per block.
        states: the L + 1 states z_0 ... z_L of a look, each (B, N, D), before the final norm.
    """
    # The decoders learn to reconstruct, but must not reshape the features they reconstruct from.
    levels = zip(decoders, states[:-1], states[1:], strict=True)
    return sum(_squared_error(decoder.reconstruct(above.detach()), below.detach()) for decoder, below, above in levels)


def transform_loss(decoders: nn.ModuleList, norms: Iterable[nn.Module], states: list[Tensor]) -> Tensor:
    """L_T = sum over blocks of MSE(T_l sg(R_l sg(z_{l+1})), sg(norm1_l(z_l))); the mean is over elements.

    What is fed back to a block's values is held to what they are made of, as L_rec holds R_l to the block's input.

    Args:
        norms: of the blocks' inputs, norm1, first block first.

    The others are those of ``reconstruction_loss``.
    """
    # Only T_l learns. No torch.no_grad here: what autocast casts inside would have no gradient outside, either.
    levels = zip(decoders, norms, states[:-1], states[1:], strict=True)
    return sum(
        _squared_error(decoder.transform(decoder.reconstruct(above.detach()).detach()), norm(below.detach()).detach())
        for decoder, norm, below, above in levels
    )


_squared_error = always_fp32(F.mse_loss)
