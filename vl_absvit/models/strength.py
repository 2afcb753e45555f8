"""The strength alpha of the top-down signal, of a model as it was trained or as somebody wants it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from vl_absvit.models.looks import VisualEncoder
from vl_absvit.variants import Variant


def is_steerable(variant: Variant) -> bool:
    """Whether a prior steers the second look with a strength: the strength is that of the feedback."""
    return variant.uses_prior and variant.feeds_back


@contextmanager
def strength(vision: VisualEncoder, alpha: float) -> Iterator[None]:
    """Inside, the top-down signal has the strength ``alpha``; all else stays as it was trained."""
    trained = vision.modulate
    vision.modulate = partial(trained, gain=alpha)
    try:
        yield
    finally:
        vision.modulate = trained


def trained_strength(vision: VisualEncoder) -> float:
    """The strength that an encoder was made with."""
    return float(vision.modulate.keywords["gain"])
