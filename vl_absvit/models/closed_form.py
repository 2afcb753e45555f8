"""Feedback decoders and the mean token in closed form: fitted to what the trunk's first look sees, before any training.

Per block l, deepest first, the feedback makes r_l = R_l r_{l+1} and td_l = T_l r_l of tokens x = r_{L+1}, the output of
the first look after the final norm [AbS 2.5]. The reconstruction loss [AbS Eq. 2.14] wants R_l r_{l+1} near the block's
input z_l. Its minimiser is a linear regression, here with a ridge and block after block, deepest first:

    R_l = argmin sum |R r_{l+1} - z_l|^2 + lambda |R|^2,    T_l = argmin sum |T r_l - norm1_l(z_l)|^2 + lambda |T|^2,

with sums over all tokens of some images. The values of block l are W_v norm1_l(z_l): T_l learns to feed back what the
first look had there. Neither map has an intercept, because the decoders have none.

All r_l are linear in x. One pass over the images collects x^T x, x^T z_l and x^T norm1_l(z_l). The rest is algebra of
D x D matrices, in double precision.

Blocks below the first one that looks again have no decoders. Every other stage takes its own pass, last stage first.
Its x is the reconstruction that the decoders of later stages make at its end. The convolution from a stage to the one
before is a regression of the tokens there on its inputs.

Shi, Darrell, Wang, "Top-Down Visual Attention from Analysis by Synthesis", CVPR 2023, arXiv:2303.13043 [AbS].
Shapes: I images, N tokens of an image, D width, L blocks of a stage, first block first.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from vl_absvit.errors import InputError
from vl_absvit.models.looks import FirstLook, VisualEncoder
from vl_absvit.models.top_down import Level, Steered, levels, reconstructions
from vl_absvit.precision import arithmetic

RIDGE = 1e-4
"""lambda over the mean square of a regressor's number, summed over tokens. Rounding in fp64 is far below it. It bounds
the maps in directions in which tokens do not vary, and hardly changes them in others."""


NOT_FINITE = "the first look at the training images has numbers that are not finite"


class Moments(NamedTuple):
    """Sums over tokens, in double precision."""

    gram: Tensor  # (D, D), of x^T x
    inputs: Tensor  # (L, D, D), of x^T z_l
    normed: Tensor  # (L, D, D), of x^T norm1_l(z_l)
    squares: Tensor  # (2, L), of |z_l|^2 and |norm1_l(z_l)|^2
    totals: Tensor  # (2, L, D), of z_l and norm1_l(z_l)
    number: Tensor  # (), of tokens


class Fitted(NamedTuple):
    """Decoders of a stage's blocks, and the share of their targets' variance that they explain."""

    reconstruct: Tensor  # (L, D, D), weights of R_l
    transform: Tensor  # (L, D, D), weights of T_l
    inputs_explained: Tensor  # (L,), of the blocks' inputs, by the reconstructions
    normed_explained: Tensor  # (L,), of the blocks' normed inputs, by the top-down signals
    tokens: Tensor  # (), how many it was fitted to


def token_moments(tokens: Tensor, inputs: list[Tensor], normed: list[Tensor]) -> Moments:
    """The sums of some tokens.

    Args:
        tokens: x, (..., D).
        inputs: z_l of the same tokens, L x (..., D).
        normed: norm1_l(z_l), L x (..., D).
    """
    x = tokens.double().flatten(0, -2)
    targets = [[target.double().flatten(0, -2) for target in kind] for kind in (inputs, normed)]
    input_crosses, normed_crosses = (torch.stack([x.T @ target for target in kind]) for kind in targets)
    squares = torch.stack([torch.stack([target.square().sum() for target in kind]) for kind in targets])
    totals = torch.stack([torch.stack([target.sum(dim=0) for target in kind]) for kind in targets])
    return Moments(x.T @ x, input_crosses, normed_crosses, squares, totals, x.new_tensor(len(x)))


def fit_to_moments(moments: Moments, ridge: float = RIDGE) -> Fitted:
    """The regressions of all blocks.

    Args:
        ridge: lambda, as a share of the mean square of a regressor's number, summed over tokens; more than 0.
    """
    gram, inputs, normed, squares, totals, number = moments
    spreads = squares - totals.square().sum(dim=-1) / number  # (2, L)
    so_far = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)  # (D, D), P with r_{l+1} = x P
    found = []
    for depth in reversed(range(len(inputs))):
        reconstruct = _ridge_regression(so_far.T @ gram @ so_far, so_far.T @ inputs[depth], ridge)
        so_far = so_far @ reconstruct
        transform = _ridge_regression(so_far.T @ gram @ so_far, so_far.T @ normed[depth], ridge)
        errors = torch.stack(
            [
                squares[0, depth] + _excess(so_far, gram, inputs[depth]),
                squares[1, depth] + _excess(so_far @ transform, gram, normed[depth]),
            ]
        )
        found.append((reconstruct.T, transform.T, *(1 - errors / spreads[:, depth])))
    weights, transforms, inputs_explained, normed_explained = (
        torch.stack(part) for part in zip(*reversed(found), strict=True)
    )
    return Fitted(weights, transforms, inputs_explained, normed_explained, number)


def _ridge_regression(gram: Tensor, cross: Tensor, ridge: float) -> Tensor:
    """argmin |u A - y|^2 + lambda |A|^2 for rows u and y, (D, D), from the sums of u^T u and u^T y; 0 where u is 0."""
    penalty = ridge * gram.diagonal().mean()
    if not penalty > 0:
        return torch.zeros_like(cross)
    return torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), cross)


def _excess(matrix: Tensor, gram: Tensor, cross: Tensor) -> Tensor:
    """The squared error |x M - y|^2, summed over tokens, minus |y|^2."""
    return (matrix * (gram @ matrix - 2 * cross)).sum()


def fit_decoders(vision: VisualEncoder, batches: Iterable[Tensor]) -> list[Fitted]:
    """Give a trunk's decoders fitted weights. Returns the fit of every stage that looks again, first stage first.

    Args:
        batches: images (I, 3, height, width); at least one. All are kept in memory if the trunk has several stages.

    Raises:
        InputError: the first look at them holds a number that is not finite.
    """
    if len(vision.stages) > 1:
        batches = list(batches)
    found = []
    for stage in reversed(range(len(vision.stages))):
        again = vision.blocks_again_of(stage)
        if again.stop == 0:
            break  # the second look starts in a later stage
        found.append(fit_to_moments(look_moments(vision, batches, stage)))
        start_decoders(vision, found[-1], stage)
        if again.start:
            _fit_crossing(vision, batches, stage)
    return found[::-1]


@torch.no_grad()
def look_moments(vision: VisualEncoder, batches: Iterable[Tensor], stage: int = -1) -> Moments:
    """The sums over the first looks at some images, in fp32 and evaluation mode.

    Args:
        batches: images (I, 3, height, width); at least one.
        stage: the stage whose blocks' inputs are summed. Later stages have their decoders already.

    Raises:
        InputError: a number is not finite.
    """
    total: Moments | None = None
    blocks = vision.blocks_again_of(stage)
    with _in_evaluation(vision) as device:
        for images in batches:
            first = vision.look_once(images.to(device))
            inputs = [level.input for level in _levels(vision, first)][blocks]
            normed = [block.value_input(x) for block, x in zip(vision.blocks_again[blocks], inputs, strict=True)]
            moments = token_moments(_at_the_end(vision, first, stage).direction, inputs, normed)
            total = moments if total is None else Moments(*map(Tensor.add_, total, moments))
    assert total is not None, "no images"
    if not all(part.isfinite().all() for part in total):
        raise InputError(NOT_FINITE)
    return total


@torch.no_grad()
def fit_mean_token(vision: VisualEncoder, batches: Iterable[Tensor]) -> int:
    """Give a trunk its mean token, that of the first looks at some images, in fp32 and evaluation mode.

    Patches alone count: what is asked for is in them.

    Args:
        batches: images (I, 3, height, width); at least one.

    Returns:
        How many images they were.

    Raises:
        InputError: a number is not finite.
    """
    assert vision.mean_token is not None, "priors are compared with tokens less their mean"
    total, images_seen = torch.zeros_like(vision.mean_token, dtype=torch.float64), 0
    with _in_evaluation(vision) as device:
        for images in batches:
            tokens = vision.look_once(images.to(device)).tokens
            total += tokens[:, vision.num_prefix_tokens :].double().mean(dim=1).sum(dim=0)
            images_seen += len(images)
    if not total.isfinite().all():
        raise InputError(NOT_FINITE)
    vision.mean_token.copy_(total / images_seen)
    return images_seen


@torch.no_grad()
def start_decoders(vision: VisualEncoder, fitted: Fitted, stage: int = -1) -> None:
    """Give the decoders of a stage the fitted weights."""
    decoders = vision.feedback_decoders[vision.blocks_again_of(stage)]
    for decoder, reconstruct, transform in zip(decoders, fitted.reconstruct, fitted.transform, strict=True):
        decoder.reconstruct.weight.copy_(reconstruct)
        decoder.transform.weight.copy_(transform)


@torch.no_grad()
def _fit_crossing(vision: VisualEncoder, batches: Iterable[Tensor], stage: int) -> None:
    """Fit the convolution from a stage to the one before: a regression of the tokens there on its inputs in r_1."""
    blocks, decoders = vision.blocks_again_of(stage), vision.feedback_decoders
    convolution = decoders[blocks.start].cross
    assert convolution is not None, "the first block of a later stage leads to the stage before"
    inputs, outputs = 9 * convolution.in_channels, convolution.out_channels
    gram = convolution.weight.new_zeros(inputs, inputs, dtype=torch.float64)
    cross = convolution.weight.new_zeros(inputs, outputs, dtype=torch.float64)
    with _in_evaluation(vision) as device:
        for images in batches:
            first = vision.look_once(images.to(device))
            *_, found = reconstructions(decoders[blocks], _at_the_end(vision, first, stage))
            seen = convolution.receptive_fields(found.direction.double()).flatten(0, 1)
            before = list(_levels(vision, first))[blocks.start].before
            assert before is not None, "another stage lies before this one"
            gram += seen.T @ seen
            cross += seen.T @ before.double().flatten(0, 1)
    convolution.weight.copy_(convolution.as_kernel(_ridge_regression(gram, cross, RIDGE)))


def _at_the_end(vision: VisualEncoder, first: FirstLook, stage: int) -> Steered:
    """The reconstruction at the end of a stage if all tokens of a first look are fed back."""
    after, decoders = vision.blocks_again_of(stage).stop, vision.feedback_decoders
    steered = Steered(None, first.tokens.new_ones(1, 1, 1), first.tokens)
    if after == len(decoders):
        return steered
    *_, found = reconstructions(decoders[after:], steered)
    return decoders[after].cross_over(found)


def _levels(vision: VisualEncoder, first: FirstLook) -> Iterator[Level]:
    """The blocks that look again, as the first look saw them."""
    return levels(vision.feedback_decoders, first.states[vision.state_before(vision.looks_again_from) :])


@contextmanager
def _in_evaluation(vision: VisualEncoder) -> Iterator[torch.device]:
    """Inside, looks are taken in fp32 and evaluation mode. Gives the encoder's device."""
    device, was_training = next(vision.parameters()).device, vision.training
    vision.eval()
    try:
        with arithmetic("fp32", device):
            yield device
    finally:
        vision.train(was_training)
