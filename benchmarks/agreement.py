"""Whether two sides compute the same, so that their times can be compared."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

LARGEST_DIFFERENCE = 1e-4  # between outputs in fp32
LARGEST_LOSS_DIFFERENCE = {"fp32": 1e-5, "bf16": 0.05}  # relative
LARGEST_GRADIENT_DIFFERENCE = 1e-3  # of one parameter in fp32, relative
LEAST_CORRELATION = 0.99  # in bf16
NEGLIGIBLE = 1e-3  # a parameter whose share of the whole gradient is less need not be exact in its every digit


def check_outputs(naive: np.ndarray, ours: np.ndarray, precision: str) -> dict[str, float]:
    """How far the two sides' outputs, of any one shape, differ, and their correlation.

    Raises:
        RuntimeError: they differ too much for their times to be compared.
    """
    difference = float(np.abs(naive - ours).max())
    correlation = float(np.corrcoef(naive.ravel(), ours.ravel())[0, 1]) if naive.size > 1 else 1.0
    agrees = difference <= LARGEST_DIFFERENCE if precision == "fp32" else correlation > LEAST_CORRELATION
    if not agrees:
        raise RuntimeError(
            f"naive and own outputs differ in {precision}: by up to {difference:.2g}, correlation {correlation:.4f}"
        )
    return {"largest_difference": difference, "correlation": correlation}


def check_training(
    model: nn.Module,
    naive: Callable[[], Mapping[str, Tensor]],
    ours: Callable[[], Mapping[str, Tensor]],
    precision: str,
) -> dict[str, float]:
    """How far loss terms and gradients of two ways to compute the losses of ``model`` differ, without dropout.

    Args:
        naive: computes the loss terms, which are summed.
        ours: the same.

    Raises:
        RuntimeError: they differ too much for their times to be compared, or one knows a term or a gradient that the
            other does not.
    """
    was_training = model.training
    model.eval()  # gradients flow all the same, and nothing is dropped
    (naive_terms, naive_gradients), (terms, gradients) = (_losses_and_gradients(model, side) for side in (naive, ours))
    model.train(was_training)
    for kind, some, others in (("terms", naive_terms, terms), ("gradients", naive_gradients, gradients)):
        if some.keys() != others.keys():
            raise RuntimeError(f"naive and own {kind} differ: {sorted(some.keys() ^ others.keys())[:5]}")
    loss = max(abs(naive_terms[name] - value) / max(abs(value), 1e-12) for name, value in terms.items())
    differences = {name: naive_gradients[name] - value for name, value in gradients.items()}
    naive_whole, whole, apart = (_norm(some.values()) for some in (naive_gradients, gradients, differences))
    gradient = max(
        float(differences[name].norm()) / max(float(value.norm()), NEGLIGIBLE * whole)
        for name, value in gradients.items()
    )
    correlation = (naive_whole**2 + whole**2 - apart**2) / (2 * naive_whole * whole)
    same_gradient = gradient <= LARGEST_GRADIENT_DIFFERENCE if precision == "fp32" else correlation > LEAST_CORRELATION
    if not (loss <= LARGEST_LOSS_DIFFERENCE[precision] and same_gradient):
        raise RuntimeError(
            f"naive and own training differ in {precision}: losses by up to {loss:.2g}, a parameter's gradient by up "
            f"to {gradient:.2g} of it, correlation {correlation:.4f}"
        )
    return {"largest_loss_difference": loss, "largest_gradient_difference": gradient, "correlation": correlation}


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """The sum of loss terms."""
    return torch.stack(list(losses.values())).sum()


def _losses_and_gradients(
    model: nn.Module, side: Callable[[], Mapping[str, Tensor]]
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Loss terms, and the gradient of every parameter that has one; none stays in the model."""
    model.zero_grad()
    terms = side()
    total(terms).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    return {name: term.item() for name, term in terms.items()}, gradients


def _norm(gradients: Iterable[Tensor]) -> float:
    return float(torch.stack([gradient.norm() for gradient in gradients]).norm())
