"""TOAST's form of the ImageNet release: AbSViT with one more matrix, between modulation and feedback.

Shi et al., "TOAST: Transfer Learning via Attention Steering", 2023, by the authors of AbSViT. Its ViTs have the names
of the ImageNet release and ``top_down_transform``, T (D, D): u <- u T before the deepest decoder. Its files of ViTs,
"ViT-B-in1k (top-down)" among them, are of this form.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from vl_absvit.errors import InputError
from vl_absvit.models.released.key_map import Option

TRANSFORM = "top_down_transform"
REFUSED = {  # a name that only such files have -> what they are
    "enc.patch_embed.proj.weight": "a model that TOAST finetuned (enc.*), whose classifier is another; expected the "
    "pre-tuned encoder that it started from",
    "downsample_layers.0.0.weight": "a ConvNeXt, whose feedback TOAST adds between stages; there is no such trunk here",
}


def without_transform(state: Mapping[str, Tensor], location: str) -> tuple[dict[str, Tensor], list[Option]]:
    """The same model in the form of the ImageNet release, and what was changed, in words.

    R u of a modulated token u becomes R (T^T u): T is multiplied into the first matrix of the deepest decoder.

    Args:
        state: any released model, in released names.

    Raises:
        InputError: the file is one of TOAST's that has no form here, or T has no decoder of its size.
    """
    for name, what in REFUSED.items():
        if name in state:
            raise InputError(f"{location}: {what}")
    state = dict(state)
    transform = state.pop(TRANSFORM, None)
    if transform is None:
        return state, []
    decoders = (re.fullmatch(r"decoders\.([0-9]{1,4})\.linear\.weight", key) for key in state)
    deepest = f"decoders.{max((int(match[1]) for match in decoders if match), default=0)}.linear.weight"
    matrix = state.get(deepest)
    fits = matrix is not None and matrix.ndim == 2 and transform.shape == (matrix.shape[1],) * 2
    if matrix is None or not (fits and transform.is_floating_point()):
        found = "none" if matrix is None else str(tuple(matrix.shape))
        raise InputError(
            f"{location}: {TRANSFORM} {tuple(transform.shape)} belongs before {deepest} and has its width, got {found}"
        )
    state[deepest] = (matrix.double() @ transform.double().T).to(matrix.dtype)
    why = f"multiplied into {deepest}: the same function; a reconstruction loss then trains their product"
    return state, [Option(TRANSFORM, "multiplied in", why)]
