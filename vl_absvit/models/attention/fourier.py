"""Filters of tokens' maps in the Fourier domain. Shapes: B images, D channels, o output and i input maps of each."""

import torch
from torch import Tensor

from vl_absvit.precision import always_fp32


@always_fp32
def filtered(maps: Tensor, kernel: Tensor) -> Tensor:
    """F(k) x = irfft2(sum over i of k_oi rfft2(x_i)), transforms orthonormal and never below fp32.

    A kernel need not be the spectrum of a real filter in its first and, for even columns, last column; the transform
    back drops what does not fit. So F(g) of g = k k^H differs from F(k) F(k^H), while F(k^H) is the adjoint of F(k).

    Args:
        maps: (B, D, i, rows, columns).
        kernel: (D, o, i, rows, columns // 2 + 1), complex.

    Returns:
        (B, D, o, rows, columns).
    """
    spectrum = torch.fft.rfft2(maps, norm="ortho")
    mixed = torch.einsum("bdirc,doirc->bdorc", spectrum, kernel.to(spectrum.dtype))
    return torch.fft.irfft2(mixed, s=maps.shape[-2:], norm="ortho")
