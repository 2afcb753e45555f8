"""VARS-S: attention as the sparse reconstruction of every channel from convolutional atoms of its own.

Shi et al., "Visual Attention Emerges from Recurrent Sparse Reconstruction", ICML 2022 [VARS], and its release. Atoms
are filters F(k) in the Fourier domain (``fourier.py``). With a top-down input the values, which are reconstructed, are
those of x_bu + x_td [AbS Eq. 2.10].
Shapes: B images, N tokens of a grid of rows and columns, D channels, A atoms of a channel; spectra have
columns // 2 + 1 columns.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vl_absvit.errors import ConfigError
from vl_absvit.models.attention.fourier import filtered
from vl_absvit.models.attention.reconstructing import Reconstructed, ReconstructingAttention
from vl_absvit.models.attention.softmax import Projections, TopDownBlock
from vl_absvit.models.attention.sparse import SparseProblem, ista
from vl_absvit.models.token_norms import TokenBatchNorm, follows_batches

STEPS_BETWEEN_BOUNDS = 100
BOUND_MOMENTUM = 0.9


def adjoint(kernel: Tensor) -> Tensor:
    """k(f)^H for every channel and frequency, (D, A, 1, ...) -> (D, 1, A, ...)."""
    return kernel.conj().transpose(1, 2)


def gram_filter(kernel: Tensor) -> Tensor:
    """g(f) = k(f) k(f)^H for every channel and frequency, (D, A, 1, ...) -> (D, A, A, ...)."""
    return kernel * adjoint(kernel)


def normalised(kernel: Tensor, tokens: int) -> Tensor:
    """k / sqrt(2 sum |k|^2 / N) per atom; the sum is over the half spectrum [VARS release].

    Args:
        kernel: (D, A, 1, rows, columns // 2 + 1), complex.
        tokens: N.
    """
    square = 2 * kernel.abs().square().sum(dim=(2, 3, 4), keepdim=True) / tokens
    return kernel / square.sqrt()


def released_bound(gram: Tensor) -> Tensor:
    """L of the release: the largest singular value over frequencies of the real part of g, (D, A, A, ...) -> (D,).

    It leaves out the imaginary part and can be too small for the step to be safe.
    """
    of_frequencies = gram.real.flatten(3).permute(0, 3, 1, 2)
    return torch.linalg.matrix_norm(of_frequencies, ord=2).amax(dim=1)


class Reconstruction(NamedTuple):
    """What the layer computes on its way."""

    problem: SparseProblem
    codes: list[Tensor]  # u_0 and after every step, steps + 1 times (B, D, A, N)


class VARSS(ReconstructingAttention):
    """VARS with a static dictionary: per channel ``atoms`` filters, without queries and heads.

    b = F(k) v; u by ``ista`` with F(k k^H) and the stored bound L; the output is proj(BN(F(kernel2) F(k^H) u)). While
    it trains, L follows the kernel by ``released_bound`` every 100 passes, for which a GPU is waited for.

    Args:
        num_heads: has no effect.
        grid: rows and columns of the tokens.
        lam, atoms, steps: lambda, A and the steps of ISTA; the release has no others.
        others: as timm's attention.
    """

    needs_grid, has_queries, has_weights = True, False, False
    L: Tensor  # (D,)
    norm: TokenBatchNorm

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        *,
        grid: tuple[int, int],
        qkv_bias: bool = False,
        lam: float = 3.5,
        atoms: int = 5,
        steps: int = 3,
        **others: Any,
    ) -> None:
        super().__init__(dim, num_heads, qkv_bias=qkv_bias, **others)
        if self.attn_drop.p:
            raise ConfigError(f"attn_drop {self.attn_drop.p}: VARS has no attention weights to drop; expected 0")
        at = self.proj.weight
        self.qkv = nn.Linear(dim, dim, bias=qkv_bias, device=at.device, dtype=at.dtype)  # values alone
        self.grid, self.lam, self.steps = grid, lam, steps
        spectrum = (grid[0], grid[1] // 2 + 1, 2)  # the last axis is real and imaginary part
        kernel = torch.view_as_complex(0.06 * torch.randn(dim, atoms, 1, *spectrum))
        kernel = normalised(kernel, grid[0] * grid[1])
        self.kernel = nn.Parameter(torch.view_as_real(kernel))
        self.kernel2 = nn.Parameter(0.02 * torch.randn(dim, 1, 1, *spectrum))
        self.register_buffer("L", released_bound(gram_filter(kernel)))
        self.norm = TokenBatchNorm(dim)

    def attend(self, projections: Projections) -> Tensor:
        if self.training and self.norm.weight.requires_grad and follows_batches():
            self._follow_kernel()
        reconstruction = self.synthesis(self.reconstruct(projections).codes[-1])
        smoothed = filtered(reconstruction, torch.view_as_complex(self.kernel2))
        return self.proj_drop(self.proj(self.norm(smoothed.flatten(2).mT)))

    def reconstruct(self, projections: Projections, steps: int | None = None) -> Reconstruction:
        kernel = torch.view_as_complex(self.kernel)
        drive = filtered(self._on_grid(projections.values.mT.unsqueeze(2)), kernel).flatten(3)
        # A copy, because L may change between the looks of a training step.
        bound = self.L.clone()[:, None, None]

        def times_gram(codes: Tensor) -> Tensor:
            return filtered(self._on_grid(codes), adjoint(kernel), kernel).flatten(3)

        problem = SparseProblem(drive, times_gram, bound, self.lam)
        return Reconstruction(problem, ista(problem, self.steps if steps is None else steps))

    def synthesis(self, codes: Tensor) -> Tensor:
        """F(k^H) u, the reconstruction of the values: (B, D, A, N) -> (B, D, 1, rows, columns)."""
        return filtered(self._on_grid(codes), adjoint(torch.view_as_complex(self.kernel)))

    def target(self, projections: Projections) -> Tensor:
        return projections.values.mT.unsqueeze(2)

    def mean_outputs(self, found: Reconstructed) -> list[Tensor]:
        """As the base's, of F(k^H) u alone: before ``kernel2`` and the batch norm."""
        return [self.synthesis(codes).mean(dim=(-2, -1)) for codes in found.codes]

    def bound_of_kernel(self) -> Tensor:
        """``released_bound`` of the present kernel, (D,)."""
        return released_bound(gram_filter(torch.view_as_complex(self.kernel.detach())))

    def _follow_kernel(self) -> None:
        """L <- 0.9 L + 0.1 L_of_kernel, once in 100 passes, which the batch norm counts."""
        batches = self.norm.num_batches_tracked
        if batches is not None and int(batches) % STEPS_BETWEEN_BOUNDS == 0:
            self.L.lerp_(self.bound_of_kernel(), 1 - BOUND_MOMENTUM)

    def _on_grid(self, maps: Tensor) -> Tensor:
        """(..., N) -> (..., rows, columns)."""
        return maps.unflatten(-1, self.grid)


class VARSSBlock(TopDownBlock):
    """The block around VARS-S: x += attn(x), x += MLP(BN(x))."""

    def __init__(self, dim: int, *args: Any, **others: Any) -> None:
        super().__init__(dim, *args, **others)
        self.norm1 = nn.Identity()
        self.norm2 = TokenBatchNorm(dim)
