"""Random features of the softmax kernel: exp(q.k) is the mean of products of them [Performer].

Choromanski et al., "Rethinking Attention with Performers", ICLR 2021, section 2.2.
Shapes: B images, H heads, N tokens, d width of a head, m features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_features(x: Tensor, matrix: Tensor, unit_norm: bool = True) -> Tensor:
    """phi(x) = exp(W^T x^ - |x^|^2 / 2) / sqrt(m), with x^ = x / d^(1/4), of unit norm if asked for [VARS release].

    Args:
        x: queries or keys, (B, H, N, d).
        matrix: W, fixed and Gaussian, (H, d, m).
        unit_norm: bring x^ to unit norm, so that the factor d^(1/4) cancels.

    Returns:
        Positive features, (B, H, N, m).
    """
    width, features = matrix.shape[-2:]
    scaled = x * width**-0.25
    if unit_norm:
        scaled = F.normalize(scaled, dim=-1)
    half_square = scaled.square().sum(dim=-1, keepdim=True) / 2
    return torch.exp(scaled @ matrix - half_square) * features**-0.5


def features_up_to_scale(x: Tensor, matrix: Tensor, unit_norm: bool = True) -> Tensor:
    """phi(x) up to a factor that all tokens and features share, for users in which it cancels; the arguments as above.

    Of unit norm |x^|^2 / 2 is such a factor, and so is 1 / sqrt(m).
    """
    return torch.exp(F.normalize(x, dim=-1) @ matrix) if unit_norm else random_features(x, matrix, unit_norm=False)
