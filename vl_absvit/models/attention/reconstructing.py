"""What layers share that reconstruct their values sparsely: the energy of each step, and which values count in it.

[VARS] = Shi et al., "Visual Attention Emerges from Recurrent Sparse Reconstruction", ICML 2022.
Shapes: B images, N tokens, D width; codes have the shape that a layer gives them.
"""

from collections.abc import Sequence
from typing import NoReturn, Protocol

import torch
from torch import Tensor

from vl_absvit.models.attention.softmax import Projections, TopDownAttention
from vl_absvit.models.attention.sparse import SparseProblem, energy


class Reconstructed(Protocol):
    """What a reconstruction tells of its way."""

    @property
    def problem(self) -> SparseProblem:
        """Which codes are looked for."""

    @property
    def codes(self) -> Sequence[Tensor]:
        """u_0 and the codes after every step."""


class ReconstructingAttention(TopDownAttention):
    """The base of VARS. A layer says what it reconstructs, how, and what it makes of codes."""

    lam: float  # lambda
    steps: int  # of ISTA

    def reconstruct(self, projections: Projections, steps: int | None = None) -> Reconstructed:
        """The sparse reconstruction of the values.

        Args:
            steps: of ISTA; None takes the layer's own.
        """
        raise NotImplementedError

    def target(self, projections: Projections) -> Tensor:
        """What is reconstructed; its last two dimensions belong to one problem."""
        raise NotImplementedError

    def mean_outputs(self, found: Reconstructed) -> list[Tensor]:
        """The mean over tokens of what the codes reconstruct, at the start and after every step."""
        raise NotImplementedError

    def energies(self, projections: Projections, steps: int | None = None) -> Tensor:
        """E(u) at the start and after every step, (steps + 1, B, problems of an image).

        The learned generations' is that of A G A, which nothing keeps from rising.
        """
        target, found = self.target(projections), self.reconstruct(projections, steps)
        return torch.stack([energy(found.problem, codes, target) for codes in found.codes])

    def mean_weights(self, projections: Projections, steps: int | None = None) -> Tensor:
        """The weight of every token's value in the mean of all tokens' reconstructions, at the start and each step.

        It is the derivative of that mean by the value, for a fixed dictionary, averaged over channels and heads: a code
        that a threshold cuts off does not count. It may be negative.

        Args:
            steps: as in ``reconstruct``.

        Returns:
            (steps + 1, B, N).
        """
        with torch.enable_grad():
            values = projections.values.detach().requires_grad_()
            found = self.reconstruct(projections._replace(values=values), steps)
            weights = [
                torch.autograd.grad(mean.sum(), values, retain_graph=True)[0] for mean in self.mean_outputs(found)
            ]
        return torch.stack(weights).mean(dim=-1)

    def weights(self, projections: Projections, queries: slice = slice(None)) -> NoReturn:
        raise NotImplementedError("sparse codes depend on the values: VARS has no attention weights")
