"""Sparse reconstruction, and the recurrence that finds it: the equations of VARS.

Shi et al., "Visual Attention Emerges from Recurrent Sparse Reconstruction", ICML 2022 [VARS]; ISTA is the iterative
shrinkage-thresholding of Daubechies, Defrise and De Mol (2004).
Codes u, drive b = P^T x and Gram matrix G = P^T P belong to a dictionary P and to an input x. Shapes: ..., the
dictionaries of a batch; m atoms; d channels that a dictionary reconstructs.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Shrink = Callable[[Tensor, Tensor | float], Tensor]
"""From values and a threshold to values that are nearer to 0."""


class SparseProblem(NamedTuple):
    """min_u |x - P u|^2 / 2 + lambda |u|_1, without P and x themselves."""

    drive: Tensor  # b = P^T x, (..., m, d)
    gram: Tensor | Callable[[Tensor], Tensor]  # G, (..., m, m), or u -> G u
    bound: Tensor  # L, of which 1 / L is the step size; broadcasts over codes
    penalty: Tensor | float  # lambda

    def times_gram(self, codes: Tensor) -> Tensor:
        """G u."""
        return self.gram @ codes if isinstance(self.gram, Tensor) else self.gram(codes)

    def descent(self) -> Callable[[Tensor], Tensor]:
        """u -> u - (G u - b) / L; of a matrix G as (I - G / L) u + b / L, one product and one sum."""
        offset = self.drive / self.bound
        if not isinstance(self.gram, Tensor):
            return lambda codes: codes - self.times_gram(codes) / self.bound + offset
        unit = torch.eye(self.gram.shape[-1], dtype=self.gram.dtype, device=self.gram.device)
        transition = torch.addcmul(unit, self.gram, 1 / self.bound, value=-1)
        return lambda codes: transition @ codes + offset


def soft_threshold(x: Tensor, threshold: Tensor | float) -> Tensor:
    """S(x) = sign(x) max(|x| - t, 0)."""
    return (x.abs() - threshold).clamp(min=0) * x.detach().sign()


def gelu_threshold(x: Tensor, threshold: Tensor | float) -> Tensor:
    """S(x) = sign(x) GELU(|x| - t), of the release's learned ISTA.

    It is no threshold: its size is below 0 just under t and exactly 0 almost nowhere, so that no code is sparse.
    """
    return F.gelu(x.abs() - threshold) * x.detach().sign()


def ista(problem: SparseProblem, steps: int, shrink: Shrink = soft_threshold) -> list[Tensor]:
    """u_0 = S(b, lambda), then ``steps`` times u <- S(u - (G u - b) / L, lambda / L) [VARS Eq. 12].

    Returns:
        u_0 and the codes after every step, steps + 1 times (..., m, d).
    """
    descend, threshold = problem.descent(), problem.penalty / problem.bound
    codes = [shrink(problem.drive, problem.penalty)]
    for _ in range(steps):
        codes.append(shrink(descend(codes[-1]), threshold))
    return codes


def energy(problem: SparseProblem, codes: Tensor, target: Tensor) -> Tensor:
    """E(u) = <u, G u> / 2 - <u, b> + |x|^2 / 2 + lambda |u|_1, VARS's own energy [VARS Eq. A.5].

    With G = P^T P and b = P^T x this is |x - P u|^2 / 2 + lambda |u|_1. A step of ``ista`` with ``soft_threshold``
    never raises it if G is symmetric and L at least its largest eigenvalue.

    Args:
        codes: u, (..., m, d).
        target: x, any two dimensions after the first ones.

    Returns:
        (...).
    """
    smooth = (codes * (problem.times_gram(codes) / 2 - problem.drive)).sum(dim=(-2, -1))
    return smooth + target.square().sum(dim=(-2, -1)) / 2 + problem.penalty * codes.abs().sum(dim=(-2, -1))


def row_sum_bound(gram: Tensor) -> Tensor:
    """L = 1 + max over rows of sum |G|, at least the largest eigenvalue of a symmetric G, (..., m, m) -> (..., 1, 1).

    [VARS] takes that eigenvalue; this is the release's choice: larger, hence safe, and slower. It has no gradient.
    """
    sums = torch.linalg.vector_norm(gram.detach(), ord=1, dim=-1, keepdim=True)
    return 1 + sums.amax(dim=-2, keepdim=True)
