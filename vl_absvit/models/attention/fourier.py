"""Filters of tokens' maps in the Fourier domain. Shapes: B images, D channels, o output and i input maps of each."""

import torch
from torch import Tensor

from vl_absvit.precision import always_fp32


@always_fp32
def filtered(maps: Tensor, *kernels: Tensor) -> Tensor:
    """F(k) x = irfft2(k rfft2(x)), transforms orthonormal and never below fp32.

    Several kernels are applied one after the other between the transforms: with k_1 and k_2 this is F(k_2 k_1) x.
    A kernel need not be the spectrum of a real filter in its first and, for even columns, last column; the transform
    back drops what does not fit. So F(g) of g = k k^H differs from F(k) F(k^H), while F(k^H) is the adjoint of F(k).

    Args:
        maps: (B, D, i, rows, columns).
        kernels: (D, o, i, rows, columns // 2 + 1), complex; the o of each is the i of the next.

    Returns:
        (B, D, o, rows, columns).
    """
    spectrum = torch.fft.rfft2(maps, norm="ortho")
    for kernel in kernels:
        spectrum = _mixed(spectrum, kernel.to(spectrum.dtype))
    return torch.fft.irfft2(spectrum, s=maps.shape[-2:], norm="ortho")


def _mixed(spectrum: Tensor, kernel: Tensor) -> Tensor:
    """sum over i of k_oi x_i for every frequency, entry by entry, which takes less time than many small products."""
    if kernel.shape[2] == 1:
        return spectrum * kernel[:, :, 0]
    return (spectrum.unsqueeze(2) * kernel).sum(dim=3)
