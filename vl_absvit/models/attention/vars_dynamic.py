"""VARS-D and VARS-SD: attention as the sparse reconstruction of the values from a dictionary made of the queries.

Shi et al., "Visual Attention Emerges from Recurrent Sparse Reconstruction", ICML 2022 [VARS], and its release. With a
top-down input the values, which are reconstructed, are those of x_bu + x_td, and the dictionary stays bottom-up
[AbS Eq. 2.10].
Shapes: B images, H heads, N tokens, D = H d width, m atoms.
"""

from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from vl_absvit.errors import ConfigError
from vl_absvit.models.attention.random_features import features_up_to_scale
from vl_absvit.models.attention.reconstructing import Reconstructed, ReconstructingAttention
from vl_absvit.models.attention.softmax import Projections
from vl_absvit.models.attention.sparse import (
    SparseProblem,
    gelu_threshold,
    ista,
    row_sum_bound,
    soft_threshold,
)
from vl_absvit.precision import at_least_fp32

SMALLEST_NORM = 1e-12
"""Of an atom that is divided by its norm."""
Generation = Literal["ista", "linked", "head"]


class _Generation(NamedTuple):
    is_learned: bool  # learned ISTA: a matrix around G, factors of lambda and 1 / L, and GELU as threshold
    unit_norm: bool  # of queries before their features


GENERATIONS: dict[Generation, _Generation] = {
    "ista": _Generation(is_learned=False, unit_norm=True),
    "linked": _Generation(is_learned=True, unit_norm=False),
    "head": _Generation(is_learned=True, unit_norm=True),
}
"""The forms of the release over time: at first, in the commit that links its weights, and at its end. A checkpoint does
not tell the last two apart."""


class Reconstruction(NamedTuple):
    """What the layer computes on its way."""

    atoms: Tensor  # (B, H, N, m)
    scales: Tensor  # (B, H, m, 1), which give every atom unit norm over the tokens
    problem: SparseProblem
    codes: list[Tensor]  # u_0 and after every step, steps + 1 times (B, H, m, d)

    @property
    def dictionary(self) -> Tensor:
        """P, (B, H, N, m); every atom has unit norm over the tokens."""
        return self.atoms * self.scales.mT

    @property
    def values(self) -> Tensor:
        """P u, (B, H, N, d)."""
        return self.atoms @ (self.scales * self.codes[-1])


class VARSD(ReconstructingAttention):
    """VARS with a dynamic dictionary: ``qkv`` makes queries, which are the keys, and values.

    P = phi(q) with atoms of unit norm; b = P^T v, G = P^T P, L as ``row_sum_bound``; the output is P u of ``ista``.
    The learned generations take A G A in place of G (``learned_k``, which is not symmetric once it is trained),
    L / ``learned_L`` for L, lambda ``learned_lam`` for lambda, and ``gelu_threshold``.

    Args:
        lam: lambda.
        ratio: atoms per channel of a head, m / d.
        steps: of ISTA. [VARS] has 3, the release's default is 5; a checkpoint does not tell.
        generation: form of the release, see ``GENERATIONS``.
        others: as timm's attention.
    """

    has_weights = False
    rand_matrix: Tensor  # (H, d, m)

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        *,
        qkv_bias: bool = False,
        lam: float = 0.3,
        ratio: int = 2,
        steps: int = 5,
        generation: Generation = "head",
        **others: Any,
    ) -> None:
        super().__init__(dim, num_heads, qkv_bias=qkv_bias, **others)
        if self.attn_drop.p:
            raise ConfigError(f"attn_drop {self.attn_drop.p}: VARS has no attention weights to drop; expected 0")
        if generation not in GENERATIONS:
            raise ConfigError(f"generation: expected one of {', '.join(GENERATIONS)}, got {generation!r:.60}")
        width, at = dim // num_heads, self.proj.weight
        self.qkv = nn.Linear(dim, 2 * dim, bias=qkv_bias, device=at.device, dtype=at.dtype)
        self.lam, self.steps, self.generation = lam, steps, GENERATIONS[generation]
        self.register_buffer("rand_matrix", torch.randn(num_heads, width, ratio * width))
        if self.generation.is_learned:
            self.learned_k = nn.Parameter(torch.eye(self._atoms))
            self.learned_lam = nn.Parameter(torch.ones(1))
            self.learned_L = nn.Parameter(torch.ones(1))

    @property
    def _atoms(self) -> int:
        """m."""
        return self.rand_matrix.shape[-1]

    def attend(self, projections: Projections) -> Tensor:
        return self.merge(self.reconstruct(projections).values)

    def reconstruct(self, projections: Projections, steps: int | None = None) -> Reconstruction:
        values = self._split_heads(projections.values)
        atoms = self._atoms_of(self._split_heads(projections.queries_keys))
        products = atoms.mT @ atoms
        # Squares of the atoms' norms are on the diagonal. Small matrices are scaled in place of all atoms.
        squares = at_least_fp32(products.diagonal(dim1=-2, dim2=-1)).unsqueeze(-1)
        scales = squares.clamp(min=SMALLEST_NORM**2).rsqrt()
        drive, gram = scales * (atoms.mT @ values), scales * products * scales.mT
        bound: Tensor = row_sum_bound(gram)
        penalty: Tensor | float = self.lam
        if self.generation.is_learned:
            gram = self.learned_k @ gram @ self.learned_k
            bound, penalty = bound / self.learned_L, penalty * self.learned_lam
        problem = SparseProblem(drive, gram, bound, penalty)
        shrink = gelu_threshold if self.generation.is_learned else soft_threshold
        return Reconstruction(atoms, scales, problem, ista(problem, self.steps if steps is None else steps, shrink))

    def target(self, projections: Projections) -> Tensor:
        return self._split_heads(projections.values)

    def mean_outputs(self, found: Reconstructed) -> list[Tensor]:
        of_atoms = cast("Reconstruction", found).dictionary.mean(dim=-2, keepdim=True)  # (B, H, 1, m)
        return [of_atoms @ codes for codes in found.codes]

    def _atoms_of(self, queries: Tensor) -> Tensor:
        """The atoms before their norm, (B, H, N, m), of queries (B, H, N, d)."""
        return features_up_to_scale(queries, self.rand_matrix, self.generation.unit_norm)


class VARSSD(VARSD):
    """VARS-D with as many learned static atoms behind the dynamic ones.

    A static atom has a number for each of a fixed number of tokens, and no structure in space; [VARS] describes a
    convolution in its place.

    Args:
        grid: rows and columns of the tokens.
        others: as ``VARSD``.
    """

    needs_grid = True

    def __init__(self, dim: int, num_heads: int = 8, *, grid: tuple[int, int], **others: Any) -> None:
        super().__init__(dim, num_heads, **others)
        self.kernel = nn.Parameter(torch.randn(1, num_heads, grid[0] * grid[1], self.rand_matrix.shape[-1]))

    @property
    def _atoms(self) -> int:
        return 2 * super()._atoms

    def _atoms_of(self, queries: Tensor) -> Tensor:
        dynamic = super()._atoms_of(queries)
        return torch.cat([dynamic, self.kernel.expand(len(dynamic), -1, -1, -1).to(dynamic.dtype)], dim=-1)
